"""Loops forwards: values and tangents in one loop, in JAX's memory; writes stay in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support import loop_bodies
from support.same_as_jax import assert_same, loops_in
from support.sampling import sampled

import blockjac

# Values of programs that are put together at random


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(len(loop_bodies.PIECES)), 5))
def test_programs_put_together_at_random(seed):
    function, point = loop_bodies.program(seed), loop_bodies.arguments(seed)
    direction = loop_bodies.arguments(seed + 1000)

    def loss(*point):
        return sum(jnp.sum(jnp.sin(one)) for one in function(*point))

    @jax.jit
    def ours(*point):
        return (
            blockjac.jvp(function, point, direction)[1],
            blockjac.jacobian(function, (0, 1), order="forward")(*point),
            blockjac.grad(loss, (0, 1))(*point),
            blockjac.jvp(blockjac.grad(loss, (0, 1)), point, direction)[1],
        )

    @jax.jit
    def theirs(*point):
        return (
            jax.jvp(function, point, direction)[1],
            jax.jit(jax.jacfwd(function, (0, 1)))(*point),
            jax.grad(loss, (0, 1))(*point),
            jax.jvp(jax.grad(loss, (0, 1)), point, direction)[1],
        )

    assert_same(ours(*point), theirs(*point), rtol=1e-8)


# Memory: bytes of temporaries, as the compiler plans them

N, SLACK = 1000, 1024
X, W = jnp.linspace(0.1, 0.9, N), jnp.array([0.9, 0.7])


def loop_of(step, steps):
    return lambda x, w: lax.scan(lambda c, t: (step(c, w, t), None), x, jnp.arange(steps))[0]


def smooth(c, w, t):
    return c + 0.01 * jnp.sin(w[0] * c)


STEPS = {
    "smooth": smooth,
    "set": lambda c, w, t: c.at[t + 1].set(jnp.sin(c[t]) * w[0] + w[1]),
    "add": lambda c, w, t: c.at[t].add(jnp.sin(c[t + 1]) * w[0]),
    "window": lambda c, w, t: lax.dynamic_update_slice(
        c, jnp.tanh(lax.dynamic_slice(c, (t,), (8,)) * w[0]) + w[1], (t,)
    ),
    "scan-inside": lambda c, w, t: lax.scan(lambda c, _: (smooth(c, w, t), None), c, None, 5)[0],
    "recomputed": lambda c, w, t: jax.checkpoint(smooth)(c, w, t),
    "recomputed-loop": jax.checkpoint(
        lambda c, w, t: lax.fori_loop(0, 5, lambda i, c: smooth(c, w, t), c)
    ),
}

QUESTIONS = {
    "jvp": (
        lambda f: lambda x, w: blockjac.jvp(f, (x, w), (x, w))[1],
        lambda f: lambda x, w: jax.jvp(f, (x, w), (x, w))[1],
    ),
    "jacobian": (
        lambda f: blockjac.jacobian(f, 1),
        lambda f: jax.jacfwd(f, 1),
    ),
    "hvp": (
        lambda f: lambda x, w: blockjac.hvp(lambda x: jnp.sum(f(x, w) ** 2), x, x),
        lambda f: lambda x, w: jax.jvp(jax.grad(lambda x: jnp.sum(f(x, w) ** 2)), (x,), (x,))[1],
    ),
    "hvp by weights": (
        lambda f: lambda x, w: blockjac.hvp(lambda w: jnp.sum(f(x, w) ** 2), w, w),
        lambda f: lambda x, w: jax.jvp(jax.grad(lambda w: jnp.sum(f(x, w) ** 2)), (w,), (w,))[1],
    ),
}


def temporary(function):
    compiled = jax.jit(function).lower(X, W).compile()
    planned = compiled.memory_analysis()
    assert planned is not None
    return planned.temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("computation", QUESTIONS)
@pytest.mark.parametrize("name", STEPS)
def test_memory_is_that_of_jax(name, computation):
    ours, theirs = QUESTIONS[computation]
    many = loop_of(STEPS[name], 200)
    used = temporary(ours(many))
    # One array of the carry more than JAX at most, whatever the number of steps.
    assert used <= 1.05 * temporary(theirs(many)) + X.nbytes + SLACK
    if computation in ("jvp", "jacobian"):
        assert used <= temporary(ours(loop_of(STEPS[name], 20))) + X.nbytes


# Structure


def test_a_product_with_the_hessian_is_two_loops():
    def loss(w):
        return jnp.sum(loop_of(smooth, 10)(X, w) ** 2)

    assert loops_in(lambda w: blockjac.hvp(loss, w, w), W) == 2


def bodies(closed):
    """The jaxprs of the loops of a program, without what nothing needs."""
    for equation in closed.jaxpr.eqns:
        if equation.primitive.name == "scan":
            jaxpr = equation.params["jaxpr"].jaxpr
            used = {atom for atom in jaxpr.outvars if not hasattr(atom, "val")}
            kept = []
            for inner in reversed(jaxpr.eqns):
                if not used.isdisjoint(inner.outvars):
                    kept.append(inner)
                    used.update(atom for atom in inner.invars if not hasattr(atom, "val"))
            yield kept


def passes_over(function, *arguments):
    """The primitives that give an array of at least N entries in the step of a loop."""
    return [
        [one.primitive.name for one in body if max(v.aval.size for v in one.outvars) >= N]
        for body in bodies(jax.make_jaxpr(function)(*arguments))
    ]


@pytest.mark.parametrize(
    ("name", "primitive"),
    [("set", "scatter"), ("add", "scatter-add"), ("window", "dynamic_update_slice")],
)
def test_a_write_is_done_to_the_tangents_in_their_place(name, primitive):
    function = loop_of(STEPS[name], 20)
    for computation in ("jvp", "jacobian"):
        ours, _ = QUESTIONS[computation]
        assert passes_over(ours(function), X, W) == [[primitive, primitive]]


def test_a_cotangent_is_read_and_cleared_in_its_place():
    for name, writes in {"set": ["scatter", "scatter-add"], "add": ["scatter-add"]}.items():
        function = loop_of(STEPS[name], 20)
        gradient = blockjac.grad(lambda x, f=function: jnp.sum(f(x, W) ** 2))
        *_, backwards = passes_over(gradient, X)
        assert sorted(backwards) == writes


@pytest.mark.slow
def test_what_the_write_leaves_apart_stays_apart():
    """A batch beside the places that are written keeps its delta through the loop."""
    batch = jnp.linspace(0.1, 0.9, 40).reshape(4, 10)

    def loop(x):
        def step(c, t):
            return c.at[:, t].set(jnp.sin(c[:, t - 1])), None

        return lax.scan(step, x, jnp.arange(1, 10))[0]

    block = blockjac.block_jacobian(loop)(batch)
    np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(loop))(batch), rtol=1e-12)
    assert block.stored == 4 * 10 * 10
