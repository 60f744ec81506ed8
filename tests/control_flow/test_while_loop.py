"""Loops of unknown length: forwards; backwards a clear refusal, as in JAX."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from support.precision import assert_close
from support.same_as_jax import same_as_jax

import blockjac
from blockjac import errors

V = jnp.array([0.3, 0.2, 0.1])


def grown(x):
    return lax.while_loop(lambda c: jnp.sum(c) < 50, lambda c: c * 2 + x**2, jnp.exp(x))


def holding(x):
    """A loop of unknown length on the way of others."""
    return lax.scan(lambda c, v: (grown(c * 0.1) + v, c), x, jnp.stack([x, x]))[0]


def counted(n, x):
    return lax.fori_loop(0, n, lambda i, c: c * 1.1 + jnp.sin(c), x)


FORWARD = {"oracle": jax.jacfwd, "orders": ("forward", "auto", "greedy")}


@pytest.mark.parametrize("function", [grown, holding, lambda x: jnp.sum(grown(x)) * x])
def test_forwards(function):
    same_as_jax(function, V, **FORWARD)


@pytest.mark.slow
def test_examples_of_a_batch_have_steps_of_their_own():
    def doubled(c, v):
        z, n, _ = lax.while_loop(
            lambda s: jnp.abs(s[0]) < 3,
            lambda s: (s[0] * (1.5 + v), s[1] + 1, jax.random.split(s[2], 1)[0]),
            (c + 0j, 0, jax.random.key(0)),
        )
        return z.real * n + v

    batched = jax.vmap(doubled)
    start = jnp.array([0.1, 1.0, 5.0])
    same_as_jax(batched, start, V, argnums=(0, 1), **FORWARD)
    same_as_jax(
        jax.vmap(batched, (None, 0)), start, jnp.stack([V, 2 * V]), argnums=(0, 1), **FORWARD
    )
    assert blockjac.block_jacobian(batched, 1)(start, V).stored == 3


def test_a_number_of_steps_known_at_run_time():
    same_as_jax(counted, jnp.array(5), V, argnums=(1,), **FORWARD)


def test_jvp():
    value, rate = blockjac.jvp(grown, (V,), (V,))
    wanted, wanted_rate = jax.jvp(grown, (V,), (V,))
    assert_close(value, wanted)
    assert_close(rate, wanted_rate, rtol=1e-12)


def test_elementwise_steps_keep_their_delta():
    assert blockjac.block_jacobian(grown)(V).stored == 3


@pytest.mark.parametrize(
    "backwards",
    [
        blockjac.grad(lambda x: jnp.sum(grown(x))),
        lambda x: blockjac.vjp(grown, x),
        blockjac.jacobian(grown, order="reverse"),
        blockjac.grad(lambda x: jnp.sum(holding(x))),
        blockjac.grad(lambda x: jnp.sum(lax.cond(x[0] > 0, grown, jnp.sin, x))),
        blockjac.grad(lambda x: jnp.sum(jax.checkpoint(grown)(x))),
    ],
)
def test_no_way_back(backwards):
    with pytest.raises(errors.NoWayBackError, match=r"does not work for lax\.while_loop") as caught:
        backwards(V)
    assert isinstance(caught.value, ValueError)


def test_a_loop_over_integers_is_in_nobody_s_way():
    def function(x):
        last = lax.while_loop(lambda i: i * i < 5, lambda i: i + 1, 0)
        return jnp.sum(x**2) * x[last % 3]

    assert_close(blockjac.grad(function)(V), jax.grad(function)(V), rtol=1e-12)
