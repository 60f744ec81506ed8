"""Chains: dynamic programming finds the order that textbooks find for products of matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.chains import chain, planned

import blockjac
from blockjac.planning.candidates import chain_order
from blockjac.planning.price import price

WIDTHS = [(30, 4, 20, 3, 25), (8, 8, 2, 8, 8), (5, 30, 5, 30, 5, 30, 5)]


def least(widths):
    """The fewest multiplications of a product of matrices of these sizes."""

    @functools.cache
    def between(first, last):
        if last - first < 2:
            return 0
        return min(
            between(first, middle)
            + between(middle, last)
            + widths[first] * widths[middle] * widths[last]
            for middle in range(first + 1, last)
        )

    return between(0, len(widths) - 1)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_a_linear_chain_takes_the_fewest_multiplications(widths):
    fun, x = chain(*widths, activation=lambda x: x)
    linear = planned(fun, x)
    edges = linear.edges
    order = chain_order(edges, linear.active.reverse_order)
    assert price(edges, order, write=False).multiplications == least(widths)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_auto_takes_it(widths):
    fun, x = chain(*(20 * width for width in widths), activation=lambda x: x)
    plan = blockjac.plan(fun)(x)
    assert plan.multiplications == 20**3 * least(widths)
    np.testing.assert_allclose(
        blockjac.jacobian(fun, order=plan)(x), jax.jit(jax.jacrev(fun))(x), rtol=1e-9, atol=1e-6
    )


@pytest.mark.slow
def test_long_chains_are_cut():
    def fun(x):
        for step in range(150):
            x = jnp.sin(x) * (1 + step / 150)
        return x

    plan = blockjac.plan(fun)(jnp.ones(3))
    assert len(set(plan.order)) == len(plan.order) == 300
    np.testing.assert_allclose(
        blockjac.jacobian(fun)(jnp.ones(3)), jax.jit(jax.jacfwd(fun))(jnp.ones(3)), rtol=1e-10
    )
