"""What happens between pieces of the compiled loop: the clock, the callback, resumption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import mapped
from blockjac.errors import ArgumentError, InvalidOptionError
from blockjac.optimize.minimize_loop import State
from blockjac.optimize.minimize_result import MinimizeResult, MinimizeTrace
from blockjac.optimize.parameters import as_arrays, check_count, number
from blockjac.optimize.stops import Stop

SHARE = 0.05
"""Of the time that is left, what the steps between two looks at the clock should take."""

Callback = Callable[[MinimizeResult], "bool | None"]


@dataclass
class Clock:
    """Tells when time is up, and how many steps may be made without a look.

    Attributes:
        seconds: how long a search may take.
        start: when it began.
        last: when somebody looked last.
    """

    seconds: float
    start: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() - self.start >= self.seconds

    def steps(self, made: int) -> int:
        """How many steps to make until the next look.

        Args:
            made: since the last look.
        """
        now = time.monotonic()
        for_one = max(now - self.last, 1e-9) / max(made, 1)
        self.last = now
        left = self.seconds - (now - self.start)
        return max(1, int(SHARE * left / for_one))


class Pauses:
    """Whom to ask between pieces of a search, and how long these may be."""

    def __init__(
        self, callback: Callback | None, every: int, seconds: float | None, max_steps: int
    ) -> None:
        check_count("callback_every", every)
        if seconds is not None and not number(seconds) > 0:
            raise InvalidOptionError(f"max_seconds is {seconds}; wanted a positive number, or None")
        if callback is not None and not callable(callback):
            raise ArgumentError(
                f"callback must be a function, but is of type {type(callback).__name__}"
            )
        self.callback = callback
        self.clock = None if seconds is None else Clock(seconds)
        self.most = max_steps + 1 if callback is None else int(every)

    @property
    def are_none(self) -> bool:
        """Whether nobody has to be asked."""
        return self.callback is None and self.clock is None

    def steps(self, made: int) -> int:
        """How many steps to make until the next pause.

        Args:
            made: since the last one.
        """
        if self.callback is not None or self.clock is None:
            return self.most
        return min(self.most, self.clock.steps(made))

    def asked(self, state: State, trace: MinimizeTrace) -> State:
        """The state after a piece of the search; stopped if somebody asks for it.

        Args:
            state: after the piece.
            trace: of the piece.
        """
        if self.callback is not None and len(trace):
            try:
                stops = self.callback(result_of(state, trace))
            except StopIteration:
                stops = True
            if stops is not None and bool(stops):
                state = _stopped(state, Stop.CALLBACK)
        if self.clock is not None and self.clock.is_over():
            state = _stopped(state, Stop.MAX_SECONDS)
        return state


def _stopped(state: State, why: Stop) -> State:
    """The state, stopped unless it was already."""
    is_running = int(state.status) == Stop.RUNNING
    return state._replace(status=jnp.int32(why)) if is_running else state


def rows_made(trace: MinimizeTrace, rows: int) -> MinimizeTrace:
    """The rows of the steps that were made, on the host."""
    return mapped(lambda column: column[:rows], jax.device_get(trace))


def result_of(state: State, trace: MinimizeTrace) -> MinimizeResult:
    """What a search has reached, in JAX's arrays."""
    return MinimizeResult(
        params=state.best_params,
        loss=state.best_loss,
        initial_loss=state.initial_loss,
        gradient_norm=state.gradient_norm,
        status=state.status,
        evaluations=state.evaluations,
        steps=state.step,
        trace=as_arrays(trace),
        state=state,
    )


AT_A_POINT = (Stop.MAX_STEPS, Stop.GTOL, Stop.FTOL, Stop.XTOL, Stop.FTOL_AND_XTOL)
"""Reasons that were found after a gradient was evaluated, which is evaluated again on going on."""


def resumed(result: Any) -> State:
    """The state of a result, running again unless nothing could follow.

    Raises:
        ArgumentError: for what is not a result of `minimize`.
    """
    if not isinstance(result, MinimizeResult) or not isinstance(result.state, State):
        raise ArgumentError(
            f"resume must be a result of minimize, but is of type {type(result).__name__}"
        )
    state = as_arrays(result.state)
    if int(state.status) in (Stop.NO_STEP, Stop.NON_FINITE):
        return state
    again = 1 if int(state.status) in AT_A_POINT and jnp.isfinite(state.gradient_norm) else 0
    return state._replace(status=jnp.int32(Stop.RUNNING), evaluations=state.evaluations - again)
