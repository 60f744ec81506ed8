"""What an estimator says of its left-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from blockjac.estimators.tables import Numbers


@dataclass(frozen=True)
class LeaveOneOut:
    """What is predicted for each training row by the others."""

    score: float
    """Accuracy, or the coefficient of determination, of these predictions."""
    predictions: Numbers
    """As `predict` gives them."""
    losses: Numbers
    """How badly the others predict each row: minus the log of the probability of its class or its
    labels, or half of the squared error in standard deviations of the targets."""
    probabilities: Numbers | None = None
    """Of the classes or labels, for a classifier."""


class LooksBack:
    """The part of an estimator that says it, when it is asked for the first time."""

    _fitted: Any

    def _numbers(self) -> Any:
        """A context in which JAX has the dtype of the fit."""
        raise NotImplementedError

    @cached_property
    def leave_one_out_(self) -> LeaveOneOut:
        """What is predicted for each training row by the others.

        Raises:
            AttributeError: Before a fit, and where nobody can say: Adam leaves no curvature of all
                parameters, and with that of the last layer alone it would look too good.
        """
        found = getattr(self, "solver_", None)
        if found != "gauss-newton" or not self._knows_left_out():
            raise AttributeError(
                "leave_one_out_ is known after a fit with solver='gauss-newton'"
                + (f", but solver_ is {found!r}" if found is not None else "")
            )
        return self._left_out_rows()

    @cached_property
    def suspicious_rows_(self) -> Numbers:
        """Training rows, the one first that the others predict worst.

        Raises:
            AttributeError: Before a fit of a whole table.
        """
        if not self._knows_left_out():
            raise AttributeError("suspicious_rows_ is known after a fit of a whole table: call fit")
        with self._numbers():
            return self._fitted.rows.places[np.argsort(-self._doubts(), kind="stable")]

    def _knows_left_out(self) -> bool:
        """Whether left-out rows are known: not after `partial_fit`, nor in a loaded model."""
        if not hasattr(self, "_fitted"):
            return False
        with self._numbers():
            return len(self._fitted.left_out.outputs) > 0

    def _left_out_rows(self) -> LeaveOneOut:
        """What is predicted for each training row by the others."""
        raise NotImplementedError

    def _doubts(self) -> Numbers:
        """How badly each training row is predicted by the others; large for doubtful ones."""
        raise NotImplementedError
