"""Stencils: a sparse Jacobian costs about one evaluation of the function.

The peers return the values in a sparse array of JAX's, at places that they find (asdex) or that are
given (sparsejac). A Block's values are in its factors, whose places its index expressions tell.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers

A, B, DIFFUSION = 1.0, 3.4, 50.0
"""The Brusselator's constants; the last one over the square of the grid's spacing."""
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))
Function = Callable[[jax.Array], jax.Array]


def squared_differences(x: jax.Array) -> jax.Array:
    """The square of each difference of neighbours."""
    return (x[1:] - x[:-1]) ** 2


def brusselator(laplacian: Function, state: jax.Array) -> jax.Array:
    """How fast two substances `(2, n, n)` change that react and diffuse."""
    u, v = state
    reaction = u * u * v
    return jnp.stack(
        [
            A + reaction - (B + 1) * u + DIFFUSION * laplacian(u),
            B * u - reaction + DIFFUSION * laplacian(v),
        ]
    )


def round_laplacian(u: jax.Array) -> jax.Array:
    """Differences to the four neighbours, on a grid that closes on itself."""
    return sum((jnp.roll(u, step, (0, 1)) for step in NEIGHBOURS), -4 * u)


def bounded_laplacian(u: jax.Array) -> jax.Array:
    """Differences to the four neighbours, on a grid with zeros around it."""
    wide = jnp.pad(u, 1)
    return wide[2:, 1:-1] + wide[:-2, 1:-1] + wide[1:-1, 2:] + wide[1:-1, :-2] - 4 * u


LAPLACIANS = {"roll": round_laplacian, "pad": bounded_laplacian}


def difference_pattern(n: int) -> np.ndarray:
    """Rows and columns of the values of the Jacobian of `squared_differences`, `(count, 2)`."""
    rows = np.arange(n - 1)
    return np.concatenate([np.stack([rows, rows + shift], axis=1) for shift in (0, 1)])


def brusselator_pattern(n: int, boundary: str) -> np.ndarray:
    """Rows and columns of the values of the Brusselator's Jacobian, `(count, 2)`."""
    cells = np.arange(2 * n * n).reshape(2, n, n)
    pairs = [(cells, cells), (cells, cells[::-1])]
    for step in NEIGHBOURS:
        near = np.roll(cells, step, (1, 2))
        inside = np.ones((n, n), bool)
        if boundary == "pad":
            inside = np.roll(np.pad(inside, 1), step, (0, 1))[1:-1, 1:-1]
        pairs.append((cells[:, inside], near[:, inside]))
    return np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in pairs])


def values(title: str, function: Function, x: jax.Array, pattern: np.ndarray) -> harness.Task:
    """The values alone: ours in a Block, the peers' in a sparse array."""
    ours = blockjac.block_jacobian(function)
    block = jax.jit(ours)(x)
    harness.require_right(block, function, (x,), 0)
    count = len(pattern)
    return harness.Task(
        title=f"{title}, values",
        arguments=(x,),
        contenders={
            harness.OURS: ours,
            "dense by jacfwd": jax.jacfwd(function),
            "dense by jacrev": jax.jacrev(function),
            "the function, and filling": lambda x: (function(x), jnp.full(count, x.ravel()[0])),
        },
        others={
            "sparsejac forward": peers.sparsejac_values(function, pattern, x.shape, "jacfwd"),
            "sparsejac reverse": peers.sparsejac_values(function, pattern, x.shape, "jacrev"),
            "asdex": peers.asdex_jacobian(function, (x,), values=True),
        },
        claims=(
            harness.Claim(1.5, ("the function, and filling",)),
            harness.Claim(1.05, ("sparsejac forward", "sparsejac reverse", "asdex")),
        ),
        note=(
            f"{count:,} values that are not zero; the block stores {block.stored:,}. The third row "
            f"is one evaluation of the function and `jnp.full` of all values."
        ),
    )


def dense(title: str, function: Function, x: jax.Array) -> harness.Task:
    """All of the Jacobian, zeros and all."""
    return harness.Task(
        title=f"{title}, dense",
        arguments=(x,),
        contenders={
            harness.OURS: blockjac.jacobian(function),
            "jacfwd": jax.jacfwd(function),
            "jacrev": jax.jacrev(function),
        },
        others={"asdex": peers.asdex_jacobian(function, (x,))},
        dense="jacrev",
        alike=(harness.OURS, "jacfwd", "jacrev"),
        claims=(harness.Claim(1.05, ("jacfwd", "jacrev")), harness.Claim(1.05, ("asdex",))),
    )


def normal(*shape: int) -> jax.Array:
    """Normally distributed numbers."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def difference_values(n: int) -> harness.Task:
    """The values of the squared differences' Jacobian."""
    title = f"(x[1:] - x[:-1])^2, n = {n}"
    return values(title, squared_differences, normal(n), difference_pattern(n))


def brusselator_values(n: int, boundary: str) -> harness.Task:
    """The values of the Brusselator's Jacobian."""
    function = partial(brusselator, LAPLACIANS[boundary])
    pattern = brusselator_pattern(n, boundary)
    return values(f"Brusselator by {boundary}, 2 x {n} x {n}", function, normal(2, n, n), pattern)


def brusselator_dense(n: int, boundary: str) -> harness.Task:
    """The dense Jacobian of the Brusselator."""
    function = partial(brusselator, LAPLACIANS[boundary])
    return dense(f"Brusselator by {boundary}, 2 x {n} x {n}", function, normal(2, n, n))


TASKS = {
    "differences": partial(difference_values, 8192),
    "differences-dense": lambda: dense(
        "(x[1:] - x[:-1])^2, n = 2048", squared_differences, normal(2048)
    ),
    "roll": partial(brusselator_values, 64, "roll"),
    "pad": partial(brusselator_values, 64, "pad"),
    "roll-dense": partial(brusselator_dense, 32, "roll"),
    "pad-dense": partial(brusselator_dense, 32, "pad"),
}

if __name__ == "__main__":
    harness.main("Stencils: the Jacobian's values at the cost of the function", TASKS)
