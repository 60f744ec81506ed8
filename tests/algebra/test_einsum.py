"""How a product of two factors is laid out."""

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.compat import is_batched
from blockjac.blocks import Block, star


def test_under_vmap_the_batched_factor_comes_first():
    """The batch is then the slowest axis of the product, and nothing is transposed."""
    W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)))
    X = jnp.asarray(np.random.default_rng(1).normal(size=(7, 5, 3)))

    def product(x):
        return star(Block.from_dense(W, 1), Block.from_dense(x, 1)).terms[0].factors[0].array

    jaxpr = jax.make_jaxpr(jax.vmap(product))(X)
    (dot,) = [equation for equation in jaxpr.eqns if equation.primitive.name == "dot_general"]
    assert [variable.aval.shape for variable in dot.invars] == [(7, 5, 3), (4, 5)]
    np.testing.assert_allclose(
        jax.vmap(lambda x: star(Block.from_dense(W, 1), Block.from_dense(x, 1)).dense())(X),
        W @ X,
        rtol=1e-12,
    )


def test_what_is_batched():
    found = []
    jax.vmap(lambda x: found.append(is_batched(x)))(jnp.ones(2))
    jax.jit(lambda x: found.append(is_batched(x)))(jnp.ones(2))
    found.append(is_batched(jnp.ones(2)))
    assert found == [True, False, False]
