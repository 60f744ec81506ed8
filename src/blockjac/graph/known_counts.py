"""Zeros of matrices that a program computes from counts alone, as `(i - j) / n` from two `arange`.

Such matrices depend only on literals and counts, so they are constants of the program, as captured
arrays are. They are computed to find their zeros, once for all programs that compute them in the
same way.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from blockjac.base.caches import Cache
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Equation, Graph, Literal, Operand, values_of
from blockjac.graph.known_zeros import is_number
from blockjac.graph.zero_rules import LARGEST

_patterns: Cache[dict[int, np.ndarray]] = Cache("zeros of counts", 64)


def patterns_of_counts(graph: Graph) -> Mapping[int, np.ndarray]:
    """Where matrices that are computed from counts and multiply differentiated values are nonzero.

    Args:
        graph: the traced function.

    Returns:
        A boolean array for each of these matrices, by value.
    """
    matrices = _multiplying(graph)
    steps = _steps(graph, matrices) if matrices else []
    ranks = {
        value: rank for rank, value in enumerate(value for step in steps for value in step.results)
    }
    computable = sorted(matrices & ranks.keys())
    if not computable:
        return {}
    key = (tuple(_key(step, ranks) for step in steps), tuple(ranks[value] for value in computable))
    patterns = _patterns.get(key)
    if patterns is None:
        patterns = _patterns.put(key, _computed(graph, ranks, computable))
    return {value: patterns[ranks[value]] for value in computable}


def _multiplying(graph: Graph) -> set[int]:
    """The arrays of two or more axes that multiply a differentiated operand."""
    matrices: set[int] = set()
    for equation in graph.equations:
        if equation.primitive.name != "dot_general":
            continue
        lhs, rhs = equation.operands
        for active, matrix in ((lhs, rhs), (rhs, lhs)):
            if (
                isinstance(active, Operand)
                and active.vertex is not None
                and isinstance(matrix, Operand)
                and matrix.vertex is None
                and len(graph.avals[matrix.value].shape) > 1
            ):
                matrices.add(matrix.value)
    return matrices


def _steps(graph: Graph, matrices: set[int]) -> list[Equation]:
    """The equations that compute the matrices, those that depend only on counts and literals."""
    needed = set(matrices)
    for equation in reversed(graph.equations):
        if not needed.isdisjoint(equation.results):
            needed.update(values_of(equation.operands))
    known: set[int] = set()
    steps = []
    for equation in graph.equations:
        if not needed.isdisjoint(equation.results) and _is_of_counts(equation, graph, known):
            known.update(equation.results)
            steps.append(equation)
    return steps


def _is_of_counts(equation: Equation, graph: Graph, known: set[int]) -> bool:
    """Whether an equation computes few numbers, from counts and literals alone."""
    if "axis_name" in equation.params or not _is_hashable(tuple(equation.params.values())):
        return False
    if not equation.operands and equation.primitive.name != "iota":
        return False
    avals = [graph.avals[value] for value in equation.results]
    return all(is_number(aval) and aval.size <= LARGEST for aval in avals) and all(
        isinstance(operand, Literal) or operand.value in known for operand in equation.operands
    )


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _key(step: Equation, ranks: Mapping[int, int]) -> Hashable:
    """What an equation computes, with the values numbered from 0 as in every such program."""
    operands = tuple(
        ranks[operand.value]
        if isinstance(operand, Operand)
        else (operand.array.tobytes(), str(operand.array.dtype), operand.array.shape)
        for operand in step.operands
    )
    return (step.primitive, tuple(sorted(step.params.items())), operands)


def _computed(
    graph: Graph, ranks: Mapping[int, int], matrices: Sequence[int]
) -> dict[int, np.ndarray]:
    """The patterns of some matrices, by their ranks; one program computes them all."""
    operands = [Operand(value, None) for value in matrices]
    with jax.ensure_compile_time_eval():
        arrays = jax.jit(lambda: computed(graph, operands, {}))()
    return {
        ranks[value]: np.asarray(array) != 0 for value, array in zip(matrices, arrays, strict=True)
    }
