"""Rows of a table, which is not copied for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blockjac.estimators.objective import Targets
from blockjac.estimators.tables import Numbers, Scale


@dataclass(frozen=True)
class Rows:
    """A table as a network is to see it.

    Attributes:
        table: in which the rows stand, not copied: either all rows of it are meant, or those at
            `places`; shape `(at least n, inputs)`.
        values: standardized numbers, or shares of classes, shape `(n, outputs)`.
        weights: shape `(n,)`.
        units: how much of its weight is left out when a row is.
        places: the numbers of the rows in the table.
        count: how many rows the table has.
    """

    table: Numbers
    values: Numbers
    weights: Numbers
    units: Numbers
    places: Numbers
    count: int

    def __len__(self) -> int:
        return len(self.places)

    @property
    def X(self) -> Numbers:
        """The rows as they are in the table, shape `(n, inputs)`."""
        return self.table if len(self.table) == len(self) else self.table[self.places]

    def some(self, chosen: Numbers) -> Numbers:
        """Those at some places among them, as they are in the table."""
        return self.table[chosen if len(self.table) == len(self) else self.places[chosen]]

    @staticmethod
    def whole(X: Numbers, values: Numbers, weights: Numbers, counts: Numbers) -> Rows:
        """All rows of a table.

        Args:
            X: the rows.
            values: their targets.
            weights: how much each counts.
            counts: for how many rows each stands.
        """
        units = (weights / np.maximum(counts, 1)).astype(weights.dtype)
        return Rows(X, values, weights, units, np.arange(len(X)), len(X))

    @property
    def targets(self) -> Targets:
        """What outputs are compared with."""
        return Targets(self.values, self.weights, self.units)

    def standardized(self, inputs: Scale) -> tuple[Numbers, Targets]:
        """The rows as a network gets them, and what its outputs are compared with."""
        return inputs.apply(self.X), self.targets

    def take(self, chosen: Numbers) -> Rows:
        """Some of the rows."""
        values, weights, units = self.values[chosen], self.weights[chosen], self.units[chosen]
        return Rows(self.table, values, weights, units, self.places[chosen], self.count)
