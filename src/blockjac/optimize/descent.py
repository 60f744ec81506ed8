"""Descent along the negative gradient with a line search, compiled as one loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from blockjac.base.trees import mapped
from blockjac.engine.run import compiled
from blockjac.errors import InvalidOptionError
from blockjac.optimize.line_search import ARMIJO, Backtracking, Status, backtrack
from blockjac.optimize.parameters import (
    as_arrays,
    check_finite_start,
    check_real,
    check_scalar,
    inner_product,
    joined,
)
from blockjac.transforms.first_order import value_and_grad


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["loss", "gradient_norm", "step", "trials", "status", "metrics"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Trace:
    """What happened in each step: arrays with one row per step."""

    loss: Array
    """The loss after the step."""
    gradient_norm: Array
    """The Euclidean norm of the gradient before the step."""
    step: Array
    """The accepted step, or 0 where none was found."""
    trials: Array
    """How many steps were tried."""
    status: Array
    """A number of `Status`."""
    metrics: Any
    """What `metrics` gave after the step, each leaf with a first axis over the steps."""

    def __len__(self) -> int:
        return len(self.loss)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "loss", "initial_loss", "status", "trace"],
    meta_fields=[],
)
@dataclass(frozen=True)
class DescentResult:
    """The best parameters that a descent found, and its trace."""

    params: Any
    """The parameters of the lowest loss seen, which are those after the last accepted step."""
    loss: Array
    """The loss at `params`."""
    initial_loss: Array
    """The loss at the parameters given."""
    status: Array
    """A number of `Status`: FOUND when all steps were made, otherwise why the descent stopped."""
    trace: Trace
    """One row a step, the step that failed included."""

    @property
    def message(self) -> str:
        """How the descent went, as a sentence to print.

        Examples:
            >>> descent(lambda x: x**2, 3.0, steps=5).message
            'stopped at step 1, where the gradient is 0; the params are the best so far'
        """
        steps = len(self.trace)
        status = Status(int(self.status))
        if status is Status.FOUND:
            return f"all {steps} steps were made"
        return (
            f"stopped at step {steps - 1}, where {status.message}; the params are the best so far"
        )


class _State(NamedTuple):
    """What one step hands to the next; before the first one the status is NOT_RUN."""

    params: Any
    loss: Array
    initial_loss: Array
    status: Array


def descent(
    loss: Callable[..., ArrayLike],
    params: Any,
    *data: Any,
    steps: int,
    line_search: Backtracking = ARMIJO,
    metrics: Callable[..., Any] | None = None,
    pauses: Iterable[int] = (),
    callback: Callable[[DescentResult], None] | None = None,
) -> DescentResult:
    """Lower a loss by steps along its negative gradient, each found by a line search.

    The whole loop is compiled. A step costs one gradient and as many losses as it has trials; the
    value of the accepted trial is the next step's first value. The descent stops at the first step
    that finds nothing, since every later one would search the same line again.

    Args:
        loss: `loss(params, *data)` gives one real number.
        params: Where to start, any pytree of real arrays.
        *data: Further arguments of the loss: what compiled code should not hold as constants.
        steps: How many steps to make, at least 1.
        line_search: How each step is found.
        metrics: `metrics(params, *data)`, evaluated after each step inside the compiled loop; its
            results are stacked in the trace.
        pauses: Numbers of steps after which `callback` is called; the end is always one.
        callback: Called outside the compiled loop with the parameters so far, and the trace since
            the last pause.

    Returns:
        The parameters of the lowest loss, the trace, and as `status` why it stopped if it did.
        Inside `jit` the trace always has `steps` rows, with status NOT_RUN after a stop.

    Raises:
        InvalidOptionError: If `steps` is less than 1, a pause lies outside the steps,
            or a callback is given inside `jit`.
        NonScalarLossError: If the loss gives anything but one real number.
        NonFiniteLossError: If the loss at `params` is infinite or nan (outside `jit`; inside, the
            status says so).
        ParameterTypeError: If a parameter is not real.

    Examples:
        >>> found = descent(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(2), jnp.ones(2), steps=3)
        >>> print(found.params, found.trace.step[:1])
        [1. 1.] [0.5]
    """
    if steps != int(steps) or steps < 1:
        raise InvalidOptionError(f"steps is {steps}; wanted a whole number of at least 1")
    ends = sorted({*pauses, steps})
    if not 0 < ends[0] <= ends[-1] == steps:
        raise InvalidOptionError(f"pauses are {ends[:-1]}; wanted whole numbers from 1 to {steps}")
    check_real(params)
    check_scalar(loss, params, *data)
    params = as_arrays(params)
    lengths = [end - start for start, end in pairwise([0, *ends])] if callback else [steps]
    run = compiled(partial(_run, loss, metrics, line_search, max(lengths)))
    unknown = jnp.zeros((), jax.eval_shape(loss, params, *data).dtype)
    state = _State(params, unknown, unknown, jnp.int32(Status.NOT_RUN))
    parts: list[Trace] = []
    for length in lengths:
        state, part = run(state, length, data)
        if isinstance(state.loss, Tracer):
            if callback is not None:
                raise InvalidOptionError("a callback needs values: call descent outside jit")
            return _result(state, part)
        check_finite_start(state.initial_loss)
        parts.append(_rows_made(part))
        if callback is not None:
            callback(_result(state, parts[-1]))
        if state.status != Status.FOUND:
            break
    return _result(state, joined(parts))


def _rows_made(part: Trace) -> Trace:
    """The rows of the steps that were made, on the host."""
    part = jax.device_get(part)
    rows = np.count_nonzero(part.status != Status.NOT_RUN)
    return mapped(lambda column: column[:rows], part)


def _result(state: _State, trace: Trace) -> DescentResult:
    """What a descent has reached, in JAX's arrays."""
    trace = as_arrays(trace)
    return DescentResult(state.params, state.loss, state.initial_loss, state.status, trace)


