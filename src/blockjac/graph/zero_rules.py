"""How each primitive carries known zeros from its operands to its result.

A rule maps the patterns of an equation's operands to that of its result. A primitive without a rule
may give any number anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.graph import Equation, Graph, Literal

LARGEST = 2**20
"""Zeros of values with more entries than this are not followed."""

Pattern = np.ndarray
"""Where a value may be nonzero; boolean, of the value's shape."""


class OperandPatterns:
    """The patterns of an equation's operands, as far as they are known.

    Attributes:
        equation: the equation.
        graph: the graph that the equation belongs to.
        patterns: the patterns known so far, by value.
        known: the integers and booleans that are known, by value.
        params: the parameters of the equation.
        shape: the shape of its result.
    """

    def __init__(
        self,
        equation: Equation,
        graph: Graph,
        patterns: Mapping[int, Pattern],
        known: Mapping[int, Any],
    ) -> None:
        self.equation, self.graph, self.patterns, self.known = equation, graph, patterns, known
        self.params = equation.params
        self.shape = graph.avals[equation.results[0]].shape

    def __len__(self) -> int:
        return len(self.equation.operands)

    def get(self, position: int) -> Pattern | None:
        """Where an operand may be nonzero; None if it may be so anywhere."""
        operand = self.equation.operands[position]
        if isinstance(operand, Literal):
            return operand.array != 0
        return self.patterns.get(operand.value)

    def full(self, position: int) -> Pattern:
        """Where an operand may be nonzero, as an array even if it may be so anywhere."""
        may = self.get(position)
        shape = getattr(self.graph.aval(self.equation.operands[position]), "shape", ())
        return np.ones(shape, bool) if may is None else may

    def value(self, position: int) -> Any:
        """The number that an operand is known to be; None if it is unknown."""
        operand = self.equation.operands[position]
        return operand.array if isinstance(operand, Literal) else self.known.get(operand.value)


Rule = Callable[[OperandPatterns], "Pattern | None"]


def _same(operands: OperandPatterns) -> Pattern | None:
    """The rule of an elementwise function that maps 0 to 0."""
    return operands.get(0)


def _power(operands: OperandPatterns) -> Pattern | None:
    return operands.get(0) if operands.params["y"] > 0 else None


def _product(operands: OperandPatterns) -> Pattern | None:
    return operands.full(0) & operands.full(1)


def _union(operands: OperandPatterns) -> Pattern | None:
    """The rule of an elementwise function that is 0 where all of its operands are 0."""
    union: Any = None
    for position in range(len(operands)):
        may = operands.get(position)
        if may is None:
            return None
        union = may if union is None else union | may
    return union


def _select(operands: OperandPatterns) -> Pattern | None:
    """The pattern of the selected case, or the union of all cases if the selector is unknown."""
    selector, shape = operands.value(0), operands.shape
    cases = [np.broadcast_to(operands.full(n), shape) for n in range(1, len(operands))]
    if selector is None:
        return np.any(cases, axis=0)
    return np.choose(np.broadcast_to(np.asarray(selector).astype(int), shape), cases)


def _matrix_product(operands: OperandPatterns) -> Pattern | None:
    """`sum_k lhs[i, k] rhs[k, j] > 0` of the patterns as 0 and 1; None if that takes too long."""
    lhs, rhs = (operands.full(position).astype(np.float32) for position in (0, 1))
    if lhs.size * rhs.size > LARGEST * 2**10:
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.lax.dot_general(lhs, rhs, operands.params["dimension_numbers"])) != 0


def _any_along(operands: OperandPatterns) -> Pattern | None:
    return np.asarray(operands.full(0).any(axis=tuple(operands.params["axes"])))


def _any_before(operands: OperandPatterns) -> Pattern | None:
    may, axis = operands.full(0), operands.params["axis"]
    if operands.params["reverse"]:
        return np.flip(np.maximum.accumulate(np.flip(may, axis), axis), axis)
    return np.maximum.accumulate(may, axis)


def _broadcast(operands: OperandPatterns) -> Pattern | None:
    """The pattern with size-1 axes inserted, then repeated along the axes of the result."""
    may = operands.full(0)
    shape = [1] * len(operands.shape)
    for axis, size in zip(operands.params["broadcast_dimensions"], may.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(may.reshape(shape), operands.shape)


def _reshaped(operands: OperandPatterns) -> Pattern | None:
    if operands.params.get("dimensions"):
        return None
    return np.reshape(operands.full(0), operands.shape)


def _transposed(operands: OperandPatterns) -> Pattern | None:
    return np.transpose(operands.full(0), operands.params["permutation"])


def _moved(operands: OperandPatterns) -> Pattern | None:
    """The rule of a primitive that only moves numbers: apply it to the patterns."""
    return _applied(operands, [operands.full(position) for position in range(len(operands))])


def _read_at(operands: OperandPatterns) -> Pattern | None:
    """Read the pattern at the known indices; anything may be read outside of the array."""
    indices = [operands.value(position) for position in range(1, len(operands))]
    if any(index is None for index in indices):
        return None
    return _applied(operands, [operands.full(0), *indices])


def _written_into(operands: OperandPatterns) -> Pattern | None:
    """Write one pattern into the other at the known indices.

    The patterns are nonnegative numbers here, so that sums of them do not cancel.
    """
    if operands.equation.primitive.name == "dynamic_update_slice":
        update, first, last = 1, 2, len(operands)
    else:
        update, first, last = 2, 1, 2
    indices = [operands.value(position) for position in range(first, last)]
    if any(index is None for index in indices):
        return None
    dtype = operands.graph.avals[operands.equation.results[0]].dtype
    arrays = [operands.full(0).astype(dtype), *indices]
    arrays.insert(update, operands.full(update).astype(dtype))
    written = _applied(operands, arrays)
    return written != 0


def _applied(operands: OperandPatterns, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The result of the equation's primitive for other operands, computed now."""
    with jax.ensure_compile_time_eval():
        values = [jnp.asarray(array) for array in arrays]
        return np.asarray(compat.bind(operands.equation.primitive, values, operands.params)[0])


_ZERO_AT_ZERO = """
    abs asin asinh atan atanh cbrt ceil conj convert_element_type copy copy_p erf expm1 floor imag
    log1p neg real reduce_precision round sign sin sinh sqrt square tan tanh
"""

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ZERO_AT_ZERO.split(), _same),
    **dict.fromkeys(("add", "add_any", "sub", "max", "min", "or"), _union),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_or"), _any_along),
    **dict.fromkeys(("pad", "concatenate", "slice", "rev", "squeeze", "expand_dims"), _moved),
    **dict.fromkeys(("gather", "dynamic_slice"), _read_at),
    **dict.fromkeys(("scatter", "scatter-add", "dynamic_update_slice"), _written_into),
    "integer_pow": _power,
    "mul": _product,
    "and": _product,
    "div": _same,
    "select_n": _select,
    "dot_general": _matrix_product,
    "cumsum": _any_before,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshaped,
    "transpose": _transposed,
}
"""The rules, by name of the primitive."""
