"""Which values of a program are known to be zero in places while it is traced.

Zeros of constant matrices, of masks and of what is computed of them, such as the upper triangle of
`jnp.tril(A)`, are structure, whatever the other numbers are. They are followed from the constants
forwards to the products of differentiated values, which leave their places out. The numbers stay
values of the program: one compiled program serves all constants with zeros at the same places.

A constant is read where a product needs its zeros, once a call (arrays of JAX once for good). Of
one of more than `LARGEST` entries a sample is read first: it is read whole where much of it is
zero, up to `LARGEST_READ` entries, and counts as full elsewhere.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Set
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.mask_layout import layout
from blockjac.base import compat
from blockjac.graph.graph import Equation, Graph, Literal, Operand, values_of

LARGEST = 2**20
"""Values of more entries than this are not followed, and of constants a sample is read first."""

LARGEST_READ = 2**26
"""Constants of more entries than this count as full."""

SAMPLED = 2**12
"""Entries of a sample."""

SHARE_OF_ZEROS = 1 / 4
"""A large constant of fewer zeros than this share is not read whole: a list of its other entries
would be no smaller than the array."""

NEARLY_FULL = 1.1
"""A matrix that stands in a Jacobian many times is written with its zeros where it is no more than
so many times its other entries: it is applied faster than a list."""

FACTORS = frozenset({"mul", "dot_general", "conv_general_dilated"})
"""Primitives that multiply one operand's tangent by the other operand."""

Pattern = np.ndarray
"""Where a value may be another number than zero; boolean, of the value's shape."""


def patterns_of(
    graph: Graph,
    known: Mapping[int, Any],
    told: Mapping[int, Pattern] = MappingProxyType({}),
    beside: Set[int] = frozenset(),
) -> dict[int, Pattern]:
    """Patterns of the values that multiply tangents, as far as these are known to have zeros.

    Args:
        graph: the traced function.
        known: integers and booleans of it that are known.
        told: patterns of its inputs that are known.
        beside: values whose patterns are wanted as well.
    """
    if not (graph.captured or known or told or _has_zeros(graph)):
        return {}
    wanted = _multipliers(graph) | beside
    if not wanted:
        return {}
    found = _followed(graph, known, told, _needed(graph, wanted))
    return {value: found[value] for value in sorted(wanted) if value in found}


def zeros_of(graph: Graph, patterns: Mapping[int, Pattern]) -> dict[int, Pattern]:
    """Those of the patterns whose zeros it is worth to leave out of products.

    Args:
        graph: the traced function.
        patterns: from `patterns_of`.
    """
    slid, wanted = _slid(graph), _multipliers(graph) if patterns else set()
    repeated = _repeated(graph) if patterns else {}
    return {
        value: may
        for value, may in patterns.items()
        if value in wanted
        and (not may.all() if value in slid else _pays(may, repeated.get(value, 1)))
    }


def _slid(graph: Graph) -> set[int]:
    """The values that are convolved: an entry of theirs stands for many places."""
    return {
        operand.value
        for equation in graph.equations
        if equation.primitive.name == "conv_general_dilated"
        for operand in equation.operands
        if isinstance(operand, Operand)
    }


def _has_zeros(graph: Graph) -> bool:
    """Whether zeros are written in the program, as in `jnp.zeros` and paddings."""
    return any(
        isinstance(operand, Literal) and not np.all(operand.array)
        for equation in graph.equations
        for operand in equation.operands
    )


def _repeated(graph: Graph) -> dict[int, int]:
    """How many places of a Jacobian an entry of a matrix stands for, at the most.

    A matrix that multiplies many columns stands there once for each of them.
    """
    found: dict[int, int] = {}
    for equation in graph.equations:
        if equation.primitive.name != "dot_general":
            continue
        inner, batch = equation.params["dimension_numbers"]
        shapes = [graph.aval(operand).shape for operand in equation.operands]
        for place, still in enumerate(equation.operands):
            if isinstance(still, Operand):
                joint = {*inner[1 - place], *batch[1 - place]}
                free = [size for axis, size in enumerate(shapes[1 - place]) if axis not in joint]
                found[still.value] = max(found.get(still.value, 1), math.prod(free))
    return found


def _pays(may: Pattern, repeated: int) -> bool:
    """Whether it is worth to leave zeros out, of an entry that stands for so many places."""
    if may.all():
        return False
    squeezed = np.reshape(may, [size for size in may.shape if size != 1])
    if any(layout(squeezed, is_answer).pieces is not None for is_answer in (False, True)):
        return True
    is_nearly_full = NEARLY_FULL * np.count_nonzero(may) > may.size
    return not is_nearly_full and layout(squeezed, True, repeated).pieces is not None


