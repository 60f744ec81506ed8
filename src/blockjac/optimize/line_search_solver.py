"""Steps along a direction, found by a line search whose first step is remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from blockjac.errors import InvalidOptionError
from blockjac.optimize.line_search import ARMIJO, Backtracking, Line, Status, searched
from blockjac.optimize.line_search import why_not_to_search as why_not
from blockjac.optimize.minimize_loop import Move, Point
from blockjac.optimize.parameters import inner_product, move, number

LONGEST = 2.0**60
"""No first step grows past this multiple of `first_step`."""


@dataclass(frozen=True)
class Descent:
    """Steps along the negative gradient, each found by a line search.

    Args:
        line_search: How a step is found, and the very first to try.
        growth: A search begins with the last accepted step, or with this many times it, at least 1,
            if that was the first of its search: steps adapt to the loss, and may grow again after a
            steep passage. None to begin each search with `line_search.first_step`, as the lecture
            does.

    Raises:
        InvalidOptionError: If `growth` is below 1.

    Examples:
        >>> Descent(growth=None).line_search.first_step
        1.0
    """

    line_search: Backtracking = ARMIJO
    growth: float | None = 2.0
    takes_gradient = True

    def __post_init__(self) -> None:
        if self.growth is not None and not 1 <= number(self.growth) < float("inf"):
            raise InvalidOptionError(
                f"growth is {self.growth}; wanted a number of at least 1, or None"
            )

    def begin(self, params: Any, loss: Array) -> Array:
        """The first step to try."""
        return jnp.asarray(self.line_search.first_step, loss.dtype)

    def move(
        self,
        loss: Callable[..., ArrayLike],
        point: Point,
        memory: Array,
        data: tuple[Any, ...],
        allowed: Array,
    ) -> Move:
        """A step along the negative gradient."""
        downhill = jax.tree.map(jnp.negative, point.gradient)
        slope = inner_product(point.gradient, downhill).astype(point.loss.dtype)
        found = along(loss, data, point, downhill, slope, self.line_search, memory, allowed)
        return found.move._replace(memory=self._next(found, memory))

    def _next(self, found: Found, first_step: Array) -> Array:
        """The first step of the next search."""
        start = jnp.asarray(self.line_search.first_step, first_step.dtype)
        if self.growth is None:
            return start
        grown = jnp.where(found.move.evaluations == 1, self.growth, 1) * found.step
        return jnp.where(found.move.is_accepted, jnp.minimum(grown, LONGEST * start), first_step)


class Found(NamedTuple):
    """What a line search found."""

    move: Move
    """Its memory is None."""
    step: Array
    """The multiple of the direction."""


def along(
    loss: Callable[..., ArrayLike],
    data: tuple[Any, ...],
    point: Point,
    direction: Any,
    slope: Array,
    line_search: Backtracking,
    first_step: Array,
    allowed: Array,
) -> Found:
    """Search along a direction with a limited number of trials.

    Where no trial lowers the loss by enough, the best of those that lower it at all is taken.
    """
    reason = why_not(point.loss, point.gradient, slope)
    trials = jnp.minimum(allowed, line_search.max_trials)
    trials = jnp.where(reason == Status.FOUND, trials, 0)

    def at(params: Any) -> ArrayLike:
        return loss(params, *data)

    line = Line(at, point.params, direction, point.loss, slope)
    last = searched(line, line_search, first_step, trials)
    is_lower = last.best_value < point.loss
    step = jnp.where(last.is_accepted, last.step, last.best_step)
    best = move(point.params, last.best_step, direction)
    params = jax.tree.map(partial(jnp.where, last.is_accepted), last.params, best)
    value = jnp.where(last.is_accepted, last.value, last.best_value)
    # a search that is ruled out still counts as a step that failed
    evaluations = jnp.maximum(last.trials, 1)
    return Found(
        Move(params, value, last.is_accepted | is_lower, evaluations, None),
        step,
    )
