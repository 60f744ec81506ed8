"""Places that are known while a program is traced: constant indices of gathers and scatters.

The structure of a Jacobian depends on which entries a gather reads. Where these are constants of
the program (captured arrays, and what is computed of them, in numbers of any kind), they are
computed once, before the program is, and the Jacobian's structure may look at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac import compat
from blockjac.graph import Equation, Graph, Literal, Operand

LARGEST = 2**22
"""Arrays of more entries than this stay values of the program."""

FIRST_INDEX: Mapping[str, int] = {
    "gather": 1,
    "scatter": 1,
    "scatter-add": 1,
    "scatter-sub": 1,
    "scatter-mul": 1,
    "scatter-min": 1,
    "scatter-max": 1,
    "dynamic_slice": 1,
    "dynamic_update_slice": 2,
}
"""From which operand on a primitive's operands say where it reads or writes."""

ONE_INDEX = frozenset(name for name in FIRST_INDEX if not name.startswith("dynamic"))
"""Primitives of which one operand alone is an index array."""


def with_known_places(graph: Graph) -> Graph:
    """The graph with the places that are constants in `known`."""
    wanted = _wanted(graph)
    captured = {
        value: np.asarray(array)
        for value, array in zip(graph.constants, graph.captured, strict=False)
        if value in wanted
        and not isinstance(array, compat.Tracer)
        and _is_small(graph.avals[value])
    }
    known: dict[int, np.ndarray] = dict(captured)
    for equation in graph.equations:
        if wanted.isdisjoint(equation.results) or not _is_computed(equation, known, graph):
            continue
        with jax.ensure_compile_time_eval():
            operands = [_value(operand, known) for operand in equation.operands]
            results = compat.bind(equation.primitive, operands, equation.params)
        for value, result in zip(equation.results, results, strict=True):
            known[value] = np.asarray(result)
    places = (value for value in wanted & set(known) if _is_index(graph.avals[value]))
    return replace(graph, known={value: known[value] for value in places})


def _wanted(graph: Graph) -> set[int]:
    """The values that places are computed from."""
    wanted: set[int] = set()
    for equation in reversed(graph.equations):
        name = equation.primitive.name
        operands = equation.operands
        if name in FIRST_INDEX:
            first = FIRST_INDEX[name]
            wanted.update(_values(operands[first : first + 1 if name in ONE_INDEX else None]))
        if not wanted.isdisjoint(equation.results):
            wanted.update(_values(operands))
    return wanted


def _values(operands: Any) -> set[int]:
    return {operand.value for operand in operands if isinstance(operand, Operand)}


def _is_computed(equation: Equation, known: Mapping[int, Any], graph: Graph) -> bool:
    """Whether an equation computes few numbers, of nothing but constants."""
    return all(_is_small(graph.avals[value]) for value in equation.results) and all(
        isinstance(operand, Literal) or operand.value in known for operand in equation.operands
    )


def _is_small(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or getattr(aval, "size", LARGEST + 1) > LARGEST:
        return False
    return jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool)


def _is_index(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.integer) or aval.dtype == np.dtype(bool)


def _value(operand: Operand | Literal, known: Mapping[int, Any]) -> Any:
    return operand.value if isinstance(operand, Literal) else jnp.asarray(known[operand.value])
