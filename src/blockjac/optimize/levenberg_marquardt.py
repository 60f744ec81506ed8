"""Nonlinear least squares by Levenberg and Marquardt, with systems solved by their structure.

Source: J. J. More, The Levenberg-Marquardt algorithm: implementation and theory, Numerical Analysis
(1978), for the scaling; H. B. Nielsen, Damping parameter in Marquardt's method, report
IMM-REP-1999-05, Technical University of Denmark (1999), for the damping.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.compat import is_traced
from blockjac.base.trees import leaves_with_path, mapped
from blockjac.errors import (
    ArgumentError,
    InvalidOptionError,
    NonFiniteLossError,
    ParameterTypeError,
)
from blockjac.optimize.damped_loop import Rules, run
from blockjac.optimize.implicit_derivatives import with_implicit_derivative
from blockjac.optimize.index_data import held, with_constant_integers
from blockjac.optimize.least_squares_result import (
    LeastSquaresResult,
    Problem,
)
from blockjac.optimize.parameters import as_arrays, check_real
from blockjac.optimize.robust_losses import LossName, RobustLoss


def levenberg_marquardt(
    residuals: Callable[..., Any],
    params: Any,
    *data: Any,
    max_steps: int = 100,
    ftol: float = 1e-8,
    xtol: float = 1e-8,
    gtol: float = 1e-8,
    loss: LossName = "linear",
    f_scale: float = 1.0,
    loss_axis: int | None = None,
    damping: float = 1e-3,
) -> LeastSquaresResult:
    """Fit parameters so that half the sum of squares of all residuals is least.

    Each step solves `(J' J + damping D) h = -J' r`, as the structure of `J' J` allows (see
    `blockjac.factorize`): where the parameters of one kind separate once those of another are
    known, as points and cameras do, by Schur's complement; chains as a band; the rest sparse or
    dense. D is the largest diagonal of `J' J` so far (More), so that the units of the parameters do
    not matter. The damping falls by up to a third after a good step, and grows faster and faster
    while steps fail (Nielsen). A step to residuals that are not finite, or to a cost that is not
    lower, is never accepted.

    The whole loop is one compiled program, a `lax.while_loop`: an iteration of a small fit takes
    microseconds, and the fit may be part of a function under `jit`, `vmap` and, forwards and
    backwards, derivatives: parameters and costs have those of the minimum by the data, by the
    implicit function theorem, so that a fit should have reached its tolerances; what
    the residuals do not determine is not moved. Bounds are left to
    `scipy.optimize.least_squares`, which takes `blockjac.sparse_jacobian(residuals)` as
    `jac=`.

    Args:
        residuals: `residuals(params, *data)` gives an array of real numbers or a tree of them.
        params: Where to start, any pytree of real arrays.
        *data: Further arguments of the residuals. Arrays of integers among them are taken for
            places to look up: they are constants of the program, and others are compiled anew.
        max_steps: The most steps to make, at least 1.
        ftol: Stop when a step lowers the cost by less than this share of it, if that was at least a
            quarter of what the model predicts. This and the next two are as in scipy; 0 leaves a
            test out, and none is finer than the rounding of the parameters' type.
        xtol: Stop when a step is shorter than `xtol * (xtol + |params|)`.
        gtol: Stop when no entry of the gradient is larger than this.
        loss: How much a residual f counts: `"linear"` for f^2; `"soft_l1"`, `"huber"`, `"cauchy"`
            or `"arctan"` for less than that, `f_scale^2 rho((f / f_scale)^2)` with scipy's rho.
            Residuals are reweighted with the second-order correction of Triggs and others (1999).
        f_scale: From which size a residual counts as an outlier.
        loss_axis: The axis of each array of residuals along which they form vectors, whose length
            the loss is taken of: -1 for an array of points in a plane. None for number by number.
        damping: The first one, as a share of D. Larger values begin with shorter steps.

    Returns:
        The parameters of the lowest cost, with `status`, `message`, a trace, and what tells their
        uncertainty: `standard_errors()`, `covariance()`, `factors()`. Inside `jit` the trace always
        has `max_steps` rows.

    Raises:
        ArgumentError: If `residuals` is not a function.
        InvalidOptionError: If an option is outside its range.
        NonFiniteLossError: If residuals at `params` are infinite or nan; names the array (outside
            `jit`; inside, the status says so).
        ParameterTypeError: If a parameter or a residual is not real, or there are none.

    Source:
        More, "The Levenberg-Marquardt algorithm: implementation and theory", 1978; Nielsen,
        "Damping parameter in Marquardt's method", IMM-REP-1999-05, 1999.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.linspace(0.0, 1.0, 20)
        >>> y = 3.0 * jnp.exp(-2.0 * x)
        >>> decay = lambda p, x, y: p["height"] * jnp.exp(-p["rate"] * x) - y
        >>> fit = levenberg_marquardt(decay, {"height": 1.0, "rate": 1.0}, x, y)
        >>> print(fit.success, f"{fit.params['height']:.3f} {fit.params['rate']:.3f}")
        True 3.000 2.000
    """
    if not callable(residuals):
        raise ArgumentError(
            "residuals must be a function residuals(params, *data), but is of type "
            f"{type(residuals).__name__}; the params come second"
        )
    rules = Rules(max_steps, ftol, xtol, gtol, damping)
    problem = Problem(residuals, RobustLoss(loss, f_scale, loss_axis))
    check_real(params)
    params = as_arrays(params)
    _check_residuals(problem, params, data)

    def fit(problem: Problem, params: Any, data: Any) -> Any:
        return with_constant_integers(partial(run, problem, rules), params, data)

    state, trace = with_implicit_derivative(fit, problem, params, held(data))
    if not is_traced((state, trace)):
        if not np.isfinite(state.initial_cost):
            _check_finite(problem, params, data)
        trace = as_arrays(mapped(lambda column: column[: int(state.step)], trace))
    return LeastSquaresResult(
        params=state.params,
        cost=state.cost,
        initial_cost=state.initial_cost,
        gradient_norm=state.gradient_norm,
        status=state.status,
        evaluations=state.evaluations,
        trace=trace,
        data=data,
        problem=problem,
    )


def _check_residuals(problem: Problem, params: Any, data: tuple[Any, ...]) -> None:
    """Refuse residuals that are not real arrays, without evaluating them."""
    leaves = leaves_with_path(problem.shapes(params, data))
    if not leaves or not jax.tree.leaves(params):
        missing = "residuals gives no arrays" if not leaves else "params has no arrays"
        raise ParameterTypeError(f"{missing}; wanted at least one")
    axis = problem.loss.axis
    for path, leaf in leaves:
        name = f"residuals(params){jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ParameterTypeError(
                f"{name} is {leaf.dtype}; wanted real numbers: "
                "give the real and the imaginary part of complex residuals, and floats for counts"
            )
        if axis is not None and not -leaf.ndim <= axis < leaf.ndim:
            raise InvalidOptionError(
                f"loss_axis is {axis}, but {name} has shape {leaf.shape}; wanted an axis that each "
                "array of residuals has, or None"
            )


def _check_finite(problem: Problem, params: Any, data: tuple[Any, ...]) -> None:
    """Name the residuals that are not finite where the fit would start."""
    for path, leaf in leaves_with_path(problem.residuals(params, *data)):
        array = np.asarray(leaf)
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            place = tuple(map(int, wrong[0]))
            raise NonFiniteLossError(
                f"residuals(params){jax.tree_util.keystr(path)} has {len(wrong)} of {array.size} "
                f"numbers that are infinite or nan at the params given, the first at {place}: "
                f"{array[place]}; look for nan in the data, or start from other params"
            )
    raise NonFiniteLossError(
        "the squares of the residuals at the params given are too large for their dtype; "
        "scale the residuals, or start from other params"
    )
