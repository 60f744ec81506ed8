"""Tangent kernels and clipped gradients: what each example does, at the cost of the whole batch.

A tangent kernel is contracted from the factors of two Jacobians, where the definition contracts the
Jacobians. A clipped gradient is one reverse sweep, where the definition needs the gradient of each
example. All in float32, as networks are trained.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import blockjac
import harness
from networks import (
    convolutional_network,
    cross_entropy,
    dense_network,
    recurrent_network,
    transformer,
)

Function = Callable[..., Any]


# Tangent kernels


def by_jacobians(logits: Function, params: Any, x: jax.Array) -> jax.Array:
    """The kernel from the Jacobian of each example, contracted leaf by leaf."""

    def one(params: Any, x: jax.Array) -> jax.Array:
        return logits(params, x[None])[0]

    jacobians = jax.vmap(jax.jacrev(one), in_axes=(None, 0))(params, x)
    flat = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jacobians)]
    return sum(jnp.einsum("nip,mjp->nmij", leaf, leaf) for leaf in flat)  # pyright: ignore[reportReturnType]


def kernel(title: str, logits: Function, params: Any, shape: tuple[int, ...], limit: float) -> Any:
    """The kernel of a batch with itself, all logits by all logits."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    return harness.Task(
        title=f"Tangent kernel, {title}, {shape[0]} examples, float32",
        arguments=(params, x),
        contenders={harness.OURS: blockjac.ntk(logits), "the network alone": logits},
        uncompiled={"contracted vmap(jacrev)": jax.jit(partial(by_jacobians, logits))},
        alike=(harness.OURS, "contracted vmap(jacrev)"),
        claims=(harness.Claim(limit, ("contracted vmap(jacrev)",)),),
        note="Contracting is compiled too; its 10^11 operations and more are no reason to leave it "
        "out, as it is the definition.",
    )


def dense_kernel(widths: tuple[int, ...], limit: float) -> harness.Task:
    """A fully connected network, as in Novak et al., "Fast finite width neural tangent kernel"."""
    title = "-".join(map(str, widths))
    return kernel(title, *dense_network(widths), (16, widths[0]), limit)


def convolutional_kernel() -> harness.Task:
    """A small convolutional network."""
    network = convolutional_network((3, 16, 32, 32), 16)
    return kernel("3 convolutions of 16 x 16", *network, (8, 16, 16, 3), 0.2)


def recurrent_kernel() -> harness.Task:
    """A recurrent network, whose weights are shared over time."""
    return kernel("64-128 over 16 steps", *recurrent_network(64, 128), (16, 16, 64), 0.2)


# Clipped gradients

MAX_NORM = 1.0


def clipped(
    title: str, logits: Function, params: Any, shape: tuple[int, ...], peers: bool = True
) -> harness.Task:
    """The clipped gradient of a batch."""
    generator = np.random.default_rng(1)
    x = jnp.asarray(generator.normal(size=shape), jnp.float32)
    classes = jnp.asarray(generator.integers(10, size=shape[0]))

    def losses(params: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
        return cross_entropy(logits(params, x), classes)

    def total(params: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
        return jnp.sum(losses(params, x, classes))

    def by_example(params: Any, x: jax.Array, classes: jax.Array) -> Any:
        def one(params: Any, x: jax.Array, label: jax.Array) -> jax.Array:
            return losses(params, x[None], label[None])[0]

        each = jax.vmap(jax.grad(one), in_axes=(None, 0, 0))(params, x, classes)
        leaves = jax.tree.leaves(each)
        squares = [jnp.sum(leaf.reshape(len(leaf), -1) ** 2, axis=1) for leaf in leaves]
        scales = jnp.minimum(1, MAX_NORM * lax.rsqrt(sum(squares)))  # pyright: ignore[reportArgumentType, reportCallIssue]
        return jax.tree.map(lambda leaf: jnp.tensordot(scales, leaf, 1), each)

    def jax_privacy() -> Function:
        from jax_privacy import clipping

        def loss(params: Any, batch: Any) -> jax.Array:
            return losses(params, *batch)[0]

        transform = clipping.clipped_grad(loss, l2_clip_norm=MAX_NORM)
        return lambda params, x, classes: transform(params, (x, classes))

    by_all = "gradient of the sum"
    return harness.Task(
        title=f"Clipped gradient, {title}, {shape[0]} examples, float32",
        arguments=(params, x, classes),
        contenders={
            harness.OURS: blockjac.clipped_grad(losses, MAX_NORM),
            by_all: jax.grad(total),
            "vmap(grad), clipped": by_example,
        },
        others={"jax-privacy": harness.Peer(jax_privacy)} if peers else {},
        alike=(harness.OURS, "vmap(grad), clipped"),
        claims=(
            harness.Claim(1.3, (by_all,)),
            harness.Claim(1.0, ("vmap(grad), clipped",)),
        ),
        note="The gradient of the sum is `jax.grad`, without clipping: the least that can be asked "
        "for. Memory at most 1.05 x of its is the claim beside.",
    )


def clipped_dense() -> harness.Task:
    """Layers, each used once for an example."""
    widths = (784, 512, 512, 10)
    return clipped("784-512-512-10", *dense_network(widths), (256, 784))


def clipped_convolutions() -> harness.Task:
    """Convolutions with maxima."""
    network = convolutional_network((3, 16, 32, 32), 32)
    return clipped("3 convolutions of 32 x 32", *network, (64, 32, 32, 3))


def clipped_transformer() -> harness.Task:
    """Attention and layers over time."""
    title = "2 transformer layers of width 64, 32 steps"
    return clipped(title, *transformer(64, 4, 2), (32, 32, 64))


def clipped_recurrent() -> harness.Task:
    """A scan over time."""
    return clipped("64-128 over 32 steps", *recurrent_network(64, 128), (64, 32, 64))


TASKS = {
    "ntk_small": partial(dense_kernel, (784, 512, 512, 8), 0.02),
    "ntk_wide": partial(dense_kernel, (3072, 2048, 2048, 2048, 8), 0.02),
    "ntk_convolutional": convolutional_kernel,
    "ntk_recurrent": recurrent_kernel,
    "clipped_dense": clipped_dense,
    "clipped_convolutions": clipped_convolutions,
    "clipped_transformer": clipped_transformer,
    "clipped_recurrent": clipped_recurrent,
}

if __name__ == "__main__":
    harness.main("Each example of a batch", TASKS)
