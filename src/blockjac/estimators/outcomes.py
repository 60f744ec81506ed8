"""What a classifier predicts: one of several classes for each row, or labels that a row may have.

Both say how targets become numbers, and what logits mean. Logits are moderated: divided by a factor
that grows with their variance under Laplace's approximation.

Source: D. J. C. MacKay, The evidence framework applied to classification networks, Neural
Computation 4 (1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax

from blockjac.errors import InvalidDataError, InvalidOptionError
from blockjac.estimators.objective import Kind
from blockjac.estimators.tables import Numbers, shares

# after the errors' module, which says how scikit-learn is installed
from sklearn.utils import compute_class_weight  # isort: skip
from sklearn.utils.multiclass import check_classification_targets, type_of_target  # isort: skip
from sklearn.utils.validation import column_or_1d  # isort: skip


@dataclass(frozen=True)
class Classes:
    """One of several classes for each row.

    Attributes:
        names: the classes, sorted.
    """

    names: Numbers
    kind: Kind = "classes"

    def values(self, y: Numbers) -> Numbers:
        """Shares of the classes, all on that of each row.

        Raises:
            InvalidDataError: names the classes that are unknown.
        """
        places = np.searchsorted(self.names, y)
        places = np.minimum(places, len(self.names) - 1)
        unknown = np.unique(y[self.names[places] != y])
        if len(unknown):
            raise InvalidDataError(
                f"y holds {', '.join(map(str, unknown[:5]))}, but the classes are "
                f"{', '.join(map(str, self.names[:10]))}"
            )
        return shares(places, len(self.names))

    def softened(self, values: Numbers, counts: Numbers) -> Numbers:
        """The values as they are: each class has rows of it and others."""
        del counts
        return values

    def moderated(self, outputs: Numbers, spread: Numbers | None) -> Numbers:
        """Logits divided by what their uncertainty makes of them.

        Args:
            outputs: the logits, shape `(n, classes)`.
            spread: their covariance, shape `(n, classes, classes)`; None for none.
        """
        if spread is None:
            return outputs
        count = outputs.shape[1]
        mean = outputs - outputs.mean(axis=1, keepdims=True)
        centered = spread - spread.mean(axis=1, keepdims=True)
        centered = centered - centered.mean(axis=2, keepdims=True)
        # of two classes the difference counts, whose variance is four times this
        variances = np.einsum("nii->ni", centered) * (count / (count - 1)) ** 2
        return mean / np.sqrt(1 + np.pi / 8 * np.maximum(variances, 0))

    def probabilities(self, logits: Numbers) -> Numbers:
        """Of each class, shape `(n, classes)`."""
        return softmax(logits, axis=1)

    def log_probabilities(self, logits: Numbers) -> Numbers:
        """Their logarithms."""
        return log_softmax(logits, axis=1)

    def predictions(self, logits: Numbers) -> Numbers:
        """The most probable class of each row."""
        return self.names[np.argmax(logits, axis=1)]

    def are_right(self, logits: Numbers, values: Numbers) -> Numbers:
        """Whether these are the true ones."""
        return np.argmax(logits, axis=1) == np.argmax(values, axis=1)

    def losses(self, logits: Numbers, values: Numbers) -> Numbers:
        """Minus the logarithm of the probability of the true class of each row."""
        return -np.sum(values * log_softmax(logits, axis=1), axis=1)

    def slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        """The gradients of the losses by the logits."""
        return softmax(outputs, axis=1) - values


@dataclass(frozen=True)
class Labels:
    """Labels of which each row has any number.

    Attributes:
        names: their numbers, from 0 on.
    """

    names: Numbers
    kind: Kind = "labels"

    def values(self, y: Any) -> Numbers:
        """Whether each row has each label, 0 or 1, shape `(n, labels)`.

        Raises:
            InvalidDataError: If there are other entries, or another number of columns.
        """
        values = np.asarray(y.toarray() if hasattr(y, "toarray") else y, float)
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise InvalidDataError(
                f"y has the shape {values.shape}; wanted a column for each of the "
                f"{len(self.names)} labels"
            )
        others = values[(values != 0) & (values != 1)]
        if len(others):
            raise InvalidDataError(
                f"y holds {others[0]:g}; a table of labels has 1 where a row has the label, and 0 "
                "elsewhere"
            )
        return values

    def softened(self, values: Numbers, counts: Numbers) -> Numbers:
        """The values with half a row against each label that all rows have, or that none has.

        Their logits would grow without end else, and so would what is not known of them.

        Args:
            values: shape `(n, labels)`.
            counts: for how many rows each stands.
        """
        mean = np.average(values, axis=0, weights=counts)
        half = 0.5 / (1 + np.sum(counts))
        return np.where((mean == 0) | (mean == 1), (1 - 2 * half) * values + half, values)

    def moderated(self, outputs: Numbers, spread: Numbers | None) -> Numbers:
        """Logits divided by what their uncertainty makes of them, each for itself.

        Args:
            outputs: the logits, shape `(n, labels)`.
            spread: their covariance, shape `(n, labels, labels)`; None for none.
        """
        if spread is None:
            return outputs
        return outputs / np.sqrt(1 + np.pi / 8 * np.maximum(np.einsum("nii->ni", spread), 0))

    def probabilities(self, logits: Numbers) -> Numbers:
        """That a row has each label, shape `(n, labels)`."""
        return expit(logits)

    def log_probabilities(self, logits: Numbers) -> Numbers:
        """Their logarithms."""
        return log_expit(logits)

    def predictions(self, logits: Numbers) -> Numbers:
        """1 where a label is more probable than not, shape `(n, labels)`."""
        return (logits > 0).astype(int)

    def are_right(self, logits: Numbers, values: Numbers) -> Numbers:
        """Whether these are the true ones, all labels of a row."""
        return np.all((logits > 0) == (values > 0.5), axis=1)

    def losses(self, logits: Numbers, values: Numbers) -> Numbers:
        """Minus the logarithm of the probability of the true labels of each row."""
        return -np.sum(log_expit(np.where(values > 0.5, logits, -logits)), axis=1)

    def slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        """The gradients of the losses by the logits."""
        return expit(outputs) - values


OUTCOMES: dict[str, type[Classes] | type[Labels]] = {"classes": Classes, "labels": Labels}


def of_kind(y: Any) -> tuple[Any, Kind]:
    """The classes of rows or a table of labels, and which of them it is.

    Args:
        y: what was given as targets.

    Raises:
        InvalidDataError: for a table of anything else.
    """
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind == "multilabel-indicator":
        return y, "labels"
    if kind == "multiclass-multioutput":
        raise InvalidDataError(
            f"y has {y.shape[1]} columns; wanted one class a row, or a table of labels that is 1 "
            "where a row has the label and 0 elsewhere"
        )
    return column_or_1d(y, warn=True), "classes"


def weighted(
    outcome: Classes | Labels, class_weight: Any, counts: Numbers, values: Numbers, y: Numbers
) -> Numbers:
    """The weights of rows, times those of their classes.

    Args:
        outcome: what is predicted.
        class_weight: of the user.
        counts: for how many rows each stands.
        values: which class each row has.
        y: the classes, as often as "balanced" is to count them.

    Raises:
        InvalidOptionError: for weights of labels, as a row may have several.
    """
    if isinstance(outcome, Classes):
        weights = compute_class_weight(class_weight, classes=outcome.names, y=y)
        return counts * weights[np.argmax(values, axis=1)]
    if class_weight is not None:
        raise InvalidOptionError(
            f"class_weight is {class_weight!r}, but must be None where a row may have several "
            "labels; sample_weight weighs rows"
        )
    return counts
