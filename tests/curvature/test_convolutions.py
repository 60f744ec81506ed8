"""Diagonals of curvature through convolutions: right, and in the memory of the Jacobian at most."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sampling import sampled

import blockjac

LINE, PLANE = ("NHC", "HIO", "NHC"), ("NHWC", "HWIO", "NHWC")
TIMES = 6
"""How often the dense Jacobian, and the patches below, a diagonal may take in temporaries."""

PATCHES = 9 * 4
"""The taps of a kernel times its channels: the patches of an image are so many times the image."""


def array(*shape: int) -> jax.Array:
    generator = np.random.default_rng(sum(shape) + len(shape))
    return jnp.asarray(generator.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))


def convolved(x: jax.Array, kernel: jax.Array, padding: Any = "SAME", **params: Any) -> jax.Array:
    rank = x.ndim - 2
    strides = params.pop("strides", (1,) * rank)
    numbers = LINE if rank == 1 else PLANE
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **params
    )


def pooled(x: jax.Array, start: float, combine: Callable[..., Any]) -> jax.Array:
    return jax.lax.reduce_window(x, start, combine, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def mean_pooled(x: jax.Array) -> jax.Array:
    return pooled(x, 0.0, jax.lax.add) / 4


def max_pooled(x: jax.Array) -> jax.Array:
    return pooled(x, -jnp.inf, jax.lax.max)


def flattened(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def squares(Y: jax.Array, Q: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum((Q - Y) ** 2)


def cross_entropy(Y: jax.Array, Q: jax.Array) -> jax.Array:
    return -jnp.sum(Y * jax.nn.log_softmax(Q))


@dataclass(frozen=True)
class Case:
    """A network, the shapes of its parameters, and of its examples."""

    model: Callable[[Any, jax.Array], jax.Array]
    shapes: dict[str, tuple[int, ...]]
    examples: tuple[int, ...]
    loss: Callable[..., jax.Array] = squares

    def arguments(self) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        params = {name: array(*shape) for name, shape in self.shapes.items()}
        X = array(*self.examples) * 3
        Q = self.model(params, X)
        Y = jnp.zeros_like(Q)
        if self.loss is cross_entropy:
            Y = jax.nn.one_hot(np.arange(len(Q)) % Q.shape[1], Q.shape[1], dtype=Q.dtype)
        return params, X, Y


def two_layers(**params: Any) -> Callable[[Any, jax.Array], jax.Array]:
    """A network of images to images, of which the second convolution has these parameters."""
    return lambda p, x: convolved(jnp.tanh(convolved(x, p["w"]) + p["b"]), p["v"], **params)


def three_layers(p: Any, x: jax.Array) -> jax.Array:
    x = jnp.tanh(convolved(x, p["w"]) + p["b"])
    return convolved(jnp.tanh(convolved(x, p["u"]) + p["c"]), p["v"])


def residual(p: Any, x: jax.Array) -> jax.Array:
    x = jax.nn.softplus(convolved(x, p["w"]))
    return convolved(x + jnp.tanh(convolved(x, p["u"])), p["v"])


def classes(pool: Callable[[jax.Array], jax.Array]) -> Callable[[Any, jax.Array], jax.Array]:
    """A network with pooling between its convolution and its linear layer."""
    return lambda p, x: flattened(pool(jnp.tanh(convolved(x, p["w"], "VALID")))) @ p["v"] + p["c"]


def strided_classes(p: Any, x: jax.Array) -> jax.Array:
    x = jnp.tanh(convolved(x, p["w"], strides=(2, 2)) + p["b"])
    return flattened(jnp.tanh(convolved(x, p["u"], strides=(2, 2)))) @ p["v"]


IMAGES = {"w": (3, 3, 1, 4), "b": (4,), "v": (3, 3, 4, 1)}
CASES = {
    "image to image": Case(two_layers(), IMAGES, (3, 9, 9, 1)),
    "max pooling": Case(
        classes(max_pooled),
        {"w": (3, 3, 1, 4), "v": (36, 3), "c": (3,)},
        (5, 8, 8, 1),
        cross_entropy,
    ),
    "mean pooling": Case(
        classes(mean_pooled),
        {"w": (3, 3, 1, 4), "v": (36, 3), "c": (3,)},
        (5, 8, 8, 1),
        cross_entropy,
    ),
    "three layers": Case(
        three_layers,
        {"w": (3, 3, 1, 8), "b": (8,), "u": (3, 3, 8, 8), "c": (8,), "v": (3, 3, 8, 1)},
        (2, 16, 16, 1),
    ),
    "inside": Case(two_layers(padding="VALID"), IMAGES, (3, 9, 9, 1)),
    "strides": Case(two_layers(strides=(2, 2)), IMAGES, (3, 9, 9, 1)),
    "dilated": Case(two_layers(rhs_dilation=(2, 2)), IMAGES, (3, 9, 9, 1)),
    "transposed": Case(two_layers(lhs_dilation=(2, 2), padding=[(1, 1)] * 2), IMAGES, (2, 6, 6, 1)),
    "groups": Case(
        two_layers(feature_group_count=2),
        {"w": (3, 3, 1, 4), "b": (4,), "v": (3, 3, 2, 2)},
        (3, 9, 9, 1),
    ),
    "line": Case(
        two_layers(rhs_dilation=(2,)), {"w": (5, 1, 4), "b": (4,), "v": (3, 4, 2)}, (3, 40, 1)
    ),
    "residual": Case(
        residual, {"w": (3, 3, 1, 4), "u": (3, 3, 4, 4), "v": (3, 3, 4, 1)}, (2, 9, 9, 1)
    ),
    "strided classes": Case(
        strided_classes,
        {"w": (3, 3, 1, 4), "b": (4,), "u": (3, 3, 4, 4), "v": (36, 3)},
        (4, 12, 12, 1),
        cross_entropy,
    ),
}


def wanted_ggn(case: Case, params: Any, X: jax.Array, Y: jax.Array) -> Any:
    """The diagonal of `J' H J` from dense matrices."""
    Q = case.model(params, X)
    H = jax.jit(jax.hessian(lambda q: case.loss(Y, q.reshape(Q.shape))))(Q.ravel())
    J = jax.jit(jax.jacfwd(lambda p: case.model(p, X).ravel()))(params)
    return jax.tree.map(lambda j: jnp.sum(j * jnp.tensordot(H, j, 1), axis=0), J)


@pytest.mark.parametrize("name", sampled(CASES, 4))
def test_diagonal_of_the_ggn(name):
    case = CASES[name]
    arguments = case.arguments()
    params, X, _ = arguments
    diagonal = jax.jit(lambda *given: blockjac.ggn(case.model, case.loss)(*given).diagonal())
    compiled = diagonal.lower(*arguments).compile()
    found, wanted = compiled(*arguments), wanted_ggn(case, *arguments)
    for key in params:
        np.testing.assert_allclose(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    entries = case.model(params, X).size * sum(one.size for one in params.values())
    analysis = compiled.memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes <= TIMES * 8 * (entries + PATCHES * X.size)


@pytest.mark.parametrize("name", sampled(CASES, 3))
def test_diagonal_of_the_hessian(name):
    case = CASES[name]
    params, X, Y = case.arguments()
    loss = lambda p: case.loss(Y, case.model(p, X))  # noqa: E731
    found = blockjac.hessian_diagonal(loss)(params)
    exact = jax.jit(jax.hessian(loss))(params)
    for key, one in params.items():
        matrix = exact[key][key].reshape(one.size, one.size)
        wanted = np.diagonal(matrix).reshape(one.shape)
        np.testing.assert_allclose(found[key], wanted, rtol=1e-8, atol=1e-11)


def test_what_is_stored_between_two_convolutions_is_summed():
    """A kernel's block holds the Jacobian's entries once, not once for each tap behind it."""
    case = CASES["image to image"]
    params, X, _ = case.arguments()
    blocks = blockjac.block_jacobian(case.model)(params, X)
    assert blocks["w"].stored <= blocks["w"].size
    assert blocks["v"].stored <= X.size * 4


@pytest.mark.parametrize("extremum", [jax.lax.max, jax.lax.min])
def test_windowed_extrema_keep_examples_and_channels_apart(extremum):
    start = -jnp.inf if extremum is jax.lax.max else jnp.inf
    x = array(3, 6, 6, 2)
    pool = lambda x: pooled(x, start, extremum) ** 2  # noqa: E731
    block = blockjac.block_jacobian(pool)(x)
    dense = jax.jit(jax.jacfwd(pool))(x)
    np.testing.assert_allclose(block.dense(), dense)
    assert block.nnz == np.count_nonzero(dense)
    by_channel = lambda w: pool(x * w)  # noqa: E731
    weighted = blockjac.block_jacobian(by_channel)(jnp.ones(2))
    np.testing.assert_allclose(weighted.dense(), jax.jit(jax.jacfwd(by_channel))(jnp.ones(2)))
    assert weighted.stored <= dense[..., 0, 0, 0, 0].size
