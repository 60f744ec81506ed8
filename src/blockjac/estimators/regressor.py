"""A feedforward network that predicts numbers, with intervals."""

from __future__ import annotations

import numbers
from functools import cached_property
from typing import Any

import numpy as np

from blockjac.errors import InvalidOptionError
from blockjac.estimators.base import Feedforward
from blockjac.estimators.frames import validated
from blockjac.estimators.intervals import quantile, scores
from blockjac.estimators.looking_back import LeaveOneOut
from blockjac.estimators.options import checked_weights
from blockjac.estimators.tables import Numbers, Scale

# after the module that says how scikit-learn is installed
from sklearn.base import RegressorMixin  # isort: skip
from sklearn.metrics import r2_score  # isort: skip


class FeedforwardRegressor(RegressorMixin, Feedforward):
    """A feedforward network for numbers, with intervals for each prediction.

    No option has to be set: columns and targets are standardized, the strength of the L2 penalty is
    chosen by the evidence, and the width by how well each row is predicted by the others. A linear
    map leads from the columns to the outputs beside the hidden layers, so that it does not do worse
    than ridge regression where that is all there is to find. Small tables are fitted by
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
        random_state: Of initial parameters, batches and rows held out: a whole number for the same
            result each time.
        dtype: "float64", "float32", or "auto" for float64 up to two million entries.
        callback: `callback(progress)` after each four steps or epoch, with `steps`, `loss`,
            `validation` and others; it returns True to stop.
        verbose: Whether to print the progress.

    Attributes:
        coefs_: Weights of each layer, shapes `(inputs, outputs)`, for standardized columns.
        intercepts_: Biases of each layer.
        direct_coef_: Weights of the linear map from the columns to the outputs.
        hidden_layer_sizes_: The nodes of the hidden layers; `(0,)` where none helped.
        alpha_: The strengths of the penalty, of each layer and then of the linear map.
        loss_curve_: The mean loss after each four steps or epoch: half of the squared error, in
            units of the variance of the targets.
        validation_curve_: That of the rows held out; None without.
        step_norms_: How far each of these moved the parameters, by their Euclidean norm.
        leave_one_out_: What is predicted for each training row by the others; not after Adam.
        suspicious_rows_: Training rows, the one first that the others predict worst.
        log_evidence_: The logarithm of the evidence of the model.

    Examples:
        >>> from sklearn.datasets import load_diabetes
        >>> from blockjac.estimators import FeedforwardRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = FeedforwardRegressor(random_state=0).fit(X, y)
        >>> model.predict_interval(X[:3], level=0.9).shape
        (3, 2)
    """

    _kind = "numbers"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FeedforwardRegressor:
        """Fit the network to a table.

        Args:
            X: Numbers, shape `(n, columns)`: an array or a data frame.
            y: Targets, shape `(n,)`, or `(n, outputs)` for several.
            sample_weight: For how many rows each stands; 1 if left out.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If anything in `X` or `y` is missing or infinite.
        """
        X, y = validated(self, X, y, multi_output=True, y_numeric=True)
        weights = checked_weights(sample_weight, len(X))
        self._is_flat = y.ndim == 1
        values = self._values(y)
        self._fit(X, values, weights, weights, Scale.of(values, weights))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> FeedforwardRegressor:
        """Make one epoch of Adam over some rows, beginning where the last call ended.

        Args:
            X: Numbers, shape `(n, columns)`. Columns and targets are standardized as those of the
                first call.
            y: Targets, shape `(n,)`, or `(n, outputs)` for several.
            sample_weight: For how many rows each stands; 1 if left out.
        """
        is_first = not hasattr(self, "_fitted")
        X, y = self._checked_part(X, y, is_first)
        weights = checked_weights(sample_weight, len(X))
        values = self._values(y)
        scale = Scale.of(values, weights) if is_first else self._fitted.model.targets
        self._fit_part(X, values, weights, weights, scale)
        return self

    def fit_parts(self, parts: Any) -> FeedforwardRegressor:
        """Fit the network to a table that does not fit in memory, by Adam on batches.

        A first pass over the parts learns the scales of the columns and targets, and
        keeps a random sample of 32,768 rows at most: half of them at most are held out, the others
        stand for all rows in `suspicious_rows_`, `influence` and the curvature. Each epoch is a
        further pass.

        Args:
            parts: Pairs `(X, y)`, or triples with sample weights, to go through many times: a list,
                a `RowGroups`, or any object whose `__iter__` starts again. A sequence is gone
                through in a new order each epoch, others as they come.

        Raises:
            ValueError: If `parts` can be gone through once only, has no rows, or anything in it is
                missing or infinite.

        Examples:
            >>> from blockjac.estimators import FeedforwardRegressor
            >>> X = np.random.RandomState(0).normal(size=(2, 500, 3))
            >>> parts = [(part, part[:, 0] - 2 * part[:, 1]) for part in X]
            >>> model = FeedforwardRegressor((8,), learning_rate_init=0.01, random_state=0)
            >>> model.fit_parts(parts).score(*parts[0]) > 0.9
            True
        """
        self._fit_parts(parts)
        return self

    def _checked_part(self, X: Any, y: Any, is_first: bool) -> tuple[Numbers, Numbers]:
        """Rows and targets as scikit-learn checks them; the first ones name the columns."""
        X, y = validated(self, X, y, multi_output=True, y_numeric=True, reset=is_first)
        self._is_flat = y.ndim == 1
        return X, y

    def predict(self, X: Any) -> Numbers:
        """Predictions, shape `(n,)` or `(n, outputs)` as the targets were."""
        X = self._checked(X)
        with self._numbers():
            model = self._fitted.model
            return self._shaped(model.targets.invert(model.outputs(X)))

    def predict_std(self, X: Any) -> Numbers:
        """The standard deviation of new targets around predictions, in the units of the targets.

        The noise of the targets, and what the fit does not know of its parameters (Laplace's
        approximation). Rows unlike those of the training table get larger ones.
        """
        X = self._checked(X)
        self._check_uncertain("predict_std")
        with self._numbers():
            return self._shaped(self._std(X) * self._fitted.model.targets.spread)

    def predict_interval(self, X: Any, level: float = 0.95) -> Numbers:
        """Intervals in which new targets lie about as often as the level says.

        They come from the errors with which each training row is predicted by the others, or from
        rows held out where there are enough, and are wider where the model knows less; they need no
        normal errors.

        Args:
            X: Rows, shape `(n, columns)`.
            level: The share of targets to cover, between 0 and 1.

        Returns:
            Lower and upper ends, shape `(n, 2)`, or `(n, outputs, 2)` for several targets.

        Raises:
            InvalidOptionError: If the level is not between 0 and 1.

        Source:
            See the module `blockjac.estimators.intervals`.
        """
        if not isinstance(level, numbers.Real) or not 0 < level < 1:
            raise InvalidOptionError(f"level is {level!r}, but must be a number between 0 and 1")
        X = self._checked(X)
        self._check_uncertain("predict_interval")
        with self._numbers():
            model = self._fitted.model
            half = quantile(*self._scores, level) * self._std(X)
            outputs = model.outputs(X)
            ends = [model.targets.invert(outputs + sign * half) for sign in (-1, 1)]
        both = np.stack(ends, axis=-1)
        return both[:, 0] if self._is_flat else both

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn should know of it."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _std(self, X: Numbers) -> Numbers:
        """The standard deviation of standardized targets."""
        model = self._fitted.model
        return np.sqrt(model.noise * (1 + np.einsum("nii->ni", model.spreads(X))))

    def _left_out_rows(self) -> LeaveOneOut:
        rows, out, targets = self._fitted.rows, self._fitted.left_out, self._fitted.model.targets
        predictions, true = targets.invert(out.without), targets.invert(rows.values)
        losses = np.sum((rows.values - out.without) ** 2, axis=1) / 2
        return LeaveOneOut(_r2(true, predictions, rows.weights), self._shaped(predictions), losses)

    def _left_out_errors(self) -> Numbers:
        """Of each training row without itself, in standard deviations."""
        rows, noise = self._fitted.rows, self._fitted.model.noise
        return scores(self._fitted.left_out, rows.values, noise, rows.units)

    def _doubts(self) -> Numbers:
        return np.max(np.abs(self._left_out_errors()), axis=1)

    @cached_property
    def _scores(self) -> tuple[Numbers, Numbers]:
        """Errors in standard deviations that intervals are taken from, and their rows' weights."""
        held, model = self._fitted.held_out, self._fitted.model
        with self._numbers():
            if held is None or len(held) < ENOUGH:
                return self._left_out_errors(), self._fitted.rows.weights
            return (held.values - model.outputs(held.X)) / self._std(held.X), held.weights

    def _shaped(self, predictions: Numbers) -> Numbers:
        """Predictions in the form of the targets."""
        return predictions[:, 0] if self._is_flat else predictions

    def _values(self, y: Any) -> Numbers:
        y = np.asarray(y, float)
        return y[:, None] if y.ndim == 1 else y

    def _slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        return (outputs - values) / self._fitted.model.noise


def _r2(true: Numbers, predictions: Numbers, weights: Numbers) -> float:
    """The coefficient of determination, 0 for a single row."""
    return float(r2_score(true, predictions, sample_weight=weights)) if len(true) > 1 else 0.0


ENOUGH = 100
"""Rows held out from which intervals are taken."""
