"""Directions that start anew where a function is narrow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.hessian_diagonals import diagonal_by_jax, laplacian_by_jax
from support.laplacian_programs import array

import blockjac
from blockjac.planning.jaxpr_cost import operations

WIDE, H = 300, 8
INTO, INNER = array(WIDE, H) / WIDE**0.5, array(H, H)
X = array(WIDE)

FUNCTIONS = {
    "network": lambda x: jnp.sum(jnp.tanh(jnp.tanh(jnp.tanh(x @ INTO) @ INNER) @ INNER)),
    "nonlinear before": lambda x: jnp.sum(jnp.sin(jnp.tanh(jnp.sin(x) @ INTO) @ INNER)),
    "narrower twice": lambda x: jnp.prod(jnp.tanh(jnp.tanh(x @ INTO) @ INNER[:, :2])),
    "loop after": lambda x: jnp.sum(
        jax.lax.scan(lambda c, a: (jnp.tanh(INNER @ c) * a, c), x @ INTO, jnp.arange(3.0))[1]
    ),
    "complex after": lambda x: jnp.abs(jnp.sum(jnp.exp(1j * (x @ INTO)))) ** 2,
    "several results": lambda x: jnp.tanh(jnp.tanh(x @ INTO) @ INNER),
    "beside": lambda x: jnp.sum(jnp.tanh(x @ INTO)) * jnp.sum(x**2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    fun = FUNCTIONS[name]
    diagonal, wanted = jax.jit(diagonal_by_jax(fun))(X), jax.jit(laplacian_by_jax(fun))(X)
    np.testing.assert_allclose(blockjac.laplacian(fun)(X), wanted, rtol=1e-9)
    np.testing.assert_allclose(blockjac.hessian_diagonal(fun)(X), diagonal, rtol=1e-9, atol=1e-12)


def test_two_inputs_that_meet():
    def fun(x, y):
        return FUNCTIONS["network"](x * y[0] + y[1])

    y = jnp.array([1.2, 0.1])
    hessian = jax.jit(jax.hessian(fun, (0, 1)))(X, y)
    wanted = jnp.trace(hessian[0][0]) + jnp.trace(hessian[1][1])
    np.testing.assert_allclose(blockjac.laplacian(fun, (0, 1))(X, y), wanted, rtol=1e-9)


def multiplications(fun, x):
    return operations(jax.make_jaxpr(blockjac.laplacian(fun))(x)).multiplications


def test_the_wide_input_is_met_once():
    """Directions of the narrow layer: the input adds a product of its weights with themselves."""
    count = multiplications(FUNCTIONS["network"], X)
    assert count <= 2 * WIDE * H**2
    assert multiplications(FUNCTIONS["beside"], X) > 2 * WIDE * H


def test_diagonals_meet_the_wide_input_once():
    """The Hessian of the narrow layer, taken along the weights of each input."""
    diagonal = blockjac.hessian_diagonal(FUNCTIONS["network"])
    counted = operations(jax.make_jaxpr(diagonal)(X)).multiplications
    assert counted <= 3 * WIDE * H**2


def test_a_narrow_input_stays():
    """Where the input is narrower than all that follows, directions are its own."""
    up = array(3, 40)
    fun = lambda x: jnp.sum(jnp.tanh(jnp.tanh(x @ up) @ up.T))  # noqa: E731
    assert multiplications(fun, jnp.ones(3)) <= 2 * 3 * 3 * 40 + 20 * 40
