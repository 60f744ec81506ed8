"""Laplacians of networks, wave functions and energies: the trace of a Hessian without it.

folx propagates values, Jacobians and Laplacians forwards, as one program with dense Jacobians, or
with Jacobians whose nonzero entries it finds when it traces, up to a number (the threshold).
All contenders of a task give the Laplacian alone, in float64, one `jax.vmap` around it for a batch.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness

Function = Callable[..., Any]
FOLX = "folx, dense"
FOLX_SPARSE = "folx, sparse, threshold {}"


def by_folx(function: Function, batched: bool, threshold: int) -> harness.Peer:
    """The Laplacian by folx."""

    def make() -> Function:
        import folx

        def of_one(x: jax.Array, *others: Any) -> Any:
            return folx.forward_laplacian(
                lambda x: function(x, *others), sparsity_threshold=threshold
            )(x).laplacian

        return in_batches(of_one, batched)

    return harness.Peer(make)


def by_hessian(function: Function) -> Function:
    """The trace of the dense Hessian."""

    def trace(x: jax.Array, *others: Any) -> Any:
        hessian = jax.hessian(lambda flat: function(flat.reshape(x.shape), *others))
        return jnp.trace(hessian(x.ravel()))

    return trace


def in_batches(function: Function, batched: bool) -> Function:
    """A function of a point at many points, with the same further arguments."""
    if not batched:
        return function
    return lambda x, *others: jax.vmap(lambda x: function(x, *others))(x)


def task(
    title: str,
    function: Function,
    arguments: tuple[Any, ...],
    *,
    batched: bool,
    thresholds: Sequence[int] = (),
    note: str = "",
) -> harness.Task:
    """The Laplacian of a function of a point, by all contenders.

    Args:
        title: of the task.
        function: of a point and further arguments.
        arguments: the point, or many points, and the further arguments.
        batched: whether there are many points.
        thresholds: those of folx in sparse mode, which is left out without any.
        note: a sentence for the page.
    """
    sparse = {FOLX_SPARSE.format(number): number for number in thresholds}
    peers = {FOLX: 0, **sparse}
    return harness.Task(
        title=title,
        arguments=arguments,
        contenders={
            # The first one compiled pays for what JAX loads on first use.
            "jax.hessian": in_batches(by_hessian(function), batched),
            harness.OURS: in_batches(blockjac.laplacian(function), batched),
        },
        others={name: by_folx(function, batched, number) for name, number in peers.items()},
        alike=(harness.OURS, "jax.hessian"),
        claims=(harness.Claim(0.8, tuple(peers)),),
        note=note,
    )


def weights(generator: np.random.Generator, *shape: int) -> jax.Array:
    """A random matrix that keeps the size of what it is multiplied with."""
    return jnp.asarray(generator.normal(size=shape) / np.sqrt(shape[0]))


def dense_layers(sizes: Sequence[int]) -> list[tuple[jax.Array, jax.Array]]:
    """The matrices and shifts of a network with layers of these sizes."""
    generator = np.random.default_rng(0)
    return [
        (weights(generator, *pair), weights(generator, pair[1]))
        for pair in itertools.pairwise(sizes)
    ]


def network(x: jax.Array, layers: Sequence[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """A network of tanh with one number as its result."""
    for W, b in layers[:-1]:
        x = jnp.tanh(x @ W + b)
    W, b = layers[-1]
    return jnp.sum(x @ W + b)


def perceptron(batch: int | None) -> harness.Task:
    """A network of four hidden layers of 256."""
    shape = (48,) if batch is None else (batch, 48)
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape))
    at = "one point" if batch is None else f"{batch} points"
    return task(
        f"A network 48-256-256-256-256-1 of tanh, {at}",
        network,
        (x, dense_layers((48, 256, 256, 256, 256, 1))),
        batched=batch is not None,
    )


def wide() -> harness.Task:
    """A network of more inputs than it has units in a layer."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(16, 784)))
    layers = dense_layers((784, 128, 128, 128, 1))
    title = "A network 784-128-128-128-1 of tanh, 16 points"
    return task(title, network, (x, layers), batched=True)


