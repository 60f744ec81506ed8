"""Backtracking along a direction until the loss falls by enough (Armijo's condition).

Source: L. Armijo, Minimization of functions having Lipschitz continuous first partial derivatives,
Pacific Journal of Mathematics 16 (1966).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.errors import InvalidOptionError, NonScalarLossError, ShapeMismatchError

Params = TypeVar("Params")


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
        >>> found = backtrack(lambda x: x**2, 1.0, -2.0, 2.0)
        >>> float(found.params), float(found.step), int(found.trials)
        (0.0, 0.5, 2)
    """
    check_alike(params, direction, "direction")
    check_alike(params, gradient, "gradient")
    params = jax.tree.map(jnp.asarray, params)
    if value is None:
        check_scalar(loss, params, *data)
        value = loss(params, *data)
    start = jnp.asarray(value)
    slope = inner_product(gradient, direction) if slope is None else jnp.asarray(slope)
    slope = slope.astype(start.dtype)
    required = line_search.alpha * slope

    def accepted(search: _Search) -> Array:
        enough = search.value <= start + search.step * required
        return jnp.isfinite(search.value) & enough & (search.value < start)

    def searching(search: _Search) -> Array:
        return (search.trials < allowed) & ~accepted(search)

    def shrink(search: _Search) -> _Search:
        step = jnp.where(search.trials == 0, search.step, line_search.beta * search.step)
        moved = move(params, step, direction)
        value = jnp.asarray(loss(moved, *data), start.dtype)
        return _Search(search.trials + 1, step, moved, value)

    reason = _why_not_to_search(start, gradient, slope)
    allowed = jnp.where(reason == Status.FOUND, line_search.max_trials, 0)
    first_step = jnp.asarray(line_search.first_step, start.dtype)
    last = lax.while_loop(searching, shrink, _Search(jnp.int32(0), first_step, params, start))
    found = accepted(last)
    return LineSearchResult(
        params=jax.tree.map(lambda new, old: jnp.where(found, new, old), last.params, params),
        value=jnp.where(found, last.value, start),
        step=jnp.where(found, last.step, 0),
        trials=last.trials,
        status=jnp.where(found | (last.trials == 0), reason, jnp.int32(Status.NO_STEP)),
    )


class _Search(NamedTuple):
    """What one trial hands to the next; before the first, the start, which is no decrease."""

    trials: Array
    step: Array
    params: Any
    value: Array


def _why_not_to_search(value: Array, gradient: Any, slope: Array) -> Array:
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


def move(params: Params, step: ArrayLike, direction: Params) -> Params:
    """The parameters a step further along a direction, `params + step * direction`.

    Args:
        params: Any pytree of arrays.
        step: Scalar.
        direction: The same tree of the same shapes.

    Returns:
        The same tree, in the dtypes of `params`.

    Examples:
        >>> print(move({"w": jnp.zeros(2)}, 0.5, {"w": jnp.array([2.0, 4.0])})["w"])
        [1. 2.]
    """

    def moved(value: Array, change: Array) -> Array:
        value = jnp.asarray(value)
        return value + jnp.asarray(step, value.dtype) * jnp.asarray(change, value.dtype)

    return jax.tree.map(moved, params, direction)


def inner_product(left: Any, right: Any) -> Array:
    """The sum over all leaves and entries of the products of two trees.

    Args:
        left: Any pytree of real arrays.
        right: The same tree of the same shapes.

    Returns:
        Scalar array; 0 for trees without leaves.

    Examples:
        >>> print(inner_product((jnp.ones(3), 2.0), (jnp.ones(3), 4.0)))
        11.0
    """
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), left, right)
    return jnp.asarray(sum(jax.tree.leaves(products)))


def check_alike(params: Any, other: Any, name: str) -> None:
    """Refuse a tree that does not match the parameters.

    Args:
        params: Any pytree of arrays.
        other: The tree to check.
        name: What it is, for the message.

    Raises:
        ShapeMismatchError: If the trees or a leaf's shapes differ.

    Examples:
        >>> check_alike([jnp.ones(2)], [jnp.zeros(2)], "gradient")
    """
    wanted, found = jax.tree.structure(params), jax.tree.structure(other)
    if wanted != found:
        raise ShapeMismatchError(f"{name} is the tree {found}; wanted that of params, {wanted}")
    leaves = zip(jax.tree.leaves_with_path(params), jax.tree.leaves(other), strict=True)
    for (path, leaf), change in leaves:
        if jnp.shape(leaf) != jnp.shape(change):
            raise ShapeMismatchError(
                f"{name}{jax.tree_util.keystr(path)} has shape {jnp.shape(change)}; "
                f"wanted that of params{jax.tree_util.keystr(path)}, {jnp.shape(leaf)}"
            )


def check_scalar(loss: Callable[..., ArrayLike], params: Any, *data: Any) -> None:
    """Refuse a loss that does not give one real number, without evaluating it.

    Args:
        loss: `loss(params, *data)`.
        params: Any pytree of arrays.
        *data: Further arguments of the loss.

    Raises:
        NonScalarLossError: If the loss gives anything but one real number.

    Examples:
        >>> check_scalar(jnp.sum, jnp.ones(3))
    """
    given = jax.eval_shape(loss, params, *data)
    leaves = jax.tree.leaves(given)
    if len(leaves) != 1 or given is not leaves[0]:
        raise NonScalarLossError(f"the loss gives {given}; wanted one real number")
    if given.shape != () or not jnp.issubdtype(given.dtype, jnp.floating):
        raise NonScalarLossError(
            f"the loss gives {given.dtype}{list(given.shape)}; wanted one real number, "
            "such as the mean or the sum of it"
        )
