"""Contract several factors to one: in which order, and laid out for fast matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import opt_einsum
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.sharded_product import sharded_operands
from blockjac.base import compat
from blockjac.devices import current, rates
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label


def _unmasked(factors: Sequence[Factor]) -> list[Factor]:
    """The factors with each mask applied to those that carry its labels.

    A mask with labels that no single factor carries becomes zeros and ones.
    """
    dtypes = [factor.array.dtype for factor in factors if not arrays.is_mask(factor)]
    dtype = jnp.result_type(*dtypes) if dtypes else jnp.result_type(float)
    numbers = [factor for factor in factors if not arrays.is_mask(factor)]
    for mask in (factor for factor in factors if arrays.is_mask(factor)):
        if not any(set(mask.labels) <= set(factor.labels) for factor in numbers):
            numbers.append(arrays.cast(mask, dtype))
            continue
        numbers = [
            arrays.product([factor, mask]) if set(mask.labels) <= set(factor.labels) else factor
            for factor in numbers
        ]
    return numbers


def sum_out(
    factors: Sequence[Factor], summed: Sequence[Label], wanted: Sequence[Label] = ()
) -> Factor:
    """Contract factors to one: the product of all, summed over `summed`.

    Two at a time, in the order that is predicted to take the least time.

    Args:
        factors: one or more factors.
        summed: the labels that disappear.
        wanted: the other labels in the order preferred for the result.
    """
    pending = _unmasked(factors)
    while len(pending) > 2:
        first, second = _next_pair(pending, summed)
        second = _twin(first, second, pending, wanted)
        rest = [factor for factor in pending if factor is not first and factor is not second]
        needed = {label for factor in rest for label in factor.labels}
        now = [label for label in summed if label not in needed]
        later = [label for label in summed if label in needed]
        readers = [factor for factor in rest if set(factor.labels) & set(later)]
        pending = [*rest, _contract(first, second, now, later, readers)]
    if len(pending) == 2:
        first, second = sorted(pending, key=lambda factor: _rank(factor, wanted))
        if set(second.labels) <= set(summed) and first.labels[0] in summed:
            first, second = second, first  # a row times a matrix, not its transpose times a column
        return _contract(first, second, summed)
    return _reduce(pending[0], summed)


def _twin(
    first: Factor, second: Factor, factors: Sequence[Factor], wanted: Sequence[Label]
) -> Factor:
    """The factor to multiply the first into: of equally large ones, that of the leading axes."""
    carried = set(first.labels)
    if not carried < set(second.labels):
        return second
    twins = [
        factor
        for factor in factors
        if factor is not first and factor.numel == second.numel and carried < set(factor.labels)
    ]
    return min([second, *twins], key=lambda factor: _rank(factor, wanted))


def _rank(factor: Factor, wanted: Sequence[Label]) -> int:
    """The first position among the wanted labels of any label of a factor."""
    positions = (position for position, label in enumerate(wanted) if label in factor.labels)
    return next(positions, len(wanted))


FEW = 5
"""Up to this many factors, every order of contracting them is tried."""


def _next_pair(factors: Sequence[Factor], summed: Sequence[Label]) -> tuple[Factor, Factor]:
    """The two factors to contract first in the order that takes the least time; see `FEW`."""
    if len(factors) <= FEW:
        carried = [frozenset(factor.labels) for factor in factors]
        first, second = _cheapest_pair(carried, frozenset(summed))[1]
        return factors[first], factors[second]
    symbols: dict[Label, str] = {}
    for factor in factors:
        for label in factor.labels:
            symbols.setdefault(label, opt_einsum.get_symbol(len(symbols)))
    inputs = ",".join("".join(symbols[label] for label in factor.labels) for factor in factors)
    output = "".join(symbol for label, symbol in symbols.items() if label not in summed)
    shapes = [arrays.sizes(factor.labels) for factor in factors]
    path, _ = opt_einsum.contract_path(f"{inputs}->{output}", *shapes, shapes=True, optimize="auto")
    first, *second = next(iter(path))  # a single number means to sum that factor first
    return (factors[first], factors[second[0]]) if second else (factors[0], factors[1])


def _cheapest_pair(
    carried: Sequence[frozenset[Label]], summed: frozenset[Label]
) -> tuple[float, tuple[int, int]]:
    """The least seconds to contract factors over these labels, and the first pair to contract."""
    device = rates()
    best, pair = math.inf, (0, 1)
    for first in range(len(carried)):
        for second in range(first + 1, len(carried)):
            rest = [labels for i, labels in enumerate(carried) if i not in (first, second)]
            union = carried[first] | carried[second]
            kept = union.difference(summed.difference(*rest))
            operations = arrays.numel(tuple(union)) * (1 if kept == union else 2)
            entries = sum(
                arrays.numel(tuple(labels)) for labels in (carried[first], carried[second], kept)
            )
            seconds = operations / device.operations_per_second
            seconds += 8 * entries / device.bytes_per_second
            if rest and seconds < best:
                seconds += _cheapest_pair([*rest, kept], summed)[0]
            if seconds < best:
                best, pair = seconds, (first, second)
    return best, pair


def _reduce(factor: Factor, summed: Sequence[Label]) -> Factor:
    """The factor summed over those of the labels that it has."""
    axes = tuple(axis for axis, label in enumerate(factor.labels) if label in summed)
    if not axes:
        return factor
    labels = tuple(label for label in factor.labels if label not in summed)
    return backend().factor(
        labels,
        factor.array.dtype,
        lambda: jnp.sum(factor.array, axis=axes),
        [factor],
        additions=factor.numel - arrays.numel(labels),
    )


def _contract(
    left: Factor,
    right: Factor,
    summed: Sequence[Label],
    later: Sequence[Label] = (),
    readers: Sequence[Factor] = (),
) -> Factor:
    """The product of two factors, summed over some labels.

    Args:
        left: a factor.
        right: a factor.
        summed: the labels that disappear.
        later: the labels that a later contraction sums.
        readers: the factors that the later contraction reads besides this product.
    """
    left = _reduce(left, [label for label in summed if label not in right.labels])
    right = _reduce(right, [label for label in summed if label not in left.labels])
    inner = [label for label in left.labels if label in summed and label in right.labels]
    if not inner:
        return _laid_out(left, right, later, readers)
    batched = compat.is_batched(right.array), compat.is_batched(left.array)
    if batched == (True, False) or (batched[0] == batched[1] and _reads_better(right, left, inner)):
        left, right = right, left
    batch = [label for label in left.labels if label in right.labels and label not in inner]
    left_free = [label for label in left.labels if label not in right.labels]
    right_free = [label for label in right.labels if label not in left.labels]
    count = len(batch)
    leading = left.labels[:count] == right.labels[:count] == tuple(batch)
    is_matrix = bool(left_free or right_free) and (leading or bool(left_free and right_free))
    is_matrix |= not batch and batched[0] != batched[1]  # a vector with each row of a batch
    labels = (*batch, *left_free, *right_free)
    if not is_matrix:  # multiplied and summed in one loop, without a copy of either
        labels = tuple(label for label in arrays.union([left, right]) if label not in inner)
    work = arrays.numel(labels) * arrays.numel(inner)
    return backend().factor(
        labels,
        jnp.result_type(left.array.dtype, right.array.dtype),
        lambda: (
            _matrix_product(left, right, labels, batch, inner)
            if is_matrix
            else _reduce(arrays.product([left, right]), inner).array
        ),
        [left, right],
        multiplications=work,
        additions=work - arrays.numel(labels),
    )


def _matrix_product(
    left: Factor,
    right: Factor,
    labels: Sequence[Label],
    batch: Sequence[Label],
    inner: Sequence[Label],
) -> Any:
    """The array of a matrix product over the inner labels, for each value of the batch labels."""
    backend().check_fits(labels, left.array.dtype)
    dtype = jnp.result_type(left.array.dtype, right.array.dtype)
    dimension_numbers = (
        (
            [left.labels.index(label) for label in inner],
            [right.labels.index(label) for label in inner],
        ),
        (
            [left.labels.index(label) for label in batch],
            [right.labels.index(label) for label in batch],
        ),
    )
    (lhs, rhs), out_sharding = sharded_operands((left, right), labels)
    return lax.dot_general(
        jnp.asarray(lhs, dtype),
        jnp.asarray(rhs, dtype),
        dimension_numbers,
        preferred_element_type=dtype,
        out_sharding=out_sharding,
    )


LARGE = 2**16
"""From this many entries on it pays to lay a factor out for the matrix product that reads it."""


WIDE = 32
"""From this many rows and columns on it pays to lay out the operand of a matrix product."""


def _laid_out(
    left: Factor, right: Factor, later: Sequence[Label], readers: Sequence[Factor]
) -> Factor:
    """The product of two factors, with its summed labels last if a matrix product reads it next.

    A matrix product reads its left operand at twice the speed where the summed axis is the last.
    Without the barrier the CPU compiler would move the transpose back behind the product.
    """
    labels = arrays.union([left, right])
    ends = [label for label in labels if label in later]
    order = [*(label for label in labels if label not in later), *ends]
    if list(labels) == order or not _is_matrix_product(labels, ends, readers):
        return arrays.product([left, right])
    product = arrays.product([left, right], order=order)
    if current().platform != "cpu":
        return product
    array = product.array
    return Factor(
        backend().array(array.shape, array.dtype, lambda: lax.optimization_barrier(array)),
        product.labels,
    )


def _is_matrix_product(
    labels: Sequence[Label], ends: Sequence[Label], readers: Sequence[Factor]
) -> bool:
    """Whether a large factor over these labels is next read by a matrix product over `ends`."""
    if not ends or len(readers) != 1 or arrays.numel(labels) < LARGE:
        return False
    rows = [label for label in labels if label not in ends]
    columns = [label for label in readers[0].labels if label not in ends]
    return not set(rows) & set(columns) and min(arrays.numel(rows), arrays.numel(columns)) >= WIDE


def _reads_better(left: Factor, right: Factor, inner: Sequence[Label]) -> bool:
    """Whether two factors are better multiplied in this order than in the opposite one.

    Rows times columns is what a processor's matrix product reads as it is. Of large factors it is
    the left one that counts.
    """

    def is_last(factor: Factor) -> bool:
        return set(factor.labels[-len(inner) :]) == set(inner)

    if not is_last(left) or is_last(right):
        return False
    are_large = min(left.numel, right.numel) >= LARGE
    return are_large or set(right.labels[: len(inner)]) == set(inner)
