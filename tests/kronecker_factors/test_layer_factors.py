"""The product of a matrix with itself, whole or in quarters."""

import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import array, close

from blockjac import devices
from blockjac.kronecker_factors.layer_factors import product_with_itself


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 64, 129])
@pytest.mark.parametrize("m", [1, 5, 200])
def test_the_product(m, n):
    X = array(m, n)
    close(product_with_itself(X), np.asarray(X).T @ np.asarray(X))


@pytest.mark.parametrize("is_fast", [False, True])
def test_both_ways(is_fast):
    """Where arithmetic costs nothing, nothing is saved by halves."""
    X = array(30, 11)
    own = devices.rates()
    operations = 1e30 if is_fast else 1.0
    devices.set_rates(devices.kind(), devices.Rates(operations, 1e9))
    try:
        product = product_with_itself(X)
    finally:
        devices.set_rates(devices.kind(), own)
    close(product, np.asarray(X).T @ np.asarray(X))
    assert jnp.array_equal(product, product.T) or is_fast
