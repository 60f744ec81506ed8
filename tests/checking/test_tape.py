"""The tape: its passes agree with JAX's, loops and calls are written out, steps are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.gradient_families import FAMILIES
from support.more_gradient_families import MORE

from blockjac.checking.passes import Passes
from blockjac.checking.steps import steps_of
from blockjac.checking.tape import tape_of
from blockjac.checking.unrolled import flat_jaxpr

RNG = np.random.default_rng(0)
ALL = {**FAMILIES, **MORE}


def positions(args, argnums):
    """The positions of the differentiated leaves among all leaves."""
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    counts = [len(jax.tree.leaves(arg)) for arg in args]
    starts = np.cumsum([0, *counts])
    return [p for n in chosen for p in range(starts[n], starts[n + 1])]


def agreement(fun, args, argnums):
    """Compare the tape's derivatives with those of JAX, backwards and forwards."""
    tape = tape_of(fun, args, positions(args, argnums))
    results = jax.tree.leaves(fun(*args))
    seeds = [RNG.normal(size=np.shape(result)) for result in results]
    passes = Passes(tape, seeds)

    def weighed(*args):
        outs = jax.tree.leaves(fun(*args))
        return sum(jnp.sum(seed * out) for seed, out in zip(seeds, outs, strict=True))

    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    exact = jax.tree.leaves(jax.grad(weighed, chosen)(*args))
    tangents = {value: RNG.normal(size=tape.shape(value)) for value in tape.wrt}
    moved = passes.forward(tangents)
    for value, leaf in zip(tape.wrt, exact, strict=True):
        np.testing.assert_allclose(passes.exact[value], leaf, rtol=1e-10, atol=1e-12)
    forward = sum(np.sum(moved.get(v, 0) * s) for v, s in zip(tape.results, seeds, strict=True))
    back = sum(np.sum(tangents[v] * passes.exact[v]) for v in tape.wrt)
    np.testing.assert_allclose(forward, back, rtol=1e-9, atol=1e-10)
    return tape


@pytest.mark.parametrize("family", ALL)
def test_passes_agree_with_jax(family):
    problem = ALL[family](np.random.default_rng(1), np.float64)
    agreement(problem.fun, problem.args, problem.argnums)


v, M = RNG.normal(size=4), RNG.normal(size=(4, 4))

FUNCTIONS = {
    "gather": lambda x: x[jnp.array([0, 2, 2])] ** 2,
    "sort": lambda x: jnp.sort(x) * jnp.arange(4.0),
    "cumsum": lambda x: jnp.cumsum(jnp.sin(x)),
    "solve": lambda x: jnp.linalg.solve(M, x) * x[::-1],
    "determinant": lambda x: jnp.linalg.slogdet(M + jnp.diag(x))[1],
    "max": lambda x: jnp.max(x) * x,
    "where": lambda x: jnp.where(x > 0, x**3, jnp.exp(x)),
    "cond": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "while": lambda x: jax.lax.fori_loop(0, 3, lambda _, s: jnp.sin(s) + x, x),
    "batch of products": lambda x: jnp.einsum("i,jik->jk", x, M[None] * jnp.ones((2, 1, 1))),
    "two results": lambda x: (jnp.sum(x), {"a": x @ M, "b": jnp.stack([x, 2 * x])}),
    "its own rule": lambda x: jax.nn.gelu(jax.nn.relu(x) + x),
    "stopped": lambda x: x * jax.lax.stop_gradient(jnp.sin(x)),
    "checkpoint": lambda x: jax.checkpoint(lambda y: jnp.tanh(M @ y))(x),
    "reversed scan": lambda x: jax.lax.scan(
        lambda c, y: (jnp.sin(c) * y, c + y), 1.0, x, reverse=True
    ),
    "empty scan": lambda x: jax.lax.scan(lambda c, y: (c * y, c), x, jnp.zeros((0, 4))),
    "padded": lambda x: jnp.pad(x, 2)[1:7:2],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_with_jax(name):
    agreement(FUNCTIONS[name], (v,), 0)


def test_loops_and_calls_are_written_out():
    def fun(x):
        return jax.lax.scan(lambda c, y: (jax.jit(jnp.sin)(c) + y, None), x, M)[0]

    names = [equation.primitive.name for equation in flat_jaxpr(fun, [v]).jaxpr.eqns]
    assert names.count("sin") == 4
    assert not {"scan", "jit", "pjit"} & set(names)
    long = [e.primitive.name for e in flat_jaxpr(fun_of_many_steps, [v]).jaxpr.eqns]
    assert "scan" in long


def fun_of_many_steps(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=10_000)[0]


def test_a_tape_at_another_point():
    def fun(x):
        return jnp.sum(jnp.sin(x) ** 2)

    tape = tape_of(fun, [v], [0])
    moved = tape.read_at({tape.wrt[0]: np.ones(4)})
    exact = Passes(moved, [np.ones(())]).exact[tape.wrt[0]]
    np.testing.assert_allclose(exact, jax.grad(fun)(v + 1), rtol=1e-12)


def test_whole_functions_are_the_first_steps():
    def softplus(z):
        return jnp.log(1 + jnp.exp(z))

    def fun(x):
        return jnp.sum(softplus(M @ x) * v)

    passes = Passes(tape_of(fun, [v], [0]), [np.ones(())])
    first = next(step for step in steps_of(passes) if len(step.entries) > 1)
    assert [entry.name for entry in first.entries] == ["exp", "add", "log"]
    assert (first.rank, first.is_elementwise) == (0, True)
    assert "softplus)" in str(first)
