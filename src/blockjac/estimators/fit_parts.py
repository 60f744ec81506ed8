"""Fit an estimator to a table that comes in parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.estimators.fitted import Fitted, finite
from blockjac.estimators.large_tables import fit_source
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.options import checked_weights
from blockjac.estimators.parts import Part, Sample, Streamed, check_again, rows_of, with_rows
from blockjac.estimators.sources import Block
from blockjac.estimators.tables import Moments, Numbers, Scale

# after the module that says how scikit-learn is installed
from sklearn.utils import compute_class_weight  # isort: skip
from sklearn.utils.validation import column_or_1d  # isort: skip


class PartsFit:
    """One fit of an estimator to parts.

    Args:
        estimator: with the options.
        parts: to go through in each epoch.
        classes: all of them, or None to find them.
    """

    def __init__(self, estimator: Any, parts: Any, classes: Any = None) -> None:
        check_again(parts)
        self.estimator, self.parts, self.classes = estimator, parts, classes
        self.is_classifier = estimator._kind == "classes"
        self.seed = estimator._seed()
        self.dtype = np.dtype(np.float32 if estimator.dtype == "auto" else estimator.dtype)
        self.sample = Sample(self.seed)
        self.inputs: Moments | None = None
        self.targets: Moments | None = None
        self.counts: dict[Any, float] = {}
        self.class_weights: Any = None

    def fitted(self, options: Any) -> Fitted:
        """A first pass, and then the epochs.

        Args:
            options: of the estimator.

        Raises:
            InvalidDataError: if the parts have no rows, or of a single class.
        """
        for part in self.parts:
            self._survey(self._checked(part, is_first=self.sample.parts == 0))
        if self.inputs is None or self.targets is None or not self.inputs.weight > 0:
            raise InvalidDataError("the parts have no rows that count; wanted at least one")
        if self.is_classifier:
            self._settle_classes()
        scale = self.inputs.scale(self.dtype)
        targets = self._target_scale(self.targets)
        share = options.validation
        if share is None:
            share = 0.1 if self.sample.count >= 200 else 0.0
        source = self._source(targets, share)
        objective = Objective(self.estimator._kind, options.activation)
        return finite(fit_source(objective, source, scale, targets, options, self.seed, None))

    def _checked(self, part: Any, *, is_first: bool) -> Part:
        """The rows of a part, as scikit-learn checks them."""
        if not isinstance(part, tuple | list) or len(part) not in (2, 3):
            raise InvalidDataError(
                f"a part is of type {type(part).__name__}; wanted (X, y) or (X, y, sample_weight)"
            )
        X, y = self.estimator._checked_part(part[0], part[1], is_first)
        return Part(X, y, checked_weights(part[2] if len(part) == 3 else None, len(X)))

    def _survey(self, part: Part) -> None:
        """What the first pass learns of a part."""
        self.inputs = with_rows(self.inputs, part.X.astype(self.dtype, copy=False), part.counts)
        if self.is_classifier:
            labels, places = np.unique(column_or_1d(part.y), return_inverse=True)
            for label, count in zip(labels, np.bincount(places, part.counts), strict=True):
                self.counts[label] = self.counts.get(label, 0.0) + float(count)
            values = np.zeros((len(part.X), 1))
        else:
            values = self.estimator._values(part.y)
        self.targets = with_rows(self.targets, values, part.counts)
        self.sample.add(part)

    def _settle_classes(self) -> None:
        """All classes, and their weights."""
        found = list(self.counts) if self.classes is None else self.classes
        classes = np.unique(np.asarray(found))
        if len(classes) < 2:
            raise InvalidDataError(f"y holds 1 class, {classes[0]}; wanted at least two")
        self.estimator.classes_ = classes
        asked = self.estimator.class_weight
        if isinstance(asked, str):  # as scikit-learn's, from counts in the place of labels
            counts = np.array([self.counts.get(one, 0.0) for one in classes])
            self.class_weights = counts.sum() / (len(classes) * np.maximum(counts, 1e-300))
        else:
            self.class_weights = compute_class_weight(asked, classes=classes, y=classes)

    def _target_scale(self, moments: Moments) -> Scale:
        """The scale of numbers; shares of classes stay as they are."""
        if not self.is_classifier:
            return moments.scale(np.float64)
        return Scale.unit(len(self.estimator.classes_))

    def _block(self, part: Part, scale: Scale) -> Block:
        """The rows of a part as training wants them."""
        values = self.estimator._values(part.y)
        weights = part.counts
        if self.class_weights is not None:
            weights = weights * self.class_weights[np.argmax(values, axis=1)]
        units = weights / np.maximum(part.counts, 1)
        parts: list[Numbers] = [scale.apply(values), weights, units]
        targets = Targets(*(one.astype(self.dtype) for one in parts))
        return Block(part.X.astype(self.dtype, copy=False), targets)

    def _source(self, scale: Scale, share: float) -> Streamed:
        """The parts, without the rows held out."""
        sample = self.sample
        block = self._block(Part(sample.X, sample.y, sample.counts), scale)
        threshold = sample.threshold(share)
        is_out = sample.drawn < threshold
        held, kept = (
            rows_of(block[which], sample.places[which], sample.count) for which in (is_out, ~is_out)
        )
        return Streamed(
            parts=self.parts,
            read=lambda part: self._block(self._checked(part, is_first=False), scale),
            seed=self.seed,
            threshold=threshold,
            kept=kept,
            held_out=held if len(held) else None,
            count=sample.count - len(held),
        )
