"""Arrays, shapes and dtypes as users give them, made into what JAX works with."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.errors import BlockShapeError, BlockTypeError

Shape = tuple[int, ...]


def as_array(value: Any) -> Any:
    """A value as an array of a dtype that JAX works in; arrays of one pass through untouched."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == jnp.result_type(value) else jnp.asarray(value)
    return value if hasattr(value, "shape") and hasattr(value, "dtype") else jnp.asarray(value)


def as_shape(shape: Any) -> Shape:
    """A shape as a tuple of ints; a lone int is the shape of one axis, as in NumPy.

    Raises:
        BlockTypeError: for anything else.
        BlockShapeError: for negative sizes.
    """
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        raise BlockTypeError(f"a shape must be ints, as (2, 3), but is {shape!r}") from None
    if any(size < 0 for size in sizes):
        raise BlockShapeError(f"a shape must not have negative sizes, but is {sizes}")
    return sizes


def canonical(dtype: Any) -> np.dtype:
    """The dtype that JAX works in: float32 for float64 where 64 bits are not enabled."""
    return jnp.result_type(np.empty(0, dtype))  # of the bare dtype, it would warn


def default_dtype(dtype: Any) -> Any:
    """The dtype that was given, or JAX's own for real numbers."""
    return jnp.zeros(()).dtype if dtype is None else dtype
