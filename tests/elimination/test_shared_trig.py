"""Sines and cosines that many read are computed once, and the derivatives are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac


def arm(a, b, c):
    both = a + b
    x = jnp.cos(a) * jnp.sin(b) + jnp.cos(both) * jnp.cos(c)
    y = jnp.sin(a) * jnp.sin(b) - jnp.sin(both) * jnp.cos(c)
    return x, y, jnp.sin(c) * x, jnp.arctan2(y, x)


ANGLES = (0.3, 0.8, -0.4)


def names_of(function, *arguments):
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*arguments).eqns]


def same(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("order", ["reverse", "forward", "greedy", "auto"])
def test_the_jacobian_is_the_same(order):
    found = blockjac.jacobian(arm, (0, 1, 2), order=order)(*ANGLES)
    same(found, jax.jit(jax.jacfwd(arm, (0, 1, 2)))(*ANGLES))


def test_each_angle_once():
    names = names_of(blockjac.jacobian(arm, (0, 1, 2)), *ANGLES)
    assert names.count("sin") == names.count("cos") == 4  # of a, b, c and a + b
    assert names.count("dynamic_update_slice") == 8


def test_at_many_points():
    points = [jnp.linspace(-1.0, 1.0, 7) + place for place in range(3)]
    found = jax.vmap(blockjac.jacobian(arm, (0, 1, 2)))(*points)
    same(found, jax.vmap(jax.jacrev(arm, (0, 1, 2)))(*points))


@pytest.mark.slow
def test_further_derivatives():
    def twice(transform):
        return transform(transform(arm, (0, 1, 2)), (0, 1))(*ANGLES)

    wanted = twice(jax.jacfwd)
    same(twice(blockjac.jacobian), wanted)
    same(jax.jacrev(blockjac.jacobian(arm, (0, 1, 2)), (0, 1))(*ANGLES), wanted)
    # what is differentiated again stays a graph of scalars
    inner = blockjac.jacobian(blockjac.jacobian(arm, (0, 1, 2)), (0, 1))
    plan = blockjac.plan(blockjac.jacobian(arm, (0, 1, 2)), (0, 1))(*ANGLES)
    assert not any(step.primitive == "dynamic_update_slice" for step in plan.steps)
    same(inner(*ANGLES), wanted)


def lines(angle, voltage):
    """What flows into the lines of a ring, at both ends."""
    last, difference = jnp.roll(voltage, 1), angle - jnp.roll(angle, 1)
    along, across = voltage * last * jnp.cos(difference), voltage * last * jnp.sin(difference)
    real, reactive = voltage**2 - along - 2 * across, 3 * last**2 + along - across
    return real, reactive, real**2 + reactive**2


def test_arrays_that_many_loops_read():
    angle, voltage = jnp.linspace(0.0, 0.3, 40), jnp.linspace(0.9, 1.1, 40)
    sparse = blockjac.sparse_jacobian(lines, (0, 1), format="bcoo")
    program = jax.jit(lambda *x: sparse(*x).data)
    text = program.lower(angle, voltage).compile().as_text()
    assert text.count(" sine(") == text.count(" cosine(") == 1
    same(
        blockjac.jacobian(lines, (0, 1))(angle, voltage), jax.jacfwd(lines, (0, 1))(angle, voltage)
    )


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (2, 3, 4)])
@pytest.mark.parametrize("transform", [blockjac.jacobian, lambda f: jax.vmap(blockjac.jacobian(f))])
def test_arrays_of_any_shape(shape, transform):
    def turned(x):
        c, s = jnp.cos(x), jnp.sin(x)
        return c * c - s, c * s, (c + s) ** 2

    batch = (3,) if transform is not blockjac.jacobian else ()
    x = jnp.asarray(np.random.default_rng(0).normal(size=batch + shape))
    exact = jax.vmap(jax.jacfwd(turned)) if batch else jax.jacfwd(turned)
    same(transform(turned)(x), exact(x))


def test_few_and_arrays_that_few_read_are_left_alone():
    assert "dynamic_update_slice" not in names_of(blockjac.jacobian(jnp.sin), 1.0)

    def of_arrays(x):
        return jnp.sin(x) * jnp.cos(x) + jnp.sin(2 * x) * jnp.cos(3 * x)

    assert "dynamic_update_slice" not in names_of(blockjac.jacobian(of_arrays), jnp.ones(3))


def test_narrow_floats():
    half = [jnp.asarray(angle, jnp.bfloat16) for angle in ANGLES]
    found = blockjac.jacobian(arm, (0, 1, 2))(*half)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
