"""Losses of residuals that grow more slowly than the square, so that outliers count for less.

A loss is a function rho of `z = (f / C)^2` with `rho(0) = 0` and `rho'(0) = 1`, and the cost is
`C^2 / 2 sum rho(z)`, as in `scipy.optimize.least_squares`. By the residuals its gradient is
`rho' f`, and its second derivative `rho' + 2 z rho''` for a single number (Triggs' correction). For
a vector of residuals whose length counts, that is the second derivative along the vector, and it is
rho' across.

Source: B. Triggs, P. McLauchlan, R. Hartley and A. Fitzgibbon, Bundle adjustment: a modern
synthesis, Vision Algorithms: Theory and Practice (1999), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from blockjac.blocks import Block
from blockjac.errors import InvalidOptionError
from blockjac.optimize.parameters import number
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

LossName = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"]
"""The losses, by the names that scipy has for them."""

LEAST_CURVATURE = 0.1
"""The second derivative along a residual is at least this share of rho'.

That of an outlier is zero or negative. With none at all, parameters that outliers alone depend on
would take steps of any length.
"""


class Rho(NamedTuple):
    """A loss and its first two derivatives, each of the shape of z."""

    value: jax.Array
    slope: jax.Array
    bend: jax.Array


def _soft_l1(z: jax.Array) -> Rho:
    root = jnp.sqrt(1 + z)
    return Rho(2 * z / (root + 1), 1 / root, -0.5 / root**3)


def _huber(z: jax.Array) -> Rho:
    outside = z > 1
    root = jnp.sqrt(jnp.where(outside, z, 1))
    value = jnp.where(outside, 2 * root - 1, z)
    return Rho(value, 1 / root, jnp.where(outside, -0.5 / root**3, 0))


def _cauchy(z: jax.Array) -> Rho:
    return Rho(jnp.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2)


def _arctan(z: jax.Array) -> Rho:
    slope = 1 / (1 + z**2)
    return Rho(jnp.arctan(z), slope, -2 * z * slope**2)


_RHO: dict[str, Callable[[jax.Array], Rho]] = {
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "arctan": _arctan,
}


@dataclass(frozen=True)
class RobustLoss:
    """A loss of residuals.

    Attributes:
        name: one of `LossName`.
        scale: C, the size of a residual from which it counts as an outlier, positive.
        axis: along which the residuals of a leaf form vectors whose length counts; None if each
            number counts by itself.
    """

    name: str = "linear"
    scale: float = 1.0
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(LossName):
            names = ", ".join(map(repr, get_args(LossName)))
            raise InvalidOptionError(f"loss is {self.name!r}; wanted one of {names}")
        if not 0 < number(self.scale) < float("inf"):
            raise InvalidOptionError(
                f"f_scale is {self.scale}; wanted a positive finite number, the size of a residual "
                "from which it counts as an outlier"
            )

    @property
    def is_linear(self) -> bool:
        """Whether the cost is half the sum of squares."""
        return self.name == "linear"

    def cost(self, residual: jax.Array) -> jax.Array:
        """The cost of a leaf of residuals."""
        if self.is_linear:
            return jnp.sum(residual**2) / 2
        return self.scale**2 / 2 * jnp.sum(self._rho(residual).value)

    def decrease(self, before: jax.Array, after: jax.Array) -> jax.Array:
        """By how much the cost of a leaf falls, summed difference by difference.

        That is more accurate than the difference of two sums.
        """
        if self.is_linear:
            return jnp.sum((before - after) * (before + after)) / 2
        fallen = self._rho(before).value - self._rho(after).value
        return self.scale**2 / 2 * jnp.sum(fallen)

    def gradient(self, residual: jax.Array) -> jax.Array:
        """The gradient of the cost by the residuals of a leaf."""
        return residual if self.is_linear else self._rho(residual).slope * residual

    def curvature(self, residual: jax.Array) -> Block:
        """The second derivative of the cost by the residuals of a leaf, made positive definite."""
        rho = self._rho(residual)
        along = jnp.maximum(
            rho.slope + 2 * self._size(residual) * rho.bend, LEAST_CURVATURE * rho.slope
        )
        if self.axis is None:
            return Block.diag(along)
        axis = self.axis % residual.ndim
        squares = jnp.sum(residual**2, axis=axis, keepdims=True)
        share = (along - rho.slope) / jnp.where(squares == 0, 1, squares)
        f = jnp.moveaxis(residual, axis, -1)
        units = jnp.eye(f.shape[-1], dtype=f.dtype)
        slope = jnp.moveaxis(rho.slope, axis, -1)[..., None]
        pairs = jnp.moveaxis(share, axis, -1)[..., None] * f[..., None] * f[..., None, :]
        return _along_axis(slope * units + pairs, residual.shape, axis)

    def _size(self, residual: jax.Array) -> jax.Array:
        """The z of each number, or of each vector with an axis of length 1."""
        z = (residual / self.scale) ** 2
        return z if self.axis is None else jnp.sum(z, axis=self.axis, keepdims=True)

    def _rho(self, residual: jax.Array) -> Rho:
        return _RHO[self.name](self._size(residual))


def _along_axis(values: jax.Array, shape: tuple[int, ...], axis: int) -> Block:
    """A block that joins the numbers along one axis: values `(..., d, d)`, the axis moved last."""
    labels = [Label(size) for size in shape]
    other = Label(shape[axis])
    rest = [label for number, label in enumerate(labels) if number != axis]
    out = [Index.of(label) for label in labels]
    wrt = [*out[:axis], Index.of(other), *out[axis + 1 :]]
    factor = Factor(values, (*rest, labels[axis], other), "loss")
    return Block(shape, shape, values.dtype, (Term((factor,), tuple(out), tuple(wrt)),))
