"""The public Laplacians: value and gradient beside, weights, aux, orders, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.hessian_diagonals import laplacian_by_jax
from support.laplacian_programs import PROGRAMS, W1, V, array, backwards_only, mlp

import blockjac
from blockjac.errors import ArgumentError, DifferentiationTypeError

A, S = array(3, 5), array(2, 3)


def same(found, wanted, rtol=1e-9):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (jnp.shape(own), own.dtype) == (jnp.shape(other), other.dtype)
        np.testing.assert_allclose(own, other, rtol=rtol, atol=1e-10)


def two_leaves(state):
    return jnp.sum(jnp.sin(state["x"] @ W1) * jnp.sum(state["t"] ** 3)) * state["x"][0]


STATE = {"x": V, "t": S}


def test_value_gradient_and_laplacian():
    value, gradient, laplacian = blockjac.value_grad_laplacian(mlp)(V)
    same((value, gradient), jax.value_and_grad(mlp)(V))
    same(laplacian, laplacian_by_jax(mlp)(V))


def test_value_jacobian_and_laplacian_of_several_results():
    fun = lambda x: {"a": jnp.tanh(x @ W1), "b": jnp.prod(x)}  # noqa: E731
    value, slopes, laplacian = jax.jit(blockjac.value_grad_laplacian(fun))(V)
    same(value, fun(V))
    same(slopes, jax.jacfwd(fun)(V))
    same(laplacian["a"], laplacian_by_jax(lambda x: fun(x)["a"])(V))


def test_value_gradient_and_laplacian_over_trees():
    value, gradient, laplacian = blockjac.value_grad_laplacian(two_leaves)(STATE)
    same((value, gradient), jax.value_and_grad(two_leaves)(STATE))
    same(laplacian, blockjac.laplacian(two_leaves)(STATE))


def test_value_gradient_and_laplacian_backwards_only():
    fun = lambda x: jnp.sum(backwards_only(x) * x)  # noqa: E731
    value, gradient, laplacian = blockjac.value_grad_laplacian(fun)(V)
    same((value, gradient), jax.value_and_grad(fun)(V))
    same(laplacian, jnp.sum(2 * jnp.cos(V) - V * jnp.sin(V)))


def test_aux_stands_beside_the_value():
    fun = lambda x: (mlp(x), {"twice": 2 * x, "name": "net"})  # noqa: E731
    (value, aux), gradient, laplacian = blockjac.value_grad_laplacian(fun, has_aux=True)(V)
    same(value, mlp(V))
    same(gradient, jax.grad(mlp)(V))
    same(laplacian, laplacian_by_jax(mlp)(V))
    same(aux["twice"], 2 * V)
    assert aux["name"] == "net"


def test_argnums():
    fun = lambda y, x: y * mlp(x)  # noqa: E731
    found = blockjac.value_grad_laplacian(fun, argnums=1)(3.0, V)
    same(found[2], 3 * laplacian_by_jax(mlp)(V))
    several = blockjac.laplacian(fun, argnums=(0, 1))(jnp.asarray(3.0), V)
    same(several, 3 * laplacian_by_jax(mlp)(V))


# Weights


def weighted_by_jax(fun, x, directions):
    hessian = jax.jacfwd(jax.jacrev(fun))(x)
    return jnp.trace(directions @ hessian @ directions.T, axis1=-2, axis2=-1)


@pytest.mark.parametrize("name", ["network", "softplus", "scan", "complex", "backwards only"])
def test_directions(name):
    fun, x = PROGRAMS[name]
    if name == "complex":
        wanted = weighted_by_jax(lambda x: jnp.real(fun(x)), x, A) + 1j * weighted_by_jax(
            lambda x: jnp.imag(fun(x)), x, A
        )
    else:
        wanted = weighted_by_jax(fun, x, A)
    same(blockjac.laplacian(fun, weights=A)(x), wanted)
    found = jax.jit(lambda x, A: blockjac.value_grad_laplacian(fun, weights=A)(x))(x, A)
    same(found[2], wanted)


@pytest.mark.parametrize("name", ["network", "backwards only"])
def test_factors_of_entries(name):
    fun, x = PROGRAMS[name]
    found = blockjac.laplacian(fun, weights=A[0])(x)
    same(found, weighted_by_jax(fun, x, jnp.diag(A[0])))


@pytest.mark.slow
def test_directions_over_trees_mix_leaves():
    directions = {"x": array(4, 5), "t": array(4, 2, 3)}

    def along(steps):
        return two_leaves(
            jax.tree.map(lambda x, a: x + jnp.tensordot(steps, a, 1), STATE, directions)
        )

    wanted = jnp.trace(jax.hessian(along)(jnp.zeros(4)))
    same(blockjac.laplacian(two_leaves, weights=directions)(STATE), wanted)


def test_directions_are_differentiated_by():
    found = jax.grad(lambda A: blockjac.laplacian(mlp, weights=A)(V))(A)
    same(found, jax.grad(lambda A: weighted_by_jax(mlp, V, A))(A))


def test_float32_stays():
    x = V.astype(jnp.float32)
    assert blockjac.laplacian(lambda x: jnp.sum(x**3), weights=A)(x).dtype == jnp.float32


def test_weights_that_do_not_fit():
    with pytest.raises(
        ArgumentError, match=r"weights of laplacian have shapes \[\(4,\)\] .*\(5,\)"
    ):
        blockjac.laplacian(mlp, weights=jnp.ones(4))(V)
    with pytest.raises(ArgumentError, match=r"one axis of a common length in front"):
        blockjac.value_grad_laplacian(two_leaves, weights={"x": A, "t": S})(STATE)
    with pytest.raises(ArgumentError, match=r"but the argument has .* give real weights"):
        blockjac.laplacian(mlp, weights=[A])(V)
    with pytest.raises(ArgumentError, match=r"give real weights in that tree"):
        blockjac.laplacian(mlp, weights=A + 1j)(V)
    with pytest.raises(ArgumentError, match=r"order is 'reverse', which is for the gradient's"):
        blockjac.laplacian(mlp, weights=A, order="reverse")


# Orders, functions, misuse


@pytest.mark.slow
@pytest.mark.parametrize("order", ["reverse", "forward", "greedy"])
def test_orders_are_those_of_the_gradients_graph(order):
    fun, x = PROGRAMS["attention"]
    same(blockjac.laplacian(fun, order=order)(x), laplacian_by_jax(fun)(x))


def test_a_plan_is_an_order():
    plan = blockjac.plan(blockjac.jacobian(mlp))(V)
    same(blockjac.laplacian(mlp, order=plan)(V), laplacian_by_jax(mlp)(V))


def test_rules_are_told_apart_by_their_second_derivatives():
    """Functions of the same values and first derivatives, compiled one after the other."""

    def with_slope(slope):
        @jax.custom_jvp
        def inner(x):
            return jnp.cos(x)

        inner.defjvp(lambda point, rate: (inner(*point), slope(*point) * rate[0]))

        @jax.custom_jvp
        def outer(x):
            return jnp.sin(x)

        outer.defjvp(lambda point, rate: (outer(*point), inner(*point) * rate[0]))
        return lambda x: jnp.sum(outer(x))

    for slope in (lambda x: -jnp.sin(x), lambda x: x**2, lambda x: -jnp.sin(x)):
        same(blockjac.laplacian(with_slope(slope))(V), jnp.sum(slope(V)))


def test_misuse():
    laplacian = blockjac.value_grad_laplacian
    with pytest.raises(DifferentiationTypeError, match="requires real- or complex-valued inputs"):
        laplacian(lambda x: x)(jnp.arange(3))
    with pytest.raises(DifferentiationTypeError, match="requires real-valued inputs"):
        laplacian(lambda x: x * 2)(V + 1j)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued outputs"):
        laplacian(lambda x: jnp.arange(5))(V)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable .*value_grad_lap"):
        laplacian(3)