def _multipliers(graph: Graph) -> set[int]:
    """The values that a differentiated operand is multiplied by."""
    found: set[int] = set()
    constants = {
        value
        for value in (*graph.constants, *graph.inputs)
        if _is_small(graph.avals[value], LARGEST_READ)
    }
    for equation in graph.equations:
        if equation.primitive.name not in FACTORS:
            continue
        one, other = equation.operands
        for moving, still in ((one, other), (other, one)):
            if (
                _vertex(moving) is not None
                and isinstance(still, Operand)
                and (_is_small(graph.avals[still.value]) or still.value in constants)
            ):
                found.add(still.value)
    return found


def _vertex(operand: Operand | Literal) -> int | None:
    return operand.vertex if isinstance(operand, Operand) else None


def _is_small(aval: Any, most: int = LARGEST) -> bool:
    shape = getattr(aval, "shape", ())
    return bool(shape) and 0 < aval.size <= most and is_number(aval)


def is_number(aval: Any) -> bool:
    """Whether a value holds numbers or booleans."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool))


def _needed(graph: Graph, wanted: set[int]) -> set[int]:
    """The values that the zeros of the wanted ones may come from."""
    needed = set(wanted)
    for equation in reversed(graph.equations):
        if equation.primitive.name in RULES and not needed.isdisjoint(equation.results):
            needed.update(values_of(equation.operands))
    return needed


def _followed(
    graph: Graph, known: Mapping[int, Any], told: Mapping[int, Pattern], needed: set[int]
) -> dict[int, Pattern]:
    """The patterns of all values that are needed and not full."""
    found = {value: may for value, may in told.items() if value in needed}
    for value, array in zip(graph.constants, graph.captured, strict=False):
        if value in needed and _is_small(graph.avals[value], LARGEST_READ):
            may = _read(array)
            if may is not None:
                found[value] = may
    for value, array in known.items():
        if value in needed:
            found[value] = np.asarray(array) != 0
    for equation in graph.equations:
        name = equation.primitive.name
        if len(equation.results) != 1 or equation.results[0] not in needed or name not in RULES:
            continue
        (result,) = equation.results
        if result in found or not _is_small(graph.avals[result]):
            continue
        if not any(_is_told(operand, found) for operand in equation.operands):
            continue
        may = RULES[name](_Patterns(equation, graph, found, known))
        if may is not None and not may.all():
            found[result] = np.broadcast_to(may, graph.avals[result].shape)
    return found


def _is_told(operand: Operand | Literal, found: Mapping[int, Pattern]) -> bool:
    if isinstance(operand, Literal):
        return not np.any(operand.array) if operand.array.shape == () else True
    return operand.value in found


_patterns: dict[int, Pattern | None] = {}
"""Of arrays of JAX, which never change, by identity, as long as they live."""


def _read(array: Any) -> Pattern | None:
    """The pattern of a constant; None where its numbers are not at hand."""
    if isinstance(array, compat.Tracer):
        return None
    if not isinstance(array, jax.Array):
        return _looked_into(np.asarray(array))
    if not array.is_fully_addressable:
        return None
    key = id(array)
    if key not in _patterns:
        weakref.finalize(array, _patterns.pop, key, None)
        _patterns[key] = _looked_into(np.asarray(array))
    return _patterns[key]


def _looked_into(array: np.ndarray) -> Pattern | None:
    """The pattern of an array; None of a large one of which a sample has few zeros."""
    if array.size > LARGEST:
        places = np.random.default_rng(0).integers(0, array.size, SAMPLED)
        sample = array[np.unravel_index(places, array.shape)]
        if np.mean(sample == 0) < SHARE_OF_ZEROS:
            return None
    return array != 0


# How zeros of operands make zeros of a result


class _Patterns:
    """The patterns of an equation's operands, as far as they are known."""

    def __init__(
        self,
        equation: Equation,
        graph: Graph,
        found: Mapping[int, Pattern],
        known: Mapping[int, Any],
    ) -> None:
        self.equation, self.graph, self.found, self.known = equation, graph, found, known
        self.params = equation.params
        self.shape = graph.avals[equation.results[0]].shape

    def __len__(self) -> int:
        return len(self.equation.operands)

    def get(self, place: int) -> Pattern | None:
        """Where an operand may be another number than zero; None where it may be anything."""
        operand = self.equation.operands[place]
        if isinstance(operand, Literal):
            return operand.array != 0
        return self.found.get(operand.value)

    def full(self, place: int) -> Pattern:
        """The same, with an array of its shape where nothing is known."""
        may = self.get(place)
        shape = getattr(self.graph.aval(self.equation.operands[place]), "shape", ())
        return np.ones(shape, bool) if may is None else may

    def value(self, place: int) -> Any:
        """The number of an operand that is known; None for others."""
        operand = self.equation.operands[place]
        return operand.array if isinstance(operand, Literal) else self.known.get(operand.value)


Rule = Callable[[_Patterns], "Pattern | None"]


