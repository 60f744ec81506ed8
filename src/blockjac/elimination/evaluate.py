"""Evaluate a graph: its values, and the residuals that its derivative needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra.losses import at_equation
from blockjac.base import compat
from blockjac.elimination.active_graph import ActiveGraph, operator_rule_of
from blockjac.elimination.shared_trig import SharedTrig
from blockjac.graph.graph import Equation, Graph, Literal, Operand


@dataclass
class Point:
    """An evaluated graph.

    Attributes:
        values: the computed arrays, by number of the value.
        residuals: what the derivative of each operator equation needs.
        whole: whether all values are present, or only those that a pullback needs.
        partials: derivatives that were computed along with the values, by equation.
        trig: the store of shared sines and cosines, if any.
    """

    values: list[Any]
    residuals: dict[Equation, Any] = field(default_factory=dict)
    whole: bool = True
    partials: dict[Equation, Any] = field(default_factory=dict)
    trig: SharedTrig | None = None


def evaluate(
    graph: Graph,
    arguments: Sequence[Any],
    captured: Sequence[Any],
    active: ActiveGraph | None = None,
    known: Mapping[int, Any] | None = None,
    trig: SharedTrig | None = None,
) -> Point:
    """Compute the values of all equations, and the residuals of active operator equations.

    Args:
        graph: the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        active: the part that will be differentiated; None for values alone.
        known: values that need not be computed, by number.
        trig: a store for sines and cosines.
    """
    values: list[Any] = [None] * len(graph.avals)
    for value, array in (known or {}).items():
        values[value] = array
    for value, array in zip(
        (*graph.inputs, *graph.constants), (*arguments, *captured), strict=True
    ):
        values[value] = array
    for value, array in graph.known.items():
        values[value] = array
    point = Point(values, trig=trig)
    passes = frozenset() if active is None else frozenset(active.passes)
    for equation in graph.equations:
        if known and _is_known(equation, known) and equation not in passes:
            continue
        if graph.known and _is_known(equation, graph.known):
            continue
        operands = [read(operand, values) for operand in equation.operands]
        with at_equation(equation):
            if active is not None and equation in passes:
                results, point.residuals[equation] = operator_rule_of(equation).evaluate(
                    equation,
                    [compat.jax_array(operand) for operand in operands],
                    active.mask(equation),
                )
            elif trig is not None and equation in trig.equations:
                results = [trig.value(equation, operands[0])]
            else:
                results = compat.bind(equation.primitive, operands, equation.params)
        for value, result in zip(equation.results, results, strict=True):
            values[value] = result
    return point


def _is_known(equation: Equation, known: Mapping[int, Any]) -> bool:
    return bool(equation.results) and all(value in known for value in equation.results)


def read(operand: Operand | Literal, values: Sequence[Any]) -> Any:
    """The value of an operand."""
    return operand.value if isinstance(operand, Literal) else values[operand.value]


def operand_array(operand: Operand | Literal, values: Sequence[Any]) -> Any:
    """An operand as rules see it: a NumPy array if it is known while tracing, else JAX's."""
    if isinstance(operand, Literal):
        return operand.array
    value = values[operand.value]
    is_known = isinstance(value, np.ndarray) and value.dtype.kind in "iub"
    return value if is_known else compat.jax_array(value)


def results(graph: Graph, values: Sequence[Any]) -> list[Any]:
    """The values of the graph's results."""
    return [
        typed_as(jnp.asarray(read(output, values), output.aval.dtype), output.aval)
        if isinstance(output, Literal)
        else values[output.value]
        for output in graph.outputs
    ]


def typed_as(array: Any, value: Any) -> Any:
    """Convert an array to a value's dtype, weakly typed if the value is."""
    return compat.convert(array, value.dtype, getattr(value, "weak_type", False))
