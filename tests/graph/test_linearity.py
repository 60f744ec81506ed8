"""What is proved linear, and what is not: a wrong yes gives wrong derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from blockjac.graph.linearity import is_linear

A = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3))) + 3 * jnp.eye(3)
X, T = jnp.array([0.5, -1.0, 2.0]), jnp.ones(3)


@jax.custom_jvp
def doubled(x):
    return 2 * x


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 5 * tangents[0]))


def steps(x, t):
    return lax.scan(lambda c, a: (A @ c + a * t, c * a), t, x)


LINEAR = {
    "product": lambda x, t: jnp.sin(x) * t - t / x,
    "zero": lambda x, t: (jnp.zeros(3), 0.0 * t),
    "matrix": lambda x, t: A @ t + t @ A,
    "where": lambda x, t: jnp.where(x > 0, t, 0.0),
    "pad": lambda x, t: jnp.pad(t, 2)[jnp.array([0, 3, 6])],
    "written": lambda x, t: jnp.zeros(5).at[1:4].set(t).at[0].add(t[0]),
    "sorted-by-primal": lambda x, t: t[jnp.argsort(x)],
    "triangular": lambda x, t: lax.linalg.triangular_solve(
        A, t[:, None], left_side=True, lower=True
    ),
    "solve": lambda x, t: jnp.linalg.solve(A + jnp.diag(x**2), t),
    "fft": lambda x, t: jnp.fft.rfft(t).real,
    "fori": lambda x, t: lax.fori_loop(0, 3, lambda _, c: A @ c - x * c, t),
    "scan": steps,
    "while": lambda x, t: lax.while_loop(
        lambda s: s[0] < jnp.sum(x > 0), lambda s: (s[0] + 1, A @ s[1]), (0, t)
    )[1],
    "cond": lambda x, t: lax.cond(x[0] > 0, lambda: A @ t, lambda: -t),
    "switch": lambda x, t: lax.switch(jnp.argmax(x), [lambda t: t, lambda t: 0 * t, jnp.flip], t),
    "jit": jax.jit(lambda x, t: jnp.cumsum(t) * x),
    "checkpoint": jax.checkpoint(lambda x, t: t * jnp.exp(x)),
    "grows-in-a-loop": lambda x, t: lax.fori_loop(
        0, 3, lambda _, s: (s[0] + t, s[1] + s[0]), (jnp.zeros(3), jnp.zeros(3))
    )[1],
    "what-it-computes": lambda x, t: doubled(t),
    "own-rule-of-the-primal": lambda x, t: jax.nn.relu(x) * t,
    "own-rule-of-the-primal-in-a-loop": lambda x, t: lax.fori_loop(
        0, 2, lambda _, c: jax.nn.relu(x) * c, t
    ),
    "stopped-primal": lambda x, t: lax.stop_gradient(x) * t,
}

NOT_LINEAR = {
    "clip": lambda x, t: jnp.clip(t, -1, 1),
    "square": lambda x, t: t * t,
    "abs": lambda x, t: jnp.abs(t),
    "relu": lambda x, t: jax.nn.relu(t),
    "constant": lambda x, t: jnp.ones(3),
    "affine": lambda x, t: t + 1.0,
    "affine-by-primal": lambda x, t: t + x,
    "pad-with-ones": lambda x, t: jnp.pad(t, 1, constant_values=1.0),
    "divisor": lambda x, t: x / (1 + t),
    "where-on-tangent": lambda x, t: jnp.where(t > 0, t, -t),
    "sorted": lambda x, t: jnp.sort(t),
    "rounded": lambda x, t: t.astype(int).astype(float),
    "an-index-of-it": lambda x, t: x[jnp.argmax(t)] * t,
    "a-place-of-it": lambda x, t: t[t.astype(int)],
    "branch-on-tangent": lambda x, t: lax.cond(t[0] > 0, lambda: t, lambda: 2 * t),
    "branches-differ": lambda x, t: lax.cond(x[0] > 0, lambda: t, lambda: jnp.ones(3)),
    "loop-until-small": lambda x, t: lax.while_loop(
        lambda c: jnp.sum(c**2) > 1e-3, lambda c: c / 2, t
    ),
    "affine-in-a-loop": lambda x, t: lax.fori_loop(0, 3, lambda _, c: c + 1.0, t),
    "square-after-a-step": lambda x, t: lax.fori_loop(
        0, 3, lambda _, s: (s[1], s[0] * s[0]), (jnp.zeros(3), t)
    )[1],
    "norm": lambda x, t: t / jnp.linalg.norm(t),
    "scatter-multiplied": lambda x, t: x.at[1].multiply(t[1]),
    "stopped": lambda x, t: lax.stop_gradient(t),
    "own-rule-in-a-loop": lambda x, t: lax.fori_loop(0, 2, lambda _, c: doubled(c), t),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name):
    closed = jax.make_jaxpr(LINEAR[name])(X, T)
    assert is_linear(closed, [False, True])

    def value(t):  # the table itself: the values say the same
        return jnp.concatenate([jnp.ravel(one) for one in jax.tree.leaves(LINEAR[name](X, t))])

    u = jnp.array([0.3, -2.0, 1.0])
    np.testing.assert_allclose(
        value(2.0 * u - 3.0 * T), 2.0 * value(u) - 3.0 * value(T), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_not_known_to_be_linear(name):
    assert not is_linear(jax.make_jaxpr(NOT_LINEAR[name])(X, T), [False, True])


def test_results_before_those_that_matter_may_be_anything():
    closed = jax.make_jaxpr(lambda x, t: (jnp.exp(x), t**2, x * t))(X, T)
    assert is_linear(closed, [False, True], first=2)
    assert not is_linear(closed, [False, True], first=1)
