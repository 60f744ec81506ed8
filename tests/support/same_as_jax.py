"""What the tests of this folder share: a function's Jacobians beside JAX's."""

import jax
import jax.numpy as jnp
from support.precision import assert_close

import blockjac

ORDERS = ("forward", "reverse", "auto", "greedy")


def assert_same(found, wanted, rtol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert_close(one, two, rtol, 1e-12)


def same_as_jax(function, *arguments, argnums=None, oracle=jax.jacrev, orders=ORDERS, rtol=1e-10):
    """First derivatives in every order, and second ones, against JAX."""
    every = tuple(range(len(arguments))) if argnums is None else argnums

    @jax.jit
    def all_of_them(*arguments):
        ours = [blockjac.jacobian(function, every, order=order)(*arguments) for order in orders]
        return ours, oracle(function, every)(*arguments)

    ours, wanted = all_of_them(*arguments)
    for found in ours:
        assert_same(found, wanted, rtol)


def same_second_order(function, *arguments, rtol=1e-8):
    """Jacobians of the gradient of a number made of the results."""

    def number(*arguments):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(function(*arguments)))

    every = tuple(range(len(arguments)))
    ours = jax.jit(blockjac.jacobian(blockjac.grad(number, every), every))(*arguments)
    assert_same(ours, jax.jit(jax.jacfwd(jax.grad(number, every), every))(*arguments), rtol)


def loops_in(function, *arguments):
    """How many loops a program runs one after the other."""
    names = [one.primitive.name for one in jax.make_jaxpr(function)(*arguments).eqns]
    return names.count("scan") + names.count("while")
