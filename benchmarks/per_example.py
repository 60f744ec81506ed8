"""Tangent kernels and clipped gradients: what each example does, at the cost of the whole batch.

A tangent kernel is contracted from the factors of two Jacobians, where the definition contracts the
Jacobians. A clipped gradient is one reverse sweep, where the definition needs the gradient of each
example. All in float32, as networks are trained.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import blockjac
import harness

Function = Callable[..., Any]
Arrays = dict[str, jax.Array]


def normal(generator: np.random.Generator, *shape: int) -> jax.Array:
    """Numbers whose size suits a layer of this shape."""
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 2 else shape[0]
    return jnp.asarray(generator.normal(size=shape) / np.sqrt(fan_in), jnp.float32)


def cross_entropy(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """The loss of each example."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], axis=1)[:, 0]


# Networks, which give the logits of a batch


def dense_network(widths: tuple[int, ...]) -> tuple[Function, Any]:
    """Layers of these widths with `relu`."""
    generator = np.random.default_rng(0)
    params = [
        (normal(generator, before, after), jnp.zeros(after, jnp.float32))
        for before, after in itertools.pairwise(widths)
    ]

    def logits(params: Any, x: jax.Array) -> jax.Array:
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = params[-1]
        return x @ W + b

    return logits, params


def convolutional_network(channels: tuple[int, ...], side: int) -> tuple[Function, Any]:
    """Convolutions of 3 x 3 with `relu`, each followed by the maximum of 2 x 2, and a layer."""
    generator = np.random.default_rng(0)
    kernels = [
        (normal(generator, 3, 3, before, after), jnp.zeros(after, jnp.float32))
        for before, after in itertools.pairwise(channels)
    ]
    left = side // 2 ** len(kernels)
    params = {"kernels": kernels, "W": normal(generator, left * left * channels[-1], 10)}

    def logits(params: Any, x: jax.Array) -> jax.Array:
        for kernel, b in params["kernels"]:
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + b)
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(x.shape[0], -1) @ params["W"]

    return logits, params


def transformer(width: int, heads: int, layers: int) -> tuple[Function, Any]:
    """Attention and a layer of four times the width, with layer norm, and the mean over time."""
    generator = np.random.default_rng(0)
    size = width // heads
    params = {
        "layers": [
            {
                "scales": jnp.ones((2, width), jnp.float32),
                "qkv": normal(generator, width, 3, heads, size) * np.float32(np.sqrt(3 * heads)),
                "o": normal(generator, heads, size, width),
                "in": normal(generator, width, 4 * width),
                "out": normal(generator, 4 * width, width),
            }
            for _ in range(layers)
        ],
        "W": normal(generator, width, 10),
    }

    def normed(x: jax.Array, scale: jax.Array) -> jax.Array:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        return scale * centred * lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    def logits(params: Any, x: jax.Array) -> jax.Array:
        for layer in params["layers"]:
            before = normed(x, layer["scales"][0])
            q, k, v = jnp.moveaxis(jnp.einsum("ntd,dkhe->nthke", before, layer["qkv"]), 3, 0)
            scores = jnp.einsum("nthe,nshe->nhts", q, k) / np.float32(np.sqrt(size))
            seen = jnp.einsum("nhts,nshe->nthe", jax.nn.softmax(scores), v)
            x = x + jnp.einsum("nthe,hed->ntd", seen, layer["o"])
            x = x + jax.nn.gelu(normed(x, layer["scales"][1]) @ layer["in"]) @ layer["out"]
        return jnp.mean(x, axis=1) @ params["W"]

    return logits, params


def recurrent_network(inputs: int, width: int) -> tuple[Function, Any]:
    """A cell of `tanh` in a scan over time."""
    generator = np.random.default_rng(0)
    params = {
        "W": normal(generator, inputs, width),
        "U": normal(generator, width, width),
        "b": jnp.zeros(width, jnp.float32),
        "V": normal(generator, width, 10),
    }

    def logits(params: Any, x: jax.Array) -> jax.Array:
        def cell(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return jnp.tanh(x @ params["W"] + h @ params["U"] + params["b"]), None

        start = jnp.zeros((x.shape[0], width), x.dtype)
        h, _ = lax.scan(cell, start, jnp.swapaxes(x, 0, 1))
        return h @ params["V"]

    return logits, params


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