def _run(
    loss: Callable[..., ArrayLike],
    metrics: Callable[..., Any] | None,
    line_search: Backtracking,
    length: int,
    state: _State,
    count: ArrayLike,
    data: tuple[Any, ...],
) -> tuple[_State, Trace]:
    """Make `count` of at most `length` steps; the trace's other rows have status NOT_RUN."""

    def begin(state: _State) -> _State:
        initial = jnp.asarray(loss(state.params, *data))
        status = jnp.where(jnp.isfinite(initial), Status.FOUND, Status.NON_FINITE)
        return _State(state.params, initial, initial, status.astype(jnp.int32))

    def make(state: _State) -> tuple[_State, Trace]:
        """One step: the gradient, the line search, and the row of the trace."""
        _, gradient = value_and_grad(loss)(state.params, *data)
        squared_norm = inner_product(gradient, gradient)
        downhill = jax.tree.map(jnp.negative, gradient)
        search = backtrack(
            loss,
            state.params,
            downhill,
            gradient,
            *data,
            value=state.loss,
            slope=-squared_norm,
            line_search=line_search,
        )
        row = Trace(
            loss=search.value,
            gradient_norm=jnp.sqrt(squared_norm),
            step=search.step,
            trials=search.trials,
            status=search.status,
            metrics=None if metrics is None else metrics(search.params, *data),
        )
        return _State(search.params, search.value, state.initial_loss, search.status), row

    def unfinished(carry: tuple[Array, _State, Trace]) -> Array:
        index, state, _ = carry
        return (index < count) & (state.status == Status.FOUND)

    def step(carry: tuple[Array, _State, Trace]) -> tuple[Array, _State, Trace]:
        """One step, whose row is written into the trace."""
        index, state, trace = carry
        state, row = make(state)

        def written(column: Array, entry: Array) -> Array:
            return column.at[index].set(entry)

        trace = jax.tree.map(written, trace, row)
        return index + 1, state, trace

    def begun(state: _State) -> _State:
        return state

    state = cast("_State", lax.cond(state.status == Status.NOT_RUN, begin, begun, state))
    _, form = jax.eval_shape(make, state)
    blank = mapped(lambda entry: jnp.zeros((length, *entry.shape), entry.dtype), form)
    blank = replace(blank, status=jnp.full(length, Status.NOT_RUN, jnp.int32))
    _, state, trace = lax.while_loop(unfinished, step, (jnp.int32(0), state, blank))
    return state, trace