def _same(given: _Patterns) -> Pattern | None:
    """Of a function that is 0 at 0."""
    return given.get(0)


def _power(given: _Patterns) -> Pattern | None:
    return given.get(0) if given.params["y"] > 0 else None


def _product(given: _Patterns) -> Pattern | None:
    return given.full(0) & given.full(1)


def _union(given: _Patterns) -> Pattern | None:
    parts = [given.get(place) for place in range(len(given))]
    total: Any = None
    for part in parts:
        if part is None:
            return None
        total = part if total is None else total | part
    return total


def _chosen(given: _Patterns) -> Pattern | None:
    which = given.value(0)
    cases = [np.broadcast_to(given.full(place), given.shape) for place in range(1, len(given))]
    if which is None:
        return np.any(cases, axis=0)
    return np.choose(np.broadcast_to(np.asarray(which).astype(int), given.shape), cases)


def _matrix_product(given: _Patterns) -> Pattern | None:
    (inner, batch) = given.params["dimension_numbers"]
    counts = [given.full(place).astype(np.float32) for place in (0, 1)]
    if counts[0].size * counts[1].size > LARGEST * 2**10:
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.lax.dot_general(counts[0], counts[1], (inner, batch))) != 0


def _any_along(given: _Patterns) -> Pattern | None:
    return np.asarray(given.full(0).any(axis=tuple(given.params["axes"])))


def _any_before(given: _Patterns) -> Pattern | None:
    may, axis = given.full(0), given.params["axis"]
    if given.params["reverse"]:
        return np.flip(np.maximum.accumulate(np.flip(may, axis), axis), axis)
    return np.maximum.accumulate(may, axis)


def _spread(given: _Patterns) -> Pattern | None:
    axes = given.params["broadcast_dimensions"]
    may = given.full(0)
    shape = [1] * len(given.shape)
    for axis, size in zip(axes, may.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(may.reshape(shape), given.shape)


def _reshaped(given: _Patterns) -> Pattern | None:
    return None if given.params.get("dimensions") else np.reshape(given.full(0), given.shape)


def _transposed(given: _Patterns) -> Pattern | None:
    return np.transpose(given.full(0), given.params["permutation"])


def _moved(given: _Patterns) -> Pattern | None:
    """Of a primitive that moves numbers: what it does to the pattern."""
    with jax.ensure_compile_time_eval():
        operands = [jnp.asarray(given.full(place)) for place in range(len(given))]
        return np.asarray(compat.bind(given.equation.primitive, operands, given.params)[0])


def _read_at(given: _Patterns) -> Pattern | None:
    """Of a read at places that are known; what lies off the array may be anything."""
    places = [given.value(place) for place in range(1, len(given))]
    if any(place is None for place in places):
        return None
    with jax.ensure_compile_time_eval():
        operands = [jnp.asarray(given.full(0)), *map(jnp.asarray, places)]
        return np.asarray(compat.bind(given.equation.primitive, operands, given.params)[0])


def _written_into(given: _Patterns) -> Pattern | None:
    """Of a write at places that are known: patterns as numbers, of which no two cancel."""
    name = given.equation.primitive.name
    first, last = (2, len(given)) if name == "dynamic_update_slice" else (1, 2)
    values = 1 if name == "dynamic_update_slice" else 2
    places = [given.value(place) for place in range(first, last)]
    if any(place is None for place in places):
        return None
    dtype = given.graph.avals[given.equation.results[0]].dtype
    with jax.ensure_compile_time_eval():
        operands: list[Any] = [jnp.asarray(given.full(0), dtype), *map(jnp.asarray, places)]
        operands.insert(values, jnp.asarray(given.full(values), dtype))
        result = compat.bind(given.equation.primitive, operands, given.params)[0]
        return np.asarray(result) != 0


_AT_ZERO = """
    abs asin asinh atan atanh cbrt ceil conj convert_element_type copy copy_p erf expm1 floor imag
    log1p neg real reduce_precision round sign sin sinh sqrt square tan tanh
"""

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_AT_ZERO.split(), _same),
    **dict.fromkeys(("add", "add_any", "sub", "max", "min", "or"), _union),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_or"), _any_along),
    **dict.fromkeys(("pad", "concatenate", "slice", "rev", "squeeze", "expand_dims"), _moved),
    **dict.fromkeys(("gather", "dynamic_slice"), _read_at),
    **dict.fromkeys(("scatter", "scatter-add", "dynamic_update_slice"), _written_into),
    "integer_pow": _power,
    "mul": _product,
    "and": _product,
    "div": _same,
    "select_n": _chosen,
    "dot_general": _matrix_product,
    "cumsum": _any_before,
    "broadcast_in_dim": _spread,
    "reshape": _reshaped,
    "transpose": _transposed,
}
"""How each primitive carries zeros on; others may give any number anywhere."""
