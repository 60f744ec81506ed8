"""A feedforward network that predicts classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.estimators.base import Feedforward
from blockjac.estimators.frames import class_values, validated
from blockjac.estimators.looking_back import LeaveOneOut
from blockjac.estimators.objective import Kind
from blockjac.estimators.options import checked_weights
from blockjac.estimators.outcomes import OUTCOMES, Classes, Labels, of_kind, weighted
from blockjac.estimators.tables import Numbers, Scale
from blockjac.estimators.training_loop import Progress

# after the module that says how scikit-learn is installed
from sklearn.base import ClassifierMixin  # isort: skip
from sklearn.utils.validation import column_or_1d  # isort: skip


class FeedforwardClassifier(ClassifierMixin, Feedforward):
    """A feedforward network for classes, which says how sure it is and which rows it doubts.

    Each row has one of the classes, or any number of labels, each of which has a probability of its
    own.

    No option has to be set: columns are standardized, the strength of the L2 penalty is chosen by
    the evidence, and the width by how well each row is predicted by the others. A linear map leads
    from the columns to the outputs beside the hidden layers, so that it does not do worse than
    logistic regression where that is all there is to find. Small tables are fitted by
    Levenberg-Marquardt steps with the Gauss-Newton matrix, in float64 without a change of JAX's
    global flag; large ones by Adam on batches, with early stopping.

    Args:
        hidden_layer_sizes: Nodes of the hidden layers, such as `(32, 16)`; `()` for a linear model;
            `"auto"` for one hidden layer of a width chosen by leave-one-out.
        activation: Of the hidden layers: "identity", "logistic", "tanh", "relu", "softplus",
            "gelu" or "silu".
        alpha: Strength s of the penalty `s / 2 |weights|^2`, beside the mean loss of the rows;
            `"auto"` for one for each layer, chosen by the evidence.
        solver: `"gauss-newton"`, `"adam"`, or `"auto"` for the one that suits the size.
        max_iter: The most steps, or epochs of Adam.
        tol: Training stops when the loss falls by less than this share of it in four steps.
        batch_size: Rows of a batch of Adam; if "auto" 200, or 500 of more than 20,000 rows.
        learning_rate_init: Of Adam; if "auto" 0.01, falling with the number of batches, and 0.001
            in `partial_fit`.
        early_stopping: Whether to hold out rows, and to keep the parameters that predict them best;
            with "auto" for Adam alone.
        validation_fraction: The share of rows to hold out.
        n_iter_no_change: Rounds of four steps, or epochs, without progress on rows held out, after
            which training stops.
        warm_start: Whether `fit` begins with the parameters of the fit before.
        class_weight: `None`, "balanced", or a dict from classes to weights; `None` for labels.
        random_state: Of initial parameters, batches and rows held out: a whole number for the same
            result each time.
        dtype: "float64", "float32", or "auto" for float64 up to two million entries.
        callback: `callback(progress)` after each four steps or epoch, with `steps`, `loss`,
            `validation` and others; it returns True to stop.
        verbose: Whether to print the progress.

    Attributes:
        classes_: The classes, sorted; the numbers of labels.
        coefs_: Weights of each layer, shapes `(inputs, outputs)`, for standardized columns.
        intercepts_: Biases of each layer.
        direct_coef_: Weights of the linear map from the columns to the outputs.
        hidden_layer_sizes_: The nodes of the hidden layers; `(0,)` where none helped.
        alpha_: The strengths of the penalty, of each layer and then of the linear map.
        loss_curve_: The mean loss after each four steps or epoch.
        validation_curve_: That of the rows held out; None without.
        step_norms_: How far each of these moved the parameters, by their Euclidean norm.
        leave_one_out_: What is predicted for each training row by the others; not after Adam.
        suspicious_rows_: Training rows, the one first that the others predict worst.
        log_evidence_: The logarithm of the evidence of the model.

    Examples:
        >>> from sklearn.datasets import load_wine
        >>> from blockjac.estimators import FeedforwardClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> model = FeedforwardClassifier(random_state=0).fit(X, y)
        >>> model.leave_one_out_.score > 0.95
        True
    """

    _kind: Kind = "classes"

    def __init__(
        self,
        hidden_layer_sizes: Any = "auto",
        *,
        activation: str = "tanh",
        alpha: float | str = "auto",
        solver: str = "auto",
        max_iter: int = 200,
        tol: float = 1e-5,
        batch_size: int | str = "auto",
        learning_rate_init: float | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        class_weight: Any = None,
        random_state: Any = None,
        dtype: str = "auto",
        callback: Callable[[Progress], bool | None] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation=activation,
            alpha=alpha,
            solver=solver,
            max_iter=max_iter,
            tol=tol,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            dtype=dtype,
            callback=callback,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FeedforwardClassifier:
        """Fit the network to a table.

        Args:
            X: Numbers, shape `(n, columns)`: an array or a data frame.
            y: The class of each row, shape `(n,)`; or its labels, shape `(n, labels)`, 1 for those
                that it has and 0 for the others.
            sample_weight: For how many rows each stands; 1 if left out.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If there is a single class, or anything in `X` is missing or infinite.
        """
        X, y = validated(self, X, class_values(y), multi_output=True)
        y, self._kind = of_kind(y)
        self.classes_ = np.unique(y) if self._kind == "classes" else np.arange(y.shape[1])
        if len(self.classes_) < 2 and self._kind == "classes":
            raise InvalidDataError(f"y holds 1 class, {self.classes_[0]}; wanted at least two")
        values = self._outcome.values(y)
        counts = checked_weights(sample_weight, len(X))
        weights = self._weighted(counts, values, y)
        values = self._outcome.softened(values, counts)
        self._fit(X, values, weights, counts, Scale.unit(values.shape[1]))
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> FeedforwardClassifier:
        """Make one epoch of Adam over some rows, beginning where the last call ended.

        Args:
            X: Numbers, shape `(n, columns)`. The columns are standardized as those of the first
                call.
            y: The class of each row, or its labels.
            classes: All classes, or the numbers of the labels, for the first call.
            sample_weight: For how many rows each stands; 1 if left out.

        Raises:
            ValueError: If classes are missing at the first call, or a class was not among them.
        """
        is_first = not hasattr(self, "_fitted")
        X, y = self._checked_part(X, y, is_first)
        y, kind = of_kind(y)
        if is_first:
            if classes is None:
                raise InvalidDataError("the first call of partial_fit needs classes, all of them")
            self._kind, self.classes_ = kind, np.unique(np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise InvalidDataError(f"classes are {classes!r}, but were {self.classes_!r} before")
        values = self._values(y)
        counts = checked_weights(sample_weight, len(X))
        weights = self._weighted(counts, values, self.classes_)
        self._fit_part(X, values, weights, counts, Scale.unit(values.shape[1]))
        return self

    def fit_parts(self, parts: Any, classes: Any = None) -> FeedforwardClassifier:
        """Fit the network to a table that does not fit in memory, by Adam on batches.

        A first pass over the parts learns the scales of the columns and the classes, and
        keeps a random sample of 32,768 rows at most: half of them at most are held out, the others
        stand for all rows in `suspicious_rows_`, `influence` and the curvature. Each epoch is a
        further pass.

        Args:
            parts: Pairs `(X, y)`, or triples with sample weights, to go through many times: a list,
                a `RowGroups`, or any object whose `__iter__` starts again. A sequence is gone
                through in a new order each epoch, others as they come.
            classes: All classes; those that are found in the first pass if left out.

        Raises:
            ValueError: If `parts` can be gone through once only, has no rows, or anything in it is
                missing or infinite.

        Examples:
            >>> from blockjac.estimators import FeedforwardClassifier
            >>> X = np.random.RandomState(0).normal(size=(2, 500, 3))
            >>> parts = [(part, part[:, 0] > part[:, 1]) for part in X]
            >>> model = FeedforwardClassifier((8,), learning_rate_init=0.01, random_state=0)
            >>> model.fit_parts(parts).score(*parts[0]) > 0.9
            True
        """
        self._fit_parts(parts, classes)
        return self

    def _checked_part(self, X: Any, y: Any, is_first: bool) -> tuple[Numbers, Any]:
        """Rows and classes as scikit-learn checks them; the first ones name the columns."""
        X, y = validated(self, X, class_values(y), multi_output=True, reset=is_first)
        return X, y

    def predict(self, X: Any) -> Numbers:
        """The most probable class of each row, or the labels that are more probable than not."""
        logits = self._logits(X)
        return self._outcome.predictions(logits)

    def predict_proba(self, X: Any) -> Numbers:
        """Probabilities of the classes, shape `(n, classes)`, in the order of `classes_`.

        Those of labels do not sum to 1, as a row may have several. What the fit does not know of
        its parameters makes probabilities less extreme: logits are divided by a factor that grows
        with their variance under Laplace's approximation.

        Source:
            D. J. C. MacKay, "The evidence framework applied to classification networks", Neural
            Computation 4, 1992.
        """
        logits = self._logits(X)
        return self._outcome.probabilities(logits)

    def predict_log_proba(self, X: Any) -> Numbers:
        """The logarithms of the probabilities."""
        logits = self._logits(X)
        return self._outcome.log_probabilities(logits)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn should know of it."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _outcome(self) -> Classes | Labels:
        """What is predicted."""
        return OUTCOMES[self._kind](self.classes_)

    def _logits(self, X: Any) -> Numbers:
        """Logits of the probabilities, which what the fit does not know has made smaller."""
        X = self._checked(X)
        with self._numbers():
            model = self._fitted.model
            spread = model.spreads(X) if len(model.triangle) else None
            return self._outcome.moderated(model.outputs(X), spread)

    def _left_out_logits(self) -> Numbers:
        """Of each training row without itself, moderated."""
        out = self._fitted.left_out
        return self._outcome.moderated(out.without, out.wider)

    def _left_out_rows(self) -> LeaveOneOut:
        """Their classes, by the moderated probabilities of the fit without them."""
        outcome, rows, logits = self._outcome, self._fitted.rows, self._left_out_logits()
        return LeaveOneOut(
            float(np.average(outcome.are_right(logits, rows.values), weights=rows.weights)),
            outcome.predictions(logits),
            outcome.losses(logits, rows.values),
            outcome.probabilities(logits),
        )

    def _doubts(self) -> Numbers:
        return self._outcome.losses(self._left_out_logits(), self._fitted.rows.values)

    def _weighted(self, counts: Numbers, values: Numbers, y: Numbers) -> Numbers:
        return weighted(self._outcome, self.class_weight, counts, values, y)

    def _values(self, y: Any) -> Numbers:
        if self._kind == "classes":
            y = column_or_1d(class_values(y), warn=True)
        return self._outcome.values(y)

    def _slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        return self._outcome.slopes(outputs, values)
