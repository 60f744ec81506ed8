"""The places of all entries of a grid, and what sorts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blockjac.algebra.entries import LARGEST, Piece, places


def listed(parts: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and numbers of all entries that lie on their blocks, term after term."""
    if not parts:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    first = 0
    for piece in parts:
        positions = places(piece)
        inside = slice(None) if positions.inside is None else positions.inside
        rows.append(positions.rows[inside])
        columns.append(positions.columns[inside])
        numbers.append(np.arange(first, first + piece.count)[inside])
        first += piece.count
    return _joined(rows), _joined(columns), _joined(numbers)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """The arrays one after the other; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def are_increasing(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether positions come by row, then by column, and each once: as most single terms do."""
    if shape[0] * shape[1] > LARGEST:
        return False
    position = rows * shape[1] + columns
    return bool((position[1:] > position[:-1]).all())


def sorting(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The permutation that sorts positions by row, then by column; terms are long sorted runs."""
    if shape[0] * shape[1] > LARGEST:
        return np.lexsort((columns, rows))
    return np.argsort(rows * shape[1] + columns, kind="stable")
