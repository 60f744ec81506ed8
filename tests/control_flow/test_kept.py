"""What the steps of a loop keep for the way back: no more than JAX's own derivative."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose
from support.sampling import sampled

import blockjac

Function = Callable[..., Any]

STEPS, SIZE = 40, 12
GENERATOR = np.random.default_rng(0)
X = jnp.asarray(GENERATOR.uniform(0.2, 0.9, SIZE))
W = jnp.asarray(GENERATOR.uniform(-0.3, 0.3, (SIZE, SIZE)))
ROWS = jnp.asarray(GENERATOR.uniform(0.2, 0.9, (STEPS, SIZE)))


def layer(c: jax.Array, w: jax.Array, row: jax.Array) -> jax.Array:
    return jnp.tanh(w @ c + row)


@jax.custom_vjp
def with_backward_rule(c: jax.Array, w: jax.Array, row: jax.Array) -> jax.Array:
    return layer(c, w, row)


with_backward_rule.defvjp(
    lambda c, w, row: (layer(c, w, row), (c, w, layer(c, w, row))),
    lambda kept, given: (
        kept[1].T @ (given * (1 - kept[2] ** 2)),
        jnp.outer(given * (1 - kept[2] ** 2), kept[0]),
        given * (1 - kept[2] ** 2),
    ),
)


@jax.custom_jvp
def with_forward_rule(c: jax.Array, w: jax.Array, row: jax.Array) -> jax.Array:
    return layer(c, w, row)


@with_forward_rule.defjvp
def _(point: Any, rates: Any) -> Any:
    c, w, _ = point
    out = layer(*point)
    return out, (1 - out**2) * (w @ rates[0] + rates[1] @ c + rates[2])


def positive(w: jax.Array) -> jax.Array:
    return w @ w.T + SIZE * jnp.eye(SIZE)


CONTAINERS: dict[str, Function] = {
    "plain": layer,
    "checkpoint": jax.checkpoint(layer),
    "checkpoint by dots": jax.checkpoint(layer, policy=jax.checkpoint_policies.dots_saveable),
    "jit": jax.jit(layer),
    "loop": lambda c, w, row: lax.fori_loop(0, 3, lambda _, c: layer(c, w, row), c),
    "loop of checkpoints": lambda c, w, row: lax.fori_loop(
        0, 3, lambda _, c: jax.checkpoint(layer)(c, w, row), c
    ),
    "checkpoint of a loop": jax.checkpoint(
        lambda c, w, row: lax.fori_loop(0, 3, lambda _, c: layer(c, w, row), c)
    ),
    "cond": lambda c, w, row: lax.cond(row[0] > 0.5, layer, lambda c, w, row: c * row, c, w, row),
    "backward rule": with_backward_rule,
    "forward rule": with_forward_rule,
    "solve": lambda c, w, row: jnp.linalg.solve(positive(w), c + row),
    "triangular solve": lambda c, w, row: jax.scipy.linalg.solve_triangular(
        jnp.linalg.cholesky(positive(w)), c + row, lower=True
    ),
    "map": lambda c, w, row: jnp.sum(lax.map(lambda own: jnp.tanh(own * c + row), w), axis=0),
}

MATRICES: dict[str, Function] = {
    "the matrix": lambda w: w,
    "made of it": lambda w: w @ w - 0.1 * w.T,
}

PROGRAMS = {f"{one} of {other}": (one, other) for one in CONTAINERS for other in MATRICES}

OUTSIDE = {"with a loop": False, "with the matrix made in each step": True}


def looped(container: str, matrix: str, inside: bool) -> Function:
    """A number made of a loop whose steps apply a function with a matrix of the loop's."""
    step, made = CONTAINERS[container], MATRICES[matrix]

    def run(x, w, rows):
        own = w if inside else made(w)
        last, given = lax.scan(
            lambda c, row: (step(c, made(own) if inside else own, row), jnp.sum(c)), x, rows
        )
        return jnp.sum(last**2) + jnp.sum(given**2)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("inside", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("name", sampled(PROGRAMS, 13))
def test_memory_is_that_of_jax(name, inside):
    fun = looped(*PROGRAMS[name], inside)
    for argnums in (0, (0, 1, 2)):
        ours, theirs = (
            jax.jit(grad(fun, argnums)).lower(X, W, ROWS).compile()
            for grad in (blockjac.grad, jax.grad)
        )
        for found, expected in zip(
            jax.tree.leaves(ours(X, W, ROWS)), jax.tree.leaves(theirs(X, W, ROWS)), strict=True
        ):
            assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        taken, limit = (one.memory_analysis().temp_size_in_bytes for one in (ours, theirs))
        assert taken <= 1.05 * limit + 2 * W.nbytes
