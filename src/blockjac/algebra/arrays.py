"""Factors: arrays whose axes are labels, and the few operations on them that emit JAX code.

Each operation states in one call to the backend what it emits and what that costs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra.arithmetic import all_of, plus, scaled, times
from blockjac.algebra.backend import backend
from blockjac.terms.factor import Factor, numel, sizes, union
from blockjac.terms.factor import (
    unique as unique,
)  # so that callers find it here as `arrays.unique`
from blockjac.terms.index import Label
from blockjac.terms.known_indices import known_entries


def aligned(factor: Factor, labels: Sequence[Label]) -> Any:
    """The array with axes in the order of `labels`, size 1 where the factor lacks a label."""
    order = [factor.labels.index(label) for label in labels if label in factor.labels]
    array = factor.array
    if order != list(range(len(order))):
        array = jnp.transpose(array, order)
    if len(order) == len(labels):
        return array
    return jnp.reshape(
        array, tuple(label.size if label in factor.labels else 1 for label in labels)
    )


def product(
    factors: Sequence[Factor],
    coefficient: Any = 1,
    dtype: Any = None,
    order: Sequence[Label] | None = None,
) -> Factor:
    """Multiply factors out over all their labels, times a scalar.

    Boolean factors are masks: where one is False the product is exactly 0, whatever the others
    hold. A single factor with coefficient 1 is returned as it is.

    Args:
        factors: one or more factors.
        coefficient: a static scalar.
        dtype: the dtype of the result where masks alone are multiplied by a coefficient; otherwise
            the factors decide.
        order: the result's labels in order; a single factor that is returned as it is keeps its
            own.
    """
    if len(factors) == 1 and _is_one(coefficient):
        return factors[0]
    labels = union(factors) if order is None else tuple(order)
    if _is_one(coefficient) and all(map(is_known_mask, factors)):
        return known_product(factors, labels)
    masks = [factor for factor in factors if is_mask(factor)]
    numbers = _smallest_first(factors)
    dtype = _dtype_of_product(numbers, coefficient, dtype)
    backend().check_fits(labels, dtype)
    return backend().factor(
        labels,
        dtype,
        lambda: _multiplied(numbers, masks, coefficient, labels, dtype),
        [*numbers, *masks],
        **work_of_product(factors, coefficient),
    )


def _multiplied(
    numbers: Sequence[Factor],
    masks: Sequence[Factor],
    coefficient: Any,
    labels: Sequence[Label],
    dtype: Any,
) -> Any:
    """The array of a product over all labels; the masks select from it."""
    result: Any = None
    for factor in numbers:
        array = aligned(factor, labels)
        result = scaled(array, coefficient, dtype) if result is None else times(result, array)
    if not masks:
        return result
    allowed = all_of([aligned(factor, labels) for factor in masks])
    if result is not None:
        return jnp.where(allowed, result, jnp.zeros((), dtype))
    if not _is_one(coefficient):
        allowed = jnp.where(allowed, jnp.asarray(coefficient, dtype), 0)
    return allowed


def work_of_product(factors: Sequence[Factor], coefficient: Any) -> dict[str, int]:
    """The cost of a product: the smallest factor, scaled, meets the next smallest, and so on."""
    numbers = _smallest_first(factors)
    reached: set[Label] = set()
    multiplications = 0
    for position, factor in enumerate(numbers):
        reached.update(factor.labels)
        multiplications += numel(list(reached)) if position else 0
    masks = len(factors) - len(numbers)
    return {
        "multiplications": multiplications,
        "masked": numel(union(factors)) * masks if numbers else 0,
        "scaled": numbers[0].numel if numbers and coefficient not in (1, -1) else 0,
    }


def _smallest_first(factors: Sequence[Factor]) -> list[Factor]:
    """The factors that are not masks, smallest first, so that small products are formed first."""
    numbers = [factor for factor in factors if not is_mask(factor)]
    return sorted(numbers, key=lambda factor: factor.numel)


def _dtype_of_product(numbers: Sequence[Factor], coefficient: Any, dtype: Any) -> Any:
    """The dtype of a product of numbers (and any masks), times a scalar."""
    if numbers:
        dtype = joint_dtype([factor.array.dtype for factor in numbers])
    elif _is_one(coefficient):
        dtype = np.dtype(bool)
    elif dtype is None:
        dtype = jnp.result_type(float)
    if isinstance(coefficient, complex):  # real numbers times i
        dtype = jnp.result_type(dtype, np.complex64)
    return dtype


def known_product(masks: Sequence[Factor], labels: Sequence[Label]) -> Factor:
    """The product of known masks over labels, which is known as well."""
    entries = [known_entries(mask.array, mask.labels, labels) for mask in masks]
    return Factor(
        np.broadcast_to(functools.reduce(np.logical_and, entries), sizes(labels)), tuple(labels)
    )


def is_mask(factor: Factor) -> bool:
    """Whether a factor is boolean: it keeps or drops entries without scaling them."""
    return factor.array.dtype == np.dtype(bool)


def is_known_mask(factor: Factor) -> bool:
    """Whether a factor is a mask whose values are known while the program is traced."""
    return isinstance(factor.array, np.ndarray) and is_mask(factor)


def _is_one(coefficient: Any) -> bool:
    return isinstance(coefficient, int | float | complex) and coefficient == 1


def joint_dtype(dtypes: Sequence[Any]) -> Any:
    """The dtype that arrays of these dtypes are promoted to."""
    first = dtypes[0]
    return first if all(dtype == first for dtype in dtypes) else jnp.result_type(*dtypes)


def add(left: Factor, right: Factor) -> Factor:
    """The sum of two factors over all their labels; masks count as zeros and ones."""
    if is_mask(left) or is_mask(right):
        dtype = right.array.dtype if is_mask(left) else left.array.dtype
        dtype = jnp.result_type(float) if dtype == np.dtype(bool) else dtype
        left, right = cast(left, dtype), cast(right, dtype)
    labels = union([left, right])
    # What was computed last comes first: the CPU compiler writes code in this order, and takes a
    # third longer over a long function in which short operands come before deep ones.
    return backend().factor(
        labels,
        joint_dtype([left.array.dtype, right.array.dtype]),
        lambda: plus(aligned(right, labels), aligned(left, labels)),
        [left, right],
        additions=numel(labels),
    )


def cast(factor: Factor, dtype: Any) -> Factor:
    """The factor with another dtype."""
    if factor.array.dtype == dtype:
        return factor
    cast_factor = backend().factor(
        factor.labels, dtype, lambda: jnp.asarray(factor.array).astype(dtype), [factor]
    )
    return replace(cast_factor, name=factor.name)


def renamed(factor: Factor, old: Label, new: Label) -> Factor:
    """The factor with one label renamed, without an array operation."""
    return Factor(
        factor.array, tuple(new if label is old else label for label in factor.labels), factor.name
    )


def restrict(factor: Factor, label: Label, new: Label, start: int, stride: int) -> Factor:
    """Entries `start + stride * new` along a label; a diagonal if the factor has `new` already."""
    axis = factor.labels.index(label)
    if start != 0 or stride != 1 or new.size != label.size:
        factor = _sliced(factor, axis, Label(new.size), start, stride)
        label = factor.labels[axis]
    if new not in factor.labels:
        return renamed(factor, label, new)
    labels = (*(kept for kept in factor.labels if kept is not label and kept is not new), new)
    axes = axis, factor.labels.index(new)
    if is_known_mask(factor):
        return Factor(np.diagonal(factor.array, 0, *axes), labels)
    return backend().factor(
        labels, factor.array.dtype, lambda: jnp.asarray(factor.array).diagonal(0, *axes)
    )


def _sliced(factor: Factor, axis: int, new: Label, start: int, stride: int) -> Factor:
    """Entries `start + stride * new` along an axis, which gets the new label."""
    array, labels = factor.array, list(factor.labels)
    labels[axis] = new
    if is_known_mask(factor):
        taken = np.take(array, start + stride * np.arange(new.size), axis)
        return Factor(taken, tuple(labels), factor.name)
    last = start + stride * (new.size - 1)

    def emit() -> Any:
        if stride > 0:
            return lax.slice_in_dim(array, start, last + 1, stride, axis)
        return lax.rev(lax.slice_in_dim(array, last, start + 1, -stride, axis), (axis,))

    return replace(backend().factor(labels, array.dtype, emit), name=factor.name)


def pick(factor: Factor, label: Label, position: int) -> Factor:
    """The entries at one value of a label, which disappears."""
    axis = factor.labels.index(label)
    labels = tuple(kept for kept in factor.labels if kept is not label)
    if is_known_mask(factor):
        # NumPy returns the same object for all true scalars, but arrays are compared by identity.
        return Factor(np.asarray(np.take(factor.array, position, axis)), labels, factor.name)
    entries = backend().factor(
        labels,
        factor.array.dtype,
        lambda: lax.index_in_dim(factor.array, position, axis, keepdims=False),
    )
    return replace(entries, name=factor.name)


def reshaped(array: jax.Array | np.ndarray, labels: Sequence[Label]) -> Any:
    """The array with one axis per label, in row-major order."""
    if isinstance(array, np.ndarray) and array.dtype == np.dtype(bool):
        return np.reshape(array, sizes(labels))
    shape = sizes(labels)
    return backend().array(shape, array.dtype, lambda: jnp.reshape(array, shape))


def split(factor: Factor, label: Label, parts: Sequence[Label]) -> Factor:
    """Reshape the axis of a label into axes of several labels, most significant first."""
    axis = factor.labels.index(label)
    labels = (*factor.labels[:axis], *parts, *factor.labels[axis + 1 :])
    return Factor(reshaped(factor.array, labels), labels)
