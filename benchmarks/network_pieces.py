"""The Jacobians of a network's pieces: dense at the speed of writing, structured at next to none.

A piece's structured Jacobian is compared with what one would write by hand, who knows its form.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers

DENSE_PEERS = ("jacfwd", "jacrev")


def affine(X: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    """Rows of X by the weights, plus the bias."""
    return X @ W + b


def softmax(Z: jax.Array) -> jax.Array:
    """The softmax of each row."""
    return jax.nn.softmax(Z, axis=1)


def logistic(Z: jax.Array) -> jax.Array:
    """The logistic function of each entry."""
    return jax.nn.sigmoid(Z)


def normal(*shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Arrays of normally distributed numbers, the same in every run."""
    generator = np.random.default_rng(0)
    return tuple(jnp.asarray(generator.normal(size=shape)) for shape in shapes)


def dense(
    function: Callable[..., jax.Array],
    wrt: int,
    arguments: tuple[jax.Array, ...],
    title: str,
    by_rows: Callable[..., jax.Array],
) -> harness.Task:
    """The dense Jacobian by one argument: ours, JAX's two modes, and vmap(jacrev) by hand."""
    return harness.Task(
        title=title,
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.jacobian(function, wrt),
            "jacfwd": jax.jacfwd(function, wrt),
            "jacrev": jax.jacrev(function, wrt),
            "vmap(jacrev)": by_rows,
        },
        others={"asdex": peers.asdex_jacobian(function, arguments, wrt)},
        dense="vmap(jacrev)",
        alike=(harness.OURS, "jacfwd", "vmap(jacrev)"),
        claims=(harness.Claim(1.05, DENSE_PEERS), harness.Claim(1.05, ("asdex",))),
    )


def structured(
    function: Callable[..., jax.Array],
    wrt: int,
    arguments: tuple[jax.Array, ...],
    title: str,
    ways: dict[str, Callable[..., jax.Array]],
    by_hand: Callable[..., jax.Array | tuple[jax.Array, ...]],
    places: np.ndarray | None = None,
) -> harness.Task:
    """The Jacobian by one argument as a Block: ours, what gives its values too, by hand.

    With the `places` of the values, `(count, 2)`, sparsejac takes part.
    """
    ours = blockjac.block_jacobian(function, wrt)
    block = jax.jit(ours)(*arguments)
    harness.require_right(block, function, arguments, wrt)
    others = {"asdex": peers.asdex_jacobian(function, arguments, wrt, values=True)}
    if places is not None:
        shape = arguments[0].shape
        others["sparsejac"] = peers.sparsejac_values(function, places, shape, "jacrev")
    return harness.Task(
        title=title,
        arguments=arguments,
        contenders={harness.OURS: ours, **ways, "by hand": by_hand},
        others=others,
        claims=(
            harness.Claim(1.5, ("by hand",)),
            harness.Claim(1.05, tuple(ways)),
            harness.Claim(1.05, tuple(others)),
        ),
        note=f"Stored: {block.nbytes:,} bytes, of {dense_bytes(block):,} dense.",
    )


def within_rows(n: int, m: int) -> np.ndarray:
    """Rows and columns of the values where each of `n` rows of `m` depends on itself alone."""
    entries = np.arange(n * m).reshape(n, m)
    pairs = np.broadcast_arrays(entries[:, :, None], entries[:, None, :])
    return np.stack([entry.ravel() for entry in pairs], axis=1)


def dense_bytes(block: blockjac.Block) -> int:
    """What the block would take as an array."""
    return int(np.prod(block.shape, dtype=object)) * np.dtype(block.dtype).itemsize


def spread_rows(blocks: jax.Array) -> jax.Array:
    """Blocks `(n, m, k)`, one a row, as the Jacobian `(n, m, n, k)` with zeros between the rows."""
    n, m, k = blocks.shape
    return jnp.zeros((n, m, n, k), blocks.dtype).at[jnp.arange(n), :, jnp.arange(n)].set(blocks)


