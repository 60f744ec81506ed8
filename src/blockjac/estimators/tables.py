"""Tables of numbers as a network wants them: standardized, with targets of mean 0 or of classes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


ROWS = 2**14
"""Rows that are looked at, or predicted, at a time."""


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
        return Moments.none(values.shape[1]).with_table(values, weights).scale(values.dtype)

    @staticmethod
    def unit(columns: int) -> Scale:
        """That of numbers which stay as they are, such as shares of classes."""
        return Scale(np.zeros(columns), np.ones(columns))

    def apply(self, values: Numbers) -> Numbers:
        """Standardize."""
        return (values - self.mean) / self.spread

    def invert(self, values: Numbers) -> Numbers:
        """From standardized numbers to those of the table."""
        return values * self.spread + self.mean


@dataclass(frozen=True)
class Moments:
    """Weight, mean and squared deviations of rows seen so far, in float64.

    Attributes:
        weight: of all rows.
        mean: of each column, shape `(columns,)`.
        squares: the weighted sum of the squared deviations from the mean, likewise.
    """

    weight: float
    mean: Numbers
    squares: Numbers

    @staticmethod
    def none(columns: int) -> Moments:
        """Before any row.

        Args:
            columns: how many there are.
        """
        return Moments(0.0, np.zeros(columns), np.zeros(columns))

    def with_table(self, values: Numbers, weights: Numbers) -> Moments:
        """With further rows, of which some are looked at at a time; see `with_rows`."""
        moments = self
        for first in range(0, len(values), ROWS):
            rows = slice(first, first + ROWS)
            moments = moments.with_rows(values[rows], weights[rows])
        return moments

    def with_rows(self, values: Numbers, weights: Numbers) -> Moments:
        """With further rows.

        Args:
            values: shape `(n, columns)`.
            weights: shape `(n,)`.

        Source:
            T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm
            for computing sample variances, 1979.
        """
        own = float(np.sum(weights, dtype=float))
        if own == 0:
            return self
        weights = np.asarray(weights, float)
        # from some row, so that a constant column has a mean without rounding
        origin = values[0].astype(float)
        deviations = values - origin
        off = weights @ deviations / own
        deviations -= off
        deviations *= deviations
        weight, step = self.weight + own, origin + off - self.mean
        squares = self.squares + weights @ deviations + step**2 * (self.weight * own / weight)
        return Moments(weight, self.mean + step * (own / weight), squares)

    def scale(self, dtype: Any) -> Scale:
        """The mean and the spread of each column.

        Args:
            dtype: of the rows, whose rounding makes a constant column look as if it varied.
        """
        rounding = 10 * np.finfo(dtype).eps * np.maximum(np.abs(self.mean), 1e-300)
        spread = np.sqrt(self.squares / self.weight)
        return Scale(self.mean, np.where(spread > rounding, spread, 1.0))


def shares(labels: Numbers, count: int) -> Numbers:
    """One row for each label, with a 1 at its class.

    Args:
        labels: whole numbers below `count`, shape `(n,)`.
        count: of classes.
    """
    return np.eye(count)[labels]


@dataclass
class Shapes:
    """The shapes that several fits share, so that they share compiled programs.

    Attributes:
        rows: to which tables are filled up, at least.
        hidden: nodes of the hidden layers to compile for, of each depth, at least.
    """

    rows: int = 0
    hidden: dict[int, tuple[int, ...]] = field(default_factory=dict)


_SHARED: ContextVar[Shapes | None] = ContextVar("shapes", default=None)


@contextmanager
def shared_shapes(rows: int) -> Generator[None]:
    """Compile what is fitted and predicted inside of the `with` for one shape.

    Args:
        rows: of the largest table.
    """
    token = _SHARED.set(Shapes(rows))
    try:
        yield
    finally:
        _SHARED.reset(token)


def room_for(rows: int) -> int:
    """To how many rows a table is filled up, so that one compiled program serves many tables.

    At most an eighth more: tables of a cross-validation differ by a row, and tables grow.
    """
    shapes = _SHARED.get()
    rows = max(rows, 1 if shapes is None else shapes.rows)
    step = max(8, 2 ** (rows.bit_length() - 4))
    return -(-rows // step) * step


def shared_rows(rows: float) -> float:
    """The rows of the largest table that shares compiled programs; at least as many as given."""
    shapes = _SHARED.get()
    return rows if shapes is None else max(rows, shapes.rows)


def room_of_nodes(widths: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The nodes of the hidden layers to compile for, so that one program serves many networks.

    Args:
        widths: nodes of the hidden layers of each network, equally many layers.
    """
    most = tuple(max(nodes) for nodes in zip(*widths, strict=True))
    shapes = _SHARED.get()
    if shapes is not None:
        before = shapes.hidden.get(len(most), most)
        most = tuple(map(max, most, before))
        shapes.hidden[len(most)] = most
    return most


def filled(array: Numbers, rows: int) -> Numbers:
    """The array with zeros below, so that it has this many rows; itself where it has them."""
    if len(array) == rows:
        return array
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


def by_parts(function: Callable[..., Any], most: int, *arrays: Numbers) -> Any:
    """A function of rows, computed on some of them at a time.

    Args:
        function: from rows to an array with an entry for each, or a tuple of arrays.
        most: rows at a time; fewer are filled up, see `room_for`.
        *arrays: that have the rows.
    """
    results = []
    for first in range(0, max(len(arrays[0]), 1), most):
        parts = [array[first : first + most] for array in arrays]
        count = len(parts[0])
        room = min(room_for(count), most)
        found = function(*(filled(part, room) for part in parts))
        results.append(jax.tree.map(lambda part, count=count: np.asarray(part)[:count], found))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)
