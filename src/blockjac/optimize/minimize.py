"""One verb for all solvers: `minimize(loss, params, *data, solver=...)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
from jax.typing import ArrayLike

from blockjac.base.compat import is_jitted, is_traced
from blockjac.engine.run import compiled_at
from blockjac.errors import ArgumentError, InvalidOptionError
from blockjac.optimize.line_search_solver import Descent
from blockjac.optimize.minimize_loop import Rules, Solver, State, Task, advance, begin
from blockjac.optimize.minimize_pauses import Pauses, result_of, resumed, rows_made
from blockjac.optimize.minimize_result import MinimizeResult, MinimizeTrace
from blockjac.optimize.model_loss import ModelLoss
from blockjac.optimize.parameters import (
    as_arrays,
    check_finite_start,
    check_real,
    check_scalar,
    joined,
)
from blockjac.optimize.scipy_solver import SciPy
from blockjac.optimize.stops import Stop


def minimize(
    loss: Callable[..., ArrayLike],
    params: Any,
    *data: Any,
    solver: Solver | SciPy | None = None,
    max_steps: int = 1000,
    ftol: float = 1e-8,
    xtol: float = 1e-8,
    gtol: float = 1e-6,
    max_evaluations: int | None = None,
    max_seconds: float | None = None,
    metrics: Callable[..., Any] | None = None,
    callback: Callable[[MinimizeResult], bool | None] | None = None,
    callback_every: int = 1,
    resume: MinimizeResult | None = None,
) -> MinimizeResult:
    """Find parameters of a low loss.

    All steps are one compiled loop, unless a callback or a clock has to be asked in between. The
    best parameters seen are kept, also by solvers whose loss may rise.

    Args:
        loss: `loss(params, *data)` gives one real number. Solvers that use curvature want a
            `ModelLoss`.
        params: Where to start, any pytree of real arrays.
        *data: Further arguments of the loss.
        solver: How steps are found: `Descent()` if left out; `GaussNewton()`,
            `LevenbergMarquardt()`, `SciPy("L-BFGS-B")`, `Optax(optax.adam(1e-3))`.
        max_steps: The most steps, at least 1.
        ftol: Stop when a step changes the loss by less than this share of it.
        xtol: Stop when a step is shorter than `xtol * (xtol + |params|)`.
        gtol: Stop when no entry of the gradient is larger than this. 0 leaves a test out.
        max_evaluations: The most evaluations of the loss, with a gradient or without; never
            exceeded. None for no limit.
        max_seconds: Stop after the step that is under way when this time is over, compiling
            included. None for no limit.
        metrics: `metrics(params, *data)`, evaluated after each step inside the compiled loop; its
            results are stacked in the trace.
        callback: Called with the result so far, outside the compiled loop; to stop, it returns True
            or raises `StopIteration`.
        callback_every: After how many steps it is called.
        resume: A result of the same call, to go on where it stopped: with a larger `max_steps`
            the steps are, bit for bit, those of a search that was never stopped. `params` is then
            ignored, and the trace is that of the new steps.

    Returns:
        The parameters of the lowest loss, with `loss`, `status`, `message`, and a trace. Inside
        `jit` the trace always has `max_steps` rows.

    Raises:
        ArgumentError: If `loss` is not a function, or the solver needs a `ModelLoss` and gets none.
        InvalidOptionError: If an option is outside its range, or a callback or a clock is asked for
            inside `jit`.
        NonFiniteLossError: If the loss at `params` is infinite or nan (outside `jit`; inside, the
            status says so).
        NonScalarLossError: If the loss gives anything but one real number.
        ParameterTypeError: If a parameter is not real.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import optimize
        >>> bowl = lambda p, center: jnp.sum((p - center) ** 2)
        >>> found = optimize.minimize(bowl, jnp.zeros(2), jnp.array([1.0, 2.0]))
        >>> print(found.params, found.message)
        [1. 2.] stopped after 1 steps: the gradient is below gtol
    """
    if not callable(loss):
        raise ArgumentError(
            "loss must be a function loss(params, *data), but is of type "
            f"{type(loss).__name__}; the params come second"
        )
    if solver is not None and not (hasattr(solver, "move") or isinstance(solver, SciPy)):
        raise ArgumentError(
            f"solver is of type {type(solver).__name__}, which has no move; wanted an object such "
            "as optimize.Descent() or optimize.SciPy('L-BFGS-B')"
        )
    check_real(params)
    check_scalar(loss, params, *data)
    rules = Rules(max_steps, max_evaluations, ftol, xtol, gtol)
    task = Task(loss, Descent() if solver is None else solver, rules, metrics)
    pauses = Pauses(callback, callback_every, max_seconds, max_steps)
    if isinstance(task.solver, SciPy):
        if resume is not None:
            raise ArgumentError(
                "SciPy does not hand over what it remembers: start anew, from result.params"
            )
        return task.solver.run(task, as_arrays(params), data, pauses)
    if resume is not None:
        state = resumed(resume)
    else:
        params = as_arrays(params)
        state = _program(begin, task, params, data)(params, data)
    if not is_traced(state):
        return _with_pauses(task, state, data, pauses)
    if not pauses.are_none:
        raise InvalidOptionError(
            "a callback and max_seconds need values: call minimize outside jit"
        )
    return result_of(*advance(task, state, max_steps + 1, data, rows=max_steps))


def _with_pauses(task: Task, state: State, data: tuple[Any, ...], pauses: Pauses) -> MinimizeResult:
    """Run the compiled loop, in pieces if somebody has to be asked in between."""
    check_finite_start(state.initial_loss)
    left = max(task.rules.max_steps - int(state.step), 0) + 1  # the last finds that all were made
    rows = min(left, pauses.most)
    run = _program(advance, task, state, rows, data, rows=rows)
    parts: list[MinimizeTrace] = []
    count = rows if pauses.clock is None else 1
    while not parts or int(state.status) == Stop.RUNNING:
        before = int(state.step)
        state, part = run(state, count, data)
        parts.append(rows_made(part, int(state.step) - before))
        state = pauses.asked(state, parts[-1])
        count = min(rows, pauses.steps(int(state.step) - before))
    return result_of(state, joined(parts))


def _program(function: Callable[..., Any], task: Task, *args: Any, **static: Any) -> Any:
    """A compiled part of a search, for arguments like these.

    A loss that is jitted is traced once for its shapes, by JAX's habit; one that is not is traced
    at each call of `minimize`.
    """
    parts = (task.loss.model, task.loss.loss) if isinstance(task.loss, ModelLoss) else (task.loss,)
    if all(map(is_jitted, parts)) and not is_traced(args):
        return cast("Any", partial)(_jitted, function, task, tuple(static.items()))
    return compiled_at(partial(function, task, **static), *args)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _jitted(function: Any, task: Task, static: tuple[Any, ...], *args: Any) -> Any:
    return function(task, *args, **dict(static))
