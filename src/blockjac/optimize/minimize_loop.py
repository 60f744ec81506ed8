"""The loop of `minimize`: a gradient, a step of the solver, tests whether to stop; compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.base.trees import mapped
from blockjac.optimize.gauss_newton_steps import largest, length
from blockjac.optimize.minimize_result import MinimizeTrace
from blockjac.optimize.parameters import check_count, check_tolerance
from blockjac.optimize.stops import Stop
from blockjac.transforms.first_order import value_and_grad

UNLIMITED = 2**31 - 1
"""As many evaluations as an integer of 32 bits counts."""


@dataclass(frozen=True)
class Rules:
    """When a search stops, by what happens inside of the compiled loop.

    Attributes:
        max_steps: the most steps.
        max_evaluations: the most evaluations of the loss; None for no limit.
        ftol: of the loss.
        xtol: of the parameters.
        gtol: of the gradient.
    """

    max_steps: int
    max_evaluations: int | None
    ftol: float
    xtol: float
    gtol: float

    def __post_init__(self) -> None:
        check_count("max_steps", self.max_steps)
        if self.max_evaluations is not None:
            check_count("max_evaluations", self.max_evaluations)
        for name in ("ftol", "xtol", "gtol"):
            check_tolerance(name, getattr(self, name))


class Point(NamedTuple):
    """Where a solver stands."""

    params: Any
    loss: Array
    gradient: Any
    """A tree like the parameters; None for solvers that take gradients themselves."""


class Move(NamedTuple):
    """What a solver makes of a point."""

    params: Any
    """The new parameters, or the old ones where nothing was found."""
    loss: Array
    is_accepted: Array
    """Whether the parameters are new."""
    evaluations: Array
    """Of the loss."""
    memory: Any
    """What the solver wants to know at the next point, a tree of the same form."""


class Solver(Protocol):
    """How a step is found; a frozen object, so that it may be part of a compiled program's key."""

    takes_gradient: bool
    """Whether `move` wants the gradient."""

    def begin(self, params: Any, loss: Array) -> Any:
        """The memory for the first step, a tree of arrays, from where it begins and the loss."""
        ...

    def move(
        self,
        loss: Callable[..., ArrayLike],
        point: Point,
        memory: Any,
        data: tuple[Any, ...],
        allowed: Array,
    ) -> Move:
        """A step from a point, with at most `allowed` evaluations of the loss."""
        ...


class State(NamedTuple):
    """What a step hands to the next."""

    step: Array
    params: Any
    loss: Array
    best_params: Any
    best_loss: Array
    initial_loss: Array
    gradient_norm: Array
    reached: Array
    """The tolerance that the last step reached: `FTOL`, `XTOL`, both, or 0."""
    status: Array
    evaluations: Array
    memory: Any


@dataclass(frozen=True)
class Task:
    """What is minimized and how, but for arrays.

    Attributes:
        loss: `loss(params, *data)`.
        solver: finds steps.
        rules: when to stop.
        metrics: `metrics(params, *data)`, for the trace; or None.
    """

    loss: Callable[..., ArrayLike]
    solver: Any
    rules: Rules
    metrics: Callable[..., Any] | None = None


def begin(task: Task, params: Any, data: tuple[Any, ...]) -> State:
    """The state before the first step."""
    initial = jnp.asarray(task.loss(params, *data))
    status = jnp.where(jnp.isfinite(initial), Stop.RUNNING, Stop.NON_FINITE)
    return State(
        step=jnp.int32(0),
        params=params,
        loss=initial,
        best_params=params,
        best_loss=initial,
        initial_loss=initial,
        gradient_norm=jnp.full_like(initial, jnp.nan),
        reached=jnp.int32(0),
        status=status.astype(jnp.int32),
        evaluations=jnp.int32(1),
        memory=task.solver.begin(params, initial),
    )


def advance(
    task: Task, state: State, count: ArrayLike, data: tuple[Any, ...], *, rows: int
) -> tuple[State, MinimizeTrace]:
    """Make `count` steps more, of at most `rows`; further rows of the trace are zero."""
    step = partial(_step, task, data=data)
    _, form = jax.eval_shape(step, state)
    blank = mapped(lambda entry: jnp.zeros((rows, *entry.shape), entry.dtype), form)
    first = state.step

    def is_running(carry: tuple[State, MinimizeTrace]) -> Array:
        state, _ = carry
        return (state.status == Stop.RUNNING) & (state.step < first + count)

    def stepped(carry: tuple[State, MinimizeTrace]) -> tuple[State, MinimizeTrace]:
        """One step, whose row is written into the trace unless none was tried."""
        state, trace = carry
        after, row = step(state)
        place = jnp.where(after.step > state.step, state.step - first, rows)

        def written(column: Array, entry: Array) -> Array:
            return column.at[place].set(entry, mode="drop")

        return after, jax.tree.map(written, trace, row)

    return cast("Any", lax.while_loop)(is_running, stepped, (state, blank))


