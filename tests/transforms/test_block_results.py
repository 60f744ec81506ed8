"""Functions that give Blocks: trees, aux, several arguments, batches, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Block
from blockjac.errors import DifferentiationTypeError

X, Y = jnp.array([0.3, 0.7, 1.1]), jnp.array([1.0, -2.0])


def fields(x, y):
    return {"a": jnp.sin(x) * y[0], "b": jnp.sum(x**3) * y}


def is_block(node):
    return isinstance(node, Block)


def same(found, wanted):
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own.dense(), other, rtol=1e-10, atol=1e-12),
        found,
        wanted,
        is_leaf=is_block,
    )
    assert jax.tree.structure(found, is_leaf=is_block) == jax.tree.structure(wanted)


@pytest.mark.slow
def test_the_tree_is_that_of_the_hessian():
    second = blockjac.block_jacobian(blockjac.block_jacobian(fields, (0, 1)), (0, 1))
    same(second(X, Y), jax.hessian(fields, (0, 1))(X, Y))
    same(jax.jit(second)(X, Y), jax.hessian(fields, (0, 1))(X, Y))


def test_aux():
    def fun(x):
        return jnp.tanh(x) * jnp.sum(x), {"name": "x", "value": x}

    def slopes(x):
        return blockjac.block_jacobian(fun, has_aux=True)(x)

    second, aux = blockjac.block_jacobian(slopes, has_aux=True)(X)
    same(second, jax.hessian(lambda x: fun(x)[0])(X))
    assert aux["name"] == "x"
    np.testing.assert_array_equal(aux["value"], X)


def test_a_batch_of_blocks():
    second = blockjac.block_jacobian(blockjac.block_jacobian(jnp.sin))
    found = jax.vmap(second)(jnp.stack([X, 2 * X]))
    wanted = jax.vmap(jax.hessian(jnp.sin))(jnp.stack([X, 2 * X]))
    np.testing.assert_allclose(found.dense(), wanted, rtol=1e-10, atol=1e-12)


def test_numbers_and_blocks_together():
    def fun(x):
        return blockjac.value_and_jacobian(jnp.cos)(x)[0], blockjac.block_jacobian(jnp.sin)(x)

    value, block = blockjac.block_jacobian(fun)(X)
    same(value, jax.jacfwd(jnp.cos)(X))
    same(block, jax.hessian(jnp.sin)(X))


def test_differentiated():
    second = blockjac.block_jacobian(blockjac.block_jacobian(lambda x: jnp.sin(x) * x[0]))
    found = jax.grad(lambda x: jnp.sum(second(x).dense() ** 2))(X)
    wanted = jax.grad(lambda x: jnp.sum(jax.hessian(lambda x: jnp.sin(x) * x[0])(x) ** 2))(X)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_refused():
    waves = blockjac.block_jacobian(lambda x: jnp.exp(1j * x))
    with pytest.raises(DifferentiationTypeError, match=r"gives complex Blocks: take the real"):
        blockjac.block_jacobian(waves)(X)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued inputs"):
        blockjac.block_jacobian(lambda x: Block.diag(jnp.real(x)))(X + 1j)