def affine_rows(wrt: int, X: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    """The Jacobian of `affine` row by row; by X, one block a row."""
    per_row = jax.jacrev(lambda x, W, b: x @ W + b[0], wrt)
    blocks = jax.vmap(per_row, in_axes=(0, None, None))(X, W, b)
    return spread_rows(blocks) if wrt == 0 else blocks


def softmax_rows(Z: jax.Array) -> jax.Array:
    """The Jacobian of each row's softmax, `(n, m, m)`."""
    return jax.vmap(jax.jacrev(jax.nn.softmax))(Z)


def logistic_entries(Z: jax.Array) -> jax.Array:
    """The derivative of each entry."""
    return jax.vmap(jax.vmap(jax.grad(jax.nn.sigmoid)))(Z)


def logistic_dense(Z: jax.Array) -> jax.Array:
    """The derivative of each entry, on the diagonal of the dense Jacobian."""
    return jnp.diag(logistic_entries(Z).ravel()).reshape(Z.shape + Z.shape)


def softmax_by_hand(Z: jax.Array) -> jax.Array:
    """`q_i (delta_ij - q_j)` for each row."""
    Q = jax.nn.softmax(Z, axis=1)
    return Q[:, :, None] * (jnp.eye(Q.shape[1]) - Q[:, None, :])


def logistic_by_hand(Z: jax.Array) -> jax.Array:
    """`y (1 - y)` for each entry."""
    Y = jax.nn.sigmoid(Z)
    return Y * (1 - Y)


def affine_dense(wrt: int) -> harness.Task:
    """One of the three dense Jacobians of `X W + b`."""
    return dense(
        affine,
        wrt,
        normal((256, 30), (30, 32), (1, 32)),
        f"D_{'XWb'[wrt]} (XW + b) dense, 256 x 30, 32",
        partial(affine_rows, wrt),
    )


def affine_structured(wrt: int) -> harness.Task:
    """One of the three structured Jacobians of `X W + b`: the other operand, or nothing at all."""
    by_hand = (
        lambda X, W, b: W,
        lambda X, W, b: X,
        lambda X, W, b: (),
    )
    per_row = jax.vmap(jax.jacrev(lambda x, W, b: x @ W + b[0], wrt), in_axes=(0, None, None))
    return structured(
        affine,
        wrt,
        normal((1024, 256), (256, 64), (1, 64)),
        f"D_{'XWb'[wrt]} (XW + b) structured, 1024 x 256, 64",
        {"vmap(jacrev)": per_row},
        by_hand[wrt],
    )


TASKS = {
    "X_dense": partial(affine_dense, 0),
    "W_dense": partial(affine_dense, 1),
    "b_dense": partial(affine_dense, 2),
    "softmax_dense": lambda: dense(
        softmax,
        0,
        normal((512, 10)),
        "D_Z softmax dense, 512 x 10",
        lambda Z: spread_rows(softmax_rows(Z)),
    ),
    "logistic_dense": lambda: dense(
        logistic, 0, normal((256, 32)), "D_Z logistic dense, 256 x 32", logistic_dense
    ),
    "X_structured": partial(affine_structured, 0),
    "W_structured": partial(affine_structured, 1),
    "b_structured": partial(affine_structured, 2),
    "softmax_structured": lambda: structured(
        softmax,
        0,
        normal((512, 10)),
        "D_Z softmax structured, 512 x 10",
        {"vmap(jacrev)": softmax_rows},
        softmax_by_hand,
        within_rows(512, 10),
    ),
    "logistic_structured": lambda: structured(
        logistic,
        0,
        normal((1024, 64)),
        "D_Z logistic structured, 1024 x 64",
        {"vmap(grad)": logistic_entries},
        logistic_by_hand,
        within_rows(1024 * 64, 1),
    ),
}


if __name__ == "__main__":
    harness.main("The pieces of a network have Jacobians that cost what they hold", TASKS)
