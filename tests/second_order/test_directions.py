"""Second derivatives along directions, for equations that are applied and not written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.hessian_diagonals import diagonal_by_jax, laplacian_by_jax

import blockjac
from blockjac.second_order.directions import second_rates

A = jnp.array([[2.0, 0.3, 0.1], [0.2, 3.0, 0.4], [0.5, 0.1, 2.0]])
X = jnp.array([0.3, 0.7, 1.1])


def by_steps(x, y):
    return lax.scan(lambda c, a: (jnp.tanh(c * a + y), jnp.sin(c) * a), x, y)


def by_branches(x, y):
    return lax.switch(1, [jnp.add, lambda x, y: jnp.sin(x * y), jnp.subtract], x, y)


def factors(x, y):
    return jnp.linalg.cholesky(A @ A.T + jnp.outer(x, x) + jnp.diag(y))


@pytest.mark.parametrize("function", [by_steps, by_branches, factors, jnp.multiply])
def test_second_rates(function):
    point, along, other = (X, X[::-1] + 1), (jnp.cos(X), jnp.sin(X)), (X**2, jnp.exp(-X))

    def flat(*parts):
        return jax.tree.leaves(function(*parts))

    def rate(*parts):
        return jax.jvp(flat, parts, along)[1]

    wanted = jax.jvp(rate, point, other)[1]
    for own, by_jax in zip(second_rates(flat, point, along, other), wanted, strict=True):
        np.testing.assert_allclose(own, by_jax, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("function", [by_steps, by_branches, factors])
def test_two_operands_that_vary_together(function):
    def total(x):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(function(jnp.sin(x), x**2 + 1)))

    np.testing.assert_allclose(blockjac.laplacian(total)(X), laplacian_by_jax(total)(X), rtol=1e-9)
    np.testing.assert_allclose(
        blockjac.hessian_diagonal(total)(X), diagonal_by_jax(total)(X), rtol=1e-9
    )
