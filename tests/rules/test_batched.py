"""`jax.vmap` of our Jacobians: every operand of a rule, integers too, may carry a batch axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.agreement import differentiated
from support.cases import CASES

import blockjac

NAMES = """
    mul-rows-columns pow max clamp select_n-three reshape-indivisible pad concatenate tile
    reduce_max reduce_prod cumsum cumprod dot-batched gather-scalar gather-batched dynamic_slice
    dynamic_update_slice scatter-one scatter-add-batched sort-two-keys top_k
    reduce_window_sum-dilated reduce_window_max-same scatter-max-ties softplus-tails
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_vmap_of_a_jacobian(name):
    case = CASES[name]
    every = differentiated(case.values())
    # A batch of three: the case, its floats halved, its integers one less.
    batch = [
        jnp.stack([value, value / 2 if value.dtype == jnp.float64 else value - 1, value])
        for value in case.values()
    ]

    @jax.jit
    def both(*batch):
        ours = jax.vmap(blockjac.jacobian(case.function, every, order="reverse"))(*batch)
        return ours, jax.vmap(jax.jacfwd(case.function, every))(*batch)

    ours, theirs = both(*batch)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, two in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14)
