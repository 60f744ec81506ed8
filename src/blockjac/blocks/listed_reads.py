"""Blocks of residuals that each read one row of a variable, and the sums of their squares.

A residual of bundle adjustment reads the parameters of a camera in several places of its formula,
so that the block has several terms: for the turn, for the place, for the focal length. In a product
`J' J` every pair of terms would be multiplied separately; in one array they are multiplied at once.
And where many residuals read the same row, it moves less to gather them in front of one product
than to add up their products one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.devices import rates
from blockjac.linear_systems.meeting_lists import coarse_term, spread_axes, windows
from blockjac.linear_systems.schur_listed import GATHERED
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

SCATTERED = 10
"""How many times longer than to copy a number it takes to add it to others at a listed place."""

SECONDS_A_PRODUCT = 2e-7
"""About how long it takes to start each of many small products."""


def with_whole_rows(block: Block) -> Block:
    """The block with one term in place of several that read the same rows of the variable.

    The first output axis must number the reads, and the rows must not be much wider than what the
    terms have of them.
    """
    if len(block.terms) < 2 or not block.out_shape or not block.wrt_shape:
        return block
    axes = spread_axes([block])
    width = math.prod(block.wrt_shape[axis] for axis in axes)
    groups: dict[Any, list[Term]] = {}
    for term in block.terms:
        groups.setdefault(_rows_read(term, block, axes), []).append(term)
    terms: list[Term] = []
    for read, members in groups.items():
        parts = [math.prod(_size(term.wrt[axis]) for axis in axes) for term in members]
        is_joined = read is not None and len(members) > 1 and width**2 <= 2 * sum(parts) ** 2
        terms += [_joined(members, block, axes)] if is_joined else members
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _size(index: Index) -> int:
    """How many positions an index has along its axis."""
    return math.prod(label.size for label in index.labels)


def _rows_read(term: Term, block: Block, axes: Sequence[int]) -> int | None:
    """The identity of the list of rows that a term reads; None if it does anything else."""
    coarse = coarse_term(term, block, 0, tuple(axes))
    if coarse is None or len(coarse.wrt) != 1 or not term.out[0].is_plain(block.out_shape[0]):
        return None
    (row,) = coarse.wrt
    (size,) = (size for axis, size in enumerate(block.wrt_shape) if axis not in axes)
    lookup = row.lookup
    if lookup is None or lookup.labels != term.out[0].labels or row.strides or row.offset:
        return None
    is_known = isinstance(lookup.array, np.ndarray) and row.within(size)
    return id(cast("Any", lookup.array)) if is_known else None


def _joined(terms: Sequence[Term], block: Block, axes: Sequence[int]) -> Term:
    """Terms that read the same rows, as one term whose array has whole rows."""
    parts = [windows(term, block, 0, tuple(axes), block.dtype) for term in terms]
    first = terms[0]
    (read,) = first.out[0].labels
    local = [Label(size) for size in block.out_shape[1:]]
    spread = [Label(block.wrt_shape[axis]) for axis in axes]
    labels = (read, *local, *spread)
    values = jnp.reshape(sum(parts[1:], parts[0]), tuple(label.size for label in labels))
    wrt = list(first.wrt)
    for axis, label in zip(axes, spread, strict=True):
        wrt[axis] = Index.of(label)
    kept = tuple(label for label in labels if label.size != 1)
    factor = Factor(jnp.reshape(values, tuple(label.size for label in kept)), kept, "rows")
    return Term((factor,), (first.out[0], *map(Index.of, local)), tuple(wrt))


@dataclass(frozen=True)
class Bucket:
    """Rows that are read by about the same number of residuals.

    Attributes:
        rows: which, `(k,)`.
        reads: the numbers of their residuals, `(k, most)`, the number of all residuals for none.
    """

    rows: np.ndarray
    reads: np.ndarray


def buckets_of(rows: np.ndarray, count: int) -> list[Bucket]:
    """The reads of each row; rows with up to twice as many reads as others share a bucket.

    Args:
        rows: the row that each residual reads, `(N,)`.
        count: how many rows there are.

    Examples:
        >>> [bucket.reads.tolist() for bucket in buckets_of(np.array([2, 0, 2, 2]), 3)]
        [[[4]], [[1]], [[0, 2, 3]]]
    """
    many = np.bincount(rows, minlength=count)
    order = np.argsort(rows, kind="stable")
    first = np.cumsum(many) - many
    sizes = np.where(many, 1 << np.ceil(np.log2(np.maximum(many, 1))).astype(int), 0)
    result: list[Bucket] = []
    for size in np.unique(sizes).tolist():
        chosen = np.flatnonzero(sizes == size)
        steps = np.arange(max(int(many[chosen].max(initial=0)), 1))
        inside = steps < many[chosen][:, None]
        at = np.minimum(first[chosen][:, None] + steps, len(rows) - 1)
        result.append(Bucket(chosen, np.where(inside, order[at], len(rows))))
    return result


def squares(block: Block, weighted: Block) -> Block | None:
    """`block' weighted` where both read the same rows; None where that would take longer.

    Args:
        block: of one term with whole rows.
        weighted: the same, each residual multiplied by a weight.
    """
    if len(block.terms) != 1 or len(weighted.terms) != 1 or not block.out_shape:
        return None
    axes = spread_axes([block])
    (term,), (other,) = block.terms, weighted.terms
    read = _rows_read(term, block, axes)
    if read is None or read != _rows_read(other, weighted, axes):
        return None
    (row_axis,) = (axis for axis in range(len(block.wrt_shape)) if axis not in axes)
    count = block.wrt_shape[row_axis]
    rows = np.asarray(cast("Any", term.wrt[row_axis].lookup).array)
    buckets = buckets_of(rows, count)
    depth, width = math.prod(block.out_shape[1:]), math.prod(block.wrt_shape) // count
    sides = 1 if block is weighted else 2
    padded = sum(bucket.reads.size for bucket in buckets) * depth * width
    device = rates()
    gathered = 8 * GATHERED * sides * padded / device.bytes_per_second
    started = SECONDS_A_PRODUCT * count
    scattered = 8 * SCATTERED * len(rows) * width**2 / device.bytes_per_second
    if gathered + started > scattered:
        return None
    X = windows(term, block, 0, tuple(axes), block.dtype)
    Y = X if sides == 1 else windows(other, weighted, 0, tuple(axes), weighted.dtype)
    parts = [_squares_of(bucket, X, Y) for bucket in buckets]
    place = np.argsort(np.concatenate([bucket.rows for bucket in buckets]))
    values = parts[0] if len(parts) == 1 else jnp.concatenate(parts)[place]
    return _of_rows(values, block, row_axis)


def _squares_of(bucket: Bucket, X: jax.Array, Y: jax.Array) -> jax.Array:
    """`X' Y` of the reads of each row of a bucket, `(k, width, width)`."""

    def gathered(array: jax.Array) -> jax.Array:
        chosen = array.at[bucket.reads].get(mode="fill", fill_value=0)
        return jnp.reshape(chosen, (len(bucket.rows), -1, array.shape[2]))

    left = gathered(X)
    return jnp.einsum("kna,knb->kab", left, left if Y is X else gathered(Y))


def _of_rows(values: jax.Array, block: Block, row_axis: int) -> Block:
    """The block of a variable by itself that joins each row with itself."""
    shape = block.wrt_shape
    row = Label(shape[row_axis])
    sides = [[row if axis == row_axis else Label(s) for axis, s in enumerate(shape)] for _ in "ab"]
    rest = [[label for label in side if label is not row] for side in sides]
    labels = (row, *rest[0], *rest[1])
    factor = Factor(jnp.reshape(values, tuple(label.size for label in labels)), labels, "squares")
    out, wrt = (tuple(map(Index.of, side)) for side in sides)
    return Block(shape, shape, values.dtype, (Term((factor,), out, wrt),))
