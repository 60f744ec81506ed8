"""Sums, products and selections of arrays in the fewest operations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base import compat


def scaled(array: Any, coefficient: Any, dtype: Any) -> Any:
    """An array times a static scalar, without an operation for 1 and with a negation for -1."""
    if coefficient == 1:
        return array
    is_of_jax = isinstance(array, jax.Array)
    if coefficient == -1:
        return lax.neg(array) if is_of_jax and array.dtype != np.dtype(bool) else -array
    if is_of_jax and array.dtype == dtype and isinstance(coefficient, int | float | complex):
        return lax.mul(array, np.asarray(coefficient, dtype))
    return array * jnp.asarray(coefficient, dtype)


def times(left: Any, right: Any) -> Any:
    """`left * right`, without the promotion of `jax.numpy` where shapes and dtypes agree."""
    return lax.mul(left, right) if _are_alike(left, right) else left * right


def plus(left: Any, right: Any) -> Any:
    """`left + right`, without the promotion of `jax.numpy` where shapes and dtypes agree."""
    return lax.add(left, right) if _are_alike(left, right) else left + right


def shifted(array: Any, constant: Any) -> Any:
    """An array plus a static scalar."""
    is_number = isinstance(constant, int | float | complex) and array.dtype != np.dtype(bool)
    if is_number and isinstance(array, jax.Array):
        return lax.add(array, np.asarray(constant, array.dtype))
    return array + jnp.asarray(constant, array.dtype)


def _are_alike(left: Any, right: Any) -> bool:
    """Whether both are JAX arrays of numbers, of the same shape and dtype."""
    return (
        isinstance(left, jax.Array)
        and isinstance(right, jax.Array)
        and left.shape == right.shape
        and left.dtype == right.dtype
        and left.dtype != np.dtype(bool)
    )


def all_of(conditions: Sequence[Any]) -> Any:
    """The logical and of one or more boolean arrays."""
    return reduce(lambda left, right: left & right, conditions)


def where(condition: Any, array: Any, dtype: Any) -> Any:
    """The array where a condition of its rank holds, and 0 elsewhere."""
    is_plain = isinstance(array, jax.Array) and array.dtype == dtype
    if not is_plain or compat.mesh_axes() or compat.is_placed(jax.typeof(array)):
        return jnp.where(condition, array, jnp.zeros((), dtype))
    shape = np.broadcast_shapes(condition.shape, array.shape)
    allowed, entries = [
        operand
        if operand.shape == shape
        else lax.broadcast_in_dim(operand, shape, range(len(shape)))
        for operand in (condition, array)
    ]
    return lax.select(allowed, entries, lax.full(shape, 0, dtype))
