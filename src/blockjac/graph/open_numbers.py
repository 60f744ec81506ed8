"""Numbers of Python in a program: left open, where they change from call to call.

A closure over a Python number is traced anew at every un-jitted call, and the number is then a
literal of the program. Where it changes, as a step size does, each value would be compiled by
itself, which takes a hundred times as long as the call. The same program is then compiled once
more, with its numbers as arguments, and serves every value from then on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from blockjac.graph.graph import Equation, Graph, Literal, Operand

TELLING = (0.0, 1.0, -1.0)
"""Numbers that structure may depend on: a product with one of them is no product."""


def with_open_numbers(graph: Graph) -> tuple[Graph, list[Any]]:
    """The graph with captured scalars in place of its ordinary real literals, and their values.

    Args:
        graph: the traced function; it is left as it is.

    Returns:
        The graph, whose last constants are the numbers; and the numbers, as they are given to it.
    """
    opened = replace(graph, avals=list(graph.avals))
    numbers: list[Any] = []
    added: list[int] = []

    def open_one(operand: Operand | Literal) -> Operand | Literal:
        if not isinstance(operand, Literal) or not _is_ordinary(operand):
            return operand
        numbers.append(_given(operand))
        added.append(opened.new_value(operand.aval))
        return Operand(added[-1], None)

    opened.equations = [
        _with_operands(equation, tuple(map(open_one, equation.operands)))
        for equation in graph.equations
    ]
    opened.constants = (*graph.constants, *added)
    return opened, numbers


def _with_operands(equation: Equation, operands: tuple[Operand | Literal, ...]) -> Equation:
    return equation if operands == equation.operands else replace(equation, operands=operands)


def _is_ordinary(literal: Literal) -> bool:
    """Whether a literal is one real number that no structure depends on."""
    dtype = np.dtype(literal.aval.dtype)
    if literal.aval.shape != () or not np.issubdtype(dtype, np.floating):
        return False
    # What is given for a weak number is of the default type.
    if literal.aval.weak_type and dtype != jax.dtypes.canonicalize_dtype(float):
        return False
    number = float(literal.value)
    return np.isfinite(number) and number not in TELLING


def _given(literal: Literal) -> Any:
    """The number as an argument of the same type: of Python where it is weak."""
    if literal.aval.weak_type:
        return float(literal.value)
    return literal.array
