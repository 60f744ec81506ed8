"""Matrices with an entry at every place, whose entries are listed row by row.

Their places need no list, no sorting and no merging: they are counted off.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.algebra.entries import Grid


def is_filled(grid: Grid) -> bool:
    """Whether a grid is one term that has each place of the matrix once, row by row.

    So it is where each axis has a label of its own: labels are in the order of the axes, and the
    last runs fastest.
    """
    if len(grid) != 1 or len(grid[0]) != 1 or len(grid[0][0].terms) != 1:
        return False
    block = grid[0][0]
    (term,) = block.terms
    axes = zip(term.indices, block.shape, strict=True)
    longer = [size for size in block.shape if size != 1]
    return len(term.labels) == len(longer) and all(index.is_plain(size) for index, size in axes)


def every_place(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each place, row by row."""
    rows = np.repeat(np.arange(shape[0]), shape[1])
    return rows, np.tile(np.arange(shape[1]), shape[0])


def compressed(shape: tuple[int, int], format: str, dtype: Any) -> Any:
    """A matrix of SciPy with all places and zeros that take no memory.

    Args:
        shape: of the matrix.
        format: "csr" or "csc".
        dtype: of the indices.
    """
    from scipy import sparse

    major, minor = shape if format == "csr" else shape[::-1]
    zeros = np.broadcast_to(np.zeros(1), (major * minor,))
    indices = np.tile(np.arange(minor, dtype=dtype), major)
    ends = minor * np.arange(major + 1, dtype=dtype)
    make = sparse.csr_array if format == "csr" else sparse.csc_array
    matrix: Any = make((zeros, indices, ends), shape=shape, copy=False)
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix
