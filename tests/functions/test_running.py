"""Running results along a long axis: applied in linear time, and apart on every other axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

pytestmark = pytest.mark.slow

ROWS, LENGTH = 3, 150
RUNNING = [lax.cumprod, lax.cumlogsumexp, lax.cummax, lax.cummin]


@pytest.mark.parametrize("running", RUNNING)
def test_a_gradient_writes_no_triangle(running):
    def loss(x):
        return jnp.sum(running(x, 1) ** 2)

    x = jnp.cos(jnp.arange(ROWS * LENGTH, dtype=float)).reshape(ROWS, LENGTH)
    gradient = blockjac.grad(loss)
    assert f"{LENGTH},{LENGTH}" not in str(jax.make_jaxpr(gradient)(x))
    np.testing.assert_allclose(gradient(x), jax.grad(loss)(x), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("running", RUNNING)
def test_a_block_keeps_the_deltas_of_other_axes(running):
    x = jnp.cos(jnp.arange(ROWS * LENGTH, dtype=float)).reshape(ROWS, LENGTH)
    block = blockjac.block_jacobian(lambda x: running(x, 1))(x)
    places = ROWS * LENGTH * (LENGTH + 1) // 2  # and nothing above the diagonal
    assert block.nnz == block.stored == places
    assert block.nbytes <= places * 8 + 2 * LENGTH * (LENGTH + 1) // 2
    np.testing.assert_allclose(
        block.dense(), jax.jit(jax.jacfwd(lambda x: running(x, 1)))(x), rtol=1e-12, atol=1e-14
    )
