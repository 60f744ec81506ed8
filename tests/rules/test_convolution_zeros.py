"""Convolutions with constants that have zeros: the pattern has the other taps alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sampling import sampled

import blockjac

CROSS = np.array([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]])
COLUMNS = np.array([[1.0, 0.0, 2.0], [2.0, 0.0, 1.0], [1.0, 0.0, 3.0]])
FAR = np.where(np.isin(np.arange(9), (0, 8)), 2.0, 0.0)
SPARSE = np.where(np.arange(40) % 7 == 0, 1.0, 0.0)
NOTHING = np.zeros((3, 3))

Function = Callable[[jax.Array], jax.Array]


def plane(x: jax.Array, kernel: np.ndarray, padding: Any = "SAME", **params: Any) -> jax.Array:
    """The convolution of one image of one channel."""
    strides = params.pop("strides", (1, 1))
    made = jax.lax.conv_general_dilated(
        x[None, None], jnp.asarray(kernel)[None, None], strides, padding, **params
    )
    return made[0, 0]


def channels(x: jax.Array, kernels: list[list[np.ndarray]], groups: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x[None], jnp.asarray(np.array(kernels)), (1, 1), "SAME", feature_group_count=groups
    )[0]


CASES: dict[str, tuple[Function, tuple[int, ...]]] = {
    "cross": (lambda x: plane(x, CROSS), (7, 8)),
    "cross, inside": (lambda x: plane(x, CROSS, "VALID"), (7, 8)),
    "cross, strided": (lambda x: plane(x, CROSS, strides=(2, 2)), (8, 8)),
    "cross, dilated": (lambda x: plane(x, CROSS, rhs_dilation=(2, 2)), (8, 8)),
    "cross, transposed": (lambda x: plane(x, CROSS, [(1, 1)] * 2, lhs_dilation=(2, 2)), (5, 5)),
    "cross, dilated and strided": (
        lambda x: plane(x, CROSS, [(1, 1)] * 2, lhs_dilation=(2, 2), strides=(3, 3)),
        (7, 7),
    ),
    "columns": (lambda x: plane(x, COLUMNS), (6, 6)),
    "cross twice": (lambda x: plane(plane(x, CROSS), CROSS), (8, 8)),
    "separable": (lambda x: plane(plane(x, COLUMNS[:1]), COLUMNS[:1].T), (8, 8)),
    "reaction and diffusion": (lambda x: x + plane(jnp.sin(x), CROSS) * x, (8, 8)),
    "difference": (lambda x: jnp.convolve(x, FAR), (20,)),
    "difference of one size": (lambda x: jnp.convolve(x, FAR, "same"), (20,)),
    "correlation": (lambda x: jnp.correlate(x, FAR, "valid"), (20,)),
    "longer kernel": (lambda x: jnp.convolve(x, SPARSE), (20,)),
    "channels": (lambda x: channels(x, [[CROSS, NOTHING], [NOTHING, COLUMNS]]), (2, 6, 6)),
    "groups": (lambda x: channels(x, [[CROSS], [COLUMNS]], 2), (2, 6, 6)),
    "examples": (lambda x: jax.vmap(lambda one: plane(one, CROSS))(x), (3, 5, 5)),
    "signal with zeros": (lambda w: jnp.convolve(SPARSE, w, "valid"), (3,)),
    "scipy": (lambda x: jax.scipy.signal.convolve2d(x, jnp.asarray(CROSS), mode="same"), (6, 6)),
}


@pytest.mark.parametrize("name", sampled(CASES, 8))
def test_places_are_those_of_the_taps(name):
    fun, shape = CASES[name]
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, shape))
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(x))
    block = blockjac.block_jacobian(fun)(x)
    sparse = blockjac.sparse_jacobian(fun)(x)
    places = np.count_nonzero(exact)
    assert block.nnz == places
    assert sparse.nnz == places
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        sparse.toarray(), exact.reshape(sparse.shape), rtol=1e-10, atol=1e-12
    )
    for order in ("forward", "reverse"):
        found = blockjac.jacobian(fun, order=order)(x)
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)


def test_a_kernel_without_other_numbers_has_no_places():
    block = blockjac.block_jacobian(lambda x: plane(x, NOTHING))(jnp.ones((4, 4)))
    assert block.nnz == 0
    np.testing.assert_array_equal(block.dense(), np.zeros((4, 4, 4, 4)))


def test_other_taps_at_the_same_places_are_other_numbers():
    x = jnp.ones((5, 5))
    for scale in (1.0, 3.0):
        found = blockjac.block_jacobian(lambda x, k=scale * CROSS: plane(x, k))(x)
        exact = jax.jit(jax.jacfwd(lambda x, k=scale * CROSS: plane(x, k)))(x)
        np.testing.assert_allclose(found.dense(), exact)
        assert found.nnz == np.count_nonzero(exact)


def test_hessian_of_a_squared_stencil():
    energy = lambda x: jnp.sum(jnp.convolve(x, FAR, "valid") ** 2)  # noqa: E731
    x = jnp.arange(20.0)
    exact = jax.jit(jax.hessian(energy))(x)
    found = blockjac.block_hessian(energy)(x)
    assert found[0, 0].nnz == np.count_nonzero(exact)
    np.testing.assert_allclose(found.dense(), exact)
