"""Zeros that are constants are structure inside of loops, branches, checkpoints and rules too."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.sampling import sampled

import blockjac

Function = Callable[[Any], Any]

SIZE = 20
GENERATOR = np.random.default_rng(0)
FULL = GENERATOR.uniform(0.5, 1.5, (SIZE, SIZE))
FEW = FULL * (GENERATOR.random((SIZE, SIZE)) < 0.05)
BLOCKS = np.kron(np.eye(5), FULL[:4, :4])
BAND = np.tril(np.triu(FULL, -1), 1)
MASK = np.arange(SIZE) % 3 == 0
CHOSEN = np.array([0, 2, 1, 2] * 5)
PLACES = np.random.default_rng(1).permutation(SIZE)

ACTIONS: dict[str, Function] = {
    "few": lambda x: FEW @ x,
    "few of JAX": lambda x: jnp.asarray(FEW) @ x,
    "triangle": lambda x: jnp.tril(jnp.asarray(FULL)) @ x,
    "blocks": lambda x: BLOCKS @ x,
    "band": lambda x: BAND @ x,
    "identity by matrix": lambda x: jnp.kron(jnp.eye(5), FULL[:4, :4]) @ x,
    "diagonal": lambda x: jnp.diag(jnp.arange(1.0, SIZE + 1)) @ x,
    "where": lambda x: jnp.where(MASK, x, 0.0) * 2.0,
    "where computed": lambda x: jnp.where(jnp.arange(SIZE) < 7, jnp.sin(x), 0.0),
    "mask": lambda x: x * MASK,
    "set": lambda x: x.at[::2].set(0.0),
    "one hot": lambda x: jax.nn.one_hot(CHOSEN, SIZE) @ x,
    "gather": lambda x: x[PLACES],
    "running sum": lambda x: jnp.cumsum(x),
    "triangle of what moves": lambda x: jnp.triu(jnp.outer(x, jnp.exp(-x)), SIZE - 3) @ x,
}


def with_own_rule(action: Function) -> Function:
    function = jax.custom_jvp(action)
    function.defjvp(lambda point, rates: jax.jvp(action, point, rates))
    return function


def with_backward_rule(action: Function) -> Function:
    function = jax.custom_vjp(action)
    function.defvjp(lambda x: (action(x), x), lambda x, given: (jax.vjp(action, x)[1](given)[0],))
    return function


def carried(action: Function, steps: int) -> Function:
    return lambda x: lax.scan(lambda c, _: (action(jnp.sin(c)), None), x, None, length=steps)[0]


def stacked(x: jax.Array, steps: int) -> jax.Array:
    return x * jnp.arange(1.0, steps + 1)[:, None]


LOOPS: dict[str, Callable[[Function], Function]] = {
    "scan": lambda action: carried(action, 3),
    "long": lambda action: carried(action, 100),
    "fori_loop": lambda action: lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.cos(action(c)), x),
    "while": lambda action: (
        lambda x: lax.while_loop(
            lambda state: state[0] < 3 + (x[0] > 9),
            lambda state: (state[0] + 1, action(jnp.sin(state[1]))),
            (0, x),
        )[1]
    ),
    "counted while": lambda action: (
        lambda x: lax.while_loop(
            lambda state: state[0] < 3,
            lambda state: (state[0] + 1, action(jnp.sin(state[1]))),
            (0, x),
        )[1]
    ),
    "results of steps": lambda action: (
        lambda x: lax.scan(lambda c, _: (jnp.cos(c), action(jnp.sin(c))), x, None, length=3)[1]
    ),
    "map": lambda action: lambda x: lax.map(lambda r: action(jnp.sin(r)), stacked(x, 4)),
    "long map": lambda action: lambda x: lax.map(lambda r: action(jnp.sin(r)), stacked(x, 60)),
    "slices summed": lambda action: (
        lambda x: lax.scan(
            lambda c, r: (c + action(jnp.sin(r)), None), jnp.zeros(SIZE), stacked(x, 3)
        )[0]
    ),
    "closure": lambda action: (
        lambda x: lax.scan(
            lambda c, _: (c * 1.5 + action(jnp.sin(x)), None), jnp.zeros(SIZE), None, length=3
        )[0]
    ),
    "cond": lambda action: (
        lambda x: lax.cond(x[0] < 0.7, action, lambda x: 3 * action(jnp.sin(x)), x)
    ),
    "one branch": lambda action: (
        lambda x: lax.cond(x[0] < 0.7, lambda x: 2 * x, lambda x: action(jnp.sin(x)), x)
    ),
    "vmap": lambda action: lambda x: jax.vmap(carried(action, 3))(stacked(x, 2)),
    "checkpoint": lambda action: jax.checkpoint(lambda x: action(jnp.sin(x))),
    "checkpoint in a loop": lambda action: carried(jax.checkpoint(action), 3),
    "jit in a loop": lambda action: carried(jax.jit(action), 3),
    "forward rule in a loop": lambda action: carried(with_own_rule(action), 3),
    "backward rule": lambda action: lambda x: with_backward_rule(action)(jnp.sin(x)),
    "cond in a loop": lambda action: (
        lambda x: lax.scan(
            lambda c, k: (lax.cond(k > 0, action, lambda y: jnp.sin(action(y)), jnp.sin(c)), None),
            x,
            jnp.arange(3),
        )[0]
    ),
}

PROGRAMS = {f"{action}, {loop}": (action, loop) for action in ACTIONS for loop in LOOPS}


def followed(single: np.ndarray, loop: str) -> np.ndarray:
    """The pattern of a program, by construction: from that of its action.

    Args:
        single: of the action, boolean.
        loop: the name of what it stands in.
    """
    identity = np.eye(SIZE, dtype=bool)

    def power(steps: int) -> np.ndarray:
        return np.linalg.matrix_power(single.astype(float), steps) > 0

    if loop in ("results of steps", "map", "long map"):
        steps = {"results of steps": 3, "map": 4, "long map": 60}[loop]
        return np.tile(single, (steps, 1))
    if loop == "one branch":
        return single | identity
    if loop == "while":  # the number of steps is known when it runs: none, one, and so on
        return np.logical_or.reduce([power(steps) for steps in range(SIZE)])
    if loop == "vmap":
        return np.tile(power(3), (2, 1))
    if loop == "long":  # the steps are not told apart
        return np.logical_or.reduce([power(steps) for steps in range(1, SIZE)])
    return (
        power(3)
        if loop in ("scan", "fori_loop", "counted while") or "in a loop" in loop
        else single
    )


@pytest.mark.parametrize("name", sampled(PROGRAMS, 24))
def test_places_of_constants_inside(name):
    check(*PROGRAMS[name])


def check(action: str, loop: str) -> None:
    fun = LOOPS[loop](ACTIONS[action])
    x = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.0, SIZE))
    exact = np.asarray((jax.jacrev if loop == "backward rule" else jax.jacfwd)(fun)(x))
    exact = exact.reshape(-1, SIZE)
    single = np.asarray(jax.jacfwd(ACTIONS[action])(x)) != 0
    true = followed(single, loop)
    assert not (~true & (exact != 0)).any()
    block = blockjac.block_jacobian(fun)(x)
    np.testing.assert_allclose(np.reshape(block.dense(), exact.shape), exact, 1e-9, 1e-12)
    places = int(true.sum())
    assert block.nnz <= 1.1 * places + 2 * SIZE + 4  # a list of few places may cost more
    assert block.stored <= 2 * places + 100
    sparse = blockjac.sparse_jacobian(fun)(x)
    np.testing.assert_allclose(sparse.toarray(), exact, 1e-9, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 5, 24, 100, 130])
def test_no_size_is_a_cliff(size):
    """Triangles of all sizes, carried for many steps and for few."""
    triangle = np.tril(np.random.default_rng(0).uniform(0.0, 1.0, (size, size))) / size
    x = jnp.ones(size)
    for steps in (2, 7, 200):

        def fun(x: jax.Array, steps: int = steps) -> jax.Array:
            return lax.fori_loop(0, steps, lambda i, c: jnp.cos(triangle @ c), x)

        block = blockjac.block_jacobian(fun)(x)
        assert block.nnz <= 1.1 * size * (size + 1) // 2 + 2
        np.testing.assert_allclose(block.dense(), jax.jacfwd(fun)(x), 1e-9, 1e-12)


@pytest.mark.slow
def test_other_numbers_at_the_same_places_are_one_program():
    """What a body is told of a constant are its zeros: it is not taken for another one."""
    x = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.0, SIZE))
    for matrix in (FEW, 2 * FEW, FEW.T, FULL):

        def fun(x: jax.Array, matrix: np.ndarray = matrix) -> jax.Array:
            return lax.scan(lambda c, _: (jnp.sin(matrix @ c), None), x, None, length=2)[0]

        np.testing.assert_allclose(
            blockjac.block_jacobian(fun)(x).dense(), jax.jacfwd(fun)(x), 1e-9, 1e-12
        )


def test_places_that_are_arguments_are_not_known():
    """An index array that is an argument may be any other at the next call."""
    x = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.0, SIZE))

    def fun(x: jax.Array, places: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 3, lambda i, c: jnp.sin(c[places]) + c, x)

    compiled = jax.jit(lambda x, places: blockjac.block_jacobian(fun)(x, places).dense())
    for places in (PLACES, CHOSEN):
        exact = jax.jacfwd(fun)(x, places)
        np.testing.assert_allclose(compiled(x, places), exact, 1e-9, 1e-12)
        np.testing.assert_allclose(
            blockjac.block_jacobian(fun)(x, places).dense(), exact, 1e-9, 1e-12
        )


@pytest.mark.slow
@pytest.mark.parametrize(("action", "loop"), [*itertools.product(["few", "set"], ["scan", "cond"])])
def test_curvature(action, loop):
    """Hessians through loops and branches with constant zeros."""

    def loss(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(LOOPS[loop](ACTIONS[action])(x) / 4))

    x = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.0, SIZE))
    np.testing.assert_allclose(
        blockjac.block_hessian(loss)(x).dense(), jax.hessian(loss)(x), 1e-9, 1e-12
    )
