"""Transforms of a jitted function are traced once for its shapes, as the function itself is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.rules import elementwise, kept
from blockjac.transforms import traced_once


@pytest.fixture
def traced():
    """A jitted function, and a list that gets longer each time that Python runs it."""
    runs = []

    def function(x, scale=1.0):
        runs.append(x)
        return jnp.sum(jnp.sin(x) ** 2) * scale

    return jax.jit(function), runs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (blockjac.jacobian, jax.jacrev),
        (blockjac.grad, jax.grad),
        (blockjac.value_and_grad, jax.value_and_grad),
        (blockjac.hessian, jax.hessian),
    ],
)
def test_it_is_traced_once_and_compiled_once(traced, ours, theirs):
    function, runs = traced
    x = jnp.linspace(0.0, 1.0, 3)
    transformed = ours(function)
    first = transformed(x)
    count = len(runs)
    for value in (x, np.asarray(x), 2 * x):
        found, wanted = transformed(value), theirs(function)(value)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)
    assert len(runs) == count
    before = len(traced_once._functions)
    again = ours(function)(x)  # made anew, as in a loop
    assert len(traced_once._functions) == before
    jax.tree.map(np.testing.assert_array_equal, first, again)
    transformed(jnp.ones(4))
    assert len(runs) > count  # another shape is another program


def test_what_it_closes_over_is_read_anew_only_without_jit():
    scale = [2.0]

    def function(x):
        return scale[0] * x

    assert blockjac.jacobian(function)(1.0) == blockjac.jacobian(jax.jit(function))(1.0) == 2.0
    jitted = blockjac.jacobian(jax.jit(function))
    assert jitted(1.0) == 2.0
    scale[0] = 3.0
    assert blockjac.jacobian(function)(1.0) == 3.0
    assert jitted(1.0) == 2.0  # as the jitted function itself


def test_options_make_another_program():
    function = jax.jit(lambda x, y: x * y**2)
    assert blockjac.jacobian(function)(2.0, 3.0) == 9.0
    assert blockjac.jacobian(function, argnums=1)(2.0, 3.0) == 12.0
    both = blockjac.jacobian(function, argnums=[0, 1])(2.0, 3.0)
    assert [float(one) for one in both] == [9.0, 12.0]


def test_arguments_that_stay_python_values():
    function = jax.jit(lambda x, power: x**power, static_argnums=1)
    assert blockjac.grad(function)(2.0, 3) == 12.0
    assert blockjac.grad(function)(2.0, 2) == 4.0


def test_a_rule_defined_later_is_used():
    function = jax.jit(jnp.sin)
    derivative = blockjac.grad(function)
    assert derivative(0.0) == 1.0
    with kept():
        elementwise("sin", lambda y, x: 100.0)
        assert derivative(0.0) == 100.0
    assert derivative(0.0) == 1.0


def test_inside_a_trace_it_is_part_of_it():
    function = jax.jit(lambda x: jnp.sin(x) * x)
    x = jnp.linspace(0.0, 1.0, 5)
    found = jax.vmap(blockjac.grad(function))(x)
    np.testing.assert_allclose(found, jax.vmap(jax.grad(function))(x), rtol=1e-12)
    np.testing.assert_allclose(
        blockjac.grad(blockjac.grad(function))(0.5), jax.grad(jax.grad(function))(0.5), rtol=1e-12
    )
    np.testing.assert_allclose(
        jax.jit(blockjac.jacobian(function))(x), jax.jacrev(function)(x), rtol=1e-12
    )


def test_errors_are_those_of_the_plain_function():
    with pytest.raises(TypeError, match="scalar-output"):
        blockjac.grad(jax.jit(lambda x: x))(jnp.ones(2))
    with pytest.raises(TypeError, match="requires real- or complex-valued inputs"):
        blockjac.grad(jax.jit(lambda x: x * 1.0))(jnp.arange(3))


def test_few_programs_are_kept(monkeypatch):
    monkeypatch.setattr(traced_once._functions, "max_entries", 2)
    traced_once._functions.clear()
    for _ in range(4):
        blockjac.grad(jax.jit(lambda x: x * x))(1.0)
    assert len(traced_once._functions) == 2


def test_a_gradient_called_from_python_does_not_compute_the_value():
    """A solver that asks for both apart would pay for the value twice."""
    seen = []

    def noted(x):
        seen.append(x)
        return x

    @jax.jit
    def function(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        beside = jax.pure_callback(noted, shape, jax.lax.stop_gradient(x[0]))
        return jnp.sum(jnp.sin(x)) + beside

    x = jnp.arange(3.0)
    found = jax.block_until_ready(blockjac.grad(function)(x))
    np.testing.assert_allclose(found, np.cos(x), rtol=1e-6)
    assert not seen
    value, found = jax.block_until_ready(blockjac.value_and_grad(function)(x))
    np.testing.assert_allclose(value, np.sum(np.sin(x)), rtol=1e-6)
    np.testing.assert_allclose(found, np.cos(x), rtol=1e-6)
    assert seen
