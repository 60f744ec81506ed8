"""Particle and saddle: descents whose objective holds a derivative or a descent of its own.

The problems of Pearlmutter and Siskind: an outer minimum whose objective integrates with the
gradient of a potential, or takes an inner maximum, by the same method of descent.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Scalar = Callable[[jax.Array], jax.Array]
Derivative = Callable[[Scalar], Callable[[jax.Array], jax.Array]]
"""What makes the gradient of a scalar function: `jax.grad`, `jax.jacfwd`, `blockjac.grad`."""
ENOUGH, FIRST_RATE, PATIENCE = 1e-5, 1e-5, 10
"""Smaller gradients and moves end a descent; its first rate; steps before the rate is doubled."""


def norm(x: jax.Array) -> jax.Array:
    """Its length."""
    return jnp.sqrt(jnp.sum(x**2))


def minimum(objective: Scalar, start: jax.Array, derivative: Derivative) -> jax.Array:
    """Where a function is least, by steps along its gradient.

    The rate is doubled after ten steps that went down, and halved when a step goes up.
    """
    gradient = derivative(objective)
    first = gradient(start)

    def goes_on(carry: Any) -> jax.Array:
        return ~carry[-1]

    def advance(carry: Any) -> Any:
        x, fx, gx, rate, steps, _ = carry
        doubles = steps == PATIENCE
        nearer = x - rate * gx
        is_near = norm(rate * gx) <= ENOUGH
        value = objective(nearer)
        falls = (value < fx) & ~doubles & ~is_near
        x = jnp.where(falls, nearer, x)
        fx = jnp.where(falls, value, fx)
        gx = jnp.where(falls, gradient(nearer), gx)
        rate = jnp.where(doubles, 2 * rate, jnp.where(falls | is_near, rate, rate / 2))
        steps = jnp.where(falls, steps + 1, 0)
        return x, fx, gx, rate, steps, (norm(gx) <= ENOUGH) | (is_near & ~doubles)

    begin = start, objective(start), first, jnp.asarray(FIRST_RATE), 0, norm(first) <= ENOUGH
    return lax.while_loop(goes_on, advance, begin)[0]


def maximum(objective: Scalar, start: jax.Array, derivative: Derivative) -> jax.Array:
    """Where a function is greatest."""
    return minimum(lambda x: -objective(x), start, derivative)


def miss(w: jax.Array, derivative: Derivative) -> jax.Array:
    """The square of where a charged particle meets the axis, as a function of the control `(1,)`.

    It starts at (0, 8) with the velocity (0.75, 0), and is repelled by charges at (10, 10 - w) and
    (10, 0). By Euler's method, and linear interpolation at the end.
    """
    charges = jnp.stack([jnp.stack([10 + 0 * w[0], 10 - w[0]]), jnp.array([10.0, 0.0])])

    def potential(x: jax.Array) -> jax.Array:
        return sum(1 / norm(x - charge) for charge in charges)

    force, step = derivative(potential), 0.1

    def is_above(carry: Any) -> jax.Array:
        place, velocity = carry
        return (place + step * velocity)[1] > 0

    def advance(carry: Any) -> Any:
        place, velocity = carry
        return place + step * velocity, velocity - step * force(place)

    start = jnp.array([0.0, 8.0]), jnp.array([0.75, 0.0])
    place, velocity = lax.while_loop(is_above, advance, start)
    return (place - place[1] / velocity[1] * velocity)[0] ** 2


def particle(w: jax.Array, outer: Derivative, inner: Derivative) -> jax.Array:
    """The control `(1,)` that lets the particle pass through the origin."""
    return minimum(lambda w: miss(w, inner), w, outer)


def height(x: jax.Array, y: jax.Array) -> jax.Array:
    """The function with a saddle at the origin."""
    return jnp.sum(x**2) - jnp.sum(y**2)


def saddle(start: jax.Array, outer: Derivative, inner: Derivative) -> jax.Array:
    """The places x and y, `(4,)`, of `min_x max_y height`."""

    def greatest(x: jax.Array) -> jax.Array:
        return height(x, maximum(lambda y: height(x, y), start, inner))

    x = minimum(greatest, start, outer)
    return jnp.concatenate([x, maximum(lambda y: height(x, y), start, outer)])