def physics_informed() -> harness.Task:
    """A network as in physics-informed learning: few inputs, many points."""
    x = jnp.asarray(np.random.default_rng(1).uniform(size=(1024, 3)))
    layers = dense_layers((3, 64, 64, 64, 64, 1))
    title = "A physics-informed network 3-64-64-64-64-1 of tanh, 1,024 points"
    return task(title, network, (x, layers), batched=True)


def readme_of_folx() -> harness.Task:
    """The example of folx's README: a network of each node by itself."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(20, 100, 4)))
    layers = dense_layers((4, *[100] * 10, 1))

    def nodes(x: jax.Array, layers: Any) -> jax.Array:
        for W, b in layers[:-1]:
            x = jax.nn.silu(x @ W + b)
        W, b = layers[-1]
        return jnp.sum(x @ W + b)

    return task(
        "folx's README: a network 4-100x10-1 of silu, of 100 nodes each by itself, 20 points",
        nodes,
        (x, layers),
        batched=True,
        thresholds=(4,),
    )


NUCLEI = jnp.array([[0.0, 0.0, 0.7], [0.0, 0.0, -0.7]])


def one_electron_features(x: jax.Array) -> jax.Array:
    """Each electron's way to each nucleus, and its length."""
    ways = x[:, None] - NUCLEI[None]
    lengths = jnp.sqrt(jnp.sum(ways**2, axis=-1, keepdims=True))
    return jnp.concatenate([ways, lengths], axis=-1).reshape(x.shape[0], -1)


def envelope(x: jax.Array) -> jax.Array:
    """The decay of each electron's orbitals away from the nuclei."""
    ways = x[:, None] - NUCLEI[None]
    return jnp.sum(jnp.exp(-jnp.sqrt(jnp.sum(ways**2, axis=-1))), axis=-1)


def normalized(h: jax.Array) -> jax.Array:
    """Layer normalization without parameters."""
    centered = h - jnp.mean(h, axis=-1, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + 1e-5)


def log_determinant(h: jax.Array, x: jax.Array, orbitals: jax.Array) -> jax.Array:
    """The logarithm of a sum of determinants of orbitals."""
    matrices = jnp.einsum("nw,wdk->dnk", h, orbitals) * envelope(x)[None, :, None]
    signs, logs = jnp.linalg.slogdet(matrices)
    largest = jax.lax.stop_gradient(jnp.max(logs))
    return jnp.log(jnp.abs(jnp.sum(signs * jnp.exp(logs - largest)))) + largest


