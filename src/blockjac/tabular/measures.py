"""How well rows are predicted that were not fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score

from blockjac.tabular.table import Values

LEVEL = 0.95
"""Of the intervals that are looked at."""

LEVELS = np.linspace(0.05, 0.95, 19)
"""Of the intervals whose coverage is drawn."""


@dataclass(frozen=True)
class Measures:
    """Predictions of rows that were not fitted, and what they are worth.

    Attributes:
        rows: their places in the table of numbers.
        true: their targets.
        predicted: what was predicted for them.
        chances: probabilities of the classes; None for numbers.
        classes: in the order of the probabilities; empty for numbers.
        ends: of the intervals, shape `(n, 2)`; None for classes, and where there are none.
        covered: the share that intervals of each of `LEVELS` cover; likewise.
        scores: by name.
    """

    rows: Values
    true: Values
    predicted: Values
    chances: Values | None
    classes: Values
    ends: Values | None
    covered: Values | None
    scores: dict[str, float]

    @staticmethod
    def joined(parts: Sequence[Measures]) -> Measures:
        """Of several folds: their rows together, and the means of their scores.

        Args:
            parts: of the folds, at least one.
        """
        scores = {
            name: float(np.mean([one.scores[name] for one in parts])) for name in parts[0].scores
        }
        if len(parts) > 1:
            main = next(iter(scores))
            values = [one.scores[main] for one in parts]
            scores["standard_error"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))

        def together(name: str) -> Any:
            found = [getattr(one, name) for one in parts]
            return None if found[0] is None else np.concatenate(found)

        rows, true, predicted = map(together, ("rows", "true", "predicted"))
        shares = [one.covered for one in parts if one.covered is not None]
        covered = np.mean(shares, axis=0) if shares else None
        classes, ends = parts[0].classes, together("ends")
        chances = together("chances")
        return Measures(rows, true, predicted, chances, classes, ends, covered, scores)

    @staticmethod
    def left_out(estimator: Any, y: Values) -> Measures | None:
        """Of each row, predicted by the others; None where the estimator cannot say.

        Args:
            estimator: fitted to all rows.
            y: their targets.
        """
        out = getattr(estimator, "leave_one_out_", None)
        if out is None:
            return None
        rows = np.arange(len(y))
        if out.probabilities is not None:
            return _of_classes(rows, y, out.probabilities, estimator.classes_)
        return _of_numbers(rows, y, out.predictions, None, None)


def measured(estimator: Any, X: Values, y: Values, rows: Values) -> Measures:
    """How well a fitted estimator predicts rows.

    Args:
        estimator: fitted to others.
        X: their numbers.
        y: their targets.
        rows: their places in the table.
    """
    if hasattr(estimator, "classes_"):
        return _of_classes(rows, y, estimator.predict_proba(X), estimator.classes_)
    ends = estimator.predict_interval(X, LEVEL)
    covered = [_share_inside(y, estimator.predict_interval(X, float(level))) for level in LEVELS]
    return _of_numbers(rows, y, estimator.predict(X), ends, np.asarray(covered))


def _share_inside(true: Values, ends: Values) -> float:
    return float(np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])))


def _of_classes(rows: Values, true: Values, chances: Values, classes: Values) -> Measures:
    """Of rows with classes."""
    predicted = classes[np.argmax(chances, axis=1)]
    correct = accuracy_score(true, predicted)
    kept = np.isin(true.astype(str), classes.astype(str))  # a class may be in the test rows alone
    names = classes.astype(str)
    scores = {
        "accuracy": float(correct),
        "standard_error": float(np.sqrt(correct * (1 - correct) / len(true))),
        "log_loss": float(log_loss(true[kept].astype(str), chances[kept], labels=names)),
        "most_frequent_class": float(np.mean(true == _most_frequent(true))),
    }
    return Measures(rows, true, predicted, chances, classes, None, None, scores)


def _most_frequent(values: Values) -> Any:
    different, counts = np.unique(values, return_counts=True)
    return different[np.argmax(counts)]


def _of_numbers(
    rows: Values, true: Values, predicted: Values, ends: Values | None, covered: Values | None
) -> Measures:
    """Of rows with numbers."""
    errors = true - predicted
    scores = {
        "r2": float(r2_score(true, predicted)) if len(true) > 1 else 0.0,
        "root_mean_square_error": float(np.sqrt(np.mean(errors**2))),
        "mean_absolute_error": float(mean_absolute_error(true, predicted)),
        "standard_deviation": float(np.std(true)),
    }
    if ends is not None:
        scores["covered_by_95_percent_intervals"] = _share_inside(true, ends)
        scores["mean_width_of_intervals"] = float(np.mean(ends[:, 1] - ends[:, 0]))
    none = np.zeros(0)
    return Measures(rows, true, predicted, None, none, ends, covered, scores)
