"""Derivatives of Blocks: of every structure, twice and three times, beside dense ones of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.laplacian_programs import FIRST, SECOND, W1, S, V, array

import blockjac
from blockjac import Block

twice = lambda fun: blockjac.block_jacobian(blockjac.block_jacobian(fun))  # noqa: E731
PLACES, X = np.array([1, 0, 2, 1]), array(3, 5)


def curve(x):
    return jnp.sin(x) * jnp.exp(-(x**2)) / jnp.where(x > 0.5, x**3, 2 + x)


FUNCTIONS = {
    "elementwise": (curve, V),
    "elementwise on rows": (lambda x: curve(x.T), S),
    "layer": (lambda x: jnp.tanh(x @ W1), X),
    "network": (lambda x: jnp.tanh(jnp.tanh(x @ W1) @ W1.T), V),
    "softmax of rows": (lambda x: jax.nn.softmax(x), S),
    "stencil": (lambda x: x[1:] * x[:-1] ** 2, V),
    "looked up": (lambda x: jnp.sin(x[PLACES]) * x[2], V),
    "pairs": (lambda x: jnp.sum((x[FIRST] - x[SECOND]) ** 2, axis=-1) ** 1.5, S),
    "outer product": (lambda x: jnp.outer(x, x) * x, V),
    "with a sum": (lambda x: x * jnp.sum(x**2), V),
    "running": (lambda x: jnp.cumsum(x) ** 3, V),
    "convolved": (lambda x: jnp.convolve(jnp.sin(x), jnp.cos(x)), V),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * x, x), V),
    "triangular": (lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(3)), S),
    "linear": (lambda x: x @ W1, V),
    "constant": (lambda x: jnp.ones(2), V),
    "scalar": (lambda x: jnp.prod(x), V),
    "empty": (lambda x: jnp.sin(x), jnp.zeros((0, 2))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name):
    fun, x = FUNCTIONS[name]
    wanted = jax.jit(jax.jacfwd(jax.jacfwd(fun)))(x)
    for second in (twice(fun), jax.jit(twice(fun))):
        block = second(x)
        assert block.out_shape + block.wrt_shape == wanted.shape
        assert block.wrt_shape == x.shape
        np.testing.assert_allclose(block.dense(), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["elementwise", "layer", "stencil", "looked up", "softmax of rows"]
)
def test_third_derivatives(name):
    fun, x = FUNCTIONS[name]
    wanted = jax.jit(jax.jacfwd(jax.jacfwd(jax.jacfwd(fun))))(x)
    found = blockjac.block_jacobian(twice(fun))(x)
    np.testing.assert_allclose(found.dense(), wanted, rtol=1e-9, atol=1e-9)


def test_what_is_stored():
    """Structure is kept, and what is constant is no array."""
    assert twice(curve)(V).structure == "δ[i,i'] δ[i,i''] A[i]"
    assert blockjac.block_jacobian(twice(curve))(V).structure == "δ[i,i'] δ[i,i''] δ[i,i'''] A[i]"
    assert twice(lambda x: x**2)(V).stored == 0
    assert twice(FUNCTIONS["stencil"][0])(jnp.ones(1000)).stored <= 3 * 999
    assert twice(FUNCTIONS["layer"][0])(X).stored <= 3 * 7 + 5 * 7
    assert twice(FUNCTIONS["looked up"][0])(V).nnz <= 3 * 4


def test_neither_jacobian_is_written_out():
    x = jnp.linspace(0.1, 0.9, 100_000)
    memory = jax.jit(twice(curve)).lower(x).compile().memory_analysis()
    assert memory.output_size_in_bytes == 8 * x.size
    assert memory.temp_size_in_bytes <= 8 * 8 * x.size
    slopes = jax.jit(jax.vmap(jax.grad(jax.grad(curve))))(x)
    np.testing.assert_allclose(jax.tree.leaves(twice(curve)(x))[0], slopes, rtol=1e-9, atol=1e-12)


def test_two_arrays_that_are_one():
    """An array that stands in two places of a Block varies in both."""

    def fun(x):
        block = Block.diag(jnp.sin(x))
        return block @ block, jnp.cos(x)

    squares, single = blockjac.block_jacobian(fun)(V)
    wanted = jax.jacfwd(lambda x: jnp.diag(jnp.sin(x) ** 2))(V)
    np.testing.assert_allclose(squares.dense(), wanted, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(single.dense(), jnp.diag(-jnp.sin(V)), rtol=1e-12)
