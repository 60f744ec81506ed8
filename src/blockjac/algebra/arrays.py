"""Factors: arrays whose axes are labels, and the few operations on them that emit JAX code.

Every operation here runs in one of two ways. Normally it emits `jax.numpy`. Inside `planning()` it
touches no array: it adds to a `Cost` the operations that it would emit, no more and no fewer, and
returns a factor that knows its shape alone.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra.cost import Abstract, current, is_planning
from blockjac.base import compat
from blockjac.devices import memory_limit
from blockjac.errors import DenseTooLargeError
from blockjac.terms.factor import Factor, numel, sizes, union, unique
from blockjac.terms.index import Index, Label, Lookup, radix
from blockjac.terms.known_indices import (
    is_known,
    known_entries,
    known_lookup,
    known_values,
    mask_at,
)

LARGEST_KNOWN = 2**20
"""Up to so many entries a mask that is made of constants is computed while tracing."""


def priced(
    labels: Sequence[Label],
    dtype: Any,
    inputs: Sequence[Factor],
    multiplications: int = 0,
    additions: int = 0,
    masked: int = 0,
    scaled: int = 0,
) -> Factor:
    """A factor that is not computed, for its price.

    Args:
        labels: of the factor.
        dtype: of the factor.
        inputs: what is read.
        multiplications: of numbers by numbers.
        additions: of numbers.
        masked: multiplications by masks: those select, and still are products of edges.
        scaled: multiplications by a static coefficient: the product of edges that it came from has
            been counted.
    """
    cost = current()
    entries = numel(labels) + sum(factor.numel for factor in inputs)
    cost.multiplications += multiplications + scaled
    cost.edge_products += multiplications + masked
    cost.additions += additions
    cost.bytes += entries * np.dtype(dtype).itemsize
    return Factor(Abstract(sizes(labels), dtype), tuple(labels))


def written(labels: Sequence[Label], dtype: Any, additions: int = 0) -> Factor:
    """In a plan: a new array over the labels that costs to write it, and some additions."""
    return priced(labels, dtype, [], additions=additions)


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
        factors: one or more.
        coefficient: a static scalar.
        dtype: of the result where masks alone are multiplied by a coefficient; otherwise the
            factors decide.
        order: of the result's labels, where there is more to do than to return one factor.
    """
    if len(factors) == 1 and _is_one(coefficient):
        return factors[0]
    if order is None and len(factors) == 2 and not is_planning():
        found = _product_of_two(factors[0], factors[1], coefficient)
        if found is not None:
            return found
    labels = union(factors) if order is None else tuple(order)
    if _is_one(coefficient) and all(map(is_known_mask, factors)):
        return _joint(factors, labels)
    masks = [factor for factor in factors if is_mask(factor)]
    numbers = [factor for factor in factors if not is_mask(factor)]
    dtype = _dtype_of_product(numbers, coefficient, dtype)
    # Small factors first: their product is formed before it is spread over the wide ones.
    numbers.sort(key=lambda factor: factor.numel)
    if is_planning():
        return _priced_product(numbers, masks, coefficient, labels, dtype)
    check_fits(labels, dtype)
    result: Any = None
    for factor in numbers:
        array = aligned(factor, labels)
        result = scaled(array, coefficient, dtype) if result is None else times(result, array)
    if not masks:
        return Factor(result, labels)
    allowed = functools.reduce(operator.and_, [aligned(factor, labels) for factor in masks])
    if result is not None:
        return Factor(jnp.where(allowed, result, jnp.zeros((), dtype)), labels)
    if not _is_one(coefficient):
        allowed = jnp.where(allowed, jnp.asarray(coefficient, dtype), 0)
    return Factor(allowed, labels)


def _dtype_of_product(numbers: Sequence[Factor], coefficient: Any, dtype: Any) -> Any:
    """The dtype of a product of these numbers and of masks, times a scalar."""
    if numbers:
        dtype = joint_dtype([factor.array.dtype for factor in numbers])
    elif _is_one(coefficient):
        dtype = np.dtype(bool)
    elif dtype is None:
        dtype = jnp.result_type(float)
    if isinstance(coefficient, complex):  # real numbers times i
        dtype = jnp.result_type(dtype, np.complex64)
    return dtype


