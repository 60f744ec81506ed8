"""Sparse matrices of SciPy that have an entry at every place: nothing is sorted or looked up."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.algebra.entries import Grid, check_countable, pieces, shape_of
from blockjac.exports.ordered_values import check_places, numpy_values
from blockjac.sparsity.filled import compressed
from blockjac.sparsity.scipy_formats import check_ends, index_type


@dataclass(frozen=True, eq=False)
class FilledPrototype:
    """A matrix to be filled with one entry for each place; the entries come row by row.

    Attributes:
        matrix: "csr" or "csc", its data nothing yet.
    """

    matrix: Any

    @property
    def nbytes(self) -> int:
        """About how many bytes this keeps."""
        return self.matrix.indices.nbytes + self.matrix.indptr.nbytes

    def filled(self, entries: Any) -> Any:
        """The matrix of the values; its index arrays are its own."""
        rows = numpy_values(entries).reshape(self.matrix.shape)
        return with_data(self.matrix, rows.flatten("C" if self.matrix.format == "csr" else "F"))


def filled_prototype(grid: Grid, format: str) -> FilledPrototype:
    """The prototype of a grid of which `is_filled` is true.

    Args:
        grid: of one block.
        format: "csr" or "csc".

    Raises:
        DenseTooLargeError: if the places exceed the size limit.
    """
    shape = shape_of(grid)
    check_countable(shape)
    check_places(pieces(grid))
    check_ends(shape[0 if format == "csr" else 1], format)
    return FilledPrototype(compressed(shape, format, index_type(shape[0] * shape[1], shape)))


def with_data(prototype: Any, data: np.ndarray) -> Any:
    """A copy of a matrix with other data and with index arrays of its own."""
    matrix = copy.copy(prototype)  # scipy's constructors check what is known to be right
    matrix.data = data
    if matrix.format == "coo":
        matrix.coords = tuple(coordinates.copy() for coordinates in matrix.coords)
    elif matrix.format == "dia":
        matrix.offsets = matrix.offsets.copy()
    else:
        matrix.indices, matrix.indptr = matrix.indices.copy(), matrix.indptr.copy()
    return matrix
