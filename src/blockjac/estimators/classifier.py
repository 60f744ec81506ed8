"""A feedforward network that predicts classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from blockjac.errors import InvalidDataError
from blockjac.estimators.base import Feedforward, LeaveOneOut
from blockjac.estimators.fitting import Progress
from blockjac.estimators.frames import class_values
from blockjac.estimators.options import checked_weights
from blockjac.estimators.tables import Numbers, Scale, shares

# after the module that says how scikit-learn is installed
from sklearn.base import ClassifierMixin  # isort: skip
from sklearn.utils import compute_class_weight  # isort: skip
from sklearn.utils.multiclass import check_classification_targets  # isort: skip
from sklearn.utils.validation import column_or_1d  # isort: skip


class FeedforwardClassifier(ClassifierMixin, Feedforward):
    """A feedforward network for classes, which says how sure it is and which rows it doubts.

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
        batch_size: Rows of a batch of Adam; 200 if "auto".
        learning_rate_init: Of Adam.
        early_stopping: Whether to hold out rows, and to keep the parameters that predict them best;
            with "auto" for Adam alone.
        validation_fraction: The share of rows to hold out.
        n_iter_no_change: Rounds of four steps, or epochs, without progress on rows held out, after
            which training stops.
        warm_start: Whether `fit` begins with the parameters of the fit before.
        class_weight: `None`, "balanced", or a dict from classes to weights.
        random_state: Of initial parameters, batches and rows held out: a whole number for the same
            result each time.
        dtype: "float64", "float32", or "auto" for float64 up to two million entries.
        callback: `callback(progress)` after each four steps or epoch, with `steps`, `loss`,
            `validation` and others; it returns True to stop.
        verbose: Whether to print the progress.

    Attributes:
        classes_: The classes, sorted.
        coefs_: Weights of each layer, shapes `(inputs, outputs)`, for standardized columns.
        intercepts_: Biases of each layer.
        direct_coef_: Weights of the linear map from the columns to the outputs.
        hidden_layer_sizes_: The nodes of the hidden layers; `(0,)` where none helped.
        alpha_: The strengths of the penalty, of each layer and then of the linear map.
        loss_curve_: The mean loss after each four steps or epoch.
        validation_curve_: That of the rows held out; None without.
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

    _kind = "classes"

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
        learning_rate_init: float = 1e-3,
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
            y: The class of each row.
            sample_weight: For how many rows each stands; 1 if left out.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If there is a single class, or anything in `X` is missing or infinite.
        """
        X, y = self._validated(X, class_values(y))
        check_classification_targets(y)
        self.classes_, places = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidDataError(f"y holds 1 class, {self.classes_[0]}; wanted at least two")
        counts = checked_weights(sample_weight, len(X))
        weights = counts * self._of_classes(y)[places]
        values = shares(places, len(self.classes_))
        self._fit(X, values, weights, counts, _unscaled(values))
        self._look_back(places)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> FeedforwardClassifier:
        """Make one epoch of Adam over some rows, beginning where the last call ended.

        Args:
            X: Numbers, shape `(n, columns)`. The columns are standardized as those of the first
                call.
            y: The class of each row.
            classes: All classes, for the first call.
            sample_weight: For how many rows each stands; 1 if left out.

        Raises:
            ValueError: If classes are missing at the first call, or a class was not among them.
        """
        is_first = not hasattr(self, "_fitted")
        X, y = self._validated(X, class_values(y), reset=is_first)
        check_classification_targets(y)
        if is_first:
            if classes is None:
                raise InvalidDataError("the first call of partial_fit needs classes, all of them")
            self.classes_ = np.unique(np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise InvalidDataError(f"classes are {classes!r}, but were {self.classes_!r} before")
        values = self._values(y)
        counts = checked_weights(sample_weight, len(X))
        weights = counts * self._of_classes(self.classes_)[np.argmax(values, axis=1)]
        self._fit_part(X, values, weights, counts, _unscaled(values))
        return self

    def predict(self, X: Any) -> Numbers:
        """The most probable class of each row."""
        places = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[places]

    def predict_proba(self, X: Any) -> Numbers:
        """Probabilities of the classes, shape `(n, classes)`, in the order of `classes_`.

        What the fit does not know of its parameters makes them less extreme: logits are divided by
        a factor that grows with their variance under Laplace's approximation.

        Source:
            D. J. C. MacKay, "The evidence framework applied to classification networks", Neural
            Computation 4, 1992.
        """
        return softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> Numbers:
        """The logarithms of the probabilities."""
        return log_softmax(self._logits(X), axis=1)

    def _logits(self, X: Any) -> Numbers:
        """Logits of the probabilities, which what the fit does not know has made smaller."""
        X = self._checked(X)
        with self._numbers():
            model = self._fitted.model
            spread = model.spreads(X) if len(model.triangle) else None
            return moderated(model.outputs(X), spread)

    def _look_back(self, places: Numbers) -> None:
        """What the left-out rows say."""
        fitted = self._fitted
        out, true = fitted.left_out, np.argmax(fitted.rows.values, axis=1)
        logs = log_softmax(moderated(out.without, out.spread), axis=1)
        guessed = np.argmax(logs, axis=1)
        losses = -logs[np.arange(len(true)), true]
        self._left_out = LeaveOneOut(
            float(np.average(guessed == true, weights=fitted.rows.weights)),
            self.classes_[guessed],
            losses,
            np.exp(logs),
        )
        if fitted.solver == "adam":
            self._left_out = None
        self.suspicious_rows_ = self._places(np.argsort(-losses, kind="stable"))

    def _of_classes(self, y: Numbers) -> Numbers:
        """The weight of each class."""
        return compute_class_weight(self.class_weight, classes=self.classes_, y=y)

    def _values(self, y: Any) -> Numbers:
        """Shares of the classes, all on that of each row."""
        y = column_or_1d(class_values(y), warn=True)
        places = np.searchsorted(self.classes_, y)
        places = np.minimum(places, len(self.classes_) - 1)
        unknown = np.unique(y[self.classes_[places] != y])
        if len(unknown):
            raise InvalidDataError(
                f"y holds {', '.join(map(str, unknown[:5]))}, but the classes are "
                f"{', '.join(map(str, self.classes_[:10]))}"
            )
        return shares(places, len(self.classes_))

    def _slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        return softmax(outputs, axis=1) - values


def moderated(outputs: Numbers, spread: Numbers | None) -> Numbers:
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


def _unscaled(values: Numbers) -> Scale:
    """The scale of shares of classes, which stay as they are."""
    return Scale(np.zeros(values.shape[1]), np.ones(values.shape[1]))
