"""Zeros of matrices that a program forms of counts alone, such as `(i - j) / n` of two `arange`.

Nothing but literals and counts goes in, so that their numbers are constants of the program as those
of captured arrays are. They are computed for their zeros, once for all programs that form them in
the same way.
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
    """Where matrices that multiply differentiated values may be other numbers than zero.

    Args:
        graph: the traced function.

    Returns:
        A boolean array for each of those that are formed of counts alone, by value.
    """
    matrices = _multiplying(graph)
    steps = _steps(graph, matrices) if matrices else []
    places = {
        value: place
        for place, value in enumerate(value for step in steps for value in step.results)
    }
    asked = sorted(matrices & places.keys())
    if not asked:
        return {}
    key = (tuple(_key(step, places) for step in steps), tuple(places[value] for value in asked))
    found = _patterns.get(key)
    if found is None:
        found = _patterns.put(key, _computed(graph, places, asked))
    return {value: found[places[value]] for value in asked}


def _multiplying(graph: Graph) -> set[int]:
    """The arrays of two or more axes by which a differentiated operand is multiplied."""
    found: set[int] = set()
    for equation in graph.equations:
        if equation.primitive.name != "dot_general":
            continue
        one, other = equation.operands
        for moving, still in ((one, other), (other, one)):
            if (
                isinstance(moving, Operand)
                and moving.vertex is not None
                and isinstance(still, Operand)
                and still.vertex is None
                and len(graph.avals[still.value].shape) > 1
            ):
                found.add(still.value)
    return found


def _steps(graph: Graph, matrices: set[int]) -> list[Equation]:
    """The equations that the matrices are computed by, as far as of counts and literals alone."""
    wanted = set(matrices)
    for equation in reversed(graph.equations):
        if not wanted.isdisjoint(equation.results):
            wanted.update(values_of(equation.operands))
    known: set[int] = set()
    steps = []
    for equation in graph.equations:
        if not wanted.isdisjoint(equation.results) and _is_of_counts(equation, graph, known):
            known.update(equation.results)
            steps.append(equation)
    return steps


def _is_of_counts(equation: Equation, graph: Graph, known: set[int]) -> bool:
    if "axis_name" in equation.params or not _is_hashable(tuple(equation.params.values())):
        return False
    if not equation.operands and equation.primitive.name != "iota":
        return False
    avals = [graph.avals[value] for value in equation.results]
    return all(is_number(aval) and aval.size <= LARGEST for aval in avals) and all(
        isinstance(one, Literal) or one.value in known for one in equation.operands
    )


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _key(step: Equation, places: Mapping[int, int]) -> Hashable:
    operands = tuple(
        places[one.value]
        if isinstance(one, Operand)
        else (one.array.tobytes(), str(one.array.dtype), one.array.shape)
        for one in step.operands
    )
    return (step.primitive, tuple(sorted(step.params.items())), operands)


def _computed(
    graph: Graph, places: Mapping[int, int], asked: Sequence[int]
) -> dict[int, np.ndarray]:
    """The patterns of the values that are asked for, by place: one program computes them all."""
    with jax.ensure_compile_time_eval():
        found = jax.jit(lambda: computed(graph, [Operand(value, None) for value in asked], {}))()
    return {
        places[value]: np.asarray(numbers) != 0 for value, numbers in zip(asked, found, strict=True)
    }
