"""Convert the arrays, shapes and dtypes that users pass to those that JAX works with."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.errors import BlockShapeError, BlockTypeError

Shape = tuple[int, ...]


def as_array(value: Any) -> Any:
    """Convert a value to an array of a dtype that JAX supports; such arrays pass unchanged."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == jnp.result_type(value) else jnp.asarray(value)
    return value if hasattr(value, "shape") and hasattr(value, "dtype") else jnp.asarray(value)


def as_shape(shape: Any) -> Shape:
    """Convert a shape to a tuple of ints; a single int is a shape of one axis, as in NumPy.

    Raises:
        BlockTypeError: if it is neither an int nor a sequence of ints.
        BlockShapeError: if a size is negative.
    """
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        raise BlockTypeError(f"a shape must be ints, as (2, 3), but is {shape!r}") from None
    if any(size < 0 for size in sizes):
        raise BlockShapeError(f"a shape must not have negative sizes, but is {sizes}")
    return sizes


def canonical(dtype: Any) -> np.dtype:
    """The dtype that JAX uses in its place: float32 for float64 unless x64 is enabled."""
    return jnp.result_type(np.empty(0, dtype))  # a bare float64 dtype would warn


def precision(dtype: Any) -> float:
    """The distance from 1 to the next number of a floating-point dtype."""
    return float(cast("Any", jnp.finfo(dtype)).eps)


def default_dtype(dtype: Any) -> Any:
    """The given dtype, or JAX's default floating-point dtype for None."""
    return jnp.zeros(()).dtype if dtype is None else dtype


def in_words(value: Any) -> str:
    """What a message says of a value: the shape of an array, or the type of anything else.

    Examples:
        >>> in_words(np.zeros(3)), in_words((1, 2))
        ('an array of shape (3,)', 'a tuple')
    """
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"an array of shape {shape}"
