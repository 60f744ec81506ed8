"""Nonlinear least squares by Levenberg and Marquardt, with systems solved by their structure.

Source: J. J. More, The Levenberg-Marquardt algorithm: implementation and theory, Numerical Analysis
(1978), for the scaling; H. B. Nielsen, Damping parameter in Marquardt's method, report
IMM-REP-1999-05, Technical University of Denmark (1999), for the damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from blockjac.base.compat import is_traced
from blockjac.base.trees import leaves_with_path, mapped
from blockjac.errors import (
    InvalidOptionError,
    NonFiniteLossError,
    ParameterTypeError,
)
from blockjac.optimize.gauss_newton_steps import (
    LinearModel,
    damped_step,
    largest,
    length,
    linear_model,
    total_cost,
    total_decrease,
)
from blockjac.optimize.index_data import with_constant_integers
from blockjac.optimize.least_squares_result import (
    LeastSquaresResult,
    LeastSquaresTrace,
    Problem,
    Stop,
)
from blockjac.optimize.parameters import as_arrays, check_real, move
from blockjac.optimize.robust_losses import LossName, RobustLoss

ADEQUATE = 0.25
"""The share of the predicted decrease from which `ftol` is tested, as in scipy."""


@dataclass(frozen=True)
class Rules:
    """When a fit stops, and how it begins.

    Attributes:
        max_steps: the most steps.
        ftol: of the cost.
        xtol: of the parameters.
        gtol: of the gradient.
        damping: the first one.
    """

    max_steps: int
    ftol: float
    xtol: float
    gtol: float
    damping: float

    def __post_init__(self) -> None:
        if self.max_steps != int(self.max_steps) or self.max_steps < 1:
            raise InvalidOptionError(
                f"max_steps is {self.max_steps}; wanted a whole number of at least 1"
            )
        for name in ("ftol", "xtol", "gtol"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InvalidOptionError(
                    f"{name} is {value}; wanted a number from 0, which leaves it out, to 1"
                )
        if not 0 < self.damping < float("inf"):
            raise InvalidOptionError(f"damping is {self.damping}; wanted a positive finite number")


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
    microseconds, and the fit may be part of a function under `jit` or `vmap`. There are no bounds:
    `scipy.optimize.least_squares` has them, and takes `blockjac.sparse_jacobian(residuals)` as
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
    rules = Rules(max_steps, ftol, xtol, gtol, damping)
    problem = Problem(residuals, RobustLoss(loss, f_scale, loss_axis))
    check_real(params)
    params = as_arrays(params)
    _check_residuals(problem, params, data)
    state, trace = with_constant_integers(partial(_run, problem, rules), params, data)
    if not is_traced((state, trace)):
        if not np.isfinite(state.initial_cost):
            _check_finite(problem, params, data)
        trace = as_arrays(mapped(lambda column: column[: int(state.index)], trace))
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


class _State(NamedTuple):
    """What a step hands to the next."""

    index: Array
    params: Any
    cost: Array
    initial_cost: Array
    gradient_norm: Array
    scale: Any
    damping: Array
    growth: Array
    reached: Array
    """The tolerance that the last step reached: `FTOL`, `XTOL`, both, or 0."""
    status: Array
    evaluations: Array


class _Candidate(NamedTuple):
    """Where a step would lead."""

    params: Any
    cost: Array
    decrease: Array
    predicted: Array
    step_norm: Array


class _Trial(NamedTuple):
    """The last step that was tried, and what to try next."""

    params: Any
    cost: Array
    step_norm: Array
    used: Array
    """The damping of the step."""
    damping: Array
    """That of the next one."""
    growth: Array
    reached: Array
    is_accepted: Array
    is_over: Array
    trials: Array


def _run(
    problem: Problem, rules: Rules, params: Any, data: tuple[Any, ...]
) -> tuple[_State, LeastSquaresTrace]:
    """Make at most `max_steps` steps; further rows of the trace are zero."""
    loss = problem.loss
    initial = total_cost(problem.residuals(params, *data), loss)
    dtype, zero = initial.dtype, jnp.int32(0)
    state = _State(
        index=zero,
        params=params,
        cost=initial,
        initial_cost=initial,
        gradient_norm=jnp.asarray(jnp.nan, dtype),
        scale=jax.tree.map(jnp.zeros_like, params),
        damping=jnp.asarray(rules.damping, dtype),
        growth=jnp.asarray(2, dtype),
        reached=zero,
        status=jnp.where(jnp.isfinite(initial), Stop.RUNNING, Stop.NON_FINITE).astype(jnp.int32),
        evaluations=zero + 1,
    )
    row = jnp.zeros(rules.max_steps, dtype)
    blank = LeastSquaresTrace(row, row, row, row, jnp.zeros(rules.max_steps, jnp.int32))

    def is_running(carry: tuple[_State, LeastSquaresTrace]) -> Array:
        return carry[0].status == Stop.RUNNING

    def step(carry: tuple[_State, LeastSquaresTrace]) -> tuple[_State, LeastSquaresTrace]:
        """Linearize, and make a step unless the fit is over."""
        state, trace = carry
        model = linear_model(problem.residuals, state.params, data, loss)
        state = _at_point(state, model, rules)
        trial = _search(problem, rules, state, model, data)
        after = _after(state, trial)
        row = LeastSquaresTrace(
            after.cost, state.gradient_norm, trial.step_norm, trial.used, trial.trials
        )

        def written(column: Array, entry: Array) -> Array:
            return jnp.where(trial.trials > 0, column.at[state.index].set(entry), column)

        return after, jax.tree.map(written, trace, row)

    return cast("Any", lax.while_loop)(is_running, step, (state, blank))


def _at_point(state: _State, model: LinearModel, rules: Rules) -> _State:
    """The state with what the linearization tells: the gradient, the scale, whether to stop."""
    norm = largest(model.gradient).astype(state.cost.dtype)
    diagonal = model.normal.diagonal()
    is_finite = jnp.isfinite(norm) & jnp.isfinite(largest(diagonal))
    tests = [
        (~is_finite, jnp.int32(Stop.NON_FINITE)),
        (state.reached > 0, state.reached),
        (norm < rules.gtol, jnp.int32(Stop.GTOL)),
        (state.index >= rules.max_steps, jnp.int32(Stop.MAX_STEPS)),
    ]
    status = jnp.select([test for test, _ in tests], [stop for _, stop in tests], Stop.RUNNING)
    return state._replace(
        gradient_norm=norm,
        scale=jax.tree.map(jnp.maximum, state.scale, diagonal),
        status=status.astype(jnp.int32),
        evaluations=state.evaluations + 1,
    )


def _search(
    problem: Problem, rules: Rules, state: _State, model: LinearModel, data: tuple[Any, ...]
) -> _Trial:
    """Try steps with growing damping until one lowers the cost, or none is left to try."""
    zero, no = jnp.zeros_like(state.cost), jnp.asarray(False)
    trial = _Trial(
        params=state.params,
        cost=state.cost,
        step_norm=zero,
        used=state.damping,
        damping=state.damping,
        growth=state.growth,
        reached=jnp.int32(0),
        is_accepted=no,
        is_over=state.status != Stop.RUNNING,
        trials=jnp.int32(0),
    )
    # an entry of 0 is of a parameter that no residual has depended on so far
    scale = jax.tree.map(lambda part: jnp.where(part == 0, 1, part), state.scale)

    def tried(trial: _Trial) -> _Trial:
        step = damped_step(model, scale, trial.damping)
        params = move(state.params, 1.0, step.change)
        values = problem.residuals(params, *data)
        candidate = _Candidate(
            params=params,
            cost=total_cost(values, problem.loss),
            decrease=total_decrease(model.residuals, values, problem.loss),
            predicted=step.predicted,
            step_norm=length(step.change),
        )
        return _judged(rules, state, trial, candidate)

    def is_left(trial: _Trial) -> Array:
        return ~trial.is_over

    return cast("Any", lax.while_loop)(is_left, tried, trial)


def _judged(rules: Rules, state: _State, trial: _Trial, candidate: _Candidate) -> _Trial:
    """Whether a step is accepted, which tolerances it reaches, and the damping of the next one."""
    dtype, one = state.cost.dtype, jnp.ones_like(state.cost)
    numbers = candidate.decrease, candidate.predicted, candidate.step_norm
    decrease, predicted, step_norm = (number.astype(dtype) for number in numbers)
    finest = jnp.finfo(dtype).eps
    is_accepted = (decrease > 0) & (predicted > 0) & jnp.isfinite(decrease)
    ratio = decrease / jnp.where(predicted > 0, predicted, one)
    ftol = max(rules.ftol, finest) if rules.ftol else 0.0
    xtol = max(rules.xtol, finest) if rules.xtol else 0.0
    is_flat = is_accepted & (decrease < ftol * state.cost) & (ratio > ADEQUATE)
    is_short = step_norm < xtol * (xtol + length(state.params))
    is_short &= jnp.isfinite(decrease)
    reached = jnp.where(is_flat, Stop.FTOL, 0) + jnp.where(is_short, Stop.XTOL, 0)
    reached = jnp.where(is_flat & is_short, Stop.FTOL_AND_XTOL, reached)
    easier = trial.damping * jnp.maximum(one / 3, 1 - (2 * ratio - 1) ** 3)
    damping = jnp.where(is_accepted, easier, trial.damping * trial.growth)
    growth = jnp.where(is_accepted, 2 * one, 2 * trial.growth)
    return _Trial(
        params=jax.tree.map(partial(jnp.where, is_accepted), candidate.params, state.params),
        cost=jnp.where(is_accepted, candidate.cost, state.cost),
        step_norm=step_norm,
        used=trial.damping,
        damping=jnp.maximum(damping, jnp.finfo(dtype).tiny),
        growth=growth,
        reached=reached.astype(jnp.int32),
        is_accepted=is_accepted,
        is_over=is_accepted | is_short | ~jnp.isfinite(damping),
        trials=trial.trials + 1,
    )


def _after(state: _State, trial: _Trial) -> _State:
    """The state after a search; where nothing was accepted the fit is over."""
    was_made = state.status == Stop.RUNNING
    failed = jnp.where(trial.reached > 0, trial.reached, Stop.NO_STEP)
    status = jnp.where(was_made & ~trial.is_accepted, failed, state.status)
    return state._replace(
        index=state.index + was_made,
        params=trial.params,
        cost=trial.cost,
        damping=trial.damping,
        growth=trial.growth,
        reached=trial.reached,
        status=status.astype(jnp.int32),
        evaluations=state.evaluations + trial.trials,
    )


def _check_residuals(problem: Problem, params: Any, data: tuple[Any, ...]) -> None:
    """Refuse residuals that are not real arrays, without evaluating them."""
    leaves = leaves_with_path(jax.eval_shape(problem.residuals, params, *data))
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
        "the sum of squares of the residuals at the params given is too large for their dtype; "
        "scale the residuals, or start from other params"
    )
