"""The diagonals of a grid's matrix and their entries, if every term lies on one diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid, Piece, dtype_of, pieces, places, shape_of, values_of
from blockjac.terms.index import Index, Label


def offsets(grid: Grid) -> list[int] | None:
    """The diagonal of each term, column minus row; None if a term lies on several.

    Rows and columns are those of the grid's matrix. A term lies on one diagonal if its row and its
    column grow by the same step with every label.
    """
    diagonals: list[int] = []
    for piece in pieces(grid):
        row = _flat(piece.term.out, piece.block.out_shape)
        column = _flat(piece.term.wrt, piece.block.wrt_shape)
        if row is None or column is None or row[1] != column[1]:
            return None
        diagonals.append(piece.column + column[0] - piece.row - row[0])
    return diagonals


def _flat(indices: Sequence[Index], sizes: Sequence[int]) -> tuple[int, dict[Label, int]] | None:
    """The offset and the step of each label in the flat index; None with a lookup."""
    total, weight = 0, 1
    steps: dict[Label, int] = {}
    for index, size in zip(reversed(indices), reversed(sizes), strict=True):
        if index.lookup is not None or not index.within(size):
            return None
        total += weight * index.offset
        for label, stride in index.strides:
            steps[label] = steps.get(label, 0) + weight * stride
        weight *= size
    return total, {label: step for label, step in steps.items() if step}


def on_diagonal(grid: Grid, offset: int) -> Any:
    """The entries on one diagonal of a grid's matrix, like `jnp.diagonal(matrix, offset)`.

    Args:
        grid: a grid whose `offsets` are known.
        offset: column minus row.
    """
    rows, columns = shape_of(grid)
    above = max(0, -offset)
    length = max(0, min(rows - above, columns - max(0, offset)))
    result = jnp.zeros((length,), dtype_of(grid))
    for piece, diagonal in zip(pieces(grid), offsets(grid) or (), strict=True):
        if diagonal == offset:
            entries = values_of(piece.term, result.dtype)
            run = _run(piece)
            if run is None:
                along = places(piece, jnp, np.dtype(np.int32)).rows - above
                result = result.at[along].add(entries)
            else:
                first, step = run[0] - above, run[1]
                last = first + step * (len(entries) - 1)
                zero = jnp.zeros((), result.dtype)
                result += jax.lax.pad(entries, zero, [(first, length - 1 - last, step - 1)])
    return result


def _run(piece: Piece) -> tuple[int, int] | None:
    """The row of the first entry of a term and the step from one entry to the next, if it is one.

    Entries at equal distances are padded, which the compiler fuses with whatever computes them;
    others have to be scattered.
    """
    flat = _flat(piece.term.out, piece.block.out_shape)
    labels = [label for label in piece.term.labels if label.size != 1]
    if flat is None or piece.count == 0:
        return None
    first, steps = piece.row + flat[0], [flat[1].get(label, 0) for label in labels]
    sizes = [label.size for label in labels]
    pairs = zip(steps, steps[1:], sizes[1:], strict=False)
    if any(step < 1 for step in steps) or any(a != b * size for a, b, size in pairs):
        return None
    return first, steps[-1] if steps else 1
