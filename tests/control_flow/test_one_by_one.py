"""Loops whose steps reach further each: what they carry is a band that grows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.sampling import sampled

import blockjac
from blockjac.control_flow import one_by_one

pytestmark = pytest.mark.slow

RATES = np.random.default_rng(0).normal(size=2000)


def wave(y):
    """Each entry depends on four, across the ends too."""
    return y + 0.1 * (jnp.roll(y, -1) - jnp.roll(y, 2)) * jnp.roll(y, 1)


def flux(y):
    """Each entry depends on its neighbours, the first and the last on one."""
    return y + 0.1 * jnp.diff(jnp.sin(y), 2, prepend=y[:1], append=y[-1:])


def looked_up(y):
    """Each entry depends on itself and one that is looked up, another in each step."""
    return y * y[(7 * np.arange(y.size) + 3) % y.size]


STEPS = [wave, flux, looked_up]
ORDERS = ["forward", "reverse", "auto"]


def final(step, steps):
    return lambda y: lax.scan(lambda y, _: (step(y), None), y, None, length=steps)[0]


def counted(step, steps):
    return lambda y: lax.fori_loop(0, steps, lambda _, y: step(y), y)


def path(step, steps):
    return lambda y: lax.scan(lambda y, _: (step(y), step(y)), y, None, length=steps)[1]


def backwards(step, steps):
    rates = RATES[:steps]
    return lambda y: lax.scan(lambda y, r: (step(r * y), r * y), y, rates, reverse=True)


def driven(step, steps):
    """With respect to what every step adds, the same in each."""
    return lambda u: lax.scan(lambda y, _: (step(y + u), None), jnp.cos(u), None, length=steps)[0]


def on_a_grid(step, steps):
    rows = jax.vmap(step)
    return lambda y: counted(lambda y: rows(rows(y).T).T, steps)(y.reshape(-1, 6)).ravel()


LOOPS = [final, counted, path, backwards, driven, on_a_grid]


def point(size):
    return jnp.asarray(np.random.default_rng(size).normal(size=size))


@pytest.mark.parametrize("case", sampled(itertools.product(LOOPS, STEPS, ORDERS), 11))
def test_the_jacobian_of_a_few_steps(case):
    loop, step, order = case
    function, y = loop(step, 3), point(120)
    found = blockjac.jacobian(function, order=order)(y)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(jax.jit(jax.jacfwd(function))(y)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("loop", [counted, driven], ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("size", [6, 40, 60, 90, 300])
def test_a_band_that_grows_stays_a_band(loop, size):
    for steps in (1, 3, 6):
        y = point(size)
        block = blockjac.block_jacobian(loop(flux, steps))(y)
        true = np.count_nonzero(jax.jit(jax.jacfwd(loop(flux, steps)))(y))
        assert block.stored <= 3 * true + 1500, (steps, block.stored, true)


def test_the_path_of_a_band_that_grows():
    y = point(300)
    block = blockjac.block_jacobian(path(flux, 4))(y)
    true = np.count_nonzero(jax.jit(jax.jacfwd(path(flux, 4)))(y))
    assert block.nnz <= 1.5 * true
    assert block.stored <= 4 * true


def test_second_order_of_a_few_steps():
    def energy(y):
        return jnp.sum(counted(flux, 2)(y) ** 3)

    y = point(200)
    block = blockjac.block_hessian(energy)(y)[0, 0]
    wanted = jax.jit(jax.hessian(energy))(y)
    np.testing.assert_allclose(block.dense(), wanted, atol=1e-12)
    assert block.stored <= 4 * np.count_nonzero(wanted)


def test_what_is_dense_after_a_step_stays_in_its_loop():
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(30, 30)) / 6)

    def steps(count):
        return lambda y: counted(lambda y: jnp.tanh(weights @ y), count)(y)

    def lines(count):
        return len(str(jax.make_jaxpr(blockjac.jacobian(steps(count)))(point(30))).splitlines())

    assert lines(5) == lines(50)


def test_many_steps_of_a_band_stay_in_their_loop(monkeypatch):
    monkeypatch.setattr(one_by_one, "EFFORT", 100)
    monkeypatch.setattr(one_by_one, "EFFORT_A_SECOND", 0)
    y = point(150)
    block = blockjac.block_jacobian(counted(flux, 40))(y)
    np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(counted(flux, 40)))(y), atol=1e-12)


def test_a_plan_foretells_the_steps_one_by_one():
    shown = blockjac.plan(counted(flux, 2))(point(400))
    assert "scan" not in "".join(loss.reason for loss in shown.losses)
    blockjac.block_jacobian(counted(flux, 2), require_structure=True)(point(400))


def over_rows(steps, shift):
    """Each step adds its row to what the others left, moved by some places."""

    def program(x):
        def body(carry, row):
            new = jnp.roll(carry, shift) + jnp.sin(row)
            return new, new * row

        rows = x.reshape(steps, -1)
        return lax.scan(body, jnp.zeros_like(rows[0]), rows)[1].ravel()

    return program


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("steps", "size"), [(4, 15), (8, 10), (8, 100), (3, 200)])
@pytest.mark.parametrize("shift", [0, 1])
def test_rows_that_are_added_keep_the_band_of_each(order, steps, size, shift):
    """Sizes through those from which a loop costs more than its steps one by one."""
    program = over_rows(steps, shift)
    x = jnp.linspace(0.1, 1, steps * size)
    wanted = jax.jit(jax.jacfwd(program))(x)
    block = blockjac.block_jacobian(program, order=order)(x)
    np.testing.assert_allclose(block.dense(), wanted, atol=1e-12)
    true = np.count_nonzero(wanted)
    # Unmoved, the steps that reach a step are the triangle of a small matrix, stored whole.
    assert block.stored <= (1.1 * true + 10 if shift else 2 * true)


def test_the_hessian_of_what_rows_leave_keeps_its_places():
    def energy(x):
        return jnp.sum(over_rows(4, 1)(x) ** 2)

    x = jnp.linspace(0.1, 1, 200)
    wanted = jax.jit(jax.hessian(energy))(x)
    block = blockjac.block_hessian(energy)(x)[0, 0]
    np.testing.assert_allclose(block.dense(), wanted, atol=1e-10)
    assert block.nnz <= 1.1 * np.count_nonzero(wanted) + 100
