"""Patterns with values as the sparse arrays of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.algebra.entries import check_room
from blockjac.errors import BlockShapeError, BlockTypeError

SCIPY_FORMATS = ("csr", "csc", "coo", "dia")
"""The formats of `to_scipy`; SciPy converts to the others."""

BANDED = 10
"""A banded matrix has diagonals that hold at most this many times more numbers than entries."""


def assembled(pattern: Any, numbers: np.ndarray, format: str) -> Any:
    """A sparse array of SciPy from a pattern and the value of each position.

    Args:
        pattern: the positions, a `Pattern`.
        numbers: their values, `(nnz,)`, of a dtype that SciPy supports.
        format: one of `SCIPY_FORMATS`.

    Raises:
        BlockTypeError: for another format.
        BlockShapeError: for "dia" if the entries do not lie on few diagonals.
        DenseTooLargeError: if the pointers or diagonals of the format exceed the size limit.
    """
    from scipy import sparse

    check_format(format)
    if format == "dia":
        return _banded(pattern, numbers)
    matrix = sparse.coo_array((numbers, _places(pattern)), shape=pattern.shape)
    matrix.has_canonical_format = True
    if format == "coo":
        return matrix
    check_ends(pattern.shape[0 if format == "csr" else 1], format)
    compressed: Any = matrix.asformat(format)
    compressed.has_sorted_indices = compressed.has_canonical_format = True
    return compressed


def check_ends(length: int, format: str) -> None:
    """Raise DenseTooLargeError if the row or column pointers of a format exceed the size limit."""
    which = "columns" if format == "csc" else "rows"
    check_room(length, f"the ends of the {length:,} {which}, which {format!r} stores ('coo' not),")


def _banded(pattern: Any, numbers: np.ndarray) -> Any:
    """The matrix by diagonals, each up to the last column that has an entry."""
    from scipy import sparse

    offsets, diagonal = np.unique(pattern.columns - pattern.rows, return_inverse=True)
    check_banded(pattern, len(offsets))
    width = int(pattern.columns.max(initial=-1)) + 1
    check_room(len(offsets) * width, f"the {len(offsets):,} diagonals of format 'dia'")
    data = np.zeros((len(offsets), width), numbers.dtype)
    data[diagonal, pattern.columns] = numbers
    return sparse.dia_array((data, offsets), shape=pattern.shape)


def _places(pattern: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in the index dtype that SciPy would choose."""
    dtype = index_type(pattern.nnz, pattern.shape)
    return pattern.rows.astype(dtype, copy=False), pattern.columns.astype(dtype, copy=False)


def index_type(nnz: int, shape: tuple[int, int]) -> Any:
    """The integers that SciPy would choose for rows and columns."""
    return np.int32 if max(nnz, *shape) < 2**31 else np.int64


def check_format(format: str) -> None:
    """Raise BlockTypeError for a format that `to_scipy` does not support."""
    if format not in SCIPY_FORMATS:
        raise BlockTypeError(
            f"format must be one of {', '.join(map(repr, SCIPY_FORMATS))}, but is {format!r}; "
            "to_bcoo and to_bcsr give the formats of jax.experimental.sparse, and .asformat of "
            "scipy's array its other formats"
        )


def check_banded(pattern: Any, diagonals: int, format: str = "dia") -> None:
    """Raise BlockShapeError if whole diagonals would hold far more numbers than entries.

    Args:
        pattern: the places of the entries.
        diagonals: how many are stored.
        format: "dia", or "band" for all diagonals between the outermost ones.
    """
    held = diagonals * min(pattern.shape)
    if held > BANDED * max(pattern.nnz, min(pattern.shape)):
        raise BlockShapeError(
            f"format {format!r} stores whole diagonals, but the {pattern.nnz:,} entries of this "
            f"{pattern.shape[0]:,} x {pattern.shape[1]:,} matrix "
            f"{'lie on' if format == 'dia' else 'lie between'} {diagonals:,} of them, "
            f"{held:,} numbers; use 'csr', 'csc' or 'coo'"
        )
