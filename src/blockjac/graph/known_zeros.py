"""Entries of a program's values that are known to be zero while it is traced.

The zeros of constant matrices, of masks, and of what is computed from them, such as the upper
triangle of `jnp.tril(A)`, are structure, whatever the other entries are. They are followed from the
constants to the products with differentiated values, which then skip these entries. The numbers
themselves stay values of the program, so one compiled program serves all constants that have their
zeros in the same entries.

A constant is read when a product needs its zeros: once per call, and only once in all for a JAX
array. If it has more than `LARGEST` entries, a sample is read first. The whole is read only if much
of the sample is zero and there are at most `LARGEST_READ` entries; otherwise the constant counts as
full.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.mask_layout import layout
from blockjac.base import compat
from blockjac.graph.demanded import demanded
from blockjac.graph.graph import Equation, Graph, Literal, Operand
from blockjac.graph.zero_rules import LARGEST, RULES, OperandPatterns, Pattern

LARGEST_READ = 2**26
"""Constants with more entries than this count as full."""

SAMPLED = 2**12
"""Number of entries in a sample."""

SHARE_OF_ZEROS = 1 / 4
"""A large constant with a smaller share of zeros is not read whole: a list of its nonzeros would be
no smaller than the array."""

NEARLY_FULL = 1.1
"""A matrix that occurs many times in a Jacobian keeps its zeros if it has at most this many entries
per nonzero: applying the full matrix is faster than applying a list."""

FACTORS = frozenset({"mul", "dot_general", "conv_general_dilated"})
"""Primitives that multiply the tangent of one operand by the other operand."""


def patterns_of(
    graph: Graph,
    known: Mapping[int, Any],
    told: Mapping[int, Pattern] = MappingProxyType({}),
    beside: Set[int] = frozenset(),
) -> dict[int, Pattern]:
    """Patterns of the values that multiply tangents, for those that are known to have zeros.

    Args:
        graph: the traced function.
        known: its known integers and booleans.
        told: patterns of values that are known from elsewhere.
        beside: further values whose patterns are needed.
    """
    if not (graph.captured or known or told or _has_zeros(graph)):
        return {}
    requested = _multipliers(graph) | beside
    if not requested:
        return {}
    patterns = _all_patterns(graph, known, told, demanded(graph, requested, _has_zero_rule))
    return {value: patterns[value] for value in sorted(requested) if value in patterns}


def zeros_of(graph: Graph, patterns: Mapping[int, Pattern]) -> dict[int, Pattern]:
    """The patterns whose zeros are worth skipping in products.

    Args:
        graph: the traced function.
        patterns: from `patterns_of`.
    """
    if not patterns:
        return {}
    convolved, multipliers, copies = _convolved(graph), _multipliers(graph), _copies(graph)
    return {
        value: may
        for value, may in patterns.items()
        if value in multipliers
        and (not may.all() if value in convolved else _pays(may, copies.get(value, 1)))
    }


def _convolved(graph: Graph) -> set[int]:
    """The operands of convolutions, each entry of which occurs many times in the Jacobian."""
    return {
        operand.value
        for equation in graph.equations
        if equation.primitive.name == "conv_general_dilated"
        for operand in equation.operands
        if isinstance(operand, Operand)
    }


def _has_zeros(graph: Graph) -> bool:
    """Whether the program contains literal zeros, as from `jnp.zeros` and from padding."""
    return any(
        isinstance(operand, Literal) and not np.all(operand.array)
        for equation in graph.equations
        for operand in equation.operands
    )


def _copies(graph: Graph) -> dict[int, int]:
    """How many times each matrix occurs in a Jacobian, at most: once per column it multiplies."""
    copies: dict[int, int] = {}
    for equation in graph.equations:
        if equation.primitive.name != "dot_general":
            continue
        contracting, batch = equation.params["dimension_numbers"]
        shapes = [graph.aval(operand).shape for operand in equation.operands]
        for side, matrix in enumerate(equation.operands):
            if isinstance(matrix, Operand):
                shared = {*contracting[1 - side], *batch[1 - side]}
                free = [size for axis, size in enumerate(shapes[1 - side]) if axis not in shared]
                copies[matrix.value] = max(copies.get(matrix.value, 1), math.prod(free))
    return copies


def _pays(may: Pattern, copies: int) -> bool:
    """Whether skipping the zeros of a matrix saves anything, if it occurs `copies` times."""
    if may.all():
        return False
    squeezed = np.reshape(may, [size for size in may.shape if size != 1])
    if any(layout(squeezed, is_answer).pieces is not None for is_answer in (False, True)):
        return True
    is_nearly_full = NEARLY_FULL * np.count_nonzero(may) > may.size
    return not is_nearly_full and layout(squeezed, True, copies).pieces is not None


def _multipliers(graph: Graph) -> set[int]:
    """The values that multiply a differentiated operand."""
    multipliers: set[int] = set()
    constants = {
        value
        for value in (*graph.constants, *graph.inputs)
        if _is_small(graph.avals[value], LARGEST_READ)
    }
    for equation in graph.equations:
        if equation.primitive.name not in FACTORS:
            continue
        lhs, rhs = equation.operands
        for active, multiplier in ((lhs, rhs), (rhs, lhs)):
            if (
                _vertex(active) is not None
                and isinstance(multiplier, Operand)
                and (_is_small(graph.avals[multiplier.value]) or multiplier.value in constants)
            ):
                multipliers.add(multiplier.value)
    return multipliers


def _vertex(operand: Operand | Literal) -> int | None:
    return operand.vertex if isinstance(operand, Operand) else None


def _is_small(aval: Any, most: int = LARGEST) -> bool:
    shape = getattr(aval, "shape", ())
    return bool(shape) and 0 < aval.size <= most and is_number(aval)


def is_number(aval: Any) -> bool:
    """Whether a value holds numbers or booleans."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool))


def _has_zero_rule(equation: Equation) -> bool:
    return equation.primitive.name in RULES


def _all_patterns(
    graph: Graph, known: Mapping[int, Any], told: Mapping[int, Pattern], needed: set[int]
) -> dict[int, Pattern]:
    """The patterns of all needed values that are not full."""
    patterns = {value: may for value, may in told.items() if value in needed}
    for value, array in zip(graph.constants, graph.captured, strict=False):
        if value in needed and _is_small(graph.avals[value], LARGEST_READ):
            may = _read(array)
            if may is not None:
                patterns[value] = may
    for value, array in known.items():
        if value in needed:
            patterns[value] = np.asarray(array) != 0
    for equation in graph.equations:
        name = equation.primitive.name
        if len(equation.results) != 1 or equation.results[0] not in needed or name not in RULES:
            continue
        (result,) = equation.results
        if result in patterns or not _is_small(graph.avals[result]):
            continue
        if not any(_may_have_zeros(operand, patterns) for operand in equation.operands):
            continue
        may = RULES[name](OperandPatterns(equation, graph, patterns, known))
        if may is not None and not may.all():
            patterns[result] = np.broadcast_to(may, graph.avals[result].shape)
    return patterns


def _may_have_zeros(operand: Operand | Literal, patterns: Mapping[int, Pattern]) -> bool:
    if isinstance(operand, Literal):
        return not np.any(operand.array) if operand.array.shape == () else True
    return operand.value in patterns


_patterns: dict[int, Pattern | None] = {}
"""The patterns of JAX arrays, which never change, by identity and for as long as they live."""


def _read(array: Any) -> Pattern | None:
    """The pattern of a constant; None if its numbers are not available."""
    if isinstance(array, compat.Tracer):
        return None
    if not isinstance(array, jax.Array):
        return _pattern(np.asarray(array))
    if not array.is_fully_addressable:
        return None
    key = id(array)
    if key not in _patterns:
        weakref.finalize(array, _patterns.pop, key, None)
        _patterns[key] = _pattern(np.asarray(array))
    return _patterns[key]


def _pattern(array: np.ndarray) -> Pattern | None:
    """The pattern of an array; None if it is large and a sample of it has few zeros."""
    if array.size > LARGEST:
        positions = np.random.default_rng(0).integers(0, array.size, SAMPLED)
        sample = array[np.unravel_index(positions, array.shape)]
        if np.mean(sample == 0) < SHARE_OF_ZEROS:
            return None
    return array != 0
