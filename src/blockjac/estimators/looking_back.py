"""What an estimator says of its left-out rows."""

from __future__ import annotations

from dataclasses import dataclass

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
