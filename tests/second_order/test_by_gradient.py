"""Second derivatives from the graph of the first one, where one pass forwards is not possible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.hessian_diagonals import diagonal_by_jax
from support.laplacian_programs import PROGRAMS

from blockjac.engine.arguments import traced_call
from blockjac.second_order.by_gradient import diagonals_by_gradient

NAMES = ["network", "backwards only", "complex vector", "rows of a network", "softplus"]


def by_gradient(function, x, directions=None):
    call = traced_call("laplacian", function, 0, (x,), {}, second=True)
    arguments = call.arguments, call.graph.captured
    ((diagonal,),) = diagonals_by_gradient(call.graph, 1, call.wrt, *arguments, directions)
    return diagonal


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_diagonals(name):
    function, x = PROGRAMS[name]
    wanted = diagonal_by_jax(function)(x)
    np.testing.assert_allclose(by_gradient(function, x), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_diagonals_along_directions(name):
    function, x = PROGRAMS[name]
    directions = jnp.cos(jnp.arange(2.0 * x.size)).reshape(2, *x.shape)

    def along(steps):
        return function(x + jnp.tensordot(steps, directions, 1))

    found = by_gradient(function, x, [directions])
    wanted = diagonal_by_jax(along)(jnp.zeros(2))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert jax.eval_shape(along, jnp.zeros(2)).shape == found.shape[:-1]
