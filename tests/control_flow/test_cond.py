"""Branches: the one that ran is differentiated, in the structure that all of them have."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from support.precision import assert_close
from support.same_as_jax import same_as_jax, same_second_order

import blockjac

V = jnp.array([0.3, -1.2, 2.0])

CONDITIONS = {
    "captured": lambda x: lax.cond(x[0] > 0, lambda: jnp.sin(x), lambda: x * x[::-1]),
    "operands": lambda x: lax.cond(x[0] > 0, jnp.sin, lambda v: v * 2.0, x),
    "one-operand-twice": lambda x: lax.cond(x[0] > 0, jnp.multiply, jnp.add, x, x),
    "constant-branch": lambda x: lax.cond(x[0] > 0, lambda v: jnp.zeros(3), jnp.exp, x),
    "several-results": lambda x: lax.cond(
        x[0] > 0, lambda v: (v, jnp.sum(v)), lambda v: (v**2, v[0] * v[1]), x
    ),
    "integer-results": lambda x: lax.cond(x[0] > 0, lambda v: (v, 1), lambda v: (-v, 2), x)[0],
    "loop-in-branch": lambda x: lax.cond(
        x[0] > 0, lambda v: lax.fori_loop(0, 3, lambda i, c: c * jnp.cos(v), v), jnp.tanh, x
    ),
    "branch-in-branch": lambda x: lax.cond(
        x[0] > 0, lambda v: lax.cond(v[1] > 0, jnp.sin, jnp.cos, v), jnp.exp, x
    ),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name, sign):
    same_as_jax(CONDITIONS[name], sign * V)


@pytest.mark.parametrize("name", ["captured", "loop-in-branch", "several-results"])
def test_conditions_at_second_order(name):
    same_second_order(CONDITIONS[name], V)


def test_switch():
    branches = [jnp.sin, lambda v: jnp.zeros(3), lambda v: v[::-1] * v.sum()]
    for place in range(3):
        same_as_jax(lambda i, x: lax.switch(i, branches, x), jnp.array(place), V, argnums=(1,))


def test_pullback_runs_the_branch_that_ran():
    for x in (V, -V):
        value, pull = blockjac.vjp(CONDITIONS["loop-in-branch"], x)
        wanted = jax.vjp(CONDITIONS["loop-in-branch"], x)[1](value)
        assert_close(pull(value)[0], wanted[0], rtol=1e-12)


@pytest.mark.slow
def test_a_batch_of_conditions():
    many = jnp.stack([V, -V])
    ours = jax.vmap(blockjac.jacobian(CONDITIONS["operands"]))(many)
    assert_close(ours, jax.vmap(jax.jacrev(CONDITIONS["operands"]))(many))


def test_elementwise_branches_keep_their_delta():
    for order in ("auto", "reverse", "forward"):
        block = blockjac.block_jacobian(CONDITIONS["operands"], order=order)(V)
        assert block.stored == 3


def test_branches_share_what_they_keep():
    """Both branches keep arrays of one shape: they are stored once, unlike in JAX."""
    x = jnp.ones((1000,))

    def branchy(x, positive):
        return jnp.sum(
            lax.cond(positive, lambda v: jnp.sin(jnp.exp(v)), lambda v: jnp.cos(jnp.tanh(v)), x)
        )

    def kept(vjp):
        leaves = jax.tree.leaves(vjp(lambda x: branchy(x, x[0] > 0), x)[1])
        return sum(leaf.nbytes for leaf in leaves)

    assert kept(blockjac.vjp) <= kept(jax.vjp)


def by_platform(x):
    return lax.platform_dependent(x, cpu=jnp.sin, tpu=lambda y: lax.cumsum(y), default=jnp.exp)


def test_a_branch_for_another_platform_is_not_lowered():
    function = lambda x: jnp.sum(by_platform(x * 2) ** 2)  # noqa: E731
    same_as_jax(by_platform, V)
    for derivative in (blockjac.grad(function), blockjac.jacobian(by_platform, order="forward")):
        text = jax.jit(derivative).lower(V).as_text("hlo")
        assert "cosine(" in text
        assert "exponential(" not in text
        assert "reduce-window" not in text