def _joint(masks: Sequence[Factor], labels: Sequence[Label]) -> Factor:
    """Masks that are known as one that is."""
    entries = [known_entries(mask.array, mask.labels, labels) for mask in masks]
    return Factor(
        np.broadcast_to(functools.reduce(np.logical_and, entries), sizes(labels)), tuple(labels)
    )


def _product_of_two(one: Factor, other: Factor, coefficient: Any) -> Factor | None:
    """The same of two arrays of JAX of one type over the same labels, as most are; else None."""
    if one.labels != other.labels or not _are_alike(one.array, other.array):
        return None
    if isinstance(coefficient, complex):
        return None
    first = scaled(one.array, coefficient, one.array.dtype)
    return Factor(times(first, other.array), one.labels)


def _priced_product(
    numbers: Sequence[Factor],
    masks: Sequence[Factor],
    coefficient: Any,
    labels: Sequence[Label],
    dtype: Any,
) -> Factor:
    """The price of `product`: the scaled smallest number is spread over the next, and so on."""
    made: dict[Label, None] = {}
    multiplications = 0
    scaled = numbers[0].numel if numbers and coefficient not in (1, -1) else 0
    for place, factor in enumerate(numbers):
        made.update(dict.fromkeys(factor.labels))
        multiplications += numel(list(made)) if place else 0
    masked = numel(labels) * (len(masks) if numbers else 0)
    inputs = [*numbers, *masks]
    return priced(labels, dtype, inputs, multiplications, masked=masked, scaled=scaled)


def is_mask(factor: Factor) -> bool:
    """Whether a factor is boolean: it keeps or drops entries and scales none."""
    return factor.array.dtype == np.dtype(bool)


def is_known_mask(factor: Factor) -> bool:
    """Whether a factor is a mask that is known while the program is traced."""
    return isinstance(factor.array, np.ndarray) and is_mask(factor)


def check_fits(labels: Sequence[Label], dtype: Any) -> None:
    """Refuse an array that is larger than the machine's share allows; a plan refuses none.

    Raises:
        DenseTooLargeError: says what it would need, and what to do instead.
    """
    needed = 0 if is_planning() else numel(labels) * np.dtype(dtype).itemsize
    if needed > memory_limit():
        raise DenseTooLargeError(
            f"an array of shape {sizes(labels)} on the way to this Jacobian needs "
            f"{in_bytes(needed)}, over the limit of {in_bytes(memory_limit())}; "
            "ask for less at once: a product with one "
            "vector (blockjac.vjp, blockjac.jvp), or the Jacobian with respect to fewer entries"
        )


def in_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    amount, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if amount == int(amount) else f"{amount:.1f} {units[0]}"


def _is_one(coefficient: Any) -> bool:
    return isinstance(coefficient, int | float | complex) and coefficient == 1


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
    """`left * right`, past the promotion of `jax.numpy` where nothing is to be promoted."""
    return lax.mul(left, right) if _are_alike(left, right) else left * right


def plus(left: Any, right: Any) -> Any:
    """`left + right`, likewise."""
    return lax.add(left, right) if _are_alike(left, right) else left + right


def shifted(array: Any, constant: Any) -> Any:
    """An array plus a static scalar."""
    is_number = isinstance(constant, int | float | complex) and array.dtype != np.dtype(bool)
    if is_number and isinstance(array, jax.Array):
        return lax.add(array, np.asarray(constant, array.dtype))
    return array + jnp.asarray(constant, array.dtype)


def _are_alike(left: Any, right: Any) -> bool:
    """Whether both are arrays of JAX of one type, of numbers."""
    return (
        isinstance(left, jax.Array)
        and isinstance(right, jax.Array)
        and left.shape == right.shape
        and left.dtype == right.dtype
        and left.dtype != np.dtype(bool)
    )


def where(condition: Any, array: Any, dtype: Any) -> Any:
    """The array where a condition of its rank holds, and 0 elsewhere."""
    is_plain = isinstance(array, jax.Array) and array.dtype == dtype
    if not is_plain or compat.mesh_axes() or compat.is_placed(jax.typeof(array)):
        return jnp.where(condition, array, jnp.zeros((), dtype))
    shape = np.broadcast_shapes(condition.shape, array.shape)
    allowed, spread = [
        one if one.shape == shape else lax.broadcast_in_dim(one, shape, range(len(shape)))
        for one in (condition, array)
    ]
    return lax.select(allowed, spread, lax.full(shape, 0, dtype))


