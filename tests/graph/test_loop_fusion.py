"""Loops that read what other loops stack become one; what stands between keeps them two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from blockjac.graph.loop_fusion import fused

X = jnp.linspace(0.1, 0.9, 6)


def squares(x, **options):
    """A loop that carries a sum and stacks squares."""
    return lax.scan(lambda c, v: (c + v, (v * v, c)), 0.0, x, **options)


def total(x, start=0.0, **options):
    """A loop that reads slices."""
    return lax.scan(lambda c, v: (jnp.sin(c) + v, c * v), start, x, **options)


def scans(jaxpr):
    """How many scans a jaxpr holds, loops in loops as well."""
    return sum(
        (one.primitive.name == "scan") + sum(map(scans, jaxprs_in_params(one.params)))
        for one in jaxpr.eqns
    )


def chain(x):
    _, (stack, _) = squares(x)
    last, stack = total(stack)
    return total(stack, last * 0 + 1.0)


def both_read(x):
    last, (stack, carried) = squares(x)
    return total(stack), total(carried), last, stack


def in_a_loop(x):
    return lax.fori_loop(0, 3, lambda i, c: total(squares(c)[1][0])[1], x)


def in_a_loop_of_unknown_length(x):
    def step(state):
        count, c = state
        return count + 1, total(squares(c)[1][0])[1]

    return lax.while_loop(lambda state: state[0] < x.size // 2, step, (0, x))[1]


def in_a_branch(x):
    return lax.cond(x[0] > 0, lambda x: total(squares(x)[1][0])[1], jnp.sin, x)


def reads_by_two_ways(x):
    _, (stack, carried) = squares(x)
    return lax.scan(lambda c, v: (c * v[0] + v[1], None), 1.0, (stack, carried))


def backwards(x):
    return total(squares(x, reverse=True)[1][0], reverse=True)


def dead_stacks(x):
    return squares(x)[0]


ONE = {
    "both-read": both_read,
    "reads-by-two-ways": reads_by_two_ways,
    "backwards": backwards,
    "dead-stacks": dead_stacks,
    "in-a-branch": in_a_branch,
    "in-a-loop-of-unknown-length": in_a_loop_of_unknown_length,
}

TWO = {
    "in-a-loop": in_a_loop,  # the loop outside, and the one inside
    "chain": chain,  # the third starts from what the second ends with
    "from-the-other-end": lambda x: total(squares(x)[1][0], reverse=True),
    "the-end-of-the-first": lambda x: total(squares(x)[1][0], squares(x)[0]),
    "something-between": lambda x: total(jnp.sin(squares(x)[1][0])),
    "the-stack-as-a-whole": lambda x: (
        lambda stack: lax.scan(lambda c, v: (c + v * stack[0], None), 0.0, stack)
    )(squares(x)[1][0]),
    "unrolled-otherwise": lambda x: total(squares(x)[1][0], unroll=2),
}


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_fused_programs_give_the_same(name):
    function = ONE.get(name) or TWO[name]
    wanted = jax.tree.leaves(function(X))
    closed = jax.make_jaxpr(fused(function))(X)
    found = jax.tree.leaves(jax.jit(fused(function))(X))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    assert scans(closed.jaxpr) == (1 if name in ONE else 2)


def test_what_nobody_reads_is_not_stacked():
    closed = jax.make_jaxpr(fused(dead_stacks))(X)
    (loop,) = (one for one in closed.jaxpr.eqns if one.primitive.name == "scan")
    assert [one.aval.shape for one in loop.outvars] == [()]


def test_a_loop_between_two_keeps_both_apart():
    """Two pairs may each become one, but not where either then waited for the other."""

    def function(x):
        one, (first, _) = squares(x)
        two, (second, _) = squares(x * one)
        return total(first, two), total(second)

    closed = jax.make_jaxpr(fused(function))(X)
    assert scans(closed.jaxpr) == 3
    for a, b in zip(jax.tree.leaves(fused(function)(X)), jax.tree.leaves(function(X)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_prints_of_a_loop_are_printed_once(capsys):
    def function(x):
        def step(c, v):
            jax.debug.print("at {}", v)
            return c + v, v * v

        _, stack = lax.scan(step, 0.0, x)
        return total(stack)[0]

    jax.jit(fused(function))(X).block_until_ready()
    jax.effects_barrier()
    assert capsys.readouterr().out.count("at") == X.size


def test_ordered_effects_keep_a_program_as_it_is(capsys):
    def function(x):
        _, (stack, _) = squares(x)
        jax.debug.print("first", ordered=True)
        jax.debug.print("second", ordered=True)
        return total(stack)[0]

    assert scans(jax.make_jaxpr(fused(function))(X).jaxpr) == 2
    jax.jit(fused(function))(X).block_until_ready()
    jax.effects_barrier()
    assert capsys.readouterr().out.split() == ["first", "second"]
