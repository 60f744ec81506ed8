"""Python numbers in a program that change from call to call become arguments.

A closure over a Python number is traced anew at every un-jitted call, and the number becomes a
literal of the program. If it changes, as a step size does, a program would be compiled for each of
its values, which takes a hundred times as long as the call. The program is instead compiled once
more with its numbers as arguments, and then serves all values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from blockjac.graph.graph import Equation, Graph, Literal, Operand

TELLING = (0.0, 1.0, -1.0)
"""Numbers that structure may depend on, since a product with one of them is simplified."""


def with_open_numbers(graph: Graph) -> tuple[Graph, list[Any]]:
    """The graph with captured scalars in place of its ordinary real literals, and their values.

    Args:
        graph: the traced function, which is not changed.

    Returns:
        The graph, whose last constants are the numbers, and the numbers to pass for them.
    """
    opened = replace(graph, avals=list(graph.avals))
    numbers: list[Any] = []
    added: list[int] = []

    def opened_operand(operand: Operand | Literal) -> Operand | Literal:
        if not isinstance(operand, Literal) or not _is_ordinary(operand):
            return operand
        numbers.append(_argument(operand))
        added.append(opened.new_value(operand.aval))
        return Operand(added[-1], None)

    opened.equations = [
        _with_operands(equation, tuple(map(opened_operand, equation.operands)))
        for equation in graph.equations
    ]
    opened.constants = (*graph.constants, *added)
    return opened, numbers


def _with_operands(equation: Equation, operands: tuple[Operand | Literal, ...]) -> Equation:
    return equation if operands == equation.operands else replace(equation, operands=operands)


def _is_ordinary(literal: Literal) -> bool:
    """Whether a literal is a real scalar that no structure depends on."""
    dtype = np.dtype(literal.aval.dtype)
    if literal.aval.shape != () or not np.issubdtype(dtype, np.floating):
        return False
    # A Python float, which is what a weakly typed number becomes, has the default dtype.
    if literal.aval.weak_type and dtype != jax.dtypes.canonicalize_dtype(float):
        return False
    number = float(literal.value)
    return np.isfinite(number) and number not in TELLING


def _argument(literal: Literal) -> Any:
    """The number as an argument of the same type: a Python float if it is weakly typed."""
    if literal.aval.weak_type:
        return float(literal.value)
    return literal.array
