"""The places that sparsejac is given are those of the Jacobian's values."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import peers
import stencils

CASES = {
    "differences": (stencils.squared_differences, (6,), stencils.difference_pattern(6)),
    **{
        boundary: (
            partial(stencils.brusselator, laplacian),
            (2, 4, 4),
            stencils.brusselator_pattern(4, boundary),
        )
        for boundary, laplacian in stencils.LAPLACIANS.items()
    },
}


def dense(function, shape):
    x = 1.0 + jnp.arange(float(np.prod(shape))).reshape(shape) ** 2
    return x, np.asarray(jax.jacrev(function)(x)).reshape(-1, x.size)


@pytest.mark.parametrize("case", CASES)
def test_pattern_is_where_the_jacobian_is_not_zero(case):
    function, shape, pattern = CASES[case]
    _, jacobian = dense(function, shape)
    assert len(np.unique(pattern, axis=0)) == len(pattern)
    expected = np.argwhere(jacobian)
    np.testing.assert_array_equal(np.unique(pattern, axis=0), expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
def test_sparsejac_gives_the_values_at_these_places(case, method):
    pytest.importorskip("sparsejac")
    function, shape, pattern = CASES[case]
    x, jacobian = dense(function, shape)
    values = peers.sparsejac_values(function, pattern, shape, method).make()(x)
    np.testing.assert_allclose(np.sort(values), np.sort(jacobian[tuple(pattern.T)]), rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_asdex_gives_the_same_values(case):
    pytest.importorskip("asdex")
    function, shape, pattern = CASES[case]
    x, jacobian = dense(function, shape)
    values = peers.asdex_jacobian(function, (x,), values=True).make()(x)
    np.testing.assert_allclose(np.sort(values), np.sort(jacobian[tuple(pattern.T)]), rtol=1e-12)
