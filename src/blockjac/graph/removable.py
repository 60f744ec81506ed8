"""Functions whose derivative rules in JAX divide by zero, or stop, although a limit exists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

TERMS = 16
"""Terms in the series of `sin(t)/t` and its derivatives, which is used up to `|t| = order + 1`."""


def sinc(x: Any) -> Any:
    """`sin(pi x) / (pi x)`."""
    return _sine_quotient(0, math.pi * x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sine_quotient(order: int, t: Any) -> Any:
    """A derivative of `sin(t)/t`; near 0, where the quotient cancels, from its series.

    From `t q = sin(t)` follows `t q^(k) + k q^(k-1) = sin^(k)(t)`.
    """
    near = jnp.abs(t) < order + 1
    far = jnp.where(near, 1, t)
    quotient = jnp.zeros_like(t)
    for degree in range(order + 1):
        sine = (jnp.sin, jnp.cos)[degree % 2](far) * (-1) ** (degree // 2)
        quotient = (sine - degree * quotient) / far
    return jnp.where(near, _sine_series(order, jnp.where(near, t, 0)), quotient)


@_sine_quotient.defjvp
def _sine_quotient_rate(
    order: int, point: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    (t,), (rate,) = point, tangents
    return _sine_quotient(order, t), _sine_quotient(order + 1, t) * rate


def _sine_series(order: int, t: Any) -> Any:
    """`sum_j (-1)^j t^(2j) / (2j + 1)!`, differentiated term by term."""
    first = (order + 1) // 2
    total, square = jnp.zeros_like(t), t * t
    for j in range(first + TERMS + order, first - 1, -1):
        slope = (-1) ** j * math.perm(2 * j, order) / math.factorial(2 * j + 1)
        total = total * square + slope
    return total * t if order % 2 else total


def bessel_i0(x: Any) -> Any:
    """`I_0(x) = exp(|x|) i0e(x)`: both factors have a kink at 0, but their product is smooth."""
    size = lax.abs(x)
    return lax.exp(size) * lax.bessel_i0e(size)


@jax.custom_jvp
def x_log_y(x: Any, y: Any) -> Any:
    """`x log(y)`, and 0 where x is 0."""
    return jax.scipy.special.xlogy(x, y)


@x_log_y.defjvp
def _x_log_y_rate(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x, y), (x_rate, y_rate) = point, tangents
    return x_log_y(x, y), x_rate * jnp.log(y) + y_rate * _quotient(x, y)


@jax.custom_jvp
def x_log1p_y(x: Any, y: Any) -> Any:
    """`x log(1 + y)`, and 0 where x is 0."""
    return jax.scipy.special.xlog1py(x, y)


@x_log1p_y.defjvp
def _x_log1p_y_rate(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x, y), (x_rate, y_rate) = point, tangents
    return x_log1p_y(x, y), x_rate * jnp.log1p(y) + y_rate * _quotient(x, 1 + y)


def _quotient(x: Any, y: Any) -> Any:
    """`x / y`, and 0 for `0 / 0`, since a function that is 0 everywhere has slope 0."""
    both_zero = (x == 0) & (y == 0)
    return jnp.where(both_zero, 0, x / jnp.where(both_zero, 1, y))
