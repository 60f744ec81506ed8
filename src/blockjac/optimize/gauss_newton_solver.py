"""Steps by the generalized Gauss-Newton matrix of a model's loss, damped or along a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.errors import InvalidOptionError
from blockjac.optimize.curvature_systems import By, Curvature, curvature_of
from blockjac.optimize.line_search import Backtracking
from blockjac.optimize.line_search_solver import along
from blockjac.optimize.minimize_loop import Move, Point
from blockjac.optimize.parameters import inner_product, move, number

SUFFICIENT = Backtracking(alpha=1e-4)
"""Any step that lowers the loss a little: full steps are good where the model is."""


@dataclass(frozen=True)
class GaussNewton:
    """Steps to the minimum of the Gauss-Newton model, shortened by a line search if need be.

    Args:
        line_search: How a step is shortened; it begins with the whole step.
        damping: What is added to the diagonal of the matrix, as a share of its mean along the
            gradient, so that it is regular.
        by: How systems are solved: `"blocks"`, factors of the matrix of the parameters;
            `"outputs"`, of one as large as the outputs; `"cg"`, conjugate gradients; `"auto"` for
            the one that is predicted to be the fastest.

    Raises:
        InvalidOptionError: If an option is outside its range.

    Examples:
        >>> GaussNewton().line_search.alpha
        0.0001
    """

    line_search: Backtracking = SUFFICIENT
    damping: float = 1e-6
    by: By | Literal["auto"] = "auto"
    takes_gradient = True

    def __post_init__(self) -> None:
        _check(self.damping, self.by)

    def begin(self, params: Any, loss: Array) -> None:
        """Nothing has to be remembered."""

    def move(
        self,
        loss: Callable[..., ArrayLike],
        point: Point,
        memory: None,
        data: tuple[Any, ...],
        allowed: Array,
    ) -> Move:
        """A step along the direction to the minimum of the model."""
        curvature = curvature_of(loss, point.params, data, self.by, "GaussNewton")
        shift = self.damping * curvature.along(point.gradient)
        direction = curvature.step(point.gradient, shift)
        slope = inner_product(point.gradient, direction).astype(point.loss.dtype)
        first = jnp.asarray(self.line_search.first_step, point.loss.dtype)
        return along(loss, data, point, direction, slope, self.line_search, first, allowed).move


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped steps of the Gauss-Newton model, judged by how well it predicts the loss.

    The damping falls by up to a third after a step that the model predicted well, and grows faster
    and faster while steps fail (Nielsen). The loss never rises.

    Args:
        damping: The first one, as a share of the curvature along the gradient.
        by: How systems are solved, as in `GaussNewton`.
        is_geodesic: Whether to add the second-order correction of Transtrum and Sethna, which bends
            the step along the model's own curvature. It takes one more solution with each step.

    Raises:
        InvalidOptionError: If an option is outside its range.

    Source:
        Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05, 1999; Transtrum and
        Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares
        minimization", arXiv:1201.5885, 2012.

    Examples:
        >>> LevenbergMarquardt().damping
        0.001
    """

    damping: float = 1e-3
    by: By | Literal["auto"] = "auto"
    is_geodesic: bool = False
    takes_gradient = True

    def __post_init__(self) -> None:
        _check(self.damping, self.by)

    def begin(self, params: Any, loss: Array) -> Damping:
        """The damping is unknown until the first curvature is there."""
        return Damping(jnp.zeros_like(loss), jnp.full_like(loss, 2))

    def move(
        self,
        loss: Callable[..., ArrayLike],
        point: Point,
        memory: Damping,
        data: tuple[Any, ...],
        allowed: Array,
    ) -> Move:
        """Try steps with growing damping until one lowers the loss."""
        curvature = curvature_of(loss, point.params, data, self.by, "LevenbergMarquardt")
        dtype = point.loss.dtype
        first = (self.damping * curvature.along(point.gradient)).astype(dtype)
        damping = jnp.where(memory.value > 0, memory.value, first)
        trial = _Trial(
            params=point.params,
            loss=point.loss,
            damping=Damping(damping, memory.growth),
            is_accepted=jnp.asarray(False),
            is_over=jnp.asarray(False),
            trials=jnp.int32(0),
        )

        def is_left(trial: _Trial) -> Array:
            return (trial.trials < allowed) & ~trial.is_over

        tried = partial(_tried, loss, point, data, curvature, self.is_geodesic)
        last = cast("_Trial", cast("Any", lax.while_loop)(is_left, tried, trial))
        return Move(
            params=last.params,
            loss=last.loss,
            is_accepted=last.is_accepted,
            evaluations=last.trials,
            memory=last.damping,
        )


class Damping(NamedTuple):
    """What `LevenbergMarquardt` remembers."""

    value: Array
    """0 before the first step."""
    growth: Array
    """By what it is multiplied after the next failure."""


class _Trial(NamedTuple):
    """The last step that was tried, and the damping of the next."""

    params: Any
    loss: Array
    damping: Damping
    is_accepted: Array
    is_over: Array
    trials: Array


def _tried(
    loss: Callable[..., ArrayLike],
    point: Point,
    data: tuple[Any, ...],
    curvature: Curvature,
    is_geodesic: bool,
    trial: _Trial,
) -> _Trial:
    """Try a step, and judge it."""
    one, shift = jnp.ones_like(point.loss), trial.damping.value
    change = curvature.step(point.gradient, shift)
    if is_geodesic:
        change = curvature.bent(change, shift)
    predicted = curvature.decrease(point.gradient, change).astype(one.dtype)
    params = move(point.params, 1.0, change)
    value = jnp.asarray(loss(params, *data), one.dtype)
    decrease = point.loss - value
    is_accepted = (decrease > 0) & (predicted > 0) & jnp.isfinite(value)
    ratio = decrease / jnp.where(predicted > 0, predicted, one)
    easier = shift * jnp.maximum(one / 3, 1 - (2 * ratio - 1) ** 3)
    harder = shift * trial.damping.growth
    next_one = jnp.where(is_accepted, easier, harder)
    growth = jnp.where(is_accepted, 2 * one, 2 * trial.damping.growth)
    is_same = jax.tree.map(jnp.array_equal, params, point.params)
    is_still = jnp.stack(jax.tree.leaves(is_same)).all()
    smallest = float(cast("Any", jnp.finfo(one.dtype)).tiny)
    return _Trial(
        params=jax.tree.map(partial(jnp.where, is_accepted), params, point.params),
        loss=jnp.where(is_accepted, value, point.loss),
        damping=Damping(jnp.maximum(next_one, smallest), growth),
        is_accepted=is_accepted,
        is_over=is_accepted | is_still | ~jnp.isfinite(next_one),
        trials=trial.trials + 1,
    )


def _check(damping: float, by: str) -> None:
    """Refuse options outside their ranges."""
    if not 0 < number(damping) < float("inf"):
        raise InvalidOptionError(f"damping is {damping}; wanted a positive finite number")
    if by not in ("auto", "blocks", "outputs", "cg"):
        raise InvalidOptionError(f"by is {by!r}; wanted 'auto', 'blocks', 'outputs' or 'cg'")
