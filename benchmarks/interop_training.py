"""Private training and normalizing flows as clients ask for them, beside what they do themselves.

A clipped gradient is called as jax-privacy's is, with the loss of a batch of one example. The
determinant of a flow's Jacobian is found from its structure, where a dense one is written out and
factored, and where libraries of flows have a formula written by hand for each layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import harness
from blockjac import interop
from networks import (
    convolutional_network,
    cross_entropy,
    dense_network,
    recurrent_network,
    transformer,
)

Function = Callable[..., Any]


# Private training


def private(title: str, network: tuple[Function, Any], shape: tuple[int, ...]) -> harness.Task:
    """The sum of clipped gradients of a batch, and the norms, by the signature of jax-privacy."""
    logits, params = network
    generator = np.random.default_rng(1)
    x = jnp.asarray(generator.normal(size=shape), jnp.float32)
    classes = jnp.asarray(generator.integers(10, size=shape[0]))

    def loss(params: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
        return jnp.mean(cross_entropy(logits(params, x), classes))

    options: dict[str, Any] = {
        "l2_clip_norm": 1.0,
        "batch_argnums": (1, 2),
        "return_grad_norms": True,
    }

    def by_jax_privacy() -> Function:
        from jax_privacy import clipping

        return clipping.clipped_grad(loss, **options)

    plain, theirs = "gradient of the mean", "jax-privacy"
    return harness.Task(
        title=f"Clipped gradient, {title}, {shape[0]} examples, float32",
        arguments=(params, x, classes),
        contenders={harness.OURS: interop.clipped_grad(loss, **options), plain: jax.grad(loss)},
        others={theirs: harness.Peer(by_jax_privacy)},
        alike=(harness.OURS,),
        claims=(harness.Claim(1.3, (plain,)), harness.Claim(1.0, (theirs,))),
        note="The gradient of the mean is `jax.grad`, without clipping and norms.",
    )


# Normalizing flows


def real_nvp(size: int, layers: int) -> tuple[Function, Function]:
    """Coupling layers, each followed by a reversal; and the same with the formula by hand."""
    generator = np.random.default_rng(0)
    half, width = size // 2, 2 * size
    params = [
        (
            jnp.asarray(generator.normal(size=(half, width)) / half**0.5),
            jnp.asarray(0.1 * generator.normal(size=(width, size)) / width**0.5),
        )
        for _ in range(layers)
    ]

    def halves(params: Any, a: jax.Array) -> list[jax.Array]:
        W, V = params
        return jnp.split(jnp.tanh(a @ W) @ V, 2)

    def flow(x: jax.Array) -> jax.Array:
        for layer in params:
            a, b = jnp.split(x, 2)
            scale, shift = halves(layer, a)
            x = jnp.concatenate([a, b * jnp.exp(scale) + shift])[::-1]
        return x

    def by_hand(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros(())
        for layer in params:
            a, b = jnp.split(x, 2)
            scale, shift = halves(layer, a)
            x = jnp.concatenate([a, b * jnp.exp(scale) + shift])[::-1]
            total += jnp.sum(scale)
        return x, total

    return flow, by_hand


def autoregressive(size: int, layers: int) -> tuple[Function, Function]:
    """Masked autoregressive layers, each followed by a reversal."""
    generator = np.random.default_rng(0)
    width = 2 * size
    degrees = np.arange(width) % (size - 1)
    into = (degrees[:, None] >= np.arange(size)).astype(float)
    out = (np.arange(size)[:, None] > degrees).astype(float)
    params = [
        (
            jnp.asarray(generator.normal(size=(width, size)) / size**0.5),
            *(jnp.asarray(0.1 * generator.normal(size=(2, size, width)) / width**0.5)),
        )
        for _ in range(layers)
    ]

    def layer(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        W, S, T = params
        hidden = jnp.tanh((W * into) @ x)
        scale = (S * out) @ hidden
        return (x * jnp.exp(scale) + (T * out) @ hidden)[::-1], jnp.sum(scale)

    def flow(x: jax.Array) -> jax.Array:
        for own in params:
            x = layer(own, x)[0]
        return x

    def by_hand(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros(())
        for own in params:
            x, scale = layer(own, x)
            total += scale
        return x, total

    return flow, by_hand


def planar(size: int, layers: int) -> tuple[Function, Function]:
    """Planar layers."""
    generator = np.random.default_rng(0)
    params = jnp.asarray(generator.normal(size=(layers, 2, size)) / size**0.5)

    def flow(x: jax.Array) -> jax.Array:
        for u, w in params:
            x = x + u * jnp.tanh(w @ x)
        return x

    def by_hand(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros(())
        for u, w in params:
            t = jnp.tanh(w @ x)
            x, total = x + u * t, total + jnp.log(jnp.abs(1 + (1 - t**2) * (w @ u)))
        return x, total

    return flow, by_hand


def glow(size: int, layers: int) -> tuple[Function, Function]:
    """1x1 convolutions of images of `size x size` with 12 channels, with `sinh` between."""
    generator = np.random.default_rng(0)
    kernels = jnp.asarray(np.eye(12) + 0.1 * generator.normal(size=(layers, 12, 12)))

    def flow(x: jax.Array) -> jax.Array:
        image = x.reshape(size, size, 12)
        for kernel in kernels:
            image = jnp.arcsinh(image @ kernel)
        return image.ravel()

    def by_hand(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        image, total = x.reshape(size, size, 12), jnp.zeros(())
        for kernel in kernels:
            image = image @ kernel
            total += size**2 * jnp.linalg.slogdet(kernel)[1] - 0.5 * jnp.sum(jnp.log1p(image**2))
            image = jnp.arcsinh(image)
        return image.ravel(), total

    return flow, by_hand


def flow(
    title: str, make: Callable[[int, int], tuple[Function, Function]], size: int, layers: int
) -> harness.Task:
    """The value and the determinant of a batch of 64 points, and the gradient of a likelihood."""
    forward, by_hand = make(size, layers)
    count = 12 * size**2 if make is glow else size
    points = 4 if make is glow else 64
    X = jnp.asarray(np.random.default_rng(2).normal(size=(points, count)))

    def dense(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return forward(x), jnp.linalg.slogdet(jax.jacfwd(forward)(x))[1]

    def likelihood(transform: Function) -> Function:
        def loss(X: jax.Array) -> jax.Array:
            values, logarithms = jax.vmap(transform)(X)
            return 0.5 * jnp.sum(values**2) - jnp.sum(logarithms)

        return jax.value_and_grad(loss)

    by_slogdet, formula = "slogdet(jacfwd)", "by hand"
    return harness.Task(
        title=f"Likelihood of {title}, {count} numbers, {layers} layers, {points} points, gradient",
        arguments=(X,),
        contenders={
            harness.OURS: likelihood(interop.log_abs_det_jacobian(forward)),
            formula: likelihood(by_hand),
            by_slogdet: likelihood(dense),
        },
        alike=(harness.OURS, formula, by_slogdet),
        claims=(harness.Claim(1.2, (formula,)), harness.Claim(1.0, (by_slogdet,))),
    )


def flowjax_spline() -> harness.Task:
    """A flow of flowjax, whose layers have their determinants written by hand."""

    def bijection() -> Any:
        import flowjax.bijections as bijections
        import paramax
        from flowjax.distributions import Normal
        from flowjax.flows import coupling_flow

        flow = coupling_flow(
            jax.random.key(0),
            base_dist=Normal(jnp.zeros(16)),
            transformer=bijections.RationalQuadraticSpline(knots=8, interval=4),
            flow_layers=4,
            invert=False,
        )
        return paramax.unwrap(flow.bijection)

    def ours(X: jax.Array) -> Any:
        own = bijection()
        return jax.vmap(interop.log_abs_det_jacobian(lambda x: own.transform(x)))(X)

    def theirs() -> Function:
        own = bijection()
        return jax.vmap(lambda x: own.transform_and_log_det(x))

    X = jnp.asarray(np.random.default_rng(2).normal(size=(64, 16)))
    return harness.Task(
        title="Value and determinant of flowjax's spline coupling flow, 16 numbers, 4 layers",
        arguments=(X,),
        contenders={harness.OURS: ours},
        others={"flowjax": harness.Peer(theirs)},
        alike=(harness.OURS,),
        claims=(harness.Claim(1.2, ("flowjax",)),),
    )


TASKS = {
    "private_dense": lambda: private(
        "784-512-512-10", dense_network((784, 512, 512, 10)), (256, 784)
    ),
    "private_convolutions": lambda: private(
        "3 convolutions of 32 x 32", convolutional_network((3, 16, 32, 32), 32), (64, 32, 32, 3)
    ),
    "private_transformer": lambda: private(
        "2 transformer layers of width 64, 32 steps", transformer(64, 4, 2), (32, 32, 64)
    ),
    "private_recurrent": lambda: private(
        "64-128 over 32 steps", recurrent_network(64, 128), (64, 32, 64)
    ),
    "flow_coupling": partial(flow, "RealNVP", real_nvp, 64, 8),
    "flow_autoregressive": partial(flow, "a masked autoregressive flow", autoregressive, 32, 4),
    "flow_planar": partial(flow, "a planar flow", planar, 64, 8),
    "flow_glow": partial(flow, "Glow's convolutions", glow, 4, 4),
    "flow_flowjax": flowjax_spline,
}

if __name__ == "__main__":
    harness.main("Private training and normalizing flows", TASKS)
