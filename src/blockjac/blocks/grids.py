"""Grids of blocks: checked, mirrored, written out dense."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import matrix_of
from blockjac.base.trees import tree_structure
from blockjac.errors import BlockShapeError, BlockTypeError
from blockjac.terms.block import Block

Rows = tuple[tuple[Block, ...], ...]


written = jax.jit(matrix_of)
"""The blocks as one dense matrix, in one compiled program."""


def mirrored(upper: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """All rows of a symmetric grid from its upper half; what is no Block is its own mirror."""
    size = len(upper)

    def entry(row: int, column: int) -> Any:
        if column >= row:
            return upper[row][column - row]
        block = upper[column][row - column]
        return block.T if isinstance(block, Block) else block

    return [[entry(row, column) for column in range(size)] for row in range(size)]


def checked_rows(rows: Sequence[Sequence[Block | None]]) -> Rows:
    """The rows of a grid, zero blocks in place of None.

    Raises:
        BlockShapeError: if the rows differ in length, or a block does not fit its row or column.
        BlockTypeError: if an entry is neither a Block nor None.
    """
    blocks = [blocks_of_row(row, number) for number, row in enumerate(rows)]
    if not blocks or any(len(row) != len(blocks[0]) for row in blocks) or not blocks[0]:
        raise BlockShapeError(
            "a BlockMatrix needs rows of one length, at least 1, but found rows of "
            f"{[len(row) for row in blocks]} blocks"
        )
    columns = list(zip(*blocks, strict=True))
    outs = [common_shape(row, "out_shape", f"row {i}") for i, row in enumerate(blocks)]
    wrts = [common_shape(column, "wrt_shape", f"column {j}") for j, column in enumerate(columns)]
    dtype = jnp.result_type(*(block.dtype for row in blocks for block in row if block is not None))
    return tuple(
        tuple(
            block if block is not None else Block.zeros(out, wrt, dtype)
            for block, wrt in zip(row, wrts, strict=True)
        )
        for row, out in zip(blocks, outs, strict=True)
    )


def tuple_tree(count: int) -> Any:
    """The structure of a tuple of leaves."""
    return tree_structure((0,) * count)


def blocks_of_row(row: Any, place: int) -> list[Block | None]:
    """A row's blocks, or an error that tells what else it holds."""
    entries: list[Any] = list(cast("Iterable[Any]", row)) if isinstance(row, Iterable) else [row]
    for entry in entries:
        if not isinstance(entry, Block | None):
            raise BlockTypeError(
                f"row {place} of a BlockMatrix needs a list of Blocks and None, but holds "
                f"{type(entry).__name__}; Block.from_dense(array, out_ndim) makes a Block of an "
                "array"
            )
    return entries


def common_shape(blocks: Sequence[Block | None], which: str, where: str) -> tuple[int, ...]:
    """The `which` that all blocks of a row or column have, or an error that names it."""
    shapes = {getattr(block, which) for block in blocks if block is not None}
    if len(shapes) != 1:
        listed = "no block" if not shapes else f"blocks of {which} {sorted(shapes)}"
        raise BlockShapeError(
            f"{where} of a BlockMatrix needs blocks of one {which}, but found {listed}"
        )
    return shapes.pop()