def attention_state(flat: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    """The logarithm of a wave function with attention between electrons."""
    x = flat.reshape(-1, 3)
    h = one_electron_features(x) @ params["embedding"]
    for layer in params["layers"]:
        y = normalized(h)
        q, k, v = (jnp.einsum("nw,whd->hnd", y, layer[name]) for name in "qkv")
        scores = jnp.einsum("hnd,hmd->hnm", q, k) / np.sqrt(q.shape[-1])
        mixed = jnp.einsum("hnm,hmd->nhd", jax.nn.softmax(scores), v)
        h = h + mixed.reshape(h.shape[0], -1) @ layer["out"]
        h = h + jnp.tanh(normalized(h) @ layer["up"]) @ layer["down"]
    return log_determinant(h, x, params["orbitals"])


def attention_parameters(electrons: int, width: int, heads: int, layers: int) -> dict[str, Any]:
    """Random parameters of `attention_state`."""
    generator = np.random.default_rng(0)
    return {
        "embedding": weights(generator, 4 * len(NUCLEI), width),
        "layers": [
            {
                **{name: weights(generator, width, heads, width // heads) for name in "qkv"},
                "out": weights(generator, width, width),
                "up": weights(generator, width, width),
                "down": weights(generator, width, width),
            }
            for _ in range(layers)
        ],
        "orbitals": weights(generator, width, 4, electrons),
    }


def psiformer() -> harness.Task:
    """A wave function with attention."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(16, 24)))
    return task(
        "A wave function with attention: 8 electrons, width 64, 4 heads, 2 layers, 16 points",
        attention_state,
        (x, attention_parameters(8, 64, 4, 2)),
        batched=True,
        thresholds=(6, 12),
    )


def streams_state(flat: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    """The logarithm of a wave function with streams of single electrons and of pairs."""
    x = flat.reshape(-1, 3)
    count = x.shape[0]
    h = one_electron_features(x)
    ways = x[:, None] - x[None]
    lengths = jnp.sqrt(jnp.sum(ways**2, axis=-1) + jnp.eye(count))[..., None]
    pairs = jnp.concatenate([ways, lengths * (1 - jnp.eye(count)[..., None])], axis=-1)
    for layer in params["layers"]:
        mean = jnp.broadcast_to(jnp.mean(h, axis=0), h.shape)
        joint = jnp.concatenate([h, mean, jnp.mean(pairs, axis=1)], axis=-1)
        new = jnp.tanh(joint @ layer["single"])
        h = new + h if new.shape == h.shape else new
        further = jnp.tanh(pairs @ layer["pair"])
        pairs = further + pairs if further.shape == pairs.shape else further
    return log_determinant(h, x, params["orbitals"])


def streams_parameters(electrons: int, single: int, pair: int, layers: int) -> dict[str, Any]:
    """Random parameters of `streams_state`."""
    generator = np.random.default_rng(0)
    sizes = [(4 * len(NUCLEI), 4), *[(single, pair)] * (layers - 1)]
    return {
        "layers": [
            {"single": weights(generator, 2 * h + p, single), "pair": weights(generator, p, pair)}
            for h, p in sizes
        ],
        "orbitals": weights(generator, single, 4, electrons),
    }


def ferminet() -> harness.Task:
    """A wave function with streams of single electrons and of pairs."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(16, 18)))
    return task(
        "A wave function with two streams: 6 electrons, widths 64 and 16, 3 layers, 16 points",
        streams_state,
        (x, streams_parameters(6, 64, 16, 3)),
        batched=True,
        thresholds=(6, 12),
    )


def gaussians(particles: int, half: bool) -> harness.Task:
    """An energy of pairs, each pair once or all with all."""
    first, second = np.triu_indices(particles, 1)

    def energy(flat: jax.Array) -> jax.Array:
        x = flat.reshape(-1, 3)
        ways = x[first] - x[second] if half else x[:, None] - x[None]
        return jnp.sum(jnp.exp(-jnp.sum(ways**2, axis=-1)))

    x = jnp.asarray(np.random.default_rng(1).normal(size=3 * particles))
    pairs = "i < j" if half else "all i and j"
    title = f"Gaussians of the distances of {particles} particles, {pairs}, one point"
    return task(title, energy, (x,), batched=False, thresholds=(6,))


def jastrow() -> harness.Task:
    """The correlation factor of a wave function."""
    first, second = np.triu_indices(16, 1)

    def factor(flat: jax.Array) -> jax.Array:
        x = flat.reshape(-1, 3)
        lengths = jnp.sqrt(jnp.sum((x[first] - x[second]) ** 2, axis=-1))
        return jnp.sum(0.5 * lengths / (1 + lengths))

    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 48)))
    title = "A Jastrow factor of 16 electrons over i < j, 8 points"
    return task(title, factor, (x,), batched=True, thresholds=(6,))


def separable() -> harness.Task:
    """A sum of functions of one variable each."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=1_000))

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(x) * jnp.exp(-(x**2)))

    title = "A sum of functions of one variable each, 1,000 variables"
    return task(title, total, (x,), batched=False, thresholds=(1,))


TASKS: Mapping[str, Callable[[], harness.Task]] = {
    "network": partial(perceptron, None),
    "network-64": partial(perceptron, 64),
    "network-wide": wide,
    "physics-informed": physics_informed,
    "attention": psiformer,
    "two-streams": ferminet,
    "pairs": partial(gaussians, 64, half=True),
    "all-pairs": partial(gaussians, 64, half=False),
    "jastrow": jastrow,
    "separable": separable,
    "folx-readme": readme_of_folx,
}

if __name__ == "__main__":
    harness.main("Laplacians", TASKS)
