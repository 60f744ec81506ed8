"""The Jacobian of a network's probabilities by all its parameters, dense and as factors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers

PARAMETERS = (0, 1, 2, 3)


def probabilities(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array
) -> jax.Array:
    """softmax(logistic(X W1 + b1) W2 + b2), one row an example."""
    return jax.nn.softmax(jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2, axis=-1)


def problem(n: int, k: int, h: int, m: int) -> tuple[jax.Array, ...]:
    """Parameters of a `k-h-m` network, and `n` examples."""
    generator = np.random.default_rng(0)
    shapes = ((k, h), (1, h), (h, m), (1, m), (n, k))
    return tuple(jnp.asarray(0.3 * generator.normal(size=shape)) for shape in shapes)


def by_rows(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array
) -> tuple[jax.Array, ...]:
    """One jacrev an example, which is what experts write."""

    def row(parameters: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
        return probabilities(*parameters, x[None])[0]

    return jax.vmap(jax.jacrev(row), in_axes=(None, 0))((W1, b1, W2, b2), X)


def torch_by_rows(arguments: tuple[jax.Array, ...]) -> harness.Peer:
    """The same in PyTorch."""

    def make() -> Callable[..., Any]:
        torch = peers.torch_module()
        *parameters, X = (peers.tensor_of(argument) for argument in arguments)

        def row(W1: Any, b1: Any, W2: Any, b2: Any, x: Any) -> Any:
            return torch.softmax(torch.sigmoid(x @ W1 + b1) @ W2 + b2, -1)[0]

        by_parameters = torch.func.jacrev(row, PARAMETERS)
        computed = torch.func.vmap(by_parameters, (None, None, None, None, 0))
        return peers.waited_for(lambda *_: computed(*parameters, X[:, None]))

    return harness.Peer(make, compiled=False)


def factors_by_hand(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array
) -> tuple[jax.Array, ...]:
    """The four Jacobians as the factors `X`, `B`, `hidden` and `S`.

    D_W1 = X[n, k] B[n, m, h]           D_b1 = B[n, m, h]
    D_W2 = hidden[n, h] S[n, m, m']     D_b2 = S[n, m, m']
    """
    hidden = jax.nn.sigmoid(X @ W1 + b1)
    Q = jax.nn.softmax(hidden @ W2 + b2, axis=-1)
    S = Q[:, :, None] * (jnp.eye(Q.shape[1]) - Q[:, None, :])
    B = jnp.einsum("nmj,hj->nmh", S, W2) * (hidden * (1 - hidden))[:, None, :]
    return X, B, hidden, S


def dense_by_hand(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array
) -> tuple[jax.Array, ...]:
    """The factors multiplied out."""
    X, B, hidden, S = factors_by_hand(W1, b1, W2, b2, X)
    return (
        X[:, None, :, None] * B[:, :, None, :],
        B[:, :, None, :],
        hidden[:, None, :, None] * S[:, :, None, :],
        S[:, :, None, :],
    )


def dense(n: int, k: int, h: int, m: int, coloured: bool) -> harness.Task:
    """All four blocks as arrays; `coloured` for asdex to take part."""
    arguments = problem(n, k, h, m)
    others = {"torch vmap(jacrev)": torch_by_rows(arguments)}
    if coloured:
        others["asdex"] = peers.asdex_jacobian(probabilities, arguments, PARAMETERS)
    return harness.Task(
        title=f"Probabilities by W1, b1, W2, b2, dense, {n} x {k}-{h}-{m}",
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.jacobian(probabilities, PARAMETERS),
            "jacfwd": jax.jacfwd(probabilities, PARAMETERS),
            "jacrev": jax.jacrev(probabilities, PARAMETERS),
            "vmap(jacrev)": by_rows,
            "by hand": dense_by_hand,
        },
        others=others,
        dense="by hand",
        alike=(harness.OURS, "jacfwd", "vmap(jacrev)", "by hand"),
        claims=(
            harness.Claim(1.05, ("jacfwd", "jacrev")),
            harness.Claim(1.05, ("vmap(jacrev)",)),
            harness.Claim(1.05, tuple(others)),
            harness.Claim(1.5, ("by hand",)),
        ),
        note="" if coloured else "asdex takes minutes to prepare here; see the smaller network.",
    )


def factors(n: int, k: int, h: int, m: int) -> harness.Task:
    """All four blocks as Blocks."""
    arguments = problem(n, k, h, m)
    ours = blockjac.block_jacobian(probabilities, PARAMETERS)
    blocks = jax.jit(ours)(*arguments)
    for wrt, block in zip(PARAMETERS, blocks, strict=True):
        harness.require_right(block, probabilities, arguments, wrt)
    stored = sum(block.nbytes for block in blocks)
    return harness.Task(
        title=f"Probabilities by W1, b1, W2, b2, as factors, {n} x {k}-{h}-{m}",
        arguments=arguments,
        contenders={harness.OURS: ours, "vmap(jacrev)": by_rows, "by hand": factors_by_hand},
        claims=(harness.Claim(1.5, ("by hand",)), harness.Claim(1.05, ("vmap(jacrev)",))),
        note=f"Stored by the four blocks: {stored:,} bytes, one by one.",
    )


TASKS = {
    "large_dense": partial(dense, 512, 30, 64, 10, coloured=False),
    "large_factors": partial(factors, 512, 30, 64, 10),
    "small_dense": partial(dense, 256, 30, 20, 5, coloured=True),
    "small_factors": partial(factors, 256, 30, 20, 5),
}


if __name__ == "__main__":
    harness.main("The Jacobian of a network's probabilities stays in factors", TASKS)
