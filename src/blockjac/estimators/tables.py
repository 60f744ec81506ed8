"""Tables of numbers as a network wants them: standardized, with targets of mean 0 or of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """A mean and a spread of each column, so that `(x - mean) / spread` is standardized.

    Attributes:
        mean: shape `(columns,)`.
        spread: likewise; 1 for columns that do not vary.
    """

    mean: Numbers
    spread: Numbers

    @staticmethod
    def of(values: Numbers, weights: Numbers) -> Scale:
        """From rows that count by their weights.

        Args:
            values: shape `(n, columns)`.
            weights: shape `(n,)`, not all of them 0.
        """
        mean = np.average(values, axis=0, weights=weights)
        variance = np.average((values - mean) ** 2, axis=0, weights=weights)
        # rounding makes a constant column look as if it varied by this much
        rounding = 10 * np.finfo(values.dtype).eps * np.maximum(np.abs(mean), 1e-300)
        spread = np.sqrt(variance)
        return Scale(mean, np.where(spread > rounding, spread, 1.0))

    def apply(self, values: Numbers) -> Numbers:
        """Standardize."""
        return (values - self.mean) / self.spread

    def invert(self, values: Numbers) -> Numbers:
        """From standardized numbers to those of the table."""
        return values * self.spread + self.mean


def shares(labels: Numbers, count: int) -> Numbers:
    """One row for each label, with a 1 at its class.

    Args:
        labels: whole numbers below `count`, shape `(n,)`.
        count: of classes.
    """
    return np.eye(count)[labels]


def room_for(rows: int) -> int:
    """To how many rows a table is filled up, so that one compiled program serves many tables.

    At most an eighth more: tables of a cross-validation differ by a row, and tables grow.
    """
    step = max(8, 2 ** (max(rows, 1).bit_length() - 4))
    return -(-max(rows, 1) // step) * step


def filled(array: Numbers, rows: int) -> Numbers:
    """The array with zeros below, so that it has this many rows."""
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


def by_parts(function: Callable[[Numbers], Any], X: Numbers, most: int) -> Numbers:
    """A function of rows, computed on some of them at a time.

    Args:
        function: from rows to an array with an entry for each.
        X: the rows.
        most: rows at a time; fewer are filled up, see `room_for`.
    """
    parts = [X[first : first + most] for first in range(0, max(len(X), 1), most)]
    results = [
        np.asarray(function(filled(part, room_for(len(part)))))[: len(part)] for part in parts
    ]
    return np.concatenate(results)
