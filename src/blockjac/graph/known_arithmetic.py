"""What is computed from known integers and booleans, in NumPy where that is the same.

JAX compiles a program for each primitive that is applied to values, which takes some ten
milliseconds; the arithmetic of an index is a handful of them. NumPy knows the usual ones, and
integers of both wrap around alike. The others are JAX's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.graph import Equation, Graph, Literal, Operand


def computed(equation: Equation, known: Mapping[int, np.ndarray], graph: Graph) -> list[np.ndarray]:
    """The results of an equation, of known operands.

    Args:
        equation: what is computed.
        known: the values of its operands.
        graph: the equation's.
    """
    operands = [
        np.asarray(operand.value) if isinstance(operand, Literal) else known[operand.value]
        for operand in equation.operands
    ]
    dtypes = [np.dtype(graph.avals[value].dtype) for value in equation.results]
    in_numpy = IN_NUMPY.get(equation.primitive.name)
    if in_numpy is not None and all(map(_is_whole, [*(each.dtype for each in operands), *dtypes])):
        with np.errstate(over="ignore"):  # of single numbers, which wrap around all the same
            result = in_numpy(*operands, **equation.params)
        return [np.asarray(result).astype(dtypes[0], copy=False)]
    with jax.ensure_compile_time_eval():
        arrays = [_array(operand, known) for operand in equation.operands]
        results = compat.bind(equation.primitive, arrays, equation.params)
    return [np.asarray(result) for result in results]


def _is_whole(dtype: np.dtype) -> bool:
    """Whether a dtype is one of NumPy's integers, or boolean."""
    return dtype.kind in "biu"


def _array(operand: Operand | Literal, known: Mapping[int, Any]) -> Any:
    return operand.value if isinstance(operand, Literal) else jnp.asarray(known[operand.value])


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays whose parameters change no value."""
    return lambda *operands, **_: function(*operands)


def _select(which: np.ndarray, *cases: np.ndarray, **_: Any) -> np.ndarray:
    """`cases[which]`, entry by entry."""
    return np.select([which == number for number in range(len(cases))], cases)


def _broadcast(
    operand: np.ndarray, *, shape: Sequence[int], broadcast_dimensions: Sequence[int], **_: Any
) -> np.ndarray:
    """The array along new axes."""
    own = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, operand.shape, strict=True):
        own[axis] = size
    return np.broadcast_to(operand.reshape(own), shape)


def _iota(*, shape: Sequence[int], dimension: int, **_: Any) -> np.ndarray:
    """The number of each entry along an axis."""
    own = [1] * len(shape)
    own[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension]).reshape(own), shape)


def _reshaped(operand: np.ndarray, *, new_sizes: Sequence[int], **_: Any) -> np.ndarray:
    return operand.reshape(new_sizes)


def _squeezed(operand: np.ndarray, *, dimensions: Sequence[int], **_: Any) -> np.ndarray:
    return np.squeeze(operand, axis=tuple(dimensions))


def _transposed(operand: np.ndarray, *, permutation: Sequence[int], **_: Any) -> np.ndarray:
    return np.transpose(operand, permutation)


def _joined(*operands: np.ndarray, dimension: int, **_: Any) -> np.ndarray:
    return np.concatenate(operands, axis=dimension)


IN_NUMPY: dict[str, Callable[..., Any]] = {
    **{
        name: _plain(function)
        for name, function in {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "max": np.maximum,
            "min": np.minimum,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
            "eq": np.equal,
            "ne": np.not_equal,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "not": np.invert,
            "convert_element_type": np.asarray,
        }.items()
    },
    "select_n": _select,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "reshape": _reshaped,
    "squeeze": _squeezed,
    "transpose": _transposed,
    "concatenate": _joined,
}
"""Functions of the operands and parameters of primitives, for integers and booleans alone."""