def joint_dtype(dtypes: Sequence[Any]) -> Any:
    """The dtype that arrays of these dtypes are promoted to."""
    first = dtypes[0]
    return first if all(one == first for one in dtypes) else jnp.result_type(*dtypes)


def add(left: Factor, right: Factor) -> Factor:
    """The sum of two factors over all their labels; masks count as zeros and ones."""
    if is_mask(left) or is_mask(right):
        dtype = right.array.dtype if is_mask(left) else left.array.dtype
        dtype = jnp.result_type(float) if dtype == np.dtype(bool) else dtype
        left, right = cast(left, dtype), cast(right, dtype)
    labels = union([left, right])
    if is_planning():
        dtype = joint_dtype([left.array.dtype, right.array.dtype])
        return priced(labels, dtype, [left, right], additions=numel(labels))
    # What was computed last comes first: the compiler for CPUs writes code in this order, and takes
    # a third longer over a long function where short operands come before deep ones.
    return Factor(plus(aligned(right, labels), aligned(left, labels)), labels)


def cast(factor: Factor, dtype: Any) -> Factor:
    """The factor with another dtype."""
    if factor.array.dtype == dtype:
        return factor
    if is_planning():
        return priced(factor.labels, dtype, [factor])
    return Factor(jnp.asarray(factor.array).astype(dtype), factor.labels, factor.name)


def renamed(factor: Factor, old: Label, new: Label) -> Factor:
    """The factor with one label renamed; no array operation."""
    return Factor(
        factor.array, tuple(new if label is old else label for label in factor.labels), factor.name
    )


def restrict(factor: Factor, label: Label, new: Label, start: int, stride: int) -> Factor:
    """Entries `start + stride * new` along a label; a diagonal where `new` is there already."""
    axis = factor.labels.index(label)
    if start == 0 and stride == 1 and new.size == label.size:
        sliced = factor.array
    elif is_known_mask(factor):
        sliced = np.take(factor.array, start + stride * np.arange(new.size), axis)
    elif is_planning():
        trimmed = [
            other.size if place != axis else new.size for place, other in enumerate(factor.labels)
        ]
        sliced = priced([Label(size) for size in trimmed], factor.array.dtype, []).array
    elif stride > 0:
        sliced = lax.slice_in_dim(
            factor.array, start, start + stride * (new.size - 1) + 1, stride, axis
        )
    else:
        last = start + stride * (new.size - 1)
        sliced = lax.rev(lax.slice_in_dim(factor.array, last, start + 1, -stride, axis), (axis,))
    if new not in factor.labels:
        return renamed(Factor(sliced, factor.labels, factor.name), label, new)
    labels = tuple(other for other in factor.labels if other is not label and other is not new)
    if is_known_mask(factor):
        return Factor(np.diagonal(sliced, 0, axis, factor.labels.index(new)), (*labels, new))
    if is_planning():
        return priced((*labels, new), factor.array.dtype, [])
    return Factor(jnp.diagonal(sliced, axis1=axis, axis2=factor.labels.index(new)), (*labels, new))


def pick(factor: Factor, label: Label, place: int) -> Factor:
    """The entries at one place of a label, which disappears."""
    axis = factor.labels.index(label)
    labels = tuple(other for other in factor.labels if other is not label)
    if is_known_mask(factor):
        # NumPy gives one and the same object for all scalars that are true; arrays are told apart.
        return Factor(np.asarray(np.take(factor.array, place, axis)), labels, factor.name)
    if is_planning():
        return priced(labels, factor.array.dtype, [])
    return Factor(lax.index_in_dim(factor.array, place, axis, keepdims=False), labels, factor.name)


def reshaped(array: Any, labels: Sequence[Label]) -> Any:
    """The array with one axis per label, in row-major order."""
    if isinstance(array, np.ndarray) and array.dtype == np.dtype(bool):
        return np.reshape(array, sizes(labels))
    if is_planning():
        return Abstract(sizes(labels), array.dtype)
    return jnp.reshape(array, sizes(labels))


