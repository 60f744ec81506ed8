"""The entries of a block as one array: all of them, or those on diagonals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.axis_layout import Axis
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import unpaired
from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.entries import pieces, places, values
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.index_solution import solve
from blockjac.algebra.materialize import LARGEST_POSITION, materialize
from blockjac.algebra.pieces import joined, joint_axis
from blockjac.algebra.placed import parted
from blockjac.base.tracing import is_tracing
from blockjac.devices import in_bytes, memory_limit
from blockjac.errors import ArgumentError, BlockShapeError, DenseTooLargeError
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label
from blockjac.terms.term import Term

THIN = 16
"""A result with this many times the entries of its terms is written as zeros plus a scatter."""


def dense(block: Block, max_bytes: int | None = None) -> Any:
    """The block as an array of shape `block.shape`; see `Block.dense`."""
    instead = (
        f"the Block holds it in {in_bytes(block.nbytes)} and needs no more for star or .matvec"
    )
    backend().perform(
        check_size, block.shape, block.dtype, max_bytes, "the dense Jacobian", instead
    )
    targets = [Label(size) for size in block.shape]
    axis = joint_axis(block.terms, block.shape, ())
    if axis is not None:
        entries = joined(block.terms, axis, targets, block.shape, block.dtype)
        return backend().array(
            block.shape, block.dtype, lambda: jnp.reshape(entries.array, block.shape)
        )
    if _is_thin(block):
        return _scattered(block)
    whole, few = parted(block.terms, targets)
    total: Factor | None = None
    for term in whole:
        axes = [
            Axis(index, label.size, label)
            for index, label in zip(term.indices, targets, strict=True)
        ]
        entries = materialize(list(term.factors), axes, [], block.dtype, term.coefficient)
        total = entries if total is None else _sum(total, entries, targets)
    for _, few_entries in few:
        total = few_entries.added(_whole(total, targets, block.dtype), block.dtype)
    return _whole(total, targets, block.dtype).array


def _sum(total: Factor, entries: Factor, targets: Sequence[Label]) -> Factor:
    """The sum of two terms over the labels of both, added while they are written."""
    carried = {*total.labels, *entries.labels}
    labels = tuple(label for label in targets if label in carried)
    array = backend().array(
        arrays.sizes(labels),
        total.array.dtype,
        lambda: arrays.aligned(total, labels) + arrays.aligned(entries, labels),
        additions=arrays.numel(labels),
    )
    return Factor(array, labels)


def _whole(entries: Factor | None, labels: Sequence[Label], dtype: Any) -> Factor:
    """Entries over some of the labels (None for zero) as an array over all of them."""

    def emit() -> Any:
        if entries is None:
            return jnp.zeros(shape, dtype)
        return jnp.broadcast_to(jnp.asarray(arrays.aligned(entries, labels), dtype), shape)

    shape = arrays.sizes(labels)
    return Factor(backend().array(shape, dtype, emit), tuple(labels))


def _is_thin(block: Block) -> bool:
    """Whether it is cheaper to write zeros and then each entry than to make a pass for each term.

    With up to two terms the compiler compares and selects while it writes the result. If the result
    will be differentiated, that is done for any number of terms: the derivative of a scatter has
    its entries at positions that only the running program knows, that of a selection keeps deltas.
    """
    if is_tracing():
        return False
    entries = sum(arrays.numel(term.labels) for term in block.terms)
    return len(block.terms) > 2 and entries * THIN <= block.size <= LARGEST_POSITION


def _scattered(block: Block) -> Any:
    """Zeros with the entries of all terms scattered into them."""
    grid = [[block]]
    terms = pieces(grid)
    distinct = are_distinct(grid)
    entries = values(grid)

    def emit() -> jax.Array:
        """Write the entries at their flat positions; past the end, JAX drops them."""
        columns = math.prod(block.wrt_shape)
        positions: list[jax.Array] = []
        for piece in terms:
            where = places(piece, jnp, np.dtype(np.int32))
            flat = where.rows * columns + where.columns
            end = block.size
            positions.append(flat if where.inside is None else jnp.where(where.inside, flat, end))
        start = jnp.zeros((block.size,), block.dtype).at[jnp.concatenate(positions)]
        write = start.set if distinct else start.add
        written = write(entries, mode="drop", unique_indices=distinct)
        return jnp.reshape(written, block.shape)

    added = 0 if distinct else sum(piece.count for piece in terms)
    labels = [Label(size) for size in block.shape]
    return backend().factor(labels, block.dtype, emit, additions=added).array


def diagonal(block: Block) -> Any:
    """The entries `block[i, i]`; see `Block.diagonal`."""
    if block.out_shape != block.wrt_shape:
        raise BlockShapeError(
            "the diagonal needs equal output and input shapes, but this block is one of "
            f"{block.out_shape} with respect to {block.wrt_shape}"
        )
    return dense(along(block, [(axis, axis) for axis in range(len(block.out_shape))]))


def along(block: Block, pairs: Sequence[tuple[int, int]]) -> Block:
    """The entries at which pairs of an output and an input axis agree.

    Args:
        block: a block.
        pairs: output axes with input axes of the same size; each axis at most once.

    Returns:
        A block of the same outputs with respect to the unpaired input axes.
    """
    kept = unpaired(block.wrt_shape, pairs)
    wrt_shape = tuple(block.wrt_shape[axis] for axis in kept)
    terms: list[Term] = []
    for term in block.terms:
        system = IndexEquations(
            term.factors,
            (*term.out, *(term.wrt[axis] for axis in kept)),
            (*block.out_shape, *wrt_shape),
            term.labels,
            term.coefficient,
        )
        try:
            solve(system, [(term.out[i], term.wrt[j], block.out_shape[i]) for i, j in pairs])
        except Contradiction:
            continue
        terms.append(system.term(len(term.out)))
    return Block(block.out_shape, wrt_shape, block.dtype, terms)


def matrix_of(rows: Sequence[Sequence[Block]]) -> jax.Array:
    """The blocks of a grid as one dense matrix."""
    parts = [
        [
            jnp.reshape(dense(block), (math.prod(block.out_shape), math.prod(block.wrt_shape)))
            for block in row
        ]
        for row in rows
    ]
    return jnp.concatenate([jnp.concatenate(row, axis=1) for row in parts], axis=0)


def check_size(shape: Sequence[int], dtype: Any, max_bytes: Any, what: str, instead: str) -> None:
    """Refuse a dense result over the limit that the user has passed.

    Raises:
        DenseTooLargeError: if the result does not fit.
        ArgumentError: if the limit is not a number of bytes.
    """
    limit = memory_limit() if max_bytes is None else max_bytes
    if not _is_count_of_bytes(limit):
        raise ArgumentError(
            f"max_bytes is {max_bytes!r}, but must be a number of bytes, such as 2**30 for 1 GiB, "
            "or None for a share of the machine's memory"
        )
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed > limit:
        raise DenseTooLargeError(
            f"{what} ({np.dtype(dtype).name}{list(shape)}) needs {in_bytes(needed)}, over the "
            f"limit of {in_bytes(limit)}; {instead}, or raise the limit with max_bytes="
        )


def _is_count_of_bytes(limit: Any) -> bool:
    is_number = isinstance(limit, int | float | np.number) and not isinstance(limit, bool)
    return is_number and bool(limit >= 0)
