"""Backtracking along a direction until the loss falls by enough (Armijo's condition).

Source: L. Armijo, Minimization of functions having Lipschitz continuous first partial derivatives,
Pacific Journal of Mathematics 16 (1966).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.errors import InvalidOptionError
from blockjac.optimize.parameters import (
    Params,
    as_arrays,
    check_alike,
    check_scalar,
    inner_product,
    move,
)


class Status(IntEnum):
    """How a line search ended; in compiled code the number stands for the name."""

    FOUND = 0
    """A step was accepted."""
    NO_STEP = 1
    """No trial lowered the loss by enough; the parameters were left alone."""
    STATIONARY = 2
    """The square of the gradient is 0 in its floating-point type."""
    NOT_DESCENT = 3
    """The loss does not fall along the direction: its slope is not negative."""
    NON_FINITE = 4
    """The loss or the gradient at the start is infinite or nan."""
    NOT_RUN = 5
    """A row of a trace that no step was made for."""

    @property
    def message(self) -> str:
        """What happened, as a sentence to print.

        Examples:
            >>> Status.STATIONARY.message
            'the gradient is 0'
        """
        return _MESSAGES[self]


_MESSAGES = {
    Status.FOUND: "a step was accepted",
    Status.NO_STEP: "no trial lowered the loss by enough",
    Status.STATIONARY: "the gradient is 0",
    Status.NOT_DESCENT: "the loss does not fall along the direction",
    Status.NON_FINITE: "the loss or its gradient is infinite or nan",
    Status.NOT_RUN: "no step was made",
}


@dataclass(frozen=True)
class Backtracking:
    """Try a first step, and shrink it until the loss `f` falls by enough.

    A step `t` from `x` along `d` is accepted when, for the gradient `g` at `x`,

        f(x + t d) <= f(x) + alpha t <g, d>    and    f(x + t d) < f(x)

    The second condition follows from the first in exact numbers only: once `x + t d` is rounded to
    `x`, the first alone accepts any direction, uphill ones too. Infinite and nan values are trials
    that failed.

    Args:
        alpha: Share of the decrease predicted by the slope that must be reached, between 0 and 1.
        beta: Factor by which a failed step shrinks, between 0 and 1.
        first_step: The first step to try, positive.
        max_trials: Most steps to try, at least 1.

    Raises:
        InvalidOptionError: If an option is outside its range.

    Examples:
        >>> Backtracking(beta=0.25).alpha
        0.1
    """

    alpha: float = 0.1
    beta: float = 0.5
    first_step: float = 1.0
    max_trials: int = 60

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InvalidOptionError(f"{name} is {value}; wanted a number between 0 and 1")
        if not 0 < self.first_step < math.inf:
            raise InvalidOptionError(
                f"first_step is {self.first_step}; wanted a positive finite number"
            )
        if self.max_trials != int(self.max_trials) or self.max_trials < 1:
            raise InvalidOptionError(
                f"max_trials is {self.max_trials}; wanted a whole number of at least 1"
            )


ARMIJO = Backtracking()
"""The usual one: steps 1, 1/2, 1/4, ..., and a tenth of the decrease that the slope predicts."""


class LineSearchResult(NamedTuple):
    """Where a line search ended; all leaves are arrays, so that compiled code may return it."""

    params: Any
    """The parameters after the step, or those given when none was found."""
    value: Array
    """The loss at `params`."""
    step: Array
    """The accepted step, or 0."""
    trials: Array
    """How many steps were tried."""
    status: Array
    """A number of `Status`."""


def backtrack(
    loss: Callable[..., ArrayLike],
    params: Params,
    direction: Params,
    gradient: Params,
    *data: Any,
    value: ArrayLike | None = None,
    slope: ArrayLike | None = None,
    line_search: Backtracking = ARMIJO,
) -> LineSearchResult:
    """Search along a direction for a step that lowers the loss by enough.

    It compiles: under `jit`, the trials are one `lax.while_loop`.

    Args:
        loss: `loss(params, *data)` gives one real number.
        params: Where to start, any pytree of real arrays.
        direction: Where to go, the same tree of the same shapes.
        gradient: The loss's gradient at `params`, the same tree of the same shapes.
        *data: Further arguments of the loss.
        value: The loss at `params`, if it is known already.
        slope: The inner product of gradient and direction, if it is known already.
        line_search: How to choose the steps to try.

    Returns:
        The new parameters, or, when no step was found, the old ones and the reason as `status`.

    Raises:
        NonScalarLossError: If the loss gives anything but one real number.
        ShapeMismatchError: If the three trees are not alike.

    Examples:
        >>> result = backtrack(lambda x: x**2, 1.0, -2.0, 2.0)
        >>> float(result.params), float(result.step), int(result.trials)
        (0.0, 0.5, 2)
    """
    check_alike(params, direction, "direction")
    check_alike(params, gradient, "gradient")
    params = as_arrays(params)
    if value is None:
        check_scalar(loss, params, *data)
        value = loss(params, *data)
    start = jnp.asarray(value)
    slope = inner_product(gradient, direction) if slope is None else jnp.asarray(slope)
    slope = slope.astype(start.dtype)
    reason = why_not_to_search(start, gradient, slope)
    allowed = jnp.where(reason == Status.FOUND, line_search.max_trials, 0)
    first_step = jnp.asarray(line_search.first_step, start.dtype)
    line = Line(partial(_loss_at, loss, data), params, direction, start, slope)
    last = searched(line, line_search, first_step, allowed)

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(last.is_accepted, new, old)

    return LineSearchResult(
        params=jax.tree.map(chosen, last.params, params),
        value=chosen(last.value, start),
        step=chosen(last.step, jnp.zeros_like(last.step)),
        trials=last.trials,
        status=jnp.where(last.is_accepted | (last.trials == 0), reason, jnp.int32(Status.NO_STEP)),
    )


def _loss_at(loss: Callable[..., ArrayLike], data: tuple[Any, ...], params: Any) -> ArrayLike:
    """The loss of parameters, with the data at hand."""
    return loss(params, *data)


class Line(NamedTuple):
    """The line that a search goes along."""

    loss: Callable[[Any], ArrayLike]
    """Of the parameters."""
    params: Any
    """Where it starts."""
    direction: Any
    value: Array
    """The loss at the start."""
    slope: Array
    """The derivative of the loss along the direction there, negative."""


class Search(NamedTuple):
    """The last trial of a search; before the first, the start, with a decrease of zero."""

    trials: Array
    step: Array
    params: Any
    value: Array
    is_accepted: Array
    best_step: Array
    """Of the trial with the lowest finite loss, accepted or not; 0 if none is below the start."""
    best_value: Array
    """The loss there."""


def searched(line: Line, line_search: Backtracking, first_step: Array, allowed: Array) -> Search:
    """Shrink a step until it is accepted, or as many were tried as are allowed.

    Args:
        line: to search along.
        line_search: whose condition and factor count.
        first_step: the first to try.
        allowed: the most trials.
    """
    start, required = line.value, line_search.alpha * line.slope

    def searching(search: Search) -> Array:
        return (search.trials < allowed) & ~search.is_accepted

    def shrink(search: Search) -> Search:
        """Try the next step."""
        step = jnp.where(search.trials == 0, search.step, line_search.beta * search.step)
        moved = move(line.params, step, line.direction)
        value = jnp.asarray(line.loss(moved), start.dtype)
        is_enough = (value <= start + step * required) & (value < start)
        is_best = jnp.isfinite(value) & (value < search.best_value)
        return Search(
            trials=search.trials + 1,
            step=step,
            params=moved,
            value=value,
            is_accepted=jnp.isfinite(value) & is_enough,
            best_step=jnp.where(is_best, step, search.best_step),
            best_value=jnp.where(is_best, value, search.best_value),
        )

    no, none = jnp.asarray(False), jnp.zeros_like(first_step)
    begin = Search(jnp.int32(0), first_step, line.params, start, no, none, start)
    return lax.while_loop(searching, shrink, begin)


def why_not_to_search(value: Array, gradient: Any, slope: Array) -> Array:
    """The `Status` that rules a search out from the start, or FOUND if nothing does."""
    stationary = inner_product(gradient, gradient) == 0
    return jnp.select(
        [~(jnp.isfinite(value) & jnp.isfinite(slope)), stationary, slope >= 0],
        [
            jnp.int32(Status.NON_FINITE),
            jnp.int32(Status.STATIONARY),
            jnp.int32(Status.NOT_DESCENT),
        ],
        jnp.int32(Status.FOUND),
    )
