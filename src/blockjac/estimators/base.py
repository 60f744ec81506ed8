"""What the classifier and the regressor share: options, fitting, uncertainty, influence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from blockjac.errors import InvalidDataError, InvalidOptionError
from blockjac.estimators.fitted import Fitted, Options, fit_rows
from blockjac.estimators.frames import validated
from blockjac.estimators.looking_back import LooksBack
from blockjac.estimators.objective import Kind
from blockjac.estimators.options import checked_options, nodes
from blockjac.estimators.rows import Rows
from blockjac.estimators.steps import first_step_profile
from blockjac.estimators.tables import Numbers, Scale
from blockjac.estimators.training_loop import Progress
from blockjac.optimize import LineProfile

# after the module that says how scikit-learn is installed
from sklearn.base import BaseEstimator  # isort: skip
from sklearn.utils import check_random_state  # isort: skip
from sklearn.utils.validation import check_is_fitted  # isort: skip

LARGE = 2_000_000
"""From this many entries on, a table is computed in float32 unless dtype says otherwise."""


class Feedforward(LooksBack, BaseEstimator):
    """A feedforward network for a table; see the classifier and the regressor."""

    _kind: Kind

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
        random_state: Any = None,
        dtype: str = "auto",
        callback: Callable[[Progress], bool | None] | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.callback = callback
        self.verbose = verbose

    def _values(self, y: Numbers) -> Numbers:
        """Targets as the network is to see them, shape `(n, outputs)`, before any scale."""
        raise NotImplementedError

    # Fitting

    def _fit(
        self, X: Numbers, values: Numbers, weights: Numbers, counts: Numbers, scale: Scale
    ) -> None:
        """Fit checked arrays, and keep what is asked for later."""
        options = self._options()
        with self._numbers(X):
            dtype = self._float(X)
            # a large table is not copied
            X, values = X.astype(dtype, copy=X.size <= LARGE), values.astype(dtype)
            # only what the weights are beside each other counts for scales
            inputs = Scale.of(X, weights)
            rows = Rows.whole(X, scale.apply(values).astype(dtype), weights.astype(dtype), counts)
            start = self._start(X.shape[1], values.shape[1]) if self.warm_start else None
            if start is not None:
                options = replace(options, hidden=self._fitted.hidden)
            self._keep(fit_rows(self._kind, rows, inputs, scale, options, self._seed(), start))

    def _fit_part(
        self, X: Numbers, values: Numbers, weights: Numbers, counts: Numbers, scale: Scale
    ) -> None:
        """One epoch over some rows."""
        from blockjac.estimators.large_tables import fit_part

        options = self._options()
        with self._numbers(None if hasattr(self, "_fitted") else X):
            old = getattr(self, "_fitted", None)
            dtype = self._float(X) if old is None else old.model.params["biases"][0].dtype
            X = X.astype(dtype)
            inputs = Scale.of(X, weights) if old is None else old.model.inputs
            rows = Rows.whole(X, scale.apply(values).astype(dtype), weights.astype(dtype), counts)
            self._keep(fit_part(self._kind, rows, inputs, scale, options, self._seed(), old))

    def _fit_parts(self, parts: Any, classes: Any = None) -> None:
        """Fit a table that comes in parts."""
        from blockjac.estimators.fit_parts import PartsFit

        options = self._options()
        fit = PartsFit(self, parts, classes)
        with jax.enable_x64(fit.dtype == np.float64):
            self._keep(fit.fitted(options))

    def _start(self, inputs: int, outputs: int) -> Any:
        """The parameters of the fit before, if there is one and it fits."""
        if not hasattr(self, "_fitted"):
            return None
        old = self._fitted
        if self.hidden_layer_sizes != "auto" and nodes(self.hidden_layer_sizes) != old.hidden:
            return None
        first, last = old.model.params["weights"][0], old.model.params["weights"][-1]
        return old.model.params if (len(first), last.shape[1]) == (inputs, outputs) else None

    def _keep(self, fitted: Fitted) -> None:
        """Set the attributes of a fit."""
        self._fitted = fitted
        for name in ("leave_one_out_", "suspicious_rows_", "_scores"):  # of the fit before
            self.__dict__.pop(name, None)
        params = fitted.model.params
        self.hidden_layer_sizes_ = fitted.hidden
        self.coefs_ = list(params["weights"])
        self.intercepts_ = list(params["biases"])
        self.direct_coef_ = params["direct"][0] if params["direct"] else None
        self.solver_ = fitted.solver
        self.alpha_ = fitted.strengths
        self.loss_curve_ = list(fitted.losses)
        self.validation_curve_ = list(fitted.validation) if fitted.held_out is not None else None
        self.step_norms_ = list(fitted.lengths)
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else float("nan")
        self.n_iter_ = max(fitted.steps, 1)
        self.n_layers_ = len(fitted.hidden) + 2
        self.n_outputs_ = params["biases"][-1].shape[0]
        self.converged_ = fitted.is_converged
        self.log_evidence_ = fitted.evidence

    def _options(self) -> Options:
        """The parameters, checked; see `checked_options`."""
        return checked_options(self, self._watch)

    def _watch(self, progress: Progress) -> bool:
        """Say how far training is, and whether somebody wants it to stop."""
        if self.verbose:
            held = "" if np.isnan(progress.validation) else f", held out {progress.validation:.5f}"
            nodes = "x".join(map(str, progress.hidden)) or "no"
            print(  # noqa: T201 - asked for by verbose
                f"{nodes} nodes, step {progress.steps} of at most {progress.max_steps}: "
                f"loss {progress.loss:.5f}{held}"
            )
        return bool(self.callback is not None and self.callback(progress))

    def _seed(self) -> int:
        """A seed from `random_state`: the same for the same whole number."""
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _float(self, X: Numbers) -> Any:
        """The dtype to compute in."""
        if self.dtype != "auto":
            return np.dtype(self.dtype)
        return np.dtype(np.float64 if X.size <= LARGE else np.float32)

    def _numbers(self, X: Numbers | None = None) -> Any:
        """A context in which JAX has the dtype of the fit, whatever its global flag says."""
        dtype = self._float(X) if X is not None else self._fitted.model.params["biases"][0].dtype
        return jax.enable_x64(dtype == np.float64)

    # Rows

    def _checked_fit(self) -> Fitted:
        """The fit, if there is one."""
        check_is_fitted(self, "_fitted")
        return self._fitted

    def _checked(self, X: Any) -> Numbers:
        """Rows to predict, as an array of numbers."""
        fitted = self._checked_fit()
        X = validated(self, X, reset=False)
        return X.astype(fitted.model.params["biases"][0].dtype, copy=False)

    def _check_uncertain(self, what: str) -> None:
        """Raise where no curvature is known.

        Raises:
            InvalidOptionError: says what to do.
        """
        if not len(self._fitted.model.triangle):
            raise InvalidOptionError(
                f"{what} needs the curvature of a whole fit, which partial_fit does not know: "
                "call fit"
            )

    def first_step_profile(self) -> LineProfile:
        """The mean loss with its penalty along the first step, and where the step ended.

        `optimize.plot_line_search` draws it. The step is that of Gauss-Newton, at the damping that
        was accepted, so that it ends at 1.

        Raises:
            AttributeError: After Adam, which has no such step, and in a model that was loaded.
        """
        fitted = self._checked_fit()
        if fitted.first is None:
            raise AttributeError("the first step is known after a fit with solver='gauss-newton'")
        with self._numbers():
            return first_step_profile(
                fitted.model.objective, *fitted.rows.standardized(fitted.model.inputs), fitted.first
            )

    # What rows do to predictions

    def influence(self, X: Any, y: Any) -> Numbers:
        """What each training row does to the predictions of other rows.

        Args:
            X: Rows, shape `(m, columns)`.
            y: Their targets.

        Returns:
            Shape `(n, m)`: by how much the loss of each row of `X` would rise if the training row
            were left out, to first order. Positive where it helps, negative where it hurts. Losses
            are minus the log of a class's probability, or half of a squared error in units of the
            variance of the targets. Rows held out for early stopping have none.

        Raises:
            InvalidDataError: If `y` does not fit, or the training rows are not known, as in a model
                that was loaded.

        Source:
            P. W. Koh and P. Liang, "Understanding black-box predictions via influence functions",
            ICML 2017, with the Gauss-Newton matrix in the place of the Hessian.
        """
        X = self._checked(X)
        self._check_uncertain("influence")
        fitted = self._fitted
        values = fitted.model.targets.apply(self._values(y))
        if len(values) != len(X):
            raise InvalidDataError(f"X has {len(X)} rows and y has {len(values)}; wanted as many")
        if not len(fitted.rows.table):
            raise InvalidDataError(
                "the training rows are not known: a model that was loaded does not keep them; fit "
                "it again, or load it with its rows"
            )
        with self._numbers():
            outputs = fitted.model.outputs(X)
            slopes = self._slopes(outputs, values).astype(outputs.dtype)
            pushed = fitted.model.pushes(fitted.rows.X, fitted.left_out.pull)
            table = np.zeros((fitted.rows.count, len(X)), pushed.dtype)
            table[fitted.rows.places] = pushed @ fitted.model.pushes(X, slopes).T
            return table

    def _slopes(self, outputs: Numbers, values: Numbers) -> Numbers:
        """The gradients of losses by outputs."""
        raise NotImplementedError
