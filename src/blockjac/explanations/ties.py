"""Names and comments tied to the values of a traced program, by equations that do nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from jax import ad_checkpoint

from blockjac.explanations.layout import Application, pieces
from blockjac.explanations.names import Name
from blockjac.explanations.program import Program, Step
from blockjac.explanations.source import COMMENT_TAG, NAME_TAG, TAG
from blockjac.explanations.styles.text import TEXT
from blockjac.graph.graph import Equation, Literal, Operand

tied = cast("Callable[[Any, str], Any]", vars(ad_checkpoint)["checkpoint_name"])
"""An array with a name or a comment."""


def is_tie(equation: Equation) -> bool:
    """Whether an equation only ties a name or a comment to a value."""
    return equation.primitive.name == "name" and str(equation.params["name"]).startswith(TAG)


def tagged(program: Program) -> Callable[..., list[Any]]:
    """The function of its leaves, with names and comments tied to the results of its steps."""
    graph = program.graph

    def function(*arrays: Any) -> list[Any]:
        """The results, by the steps one after the other."""
        values = dict(zip(graph.inputs, arrays, strict=True))
        values |= dict(zip(graph.constants, graph.captured, strict=True))
        for step in program.steps:
            for value, result in step.results(values).items():
                values[value] = _named_value(program, step, value, result)
        return [
            values[output.value] if isinstance(output, Operand) else output.array
            for output in graph.outputs[: program.call.count]
        ]

    return function


def _named_value(program: Program, step: Step, value: int, result: Any) -> Any:
    """The result of a step with its name; of primitives only where a parameter names it."""
    variable = program.variables[value]
    if (
        variable.is_numbered
        or variable.name == program.function
        or not isinstance(variable.dtype, np.dtype)  # keys of random numbers
    ):
        return result
    if step.is_named:
        operands = [
            "..." if isinstance(atom, Literal) else program.variables[atom.value].name
            for atom in step.equation.operands
        ]
        own = Application((variable.name,), step.name, tuple(operands), (variable.shape,))
        result = tied(result, COMMENT_TAG + " ".join(pieces(own, TEXT)))
    return tied(result, NAME_TAG + identifier(variable.name))


def identifier(name: Name) -> str:
    """A name as Python has it."""
    return re.sub(r"\W", "_", str(name))
