"""GradBench: what it has beside ADBench's problems, each with the derivative asked.

The functions are in `public_problems`. `particle` and `saddle` are whole descents, in which one
derivative is taken of a program that holds another.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from adbench import autograd_of, gradient_of
from public_problems import nested, smooth

Function = Callable[..., Any]


def gradient(
    title: str, function: Function, arguments: tuple[Any, ...], shared: Function | None = None
) -> harness.Task:
    """The gradient by the first argument.

    Args:
        title: of the task.
        function: a scalar function.
        arguments: its arguments.
        shared: the same for PyTorch and autograd, with `xp=`.
    """

    def by_torch(*tensors: Any) -> Any:
        import torch

        return shared(*tensors, xp=torch)  # pyright: ignore[reportOptionalCall]

    def by_autograd(*arrays: Any) -> Any:
        import autograd.numpy

        return shared(*arrays, xp=autograd.numpy)  # pyright: ignore[reportOptionalCall]

    others: dict[str, harness.Peer] = {}
    if shared is not None:
        others = {
            "torch": gradient_of(by_torch, arguments, 1),
            "autograd": autograd_of(by_autograd, arguments, 1),
        }
    return harness.Task(
        title=title,
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.grad(function),
            "jax.grad": jax.grad(function),
            "the function": function,
        },
        others=others,
        alike=(harness.OURS, "jax.grad"),
        claims=(harness.Claim(1.05, ("jax.grad",)),)
        + ((harness.Claim(1.0, tuple(others)),) if others else ()),
    )


def clusters(count: int, dimensions: int, centroids: int) -> harness.Task:
    """Newton's direction of k-means: the gradient over the diagonal of the Hessian."""
    generator = np.random.default_rng(0)
    points = jnp.asarray(generator.normal(size=(count, dimensions)))
    arguments = points[:centroids] + 0.1, points
    cost = smooth.cluster_cost

    def ours(centroids: jax.Array, points: jax.Array) -> jax.Array:
        slope = blockjac.grad(cost)(centroids, points)
        return slope / blockjac.hessian_diagonal(cost)(centroids, points)

    def by_ones(centroids: jax.Array, points: jax.Array) -> jax.Array:
        """One knows that the Hessian is diagonal: its product with ones is the diagonal."""
        slope, diagonal = jax.jvp(
            lambda centroids: jax.grad(cost)(centroids, points),
            (centroids,),
            (jnp.ones_like(centroids),),
        )
        return slope / diagonal

    def dense(centroids: jax.Array, points: jax.Array) -> jax.Array:
        hessian = jax.hessian(cost)(centroids, points).reshape(centroids.size, centroids.size)
        slope = jax.grad(cost)(centroids, points)
        return slope / jnp.diagonal(hessian).reshape(centroids.shape)

    return harness.Task(
        title=f"kmeans: gradient over the Hessian's diagonal, {count:,} points, d = {dimensions}, "
        f"k = {centroids}",
        arguments=arguments,
        contenders={
            harness.OURS: ours,
            "jvp of jax.grad with ones": by_ones,
            "jax.hessian": dense,
            "the function": cost,
        },
        alike=(harness.OURS, "jvp of jax.grad with ones", "jax.hessian"),
        claims=(
            harness.Claim(1.05, ("jvp of jax.grad with ones",)),
            harness.Claim(0.2, ("jax.hessian",)),
        ),
        note="With ones one must know that the Hessian is diagonal; nothing would say otherwise.",
    )


def misfit(count: int, coefficients: int) -> harness.Task:
    """The gradient of a polynomial's misfit."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=coefficients))
    function = partial(smooth.polynomial_misfit, count=count)
    title = f"llsq: gradient, {count:,} values, {coefficients} coefficients"
    return gradient(title, function, (x,), function)


def softmax(count: int) -> harness.Task:
    """The gradient of LogSumExp."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=count))
    title = f"lse: gradient, {count:,} numbers"
    return gradient(title, smooth.log_sum_exp, (x,), smooth.log_sum_exp)


def equation(size: int, steps: int) -> harness.Task:
    """The gradient of the last state of an equation in time."""
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, size=size))
    title = f"ode: gradient, {size:,} states, {steps:,} steps"
    return gradient(title, partial(smooth.last_state, steps=steps), (x,))


def determinant(size: int, way: str) -> harness.Task:
    """The gradient of a determinant by expansion."""
    A = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)))
    words = {"recursion": "by recursion", "minors": "each minor once"}[way]
    function = getattr(smooth, f"determinant_by_{way}")
    return gradient(f"det: gradient, {size} x {size}, {words}", function, (A,))


MODES = {"f": jax.jacfwd, "r": jax.grad}


def descent(name: str) -> harness.Task:
    """A descent in a descent, with ours and with JAX's modes."""
    function = getattr(nested, name)
    start = {"particle": jnp.zeros(1), "saddle": jnp.ones(2)}[name]
    ways = {
        f"jax, {outer}{inner}": partial(function, outer=MODES[outer], inner=MODES[inner])
        for outer in MODES
        for inner in MODES
    }
    return harness.Task(
        title=f"{name}: the whole descent",
        arguments=(start,),
        contenders={
            harness.OURS: partial(function, outer=blockjac.jacobian, inner=blockjac.grad),
            **ways,
        },
        alike=(harness.OURS, *ways),
        claims=(harness.Claim(1.05, tuple(ways)),),
        note="f and r: forward and reverse mode, of the outer and of the inner derivative. What is "
        "differentiated outside may hold a loop of unknown length, which JAX does not transpose; "
        "`blockjac.jacobian` chooses the mode itself.",
    )


TASKS = {
    "kmeans-1000": partial(clusters, 1_000, 8, 10),
    "kmeans-100000": partial(clusters, 100_000, 8, 10),
    "llsq-1000": partial(misfit, 1_000, 16),
    "llsq-100000": partial(misfit, 100_000, 16),
    "lse-1000": partial(softmax, 1_000),
    "lse-1000000": partial(softmax, 1_000_000),
    "ode-100": partial(equation, 100, 100),
    "ode-1000": partial(equation, 1_000, 1_000),
    "det-4-recursion": partial(determinant, 4, "recursion"),
    "det-5-recursion": partial(determinant, 5, "recursion"),
    "det-10-minors": partial(determinant, 10, "minors"),
    "particle": partial(descent, "particle"),
    "saddle": partial(descent, "saddle"),
}

if __name__ == "__main__":
    harness.main("GradBench: what it has beside ADBench, in the derivative that it asks for", TASKS)
