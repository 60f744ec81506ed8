"""Which diagonals of its matrix a grid has, where every term lies on one; and their entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid, dtype_of, pieces, places, shape_of, values_of
from blockjac.terms.index import Index


def offsets(grid: Grid) -> list[int] | None:
    """For each term the diagonal that it lies on, column minus row; None if one lies on several.

    Rows and columns are those of the grid's matrix. A term lies on one diagonal if its row and its
    column grow alike with every label.
    """
    found = []
    for piece in pieces(grid):
        row = _flat(piece.term.out, piece.block.out_shape)
        column = _flat(piece.term.wrt, piece.block.wrt_shape)
        if row is None or column is None or row[1] != column[1]:
            return None
        found.append(piece.column + column[0] - piece.row - row[0])
    return found


def _flat(indices: Sequence[Index], sizes: Sequence[int]) -> tuple[int, dict[Any, int]] | None:
    """The constant and the step of each label in the flat place; None with a lookup."""
    total, steps, weight = 0, {}, 1
    for index, size in zip(reversed(indices), reversed(sizes), strict=True):
        if index.lookup is not None or not index.within(size):
            return None
        total += weight * index.offset
        for label, stride in index.strides:
            steps[label] = steps.get(label, 0) + weight * stride
        weight *= size
    return total, {label: step for label, step in steps.items() if step}


def on_diagonal(grid: Grid, offset: int) -> Any:
    """The entries on one diagonal of a grid's matrix, as `jnp.diagonal(matrix, offset)`.

    Args:
        grid: one whose `offsets` are known.
        offset: column minus row.
    """
    rows, columns = shape_of(grid)
    above = max(0, -offset)
    length = max(0, min(rows - above, columns - max(0, offset)))
    result = jnp.zeros((length,), dtype_of(grid))
    for piece, own in zip(pieces(grid), offsets(grid) or (), strict=True):
        if own == offset:
            along = places(piece, jnp, np.dtype(np.int32)).rows - above
            result = result.at[along].add(values_of(piece.term, result.dtype))
    return result