def split(factor: Factor, label: Label, parts: Sequence[Label]) -> Factor:
    """Reshape a label into several, most significant first."""
    axis = factor.labels.index(label)
    labels = (*factor.labels[:axis], *parts, *factor.labels[axis + 1 :])
    return Factor(reshaped(factor.array, labels), labels)


@dataclass(frozen=True, eq=False)
class View:
    """An array read through an index expression on each axis; nothing is moved until `read`.

    Substituting labels in the expressions composes slices, reshapes and gathers into one of each.
    Values of an expression that lie off its axis read 0.
    """

    array: Any
    axes: tuple[Index, ...]
    name: str = ""

    @staticmethod
    def of(factor: Factor) -> View:
        """A factor as a view: each axis is its label."""
        return View(factor.array, tuple(map(Index.of, factor.labels)), factor.name)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label once."""
        return unique([label for axis in self.axes for label in axis.labels])

    def guards(self, label: Label) -> bool:
        """Whether an axis is this label as it stands, so that values outside its range read 0."""
        return any(
            axis.is_plain(size) and axis.labels == (label,)
            for axis, size in zip(self.axes, self.array.shape, strict=True)
        )

    def read(self) -> Factor:
        """The array over the labels: sliced, split into digits, and gathered for the rest."""
        labels = self.labels
        if len(labels) == len(self.axes) and all(
            axis.is_plain(size) for axis, size in zip(self.axes, self.array.shape, strict=True)
        ):
            return Factor(self.array, labels, self.name)
        places = tuple(Label(size) for size in self.array.shape)
        factor = Factor(self.array, places, self.name)
        gathered: dict[Label, Index] = {}
        for place, axis in zip(places, self.axes, strict=True):
            digits = radix(axis)
            if axis.constant and axis.within(place.size):
                factor = pick(factor, place, axis.offset)
            elif axis.single is not None and axis.within(place.size):
                label, stride = axis.single
                factor = restrict(factor, place, label, axis.offset, stride)
            elif digits is not None and numel(digits) == place.size and self._only_here(axis):
                factor = split(factor, place, digits)
            else:
                gathered[place] = axis
        for group in _connected(gathered):
            factor = gather(factor, group)
        return factor

    def _only_here(self, axis: Index) -> bool:
        others = {label for other in self.axes if other is not axis for label in other.labels}
        return not others & set(axis.labels)


def _connected(indices: Mapping[Label, Index]) -> list[dict[Label, Index]]:
    """The indices in groups that share no label: each is gathered with index arrays of its own."""
    groups: list[dict[Label, Index]] = []
    for place, index in indices.items():
        joint = {place: index}
        apart = []
        for group in groups:
            if any(_meet(one, other) for one in joint.items() for other in group.items()):
                joint = {**group, **joint}
            else:
                apart.append(group)
        groups = [*apart, joint]
    return groups


def _meet(one: tuple[Label, Index], other: tuple[Label, Index]) -> bool:
    labels = [{place, *index.labels} for place, index in (one, other)]
    return not labels[0].isdisjoint(labels[1])


def gather(factor: Factor, indices: Mapping[Label, Index]) -> Factor:
    """Replace labels by expressions of other labels: `result[m, ...] = factor[index(m), ..., ...]`.

    Values of an index outside its label give 0. Axes that no index has to do with are slices.
    """
    own = [label for label in factor.labels if label not in indices]
    over = unique([label for index in indices.values() for label in index.labels])
    tied = [label for label in own if label in over]
    dims = (*(label for label in over if label not in own), *tied)
    labels = (*dims, *(label for label in own if label not in tied))
    if is_known_mask(factor) and _are_known(indices.values(), labels):
        axes = [indices.get(label) or Index.of(label) for label in factor.labels]
        return Factor(mask_at(factor.array, axes, labels), labels)
    if is_planning():
        return priced(labels, factor.array.dtype, [Factor(None, labels)])
    check_fits(labels, factor.array.dtype)
    safe = all(index.within(label.size) for label, index in indices.items())
    mode, fill = ("promise_in_bounds", None) if safe else ("fill", 0)
    selectors = []
    for label, index in indices.items():
        values = aligned(index_values(index), dims)
        selectors.append(values if safe else jnp.where(values < 0, label.size, values))
    selectors += [_along(label, dims) for label in tied]
    first = [factor.labels.index(label) for label in (*indices, *tied)]
    array = jnp.moveaxis(jnp.asarray(factor.array), first, range(len(first)))
    return Factor(array.at[tuple(selectors)].get(mode=mode, fill_value=fill), labels)


def _are_known(indices: Iterable[Index], labels: Sequence[Label]) -> bool:
    """Whether what depends on indices alone is known, and small enough to be looked at."""
    return numel(tuple(labels)) <= LARGEST_KNOWN and all(map(is_known, indices))


def _along(label: Label, dims: Sequence[Label]) -> Any:
    """The values of a label, shaped to broadcast over the dimensions."""
    return jnp.reshape(
        jnp.arange(label.size), tuple(label.size if other is label else 1 for other in dims)
    )


def index_values(index: Index) -> Factor:
    """The values of an index expression as an integer factor over its labels."""
    labels = index.labels
    if is_planning():
        return Factor(Abstract(sizes(labels), _index_dtype(index)), labels)
    dtype = _index_dtype(index)
    if index.lookup is not None and is_known(index):
        return Factor(
            np.broadcast_to(known_values(index, labels).astype(dtype), sizes(labels)), labels
        )
    total: Any = jnp.asarray(index.offset, dtype)
    if index.lookup is not None:
        total = total + aligned(
            Factor(jnp.asarray(index.lookup.array, dtype), index.lookup.labels), labels
        )
    for label, stride in index.strides:
        shape = tuple(label.size if other is label else 1 for other in labels)
        total = total + jnp.reshape(stride * lax.iota(dtype, label.size), shape)
    return Factor(jnp.broadcast_to(total, sizes(labels)), labels)


def _index_dtype(index: Index) -> Any:
    bounds = index.bounds()
    if index.lookup is not None:
        return jnp.result_type(index.lookup.array.dtype, np.int32)
    if bounds is not None and max(map(abs, bounds)) >= 2**31:
        return np.dtype(np.int64)
    return np.dtype(np.int32)


def in_range(index: Index, size: int, divisor: int = 1, known: bool = False) -> Factor:
    """The mask of where `divisor` divides the expression and the quotient is in `0 .. size - 1`.

    Args:
        index: the expression.
        size: of the axis that the quotient stands on.
        divisor: of the expression, not 0.
        known: whether to compute the mask now if that can be done, which of labels alone is done
            only where it is structure: it costs nothing to emit.
    """
    if (known and _are_known([index], index.labels)) or _is_made_known(index.labels, index):
        values: Any = np.broadcast_to(known_values(index, index.labels), sizes(index.labels))
    elif is_planning():
        return written(index.labels, np.dtype(bool))
    else:
        values = index_values(index).array
    allowed = (
        (values >= 0) & (values < size * abs(divisor))
        if divisor > 0
        else (values <= 0) & (values > size * divisor)
    )
    if abs(divisor) != 1:
        allowed = allowed & (values % divisor == 0)
    return Factor(allowed, index.labels)


def _is_made_known(labels: Sequence[Label], *indices: Index) -> bool:
    """Whether a mask of indices is made of constants; of labels alone it costs nothing to emit."""
    return any(index.lookup is not None for index in indices) and _are_known(indices, labels)


def equal(left: Index, right: Index, size: int) -> Factor:
    """The mask of where two expressions agree on a place of an axis of the given size."""
    labels = unique([*left.labels, *right.labels])
    if _is_made_known(labels, left, right):
        here, there = known_values(left, labels), known_values(right, labels)
        agree = (here == there) & (here >= 0) & (here < size)
        return Factor(np.ascontiguousarray(np.broadcast_to(agree, sizes(labels))), labels)
    if is_planning():
        return written(labels, np.dtype(bool))
    one, other = aligned(index_values(left), labels), aligned(index_values(right), labels)
    return Factor((one == other) & (one >= 0) & (one < size), labels)


def quotient(index: Index, divisor: int, bounds: tuple[int, int] | None) -> Lookup:
    """The lookup `index // divisor`, over the labels of the index."""
    if index.lookup is not None and is_known(index):
        return known_lookup(known_values(index, index.labels) // divisor, index.labels)
    values = index_values(index)
    return Lookup(values.array if is_planning() else values.array // divisor, values.labels, bounds)
