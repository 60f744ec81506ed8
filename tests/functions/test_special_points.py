"""Derivatives of special functions at special points, up to the third, are what mpmath finds."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from support.special_points import TABLE

import blockjac


def nested(transform, function, order):
    """The derivative of an order, of a function of one number."""
    for _ in range(order):
        function = transform(function)
    return function


def forwards(function):
    return blockjac.jacobian(function, order="forward")


@pytest.mark.parametrize("name", TABLE)
def test_special_points(name):
    row = TABLE[name]
    points = jnp.asarray(row.points)

    @jax.jit
    def found(points):
        return [
            [jax.vmap(nested(way, row.function, order))(points) for order in row.orders]
            for way in (blockjac.grad, forwards)
        ]

    with mp.workdps(50):
        wanted = [
            [float(mp.re(mp.diff(row.truth, mp.mpf(point), order))) for point in row.points]
            for order in row.orders
        ]
    for way in found(points):
        for order, ours, truth in zip(row.orders, way, wanted, strict=True):
            np.testing.assert_allclose(
                ours, truth, rtol=row.rtol, atol=1e-6 * row.rtol, err_msg=f"{name}, order {order}"
            )


@pytest.mark.slow
def test_the_table_sees_a_wrong_derivative():
    """The oracle is not ours: JAX's own rules fail some of the rows."""
    second = jax.grad(jax.grad(jnp.i0))(0.0)
    assert float(second) == 0 != float(blockjac.grad(blockjac.grad(jnp.i0))(0.0))


def test_the_scaled_bessel_function_has_the_slope_from_the_right():
    assert float(blockjac.grad(jax.scipy.special.i0e)(0.0)) == -1
