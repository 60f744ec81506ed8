"""What loops and functions that go one way only add to derivatives of higher order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.laplacian_programs import backwards_only

import blockjac

A = jnp.array([[2.0, 0.3], [0.2, 3.0]])


def stepped(x, t):
    return lax.fori_loop(0, 3, lambda _, c: jnp.sin(c * t) + x, x)


def two_carried(x, t):
    return lax.scan(lambda c, a: ((c[0] * c[1], jnp.sin(c[1] + a)), c[0]), (x, t), jnp.ones(3))


def branched(x, t):
    return lax.cond(x > 9, jnp.add, lambda x, t: jnp.exp(x * t), x, t)


def factored(x, t):
    return jnp.linalg.cholesky(A @ A.T + jnp.outer(jnp.stack([x, t]), jnp.stack([x, t])))


@pytest.mark.parametrize("function", [stepped, two_carried, branched, factored])
@pytest.mark.parametrize("written", ["xt", "ttx", "xxxx"])
def test_operators(function, written):
    wanted = function
    for coordinate in written:
        wanted = jax.jacfwd(wanted, "xt".index(coordinate))
    found = blockjac.partial_derivatives(function, written)(0.4, 0.7)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted(0.4, 0.7)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-12)


def test_backwards_only_at_many_points():
    x, t = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 2.0, 3.0])
    fun = lambda x, t: {"u": backwards_only(x * t) * t}  # noqa: E731
    found = blockjac.partial_derivatives(fun, {"xt": "xt", "x": "x", "value": ""})(x, t)
    np.testing.assert_allclose(found["x"]["u"], t**2 * jnp.cos(x * t), rtol=1e-12)
    wanted = 2 * t * jnp.cos(x * t) - x * t**2 * jnp.sin(x * t)
    np.testing.assert_allclose(found["xt"]["u"], wanted, rtol=1e-12)
    np.testing.assert_allclose(found["value"]["u"], jnp.sin(x * t) * t, rtol=1e-12)
