"""What a fit by least squares found: parameters, why it stopped, its trace, and uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from blockjac.algebra.dense import check_size
from blockjac.base.compat import is_traced
from blockjac.base.trees import mapped
from blockjac.blocks import BlockMatrix, Factorization, factorize
from blockjac.errors import ArgumentError, InvalidDataError, InvalidOptionError
from blockjac.optimize.gauss_newton_steps import linear_model
from blockjac.optimize.index_data import with_constant_integers
from blockjac.optimize.robust_losses import RobustLoss
from blockjac.optimize.stops import Stop, succeeded


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["cost", "gradient_norm", "step_norm", "damping", "trials"],
    meta_fields=[],
)
@dataclass(frozen=True)
class LeastSquaresTrace:
    """What happened in each step: arrays with one row per step."""

    cost: Array
    """The cost after the step."""
    gradient_norm: Array
    """The largest absolute entry of the gradient before the step."""
    step_norm: Array
    """The Euclidean length of the last step tried, which is that of the accepted one if any was."""
    damping: Array
    """The damping of that step, as a multiple of the diagonal of `J' J`."""
    trials: Array
    """How many steps were tried, each with its own damping."""

    def __len__(self) -> int:
        return len(self.cost)


@dataclass(frozen=True)
class Problem:
    """What a fit minimizes, but for its arrays.

    Attributes:
        residuals: the user's function, of the parameters and the data.
        loss: of the residuals.
    """

    residuals: Callable[..., Any]
    loss: RobustLoss

    def shapes(self, params: Any, data: tuple[Any, ...]) -> Any:
        """The shapes of the residuals; data may be of any type."""

        def of_params(params: Any) -> Any:
            return self.residuals(params, *data)

        return jax.eval_shape(of_params, params)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "params",
        "cost",
        "initial_cost",
        "gradient_norm",
        "status",
        "evaluations",
        "trace",
        "data",
    ],
    meta_fields=["problem"],
)
@dataclass(frozen=True)
class LeastSquaresResult:
    """The parameters that a fit found, why it stopped, and its trace."""

    params: Any
    """The parameters of the lowest cost seen, which are those after the last accepted step."""
    cost: Array
    """The cost at `params`: half the sum of squares of the residuals, or of their losses."""
    initial_cost: Array
    """The cost at the parameters given."""
    gradient_norm: Array
    """The largest absolute entry of the gradient at `params`."""
    status: Array
    """A number of `Stop`: 1 to 4 where a tolerance was reached."""
    evaluations: Array
    """How often the residuals were evaluated, those with a Jacobian included."""
    trace: LeastSquaresTrace
    """One row a step."""
    data: tuple[Any, ...]
    """The further arguments of the residuals."""
    problem: Problem
    """What was minimized."""

    @property
    def success(self) -> bool | Array:
        """Whether a tolerance was reached: one answer for each fit out of `jax.vmap`."""
        return succeeded(self.status)

    @property
    def message(self) -> str:
        """How the fit went, as a sentence to print: of many out of `jax.vmap`, a line for each end.

        Raises:
            ArgumentError: inside `jit` and other transforms, where nobody knows it yet.
        """
        if is_traced(self.status):
            raise ArgumentError(
                "how a fit went is not known while it is traced by jit or vmap: return the fit, or "
                "its status, and ask outside; success is an array there"
            )
        if self.status.ndim:
            ends, counts = np.unique(np.asarray(self.status), return_counts=True)
            return "\n".join(
                f"{count} of {self.status.size} fits: {Stop(int(end)).message}"
                for end, count in zip(ends, counts, strict=True)
            )
        # out of jit the trace has rows that no step was made for
        steps = np.count_nonzero(np.asarray(self.trace.trials))
        return f"stopped after {steps} steps: {Stop(int(self.status)).message}"

    def residuals(self) -> Any:
        """The residuals at `params`."""
        return self.problem.residuals(self.params, *self.data)

    def normal_matrix(self) -> BlockMatrix:
        """`J' J` at `params`; of a robust loss with its second derivatives in between."""
        loss = self.problem.loss

        def normal(params: Any, data: Any) -> BlockMatrix:
            return linear_model(self.problem.residuals, params, data, loss).normal

        return with_constant_integers(normal, self.params, self.data)

    def factors(self) -> Factorization:
        """The factors of `normal_matrix()`, for variances of predictions and further solutions."""
        return factorize(self.normal_matrix(), assume="pos")

    def standard_errors(self, sigma: float | None = None) -> Any:
        """The standard error of each parameter: the root of the diagonal of the covariance.

        It needs no covariance: where the matrix has structure, so does the way to its diagonal.

        Args:
            sigma: the standard deviation of the residuals; 1 where they are divided by their errors
                already. If it is left out, it is estimated from the residuals, as `curve_fit` of
                scipy and lmfit do it.

        Returns:
            A tree like the parameters. Parameters that the residuals do not determine have nan or
            very large numbers.

        Raises:
            InvalidDataError: if there are not more residuals than parameters to estimate it from.
            InvalidOptionError: if it is not positive.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import optimize
            >>> x, y = jnp.arange(4.0), jnp.array([1.0, 3.0, 5.0, 7.5])
            >>> line = lambda p, x, y: p["slope"] * x + p["start"] - y
            >>> start = {"slope": 1.0, "start": 0.0}
            >>> fit = optimize.levenberg_marquardt(line, start, x, y)
            >>> errors = fit.standard_errors()
            >>> print(f"{fit.params['slope']:.2f} +- {errors['slope']:.2f}")
            2.15 +- 0.09
        """
        variance = self._variance(sigma)
        diagonal = self.factors().inverse_diagonal()
        return mapped(lambda part: jnp.sqrt(variance * part), diagonal)

    def covariance(self, sigma: float | None = None, max_bytes: int | None = None) -> Array:
        """The covariance of all parameters, `sigma^2 (J' J)^-1`, as one dense matrix.

        Args:
            sigma: as in `standard_errors`.
            max_bytes: as in `blockjac.jacobian`.

        Returns:
            An array `(n, n)`, with parameters in the order of `jax.flatten_util.ravel_pytree`.

        Raises:
            DenseTooLargeError: over the size limit.
            InvalidDataError: as `standard_errors`.
            InvalidOptionError: as `standard_errors`.
        """
        variance, matrix = self._variance(sigma), self.normal_matrix()
        instead = "use .standard_errors(), which needs its diagonal only"
        check_size(matrix.shape, matrix.dtype, max_bytes, "the covariance of parameters", instead)
        solver = factorize(matrix, assume="pos").solver
        inverse = solver.solve_columns(jnp.eye(matrix.shape[0], dtype=matrix.dtype))
        return variance * (inverse + inverse.T) / 2

    def _variance(self, sigma: float | None) -> Any:
        """The variance of the residuals."""
        if sigma is not None:
            if not sigma > 0:
                raise InvalidOptionError(f"sigma is {sigma}; wanted a positive number")
            return sigma**2
        shapes = self.problem.shapes(self.params, self.data)
        outputs = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
        inputs = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.params))
        if outputs <= inputs:
            raise InvalidDataError(
                f"{outputs} residuals cannot tell the errors of {inputs} parameters; wanted more "
                "residuals than parameters, or sigma=, the standard deviation of the residuals"
            )
        return 2 * self.cost / (outputs - inputs)
