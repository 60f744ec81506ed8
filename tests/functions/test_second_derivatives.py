"""The whole function table at second order, where the first derivative is JAX's or ours.

A gradient that JAX made is another kind of program than users write: literals as operands of
products, transposed loops, casts. The derivative of each by our rules is JAX's own Hessian.
"""

from itertools import islice

import jax
import jax.numpy as jnp
import pytest
from support.agreement import agree, differentiated
from support.function_table import FORWARD, REVERSE, TABLE

import blockjac

SAMPLE = 24
"""Of so many rows one is tried in the quick suite, and with one way of writing it."""

JAX_FAILS = {"scipy.special.exp1", "scipy.special.expn"}
"""On its way to the second derivative JAX leaks a tracer."""

ROWS = {
    name: row
    for name, row in TABLE.items()
    if row.refusal is None
    and row.smooth
    and {FORWARD, REVERSE} <= set(row.modes)
    and name not in JAX_FAILS
}

GRADIENTS = {
    "grad": jax.grad,
    "jacrev": jax.jacrev,
    "ours": blockjac.grad,
}
"""What makes the gradient that our Jacobian is taken of."""


def number(function):
    """A function of one number from any: the sum of the sines of its results."""

    def summed(*arguments):
        return sum(
            jnp.sum(jnp.sin(one.astype(float)))
            for one in jax.tree.leaves(function(*arguments))
            if jnp.issubdtype(one.dtype, jnp.floating)
        )

    return summed


def hessians(function, every):
    """Every way to write a Hessian, by name."""
    ways = {
        name: blockjac.jacobian(gradient(function, every), every)
        for name, gradient in GRADIENTS.items()
    }
    return {**ways, "hessian": blockjac.hessian(function, every)}


def check(row, jitted, *names):
    """Compare Hessians, all ways or those named, with JAX's."""
    arguments = row.values()
    every = differentiated(arguments)
    function = number(row.function)
    try:
        theirs = jax.jit(jax.jacfwd(jax.jacrev(function, every), every))(*arguments)
    except NotImplementedError as refusal:
        pytest.skip(f"JAX has no second derivative: {refusal}")
    ways = hessians(function, every)

    def all_of_them(*arguments):
        return [ways[name](*arguments) for name in names or ways]

    ours = (jax.jit(all_of_them) if jitted else all_of_them)(*arguments)
    rtol = max(row.rtol, 1e-8)
    for found in ours:
        agree(found, theirs, row.holes, rtol, rtol / 10)


@pytest.mark.parametrize("name", list(islice(ROWS, 2, None, SAMPLE)))
def test_the_derivative_of_a_gradient_that_jax_made(name):
    check(ROWS[name], True, "grad")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(islice(ROWS, SAMPLE // 3, None, SAMPLE)))
def test_every_way_to_write_a_hessian(name):
    check(ROWS[name], True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ROWS)
def test_every_way_to_write_every_hessian(name):
    check(ROWS[name], True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(islice(ROWS, SAMPLE // 2, None, SAMPLE)))
def test_every_way_without_jit(name):
    check(ROWS[name], False)
