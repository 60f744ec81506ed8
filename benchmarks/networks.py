"""Networks that several benchmarks differentiate, each with its parameters, in float32.

A network takes the parameters and a batch, and gives the logits.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Function = Callable[..., Any]


def normal(generator: np.random.Generator, *shape: int) -> jax.Array:
    """Numbers whose size suits a layer of this shape."""
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 2 else shape[0]
    return jnp.asarray(generator.normal(size=shape) / np.sqrt(fan_in), jnp.float32)


def cross_entropy(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """The loss of each example."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], axis=1)[:, 0]


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
