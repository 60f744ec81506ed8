"""Likelihoods that hold a determinant, and a long expression of numbers, which Python unrolled."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness

UNROLLED = 300


def process(n: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """A Gaussian process's log likelihood by `slogdet` and `solve`, of five numbers."""
    random = np.random.default_rng(0)
    places = jnp.asarray(random.normal(size=(n, 3)))
    seen = jnp.asarray(random.normal(size=n))

    def likelihood(logs: jax.Array) -> jax.Array:
        scaled = places * jnp.exp(logs[:3])
        squares = jnp.sum((scaled[:, None] - scaled[None]) ** 2, -1)
        matrix = jnp.exp(logs[3] - squares / 2) + jnp.exp(logs[4]) * jnp.eye(n)
        return -(seen @ jnp.linalg.solve(matrix, seen) + jnp.linalg.slogdet(matrix)[1]) / 2

    return likelihood, jnp.array([0.1, -0.2, 0.3, 0.2, -1.0])


def coupling(size: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """Three layers, each of which moves one half of a vector by a network of the other half."""
    random = np.random.default_rng(0)
    half = size // 2
    layers = [
        tuple(jnp.asarray(random.normal(size=(half, half)) / half**0.5) for _ in range(3))
        for _ in range(3)
    ]

    def flow(x: jax.Array) -> jax.Array:
        kept, moved = x[:half], x[half:]
        for first, scale, shift in layers:
            hidden = jnp.tanh(first @ kept)
            kept, moved = moved * jnp.exp(jnp.tanh(scale @ hidden)) + shift @ hidden, kept
        return jnp.concatenate([kept, moved])

    return flow, jnp.asarray(random.normal(size=size))


def unrolled(x: jax.Array) -> jax.Array:
    """Numbers that follow from each other, a line of Python each."""
    a, b = x[0], x[1]
    for k in range(UNROLLED):
        a, b = a + 0.01 * jnp.sin(b * (1 + k % 3)), b - 0.01 * a * b
    return a * b


def derivative(n: int, name: str, ours: Callable, theirs: Callable) -> harness.Task:
    """A derivative of the process's likelihood, by ours and by JAX's transform of one name."""
    likelihood, logs = process(n)
    way = f"jax.{name}"
    return harness.Task(
        title=f"{name} of a Gaussian process's log likelihood, {n} points",
        arguments=(logs,),
        contenders={harness.OURS: ours(likelihood), way: theirs(likelihood)},
        alike=(harness.OURS, way),
        claims=(harness.Claim(1.05, (way,)),),
    )


def volume(size: int) -> harness.Task:
    """The logarithm of the determinant of the coupling layers' Jacobian."""
    flow, x = coupling(size)

    def log_volume(jacobian: Callable) -> Callable[[jax.Array], jax.Array]:
        return lambda x: jnp.linalg.slogdet(jacobian(flow)(x))[1]

    return harness.Task(
        title=f"log|det J| of three coupling layers, {size} numbers",
        arguments=(x,),
        contenders={
            harness.OURS: log_volume(blockjac.jacobian),
            "jacfwd": log_volume(jax.jacfwd),
            "jacrev": log_volume(jax.jacrev),
        },
        alike=(harness.OURS, "jacfwd"),
        claims=(harness.Claim(1.05, ("jacfwd", "jacrev")),),
    )


def product() -> harness.Task:
    """A product with the Hessian of an expression that was unrolled."""
    return harness.Task(
        title=f"Hessian product of {UNROLLED} unrolled steps of two numbers",
        arguments=(jnp.array([0.3, 0.7]),),
        contenders={
            harness.OURS: lambda x: blockjac.hvp(unrolled, x, x),
            "jax.jvp": lambda x: jax.jvp(jax.grad(unrolled), (x,), (x,))[1],
        },
        alike=(harness.OURS, "jax.jvp"),
        claims=(harness.Claim(1.05, ("jax.jvp",)),),
    )


TASKS: dict[str, Callable[[], harness.Task]] = {
    "process-gradient-40": partial(derivative, 40, "grad", blockjac.grad, jax.grad),
    "process-gradient-200": partial(derivative, 200, "grad", blockjac.grad, jax.grad),
    "process-hessian-40": partial(derivative, 40, "hessian", blockjac.hessian, jax.hessian),
    "process-hessian-200": partial(derivative, 200, "hessian", blockjac.hessian, jax.hessian),
    "coupling-16": partial(volume, 16),
    "coupling-64": partial(volume, 64),
    "unrolled-product": product,
}


if __name__ == "__main__":
    harness.main("Likelihoods and unrolled programs cost what they cost in JAX", TASKS)
