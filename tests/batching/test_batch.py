"""Loops that read and write at known places: their blocks have the places that the steps have."""

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

pytestmark = pytest.mark.slow

Function = Callable[[jax.Array], Any]

SIZE = 12
X = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.0, SIZE))
PERMUTATION = np.random.default_rng(1).permutation(SIZE)
SOME = np.array([3, 7, 3, 0, 11, 7])
TABLE = np.random.default_rng(2).integers(0, SIZE, (6, 2))
ZEROS = np.zeros(SIZE)

fori = lax.fori_loop
update = lax.dynamic_update_slice

LOOPS: dict[str, Function] = {
    "set": lambda x: fori(0, SIZE - 1, lambda i, y: y.at[i].set(x[i] * x[i + 1]), ZEROS),
    "set in what was there": lambda x: fori(2, 7, lambda i, y: y.at[i].set(x[i - 2] ** 2), x),
    "set again": lambda x: fori(0, 9, lambda i, y: y.at[i // 3].set(x[i] ** 2), ZEROS),
    "set two": lambda x: fori(
        0, 6, lambda i, y: y.at[i].set(jnp.sin(x[i])).at[2 * i].set(x[i + 1] * x[i]), ZEROS
    ),
    "set downwards": lambda x: fori(0, 5, lambda i, y: y.at[-1 - i].set(x[i] * x[0]), ZEROS),
    "set off the array": lambda x: fori(6, 20, lambda i, y: y.at[i].set(x[i - 6] ** 2), ZEROS),
    "set clipped": lambda x: fori(
        6, 16, lambda i, y: y.at[i].set(x[i - 6] ** 2, mode="clip"), ZEROS
    ),
    "set rows": lambda x: fori(
        0,
        4,
        lambda i, y: y.at[i].set(x[3 * i : 3 * i + 3] if False else x[:3] * x[i]),
        np.zeros((4, 3)),
    ),
    "set columns": lambda x: fori(
        0, 4, lambda i, y: y.at[:, i].set(jnp.flip(x[:3]) * x[i]), np.zeros((3, 4))
    ),
    "windows": lambda x: fori(
        0, 3, lambda i, y: update(y, jnp.sin(lax.dynamic_slice(x, (4 * i,), (4,))), (4 * i,)), ZEROS
    ),
    "windows that overlap": lambda x: fori(
        0, 5, lambda i, y: update(y, lax.dynamic_slice(x, (i,), (4,)) ** 2, (2 * i,)), ZEROS
    ),
    "windows off the array": lambda x: fori(
        0, 4, lambda i, y: update(y, lax.dynamic_slice(x, (4 * i,), (4,)) ** 2, (4 * i,)), ZEROS
    ),
    "add": lambda x: fori(0, SIZE - 1, lambda i, y: y.at[i].add(jnp.sin(x[i]) * x[i + 1]), ZEROS),
    "add to one": lambda x: fori(0, 9, lambda i, y: y.at[i // 4].add(x[i] ** 2), ZEROS),
    "add at several": lambda x: lax.scan(
        lambda y, at: (y.at[at].add(x[at] ** 2), None), ZEROS, TABLE
    )[0],
    "subtract": lambda x: fori(0, 5, lambda i, y: y - x * (jnp.arange(SIZE) == i), ZEROS),
    "mask": lambda x: fori(
        0, 5, lambda i, y: y + jnp.where(jnp.arange(SIZE) == i, jnp.exp(x), 0.0), ZEROS
    ),
    "chosen": lambda x: fori(
        0, 5, lambda i, y: jnp.where(jnp.arange(SIZE) >= 2 * i, x * x[i], y), ZEROS
    ),
    "list of places": lambda x: lax.scan(
        lambda y, i: (y.at[i].set(x[(i + 1) % SIZE] ** 2), None), ZEROS, SOME
    )[0],
    "reverse": lambda x: lax.scan(
        lambda y, i: (y.at[i // 2].set(x[i] * x[i - 1]), None),
        ZEROS,
        jnp.arange(SIZE),
        reverse=True,
    )[0],
    "results": lambda x: lax.scan(lambda c, i: (c, x[i] * x[(i + 2) % SIZE]), 0, jnp.arange(SIZE))[
        1
    ],
    "results and writes": lambda x: jnp.concatenate(
        lax.scan(
            lambda y, i: (y.at[i].set(x[PERMUTATION[0] - 0] * x[i]), x[i] ** 3),
            ZEROS,
            jnp.arange(SIZE),
        )
    ),
    "read off the array": lambda x: fori(
        0,
        SIZE + 3,
        lambda i, s: (
            s[0].at[i].set(0.0),
            s[1]
            .at[i % SIZE]
            .add(
                s[0].at[i + 1].get(mode="fill", fill_value=7.0) * x[0]
                + s[0].at[i - 1].get(mode="fill", fill_value=5.0)
            ),
        ),
        (jnp.sin(x), ZEROS),
    )[1],
    "a counter of its own": lambda x: fori(
        0,
        SIZE // 2,
        lambda _, s: (s[0] + 2, s[1].at[s[0]].set(x[s[0]] * x[s[0] + 1])),
        (0, jnp.zeros(SIZE)),
    )[1],
    "two counters": lambda x: fori(
        0,
        4,
        lambda _, s: (s[0] + s[1], s[1] + 1, s[2].at[s[0]].set(x[s[1]] ** 2)),
        (0, 1, jnp.zeros(SIZE)),
    )[2],
    "looked up": lambda x: fori(
        0, SIZE, lambda i, y: y.at[jnp.asarray(PERMUTATION)[i]].set(jnp.cos(x[i])), ZEROS
    ),
    "what comes in": lambda x: lax.scan(
        lambda y, given: (y.at[given[0]].set(given[1] ** 2), None), ZEROS, (PERMUTATION, x)
    )[0],
    "checkpoint": lambda x: fori(
        0, SIZE - 1, jax.checkpoint(lambda i, y: y.at[i].set(x[i] * x[i + 1])), ZEROS
    ),
    "jit": lambda x: fori(0, SIZE - 1, jax.jit(lambda i, y: y.at[i].set(x[i] * x[i + 1])), ZEROS),
    "of integers": lambda x: lax.scan(
        lambda y, i: (y.at[i].set(x[i] * x[i + 1]), None), ZEROS, jnp.arange(9, dtype=jnp.int8)
    )[0],
    "read before it is written": lambda x: fori(
        1, SIZE, lambda i, y: y.at[i].set(y[i] * x[i - 1]), x
    ),
    "read and set to zero": lambda x: fori(
        0,
        5,
        lambda i, s: (s[0].at[i].set(0.0), s[1].at[2 * i].add(s[0][i] ** 2)),
        (jnp.sin(x), ZEROS),
    )[1],
    "a function after it": lambda x: jnp.sin(
        fori(0, SIZE - 1, lambda i, y: y.at[i].set(x[i] * x[i + 1]), ZEROS)
    ),
    "two loops": lambda x: fori(
        0,
        SIZE,
        lambda i, y: y.at[i].set(x[i] * 2),
        fori(0, SIZE - 1, lambda i, y: y.at[i + 1].set(x[i]), ZEROS),
    ),
    "while": lambda x: lax.while_loop(
        lambda s: s[0] < SIZE - 1,
        lambda s: (s[0] + 1, s[1].at[s[0]].set(x[s[0]] * x[s[0] + 1])),
        (0, jnp.zeros(SIZE)),
    )[1],
    "while of two counters": lambda x: lax.while_loop(
        lambda s: s[0] < s[1],
        lambda s: (s[0] + 2, s[1] - 1, s[2].at[s[1]].set(x[s[0]] ** 2)),
        (0, SIZE - 1, jnp.zeros(SIZE)),
    )[2],
    "while without a step": lambda x: lax.while_loop(
        lambda s: s[0] < 0, lambda s: (s[0] + 1, s[1].at[s[0]].set(x[0])), (0, jnp.sin(x))
    )[1],
    "while of a stencil": lambda x: lax.while_loop(
        lambda s: s[0] < 2,
        lambda s: (s[0] + 1, s[1] + 0.1 * jnp.sin(jnp.roll(s[1], 1))),
        (0, x),
    )[1],
    "vmap": lambda x: jax.vmap(
        lambda r: fori(0, 3, lambda i, y: y.at[i].set(r[i] * r[i + 1]), jnp.zeros(4))
    )(x.reshape(3, 4)),
    "one step": lambda x: fori(4, 5, lambda i, y: y.at[i].set(x[i + 1] ** 2), ZEROS),
    "counters that are arrays": lambda x: lax.scan(
        lambda c, _: ((c[0] + 2, c[1].at[c[0]].add(x[c[0]] ** 2)), None),
        (jnp.array([0, 1]), jnp.zeros(SIZE)),
        None,
        length=5,
    )[0][1],
    "a batch of loops": lambda x: jax.vmap(
        lambda k, r: fori(0, 3, lambda i, y: y.at[i + k].set(r * r), jnp.zeros(5))
    )(jnp.arange(2), x[:2]),
    "a flag": lambda x: lax.while_loop(
        lambda s: s[0], lambda s: (jnp.logical_not(s[0]), jnp.sin(s[1])), (True, x)
    )[1],
    "complex": lambda x: jnp.real(
        fori(0, SIZE - 1, lambda i, y: y.at[i].set((1 + 2j) * x[i] * x[i + 1]), ZEROS + 0j)
    ),
}

ENERGIES: dict[str, Function] = {
    "sum": lambda x: fori(0, SIZE - 1, lambda i, s: s + jnp.sin(x[i]) * x[i + 1] ** 2, 0.0),
    "differences": lambda x: -fori(0, SIZE - 2, lambda i, s: s - (x[i] * x[i + 2]) ** 2, 1.0),
    "writes": lambda x: jnp.sum(LOOPS["set"](x) ** 2),
    "added": lambda x: jnp.sum(LOOPS["add to one"](x) ** 2),
    "windows": lambda x: jnp.sum(LOOPS["windows that overlap"](x) ** 3),
    "results": lambda x: jnp.prod(LOOPS["results"](x)[:4]),
    "pairs": lambda x: lax.scan(lambda s, at: (s + jnp.exp(x[at[0]] * x[at[1]]), None), 0.0, TABLE)[
        0
    ],
}

OTHERS: dict[str, Function] = {
    "read again": lambda x: fori(1, SIZE, lambda i, y: y.at[i].set(y[i - 1] * x[i]), x),
    "places at run time": lambda x: fori(
        0, 5, lambda i, y: y.at[jnp.argmax(x) + i].set(x[i]), ZEROS
    ),
    "kept on the way": lambda x: lax.scan(
        lambda y, i: (y.at[i].set(x[i] ** 2), y), ZEROS, jnp.arange(4)
    )[1],
    "under a condition": lambda x: fori(
        0,
        SIZE - 1,
        lambda i, y: y.at[i].set(lax.cond(i % 2 == 0, lambda: x[i] * x[i + 1], lambda: x[i])),
        ZEROS,
    ),
    "sums and writes": lambda x: fori(0, 5, lambda i, y: (y + x).at[i].set(x[i] * x[i + 1]), ZEROS),
    "a number of steps at run time": lambda x: fori(
        0, jnp.where(x[0] > 0, 7, 3), lambda i, y: y.at[i].set(x[i] * x[i + 1]), ZEROS
    ),
    "numbers of steps of its own for each example": lambda x: jax.vmap(
        lambda count, r: lax.while_loop(
            lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.sin(s[1]) * r), (count, r)
        )[1]
    )(jnp.arange(SIZE), x),
    "a condition that never holds": lambda x: lax.while_loop(
        lambda s: False, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x)
    )[1],
    "keys of random numbers": lambda x: lax.scan(
        lambda key, i: (jax.random.split(key)[0], x[i] * jax.random.normal(key)),
        jax.random.key(0),
        jnp.arange(4),
    )[1],
    "in a loop": lambda x: fori(
        0,
        3,
        lambda i, y: fori(0, 4, lambda j, y: y.at[4 * i + j].set(x[4 * i] * x[j]), y),
        ZEROS,
    ),
}


def dense(block: Any) -> np.ndarray:
    return np.asarray(block.dense())


@pytest.mark.parametrize("name", LOOPS)
def test_places_are_those_of_the_steps(name):
    fun = LOOPS[name]
    block = blockjac.block_jacobian(fun)(X)
    expected = np.asarray(jax.jacfwd(fun)(X))
    assert_allclose(dense(block), expected, rtol=1e-12, atol=1e-14)
    assert block.nnz == np.count_nonzero(expected)
    assert block.stored <= 2 * np.count_nonzero(expected)


@pytest.mark.parametrize("gradient", [jax.grad, blockjac.grad], ids=["of jax", "ours"])
@pytest.mark.parametrize("name", ENERGIES)
def test_second_derivatives_of_sums_over_a_loop(name, gradient):
    expected = np.asarray(jax.hessian(ENERGIES[name])(X))
    block = blockjac.block_jacobian(gradient(ENERGIES[name]))(X)
    assert_allclose(dense(block), expected, rtol=1e-11, atol=1e-13)
    assert block.nnz == np.count_nonzero(expected)
    assert_allclose(
        blockjac.block_hessian(ENERGIES[name])(X).dense(), expected, rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("name", OTHERS)
def test_other_loops_are_as_they_were(name):
    fun = OTHERS[name]
    block = blockjac.block_jacobian(fun)(X)
    assert_allclose(dense(block), jax.jacfwd(fun)(X), rtol=1e-12, atol=1e-14)


def test_a_loop_of_many_steps_stores_what_its_steps_do():
    size = 3_000
    x = jnp.linspace(0.5, 1.0, size)

    def energy(x):
        return fori(0, size - 1, lambda i, s: s + jnp.sin(x[i]) * x[i + 1] ** 2, 0.0)

    hessian = blockjac.block_hessian(energy)(x)
    assert blockjac.block_jacobian(jax.grad(energy))(x).nnz == 3 * size - 2
    vector = jnp.cos(x)
    expected = jax.jvp(jax.grad(energy), (x,), (vector,))[1]
    assert_allclose(hessian.matvec(vector), expected, rtol=1e-11)


def random_loop(seed: int) -> Function:
    """A loop whose places are drawn: reads of two entries, and one or two writes a step."""
    draw = np.random.default_rng(seed)
    steps, reverse, adds = int(draw.integers(1, 9)), bool(draw.integers(2)), bool(draw.integers(2))
    count = int(draw.integers(1, 3))
    reads = draw.integers(-2, SIZE + 2, (steps, 2))
    writes = draw.integers(-2, SIZE + 2, (steps, count))
    mode = ["clip", "drop"][draw.integers(2)] if draw.integers(2) else None
    window = int(draw.integers(1, 4))

    def run(x):
        def step(y, at):
            read, write = at
            own = jnp.sin(lax.dynamic_slice(x, (read[0],), (window,))) * x[read[1]]
            for number in range(count):
                if mode is None:
                    y = (
                        y.at[write[number]].add(own[0])
                        if adds
                        else update(y, own, (write[number],))
                    )
                else:
                    places = write[number] + jnp.arange(window)
                    y = (y.at[places].add if adds else y.at[places].set)(own * 2, mode=mode)
            return y, own[0]

        last, results = lax.scan(step, jnp.sin(x), (reads, writes), reverse=reverse)
        return jnp.concatenate([last, results])

    return run


@pytest.mark.parametrize("seed", sampled(range(60), 12))
def test_random_places(seed):
    fun = random_loop(seed)
    block = blockjac.block_jacobian(fun)(X)
    expected = np.asarray(jax.jacfwd(fun)(X))
    assert_allclose(dense(block), expected, rtol=1e-12, atol=1e-14)
    assert block.nnz <= 1.1 * np.count_nonzero(expected) + 2


def test_a_primitive_that_has_no_batches_stays_in_its_loop():
    primitive = jax.extend.core.Primitive("without_batches")
    primitive.def_impl(lambda x: x * 2)
    primitive.def_abstract_eval(lambda x: x)
    jax.interpreters.mlir.register_lowering(
        primitive, jax.interpreters.mlir.lower_fun(lambda x: x * 2, multiple_results=False)
    )

    def fun(x):
        def step(i, y):
            return y.at[i].set(x[i] * lax.stop_gradient(primitive.bind(x[i + 1])))

        return fori(0, 5, step, ZEROS)

    block = blockjac.block_jacobian(fun)(X)
    expected = np.diag(np.where(np.arange(SIZE) < 5, 2 * np.roll(X, -1), 0.0))
    assert_allclose(dense(block), expected, rtol=1e-12)
