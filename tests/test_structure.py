"""What block_jacobian stores: structure asserted by the number of stored numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import nn


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_an_affine_map_stores_the_other_operand(generator):
    X, W, b = (jnp.asarray(generator.normal(size=s)) for s in ((1024, 256), (256, 64), (1, 64)))
    D_X, D_W, D_b = blockjac.block_jacobian(nn.affine, argnums=(0, 1, 2))(X, W, b)
    assert D_X.stored == W.size == 16_384
    assert D_W.stored == X.size
    assert D_b.stored == 0
    assert D_X.nnz == 1024 * 64 * 256


def test_softmax_stores_its_probabilities_and_no_matrix_of_them(generator):
    Z = jnp.asarray(generator.normal(size=(512, 10)))
    for softmax in (nn.softmax, jax.nn.softmax):
        block = blockjac.block_jacobian(softmax)(Z)
        assert block.stored <= 51_200 + 5_120
        assert block.nnz == 51_200


def test_an_elementwise_chain_stays_diagonal(generator):
    Z = jnp.asarray(generator.normal(size=(400, 20)))
    block = blockjac.block_jacobian(lambda Z: jnp.tanh(nn.logistic(Z) * 2 + Z))(Z)
    assert block.stored == Z.size
    assert block.nnz == Z.size


def test_the_networks_probabilities_stay_in_factors(generator):
    X = jnp.asarray(generator.normal(size=(400, 30)))
    params = nn.initial_params(inputs=30, hidden=20, classes=2)
    for order in ("auto", "reverse", "forward", "greedy"):
        blocks = blockjac.block_jacobian(nn.probabilities, order=order)(params, X)
        dense = blockjac.jacobian(nn.probabilities)(params, X)
        for block, want in zip(blocks, dense, strict=True):
            np.testing.assert_allclose(block.dense(), want, rtol=1e-12, atol=1e-15)
        assert blocks.W1.size == 400 * 2 * 30 * 20
        assert blocks.W1.stored < blocks.W1.size / 8
        assert any(factor.array.shape == X.shape for factor in blocks.W1.terms[0].factors)


@pytest.mark.parametrize(
    ("function", "stored"),
    [
        (lambda x: x[1:] - x[:-1], 0),
        (lambda x: x[::-1][2:50:3], 0),
        (lambda x: jnp.pad(x, 3).reshape(7, 10).T, 0),
        (lambda x: jnp.concatenate([x, 2 * x]), 0),
        (lambda x: jnp.roll(x, 5) + x, 0),
        (lambda x: (x[1:] - x[:-1]) ** 2, 63),
        (lambda x: jnp.sum(x.reshape(8, 8), axis=0), 0),
        (lambda x: jnp.sum(x**2), 64),
    ],
    ids=["difference", "stride", "pad", "concatenate", "roll", "square", "sum", "norm"],
)
def test_moving_entries_stores_nothing(function, stored):
    x = jnp.linspace(0.0, 1.0, 64)
    block = blockjac.block_jacobian(function)(x)
    assert block.stored == stored
    np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(function))(x), rtol=1e-12)


def test_no_array_of_the_jacobians_size_is_captured():
    program = jax.jit(blockjac.jacobian(lambda x: x[::-1][1:900])).trace(jnp.ones(1000))
    assert not [array for array in program.jaxpr.consts if np.size(array) > 1000]
    assert len(program.lower().as_text()) < 20_000


def test_a_batch_stays_a_delta_under_vmap(generator):
    X = jnp.asarray(generator.normal(size=(32, 5)))
    block = blockjac.block_jacobian(jax.vmap(lambda x: jnp.outer(x, x)))(X)
    assert block.stored <= 2 * X.size
    assert all(term.out[0] == term.wrt[0] for term in block.terms)


def test_the_derivative_of_a_thin_jacobian_keeps_its_deltas():
    """A dense Jacobian of many short terms is written by entry, but not where it is traced."""

    def reaction(x):
        return x**3 + jnp.roll(x, 1) ** 2 + jnp.roll(x, -1) ** 2

    x = jnp.linspace(1.0, 2.0, 200)
    plain = str(jax.make_jaxpr(blockjac.jacobian(reaction))(x))
    assert "scatter" in plain
    inner = blockjac.jacobian(blockjac.jacobian(reaction))
    block = blockjac.block_jacobian(blockjac.jacobian(reaction))(x)
    assert block.stored < 4 * len(x) ** 2  # masks of the places; the dense array has 8 million
    small = jnp.linspace(1.0, 2.0, 20)
    np.testing.assert_allclose(inner(small), jax.jit(jax.hessian(reaction))(small), rtol=1e-12)
