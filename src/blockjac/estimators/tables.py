"""Tables of numbers as a network wants them: standardized, with targets of mean 0 or of classes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
        np.asarray(function(filled(part, min(room_for(len(part)), most))))[: len(part)]
        for part in parts
    ]
    return np.concatenate(results)
