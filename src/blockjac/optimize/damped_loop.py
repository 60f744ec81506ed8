"""The loop of Levenberg and Marquardt: linearize, try steps with growing damping, judge them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from blockjac.base.trees import mapped
from blockjac.errors import InvalidOptionError
from blockjac.optimize.gauss_newton_steps import (
    LinearModel,
    damped_step,
    largest,
    length,
    linear_model,
    total_cost,
    total_decrease,
)
from blockjac.optimize.least_squares_result import LeastSquaresTrace, Problem
from blockjac.optimize.parameters import check_count, check_tolerance, move, number
from blockjac.optimize.stops import Stop

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
        check_count("max_steps", self.max_steps)
        for name in ("ftol", "xtol", "gtol"):
            check_tolerance(name, getattr(self, name))
        if not 0 < number(self.damping) < float("inf"):
            raise InvalidOptionError(f"damping is {self.damping}; wanted a positive finite number")


class State(NamedTuple):
    """What a step hands to the next."""

    step: Array
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
    is_finite: Array
    """Whether all trials so far had finite residuals."""
    is_accepted: Array
    is_over: Array
    trials: Array


def run(
    problem: Problem, rules: Rules, params: Any, data: tuple[Any, ...]
) -> tuple[State, LeastSquaresTrace]:
    """Make at most `max_steps` steps; further rows of the trace are zero."""
    loss = problem.loss
    initial = total_cost(problem.residuals(params, *data), loss)
    dtype, zero = initial.dtype, jnp.int32(0)
    state = State(
        step=zero,
        params=params,
        cost=initial,
        initial_cost=initial,
        gradient_norm=jnp.asarray(jnp.nan, dtype),
        scale=mapped(lambda part: jnp.zeros_like(part), params),
        damping=jnp.asarray(rules.damping, dtype),
        growth=jnp.asarray(2, dtype),
        reached=zero,
        status=jnp.where(jnp.isfinite(initial), Stop.RUNNING, Stop.NON_FINITE).astype(jnp.int32),
        evaluations=zero + 1,
    )
    row = jnp.zeros(rules.max_steps, dtype)
    blank = LeastSquaresTrace(row, row, row, row, jnp.zeros(rules.max_steps, jnp.int32))

    def is_running(carry: tuple[State, LeastSquaresTrace]) -> Array:
        return carry[0].status == Stop.RUNNING

    def step(carry: tuple[State, LeastSquaresTrace]) -> tuple[State, LeastSquaresTrace]:
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
            return jnp.where(trial.trials > 0, column.at[state.step].set(entry), column)

        return after, jax.tree.map(written, trace, row)

    return cast("Any", lax.while_loop)(is_running, step, (state, blank))


def _at_point(state: State, model: LinearModel, rules: Rules) -> State:
    """The state with what the linearization tells: the gradient, the scale, whether to stop."""
    norm = largest(model.gradient).astype(state.cost.dtype)
    diagonal = model.normal.diagonal()
    is_finite = jnp.isfinite(norm) & jnp.isfinite(largest(diagonal))
    tests = [
        (~is_finite, jnp.int32(Stop.NON_FINITE)),
        (state.reached > 0, state.reached),
        (norm < rules.gtol, jnp.int32(Stop.GTOL)),
        (state.step >= rules.max_steps, jnp.int32(Stop.MAX_STEPS)),
    ]
    status = jnp.select([test for test, _ in tests], [stop for _, stop in tests], Stop.RUNNING)
    return state._replace(
        gradient_norm=norm,
        scale=jax.tree.map(jnp.maximum, state.scale, diagonal),
        status=status.astype(jnp.int32),
        evaluations=state.evaluations + 1,
    )


def _search(
    problem: Problem, rules: Rules, state: State, model: LinearModel, data: tuple[Any, ...]
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
        is_finite=~no,
        is_accepted=no,
        is_over=state.status != Stop.RUNNING,
        trials=jnp.int32(0),
    )
    # an entry of 0 is of a parameter that no residual has depended on so far
    scale = mapped(lambda part: jnp.where(part == 0, 1, part), state.scale)

    def tried(trial: _Trial) -> _Trial:
        """Try the next step."""
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


def _judged(rules: Rules, state: State, trial: _Trial, candidate: _Candidate) -> _Trial:
    """Whether a step is accepted, which tolerances it reaches, and the damping of the next one."""
    dtype, one = state.cost.dtype, jnp.ones_like(state.cost)
    numbers = candidate.decrease, candidate.predicted, candidate.step_norm
    decrease, predicted, step_norm = (number.astype(dtype) for number in numbers)
    finest = float(cast("Any", jnp.finfo(dtype)).eps)
    is_accepted = (decrease > 0) & (predicted > 0) & jnp.isfinite(decrease)
    ratio = decrease / jnp.where(predicted > 0, predicted, one)
    ftol = max(rules.ftol, finest) if rules.ftol else 0.0
    xtol = max(rules.xtol, finest) if rules.xtol else 0.0
    is_flat = is_accepted & (decrease < ftol * state.cost) & (ratio > ADEQUATE)
    is_short = step_norm < xtol * (xtol + length(state.params))
    # short steps tell nothing where longer ones led to residuals that are not finite
    is_finite = trial.is_finite & jnp.isfinite(decrease)
    is_converged = is_short & (is_accepted | is_finite)
    reached = jnp.where(is_flat, Stop.FTOL, 0) + jnp.where(is_converged, Stop.XTOL, 0)
    reached = jnp.where(is_flat & is_converged, Stop.FTOL_AND_XTOL, reached)
    easier = trial.damping * jnp.maximum(one / 3, 1 - (2 * ratio - 1) ** 3)
    damping = jnp.where(is_accepted, easier, trial.damping * trial.growth)
    growth = jnp.where(is_accepted, 2 * one, 2 * trial.growth)
    return _Trial(
        params=jax.tree.map(partial(jnp.where, is_accepted), candidate.params, state.params),
        cost=jnp.where(is_accepted, candidate.cost, state.cost),
        step_norm=step_norm,
        used=trial.damping,
        damping=jnp.maximum(damping, float(cast("Any", jnp.finfo(dtype)).tiny)),
        growth=growth,
        reached=reached.astype(jnp.int32),
        is_finite=is_finite,
        is_accepted=is_accepted,
        is_over=is_accepted | is_short | ~jnp.isfinite(damping),
        trials=trial.trials + 1,
    )


def _after(state: State, trial: _Trial) -> State:
    """The state after a search; where nothing was accepted the fit is over."""
    was_made = state.status == Stop.RUNNING
    failed = jnp.where(trial.reached > 0, trial.reached, Stop.NO_STEP)
    status = jnp.where(was_made & ~trial.is_accepted, failed, state.status)
    return state._replace(
        step=state.step + was_made,
        params=trial.params,
        cost=trial.cost,
        damping=trial.damping,
        growth=trial.growth,
        reached=trial.reached,
        status=status.astype(jnp.int32),
        evaluations=state.evaluations + trial.trials,
    )