def _step(task: Task, state: State, data: tuple[Any, ...]) -> tuple[State, MinimizeTrace]:
    """Look whether to stop, and if not, make a step."""
    point = _point(task, state, data)
    state = _at_point(task, state, point)
    left = jnp.int32(task.rules.max_evaluations or UNLIMITED) - state.evaluations
    allowed = jnp.where(state.status == Stop.RUNNING, left, 0)

    def moved() -> Move:
        return task.solver.move(task.loss, point, state.memory, data, allowed)

    def stayed() -> Move:
        no = jnp.asarray(False)
        return Move(state.params, state.loss, no, jnp.int32(0), state.memory)

    move = cast("Any", lax.cond)(allowed > 0, moved, stayed)
    after, step_norm = _after(task.rules, state, move)
    metrics = None if task.metrics is None else task.metrics(after.params, *data)
    return after, MinimizeTrace(
        after.loss, state.gradient_norm, step_norm, move.evaluations, metrics
    )


def _point(task: Task, state: State, data: tuple[Any, ...]) -> Point:
    """Where the solver stands, with the gradient if it wants it."""
    if not task.solver.takes_gradient:
        return Point(state.params, state.loss, None)
    _, gradient = value_and_grad(task.loss)(state.params, *data)
    return Point(state.params, state.loss, gradient)


def _at_point(task: Task, state: State, point: Point) -> State:
    """The state with what the gradient tells, and whether to stop before a step."""
    rules, evaluations = task.rules, state.evaluations
    norm, is_finite = jnp.full_like(state.loss, jnp.nan), jnp.isfinite(state.loss)
    if task.solver.takes_gradient:
        norm = largest(point.gradient).astype(state.loss.dtype)
        is_finite = is_finite & jnp.isfinite(norm)
        evaluations = evaluations + 1
    most = rules.max_evaluations or UNLIMITED
    tests = [
        (~is_finite, jnp.int32(Stop.NON_FINITE)),
        (state.reached > 0, state.reached),
        ((norm < rules.gtol) | (norm == 0), jnp.int32(Stop.GTOL)),
        (state.step >= rules.max_steps, jnp.int32(Stop.MAX_STEPS)),
        (evaluations >= most, jnp.int32(Stop.MAX_EVALUATIONS)),
    ]
    status = jnp.select([test for test, _ in tests], [stop for _, stop in tests], Stop.RUNNING)
    return state._replace(
        gradient_norm=norm,
        status=status.astype(jnp.int32),
        evaluations=jnp.minimum(evaluations, most),
    )


def _after(rules: Rules, state: State, move: Move) -> tuple[State, Array]:
    """The state after a move, and its length; where nothing was accepted the search is over."""
    finest = float(cast("Any", jnp.finfo(state.loss.dtype)).eps)
    ftol = max(rules.ftol, finest) if rules.ftol else 0.0
    xtol = max(rules.xtol, finest) if rules.xtol else 0.0
    was_made = (state.status == Stop.RUNNING) & (move.evaluations > 0)
    evaluations = state.evaluations + move.evaluations
    change = jax.tree.map(jnp.subtract, move.params, state.params)
    step_norm = length(change).astype(state.loss.dtype)
    is_flat = move.is_accepted & (jnp.abs(state.loss - move.loss) < ftol * jnp.abs(state.loss))
    is_short = move.is_accepted & (step_norm < xtol * (xtol + length(state.params)))
    reached = jnp.where(is_flat, Stop.FTOL, 0) + jnp.where(is_short, Stop.XTOL, 0)
    reached = jnp.where(is_flat & is_short, Stop.FTOL_AND_XTOL, reached)
    is_spent = evaluations >= (rules.max_evaluations or UNLIMITED)
    failed = jnp.where(is_spent, Stop.MAX_EVALUATIONS, Stop.NO_STEP)
    failed = jnp.where(reached > 0, reached, failed)
    status = jnp.where(was_made & ~move.is_accepted, failed, state.status)
    is_best = was_made & move.is_accepted & (move.loss < state.best_loss)

    def where(test: Array, new: Any, old: Any) -> Any:
        return jax.tree.map(partial(jnp.where, test), new, old)

    state = state._replace(
        step=state.step + was_made,
        params=where(was_made, move.params, state.params),
        loss=where(was_made, move.loss, state.loss),
        best_params=where(is_best, move.params, state.best_params),
        best_loss=where(is_best, move.loss, state.best_loss),
        reached=jnp.where(was_made, reached, state.reached).astype(jnp.int32),
        status=status.astype(jnp.int32),
        evaluations=jnp.where(was_made, evaluations, state.evaluations),
        memory=where(was_made, move.memory, state.memory),
    )
    return state, step_norm
