"""What a loop keeps for the way back: a derivative in place of an operand that it alone needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from numpy.testing import assert_allclose
from support.stacks import stacked

import blockjac

Function = Callable[..., Any]

STEPS, SIZE = 12, 5
X = jnp.linspace(0.2, 0.9, SIZE)
ROWS = jnp.linspace(0.1, 0.8, STEPS * SIZE).reshape(STEPS, SIZE)

DEAR: dict[str, Function] = {
    "sin": jnp.sin,
    "cos": jnp.cos,
    "sinh": jnp.sinh,
    "erf": lax.erf,
    "lgamma": lax.lgamma,
}
"""Functions whose derivative takes as long as they do, and is not made of their value."""


def iterated(step: Function) -> Function:
    """A number made of what a loop carries to the end, and of what its steps give."""

    def run(x, w, rows):
        last, given = lax.scan(lambda c, row: step(c, w, row), x, rows)
        return jnp.sum(last**2) + jnp.sum(given)

    return run


def last_loop(fun: Function, *arguments: Any) -> list[str]:
    """The primitives in a step of the last loop of a program."""
    loops = [
        equation
        for equation in jax.make_jaxpr(fun)(*arguments).eqns
        if equation.primitive.name == "scan"
    ]
    return [one.primitive.name for one in loops[-1].params["jaxpr"].eqns]


@pytest.mark.parametrize("name", DEAR)
def test_the_way_back_computes_no_such_function_again(name):
    fun = iterated(lambda c, w, row: (c + 0.1 * DEAR[name](c), jnp.zeros(())))
    found = last_loop(blockjac.grad(fun), X, X, ROWS)
    assert set(found) <= {"mul", "add", "broadcast_in_dim"}
    assert stacked(blockjac.grad(fun), X, X, ROWS) <= stacked(jax.grad(fun), X, X, ROWS)
    assert_allclose(blockjac.grad(fun)(X, X, ROWS), jax.grad(fun)(X, X, ROWS), rtol=1e-12)


STEPS_OF: dict[str, Function] = {
    "of what is carried": lambda c, w, row: (c + 0.1 * jnp.sin(c), 0.0),
    "scaled before": lambda c, w, row: (c + 0.1 * jnp.sin(w * c), 0.0),
    "needed elsewhere": lambda c, w, row: (c * jnp.sin(c), jnp.sum(c**3)),
    "two of one": lambda c, w, row: (jnp.sin(c) * jnp.cos(c), 0.0),
    "of a row": lambda c, w, row: (c * jnp.sin(row), jnp.sum(row**2)),
    "of a constant": lambda c, w, row: (c * jnp.sin(w), jnp.sum(jnp.cos(w * 2))),
    "of both": lambda c, w, row: (jnp.sin(c + row) * w, jnp.sum(jnp.sin(row))),
    "of one number": lambda c, w, row: (c * jnp.sin(c[0] * row[1]), 0.0),
    "of rows of one": lambda c, w, row: (c + jnp.sin(c[:1, None] * row[None, :1])[0], 0.0),
    "inside": lambda c, w, row: (
        lax.fori_loop(0, 3, lambda _, d: d + 0.1 * jnp.sin(d * w), c),
        0.0,
    ),
    "under a condition": lambda c, w, row: (
        lax.cond(row[0] > 0.5, jnp.sin, lambda d: jnp.cos(w * d), c),
        0.0,
    ),
    "complex": lambda c, w, row: (jnp.real(jnp.sin(c + 1j * row)), 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS_OF)
def test_no_more_is_kept(name):
    fun = iterated(lambda c, w, row: tuple(map(jnp.asarray, STEPS_OF[name](c, w, row))))
    ours, theirs = blockjac.grad(fun, (0, 1, 2)), jax.grad(fun, (0, 1, 2))
    for found, expected in zip(ours(X, X, ROWS), theirs(X, X, ROWS), strict=True):
        assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert stacked(ours, X, X, ROWS) <= stacked(theirs, X, X, ROWS)
    second = blockjac.hvp(lambda x: fun(x, X, ROWS), X, X)
    expected = jax.jvp(jax.grad(fun), (X, X, ROWS), (X, 0 * X, 0 * ROWS))[1]
    assert_allclose(second, expected, rtol=1e-10, atol=1e-12)

    def carried(x):
        return lax.scan(lambda c, row: (STEPS_OF[name](c, X, row)[0], None), x, ROWS)[0]

    assert_allclose(blockjac.jacobian(carried)(X), jax.jacfwd(carried)(X), rtol=1e-11, atol=1e-13)
