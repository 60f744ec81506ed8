"""Loops: derivatives forwards and backwards cost the time and the memory of JAX's own.

Loops of numbers, of vectors, and loops that write into what they carry, from 100 to 5,000 steps.
Asked are a pushforward, the Jacobian by two numbers, a gradient, a product with the Hessian.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import blockjac
import harness

LENGTH = 2_000
STEPS = (100, 1_000, 5_000)

Loop = Callable[[jax.Array, jax.Array], jax.Array]


def numbers(steps: int) -> Loop:
    """Two populations, each a number, of which every step is kept."""

    def step(state: tuple[jax.Array, jax.Array], _: None, w: jax.Array) -> tuple:
        a, b = state
        return (a + 0.01 * (w[0] * a - a * b), b + 0.01 * (a * b - w[1] * b)), a

    return lambda x, w: lax.scan(partial(step, w=w), (x[0], x[1]), None, steps)[1]


def smooth(steps: int) -> Loop:
    """A vector that moves as a whole."""

    def step(c: jax.Array, _: None, w: jax.Array) -> tuple[jax.Array, None]:
        return c + 0.01 * jnp.sin(w[0] * c), None

    return lambda x, w: lax.scan(partial(step, w=w), x, None, steps)[0]


def nested(steps: int) -> Loop:
    """The same in a loop of loops of ten steps, recomputed backwards."""

    @jax.checkpoint
    def ten(c: jax.Array, w: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 10, lambda _, c: c + 0.01 * jnp.sin(w[0] * c), c)

    return lambda x, w: lax.scan(lambda c, _: (ten(c, w), None), x, None, steps // 10)[0]


def layers(steps: int) -> Loop:
    """A layer with one matrix for all steps, recomputed backwards."""
    matrix = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 50))

    @jax.checkpoint
    def layer(c: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.tanh(weights @ c)

    def run(x: jax.Array, w: jax.Array) -> jax.Array:
        weights = matrix * w[0]
        return lax.scan(lambda c, _: (layer(c, weights), None), x[:50], None, steps)[0]

    return run


def entries(steps: int) -> Loop:
    """One entry is set a step, from the one before it."""

    def step(c: jax.Array, t: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        return c.at[t].set(jnp.sin(c[t - 1]) * w[0] + w[1]), None

    return lambda x, w: lax.scan(partial(step, w=w), x, jnp.arange(steps) % (LENGTH - 1) + 1)[0]


def windows(steps: int) -> Loop:
    """Twenty entries are moved by one place a step, somewhere."""
    places = np.random.default_rng(0).integers(0, LENGTH - 20, steps)

    def step(c: jax.Array, t: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        piece = lax.dynamic_slice(c, (t,), (20,))
        moved = jnp.concatenate([w[:1] * piece[:1] + w[1], jnp.tanh(piece[:-1])])
        return lax.dynamic_update_slice(c, moved, (t,)), None

    return lambda x, w: lax.scan(partial(step, w=w), x, jnp.asarray(places))[0]


def table(steps: int) -> Loop:
    """A row of results is written a step."""

    def step(t: int, state: tuple[jax.Array, jax.Array], w: jax.Array) -> tuple:
        rows, h = state
        h = jnp.tanh(h * w[0] + w[1])
        return rows.at[t].set(h), h

    def run(x: jax.Array, w: jax.Array) -> jax.Array:
        start = jnp.zeros((steps, 16)), x[:16]
        return lax.fori_loop(0, steps, partial(step, w=w), start)[0]

    return run


LOOPS = (numbers, smooth, nested, layers, entries, windows, table)


def pushforward(loop: Loop) -> dict[str, Callable]:
    """The tangent of the result along both arguments."""
    return {
        harness.OURS: lambda x, w: blockjac.jvp(loop, (x, w), (x, w))[1],
        "jax.jvp": lambda x, w: jax.jvp(loop, (x, w), (x, w))[1],
    }


def jacobian(loop: Loop) -> dict[str, Callable]:
    """The Jacobian by two numbers."""
    return {harness.OURS: blockjac.jacobian(loop, 1), "jacfwd": jax.jacfwd(loop, 1)}


def energy(loop: Loop) -> Loop:
    """A number made of the result."""
    return lambda x, w: jnp.sum(loop(x, w) ** 2)


def gradient(loop: Loop) -> dict[str, Callable]:
    """The gradient of a number made of the result."""
    return {
        harness.OURS: blockjac.grad(energy(loop), (0, 1)),
        "jax.grad": jax.grad(energy(loop), (0, 1)),
    }


def product(loop: Loop) -> dict[str, Callable]:
    """A product with the Hessian of a number made of the result."""

    def ours(x: jax.Array, w: jax.Array) -> jax.Array:
        return blockjac.hvp(lambda x: energy(loop)(x, w), x, x)

    def theirs(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(lambda x: energy(loop)(x, w)), (x,), (x,))[1]

    return {harness.OURS: ours, "jax.jvp": theirs}


QUESTIONS = (pushforward, jacobian, gradient, product)


def task(
    kind: Callable[[int], Loop], question: Callable[[Loop], dict[str, Callable]], steps: int
) -> harness.Task:
    """One question about one loop."""
    contenders = question(kind(steps))
    peer = next(name for name in contenders if name != harness.OURS)
    return harness.Task(
        title=f"{kind.__name__}, {steps:,} steps: {question.__name__}",
        arguments=(jnp.linspace(0.1, 0.9, LENGTH), jnp.array([0.9, 0.7])),
        contenders=contenders,
        alike=tuple(contenders),
        claims=(harness.Claim(1.05, (peer,)),),
    )


TASKS: dict[str, Callable[[], harness.Task]] = {
    f"{kind.__name__}-{question.__name__}-{steps}": partial(task, kind, question, steps)
    for kind in LOOPS
    for question in QUESTIONS
    for steps in STEPS
}


if __name__ == "__main__":
    harness.main("Loops cost what JAX's own derivatives of them cost", TASKS)
