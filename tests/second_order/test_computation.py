"""Laplacians and diagonals of Hessians in one pass, beside dense Hessians of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.hessian_diagonals import diagonal_by_jax, laplacian_by_jax
from support.laplacian_programs import PROGRAMS, W1, W2, V, array, mlp
from support.random_functions import random_function
from support.sampling import sampled

import blockjac
from blockjac.planning.jaxpr_cost import operations

pytestmark = pytest.mark.slow


def same(found, wanted, rtol=1e-9):
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    single = found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if single else rtol, atol=1e-10)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    fun, x = PROGRAMS[name]
    wanted = jax.jit(laplacian_by_jax(fun))(x)
    same(blockjac.laplacian(fun)(x), wanted)
    value, _, laplacian = jax.jit(blockjac.value_grad_laplacian(fun))(x)
    same(laplacian, wanted)
    same(value, jnp.asarray(fun(x)))
    same(blockjac.hessian_diagonal(fun)(x), jax.jit(diagonal_by_jax(fun))(x))


BATCHED = [
    "network",
    "attention",
    "several determinants",
    "flat pairs",
    "scan",
    "cond",
    "complex",
    "softplus",
    "solve",
    "empty",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHED)
def test_batched_and_differentiated(name):
    fun, x = PROGRAMS[name]
    several = jnp.stack([x, 1.1 * x, 0.9 * x])
    found = jax.jit(jax.vmap(blockjac.laplacian(fun)))(several)
    same(found, jax.jit(jax.vmap(laplacian_by_jax(fun)))(several))

    def total(laplacian):
        return lambda x: jnp.sum(jnp.abs(laplacian(fun)(x)) ** 2)

    found = jax.jit(jax.grad(total(blockjac.laplacian)))(x)
    same(found, jax.jit(jax.grad(total(laplacian_by_jax)))(x), 1e-7)


@pytest.mark.parametrize("seed", sampled(range(60), 6))
def test_random_programs(seed):
    fun, x = random_function(seed)
    diagonal, wanted = jax.jit(diagonal_by_jax(fun))(x), jax.jit(laplacian_by_jax(fun))(x)
    same(jax.jit(blockjac.laplacian(fun))(x), wanted, 1e-8)
    same(jax.jit(blockjac.hessian_diagonal(fun))(x), diagonal, 1e-8)
    value, slopes, laplacian = jax.jit(blockjac.value_grad_laplacian(fun))(x)
    same(value, fun(x))
    same(slopes, jax.jit(jax.jacfwd(fun))(x))
    same(laplacian, wanted, 1e-8)


# What is computed


N, H = 6, 40
INTO, INNER = array(N, H), array(H, H)


def network(x):
    return jnp.sum(jnp.tanh(jnp.tanh(jnp.tanh(x @ INTO) @ INNER) @ INNER))


def large_products(function, *arguments):
    """How many products of at least `N H H` there are, with those inside of loops."""

    def count(jaxpr):
        found = 0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                summed = [equation.invars[0].aval.shape[axis] for axis in contracted]
                found += equation.outvars[0].aval.size * np.prod(summed) >= N * H * H
        return found

    return count(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_the_symmetric_product_is_made_once():
    """A Jacobian forwards through two layers, where the gradient's graph has them on both ways."""
    assert large_products(blockjac.laplacian(network), jnp.ones(N)) == 2
    assert large_products(blockjac.laplacian(network, order="reverse"), jnp.ones(N)) > 2


def test_operations_of_a_network():
    """Two products with matrices for each input, and one each for the value and the Laplacian."""
    x = jnp.ones(N)
    counted = operations(jax.make_jaxpr(blockjac.laplacian(network))(x))
    assert counted.multiplications <= 2 * (N + 2) * H * H + 20 * N * H


def test_mixed_derivatives_are_made_once():
    """`q k'` has two mixed derivatives by q and k, which are one another's mirror image."""
    A, B = array(8, N, H), array(8, N, H)

    def scores(x):
        return jnp.sum((A @ x[:H]) * jnp.sin(B @ x[:H]), axis=-1)

    counted = operations(jax.make_jaxpr(blockjac.laplacian(scores))(jnp.ones(H)))
    assert counted.multiplications <= 2 * 8 * N * H + 2 * 8 * N * H + 40 * 8 * N


def test_rows_apart_keep_apart():
    """The Jacobian of each row is by that row alone."""
    rows = 50

    def total(X):
        return jnp.sum(jnp.tanh(jnp.tanh(X @ INTO) @ INNER))

    X = array(rows, N)
    counted = operations(jax.make_jaxpr(blockjac.laplacian(total))(X))
    assert counted.multiplications <= rows * ((N + 3) * H * H + 20 * N * H)


def memory(function, *arguments):
    planned = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return planned.temp_size_in_bytes


def test_memory_of_pairs():
    """Pairs of 200 particles: no array of pairs by coordinates."""
    first, second = np.triu_indices(200, 1)

    def energy(flat):
        x = flat.reshape(-1, 3)
        return jnp.sum(jnp.exp(-jnp.sum((x[first] - x[second]) ** 2, axis=-1)))

    x = array(600)
    assert memory(blockjac.laplacian(energy), x) <= 20 * len(first) * 8
    assert memory(lambda x: jnp.trace(jax.hessian(energy)(x)), x) >= len(first) * 600 * 8


def test_memory_of_a_separable_sum():
    x = jnp.linspace(0, 1, 10_000)
    separable = lambda x: jnp.sum(jnp.sin(x) * jnp.exp(x))  # noqa: E731
    assert memory(blockjac.laplacian(separable), x) <= 20 * x.nbytes


# Trees, results and further derivatives


def test_several_leaves():
    def fun(state):
        return jnp.sum(jnp.sin(state["x"] @ W1) * jnp.sum(state["t"] ** 3))

    x, t = V, array(2, 2)
    found = blockjac.laplacian(fun)({"x": x, "t": t})
    by_x = laplacian_by_jax(lambda x: fun({"x": x, "t": t}))(x)
    by_t = laplacian_by_jax(lambda t: fun({"x": x, "t": t}))(t)
    same(found, by_x + by_t)
    diagonal = blockjac.hessian_diagonal(fun)({"x": x, "t": t})
    same(diagonal["t"], diagonal_by_jax(lambda t: fun({"x": x, "t": t}))(t))


def test_trees_of_results():
    found = blockjac.laplacian(lambda x: {"a": jnp.sum(x**4), "b": (jnp.tanh(x @ W1), x)})(V)
    same(found["a"], jnp.sum(12 * V**2))
    same(found["b"][0], laplacian_by_jax(lambda x: jnp.tanh(x @ W1))(V))
    same(found["b"][1], jnp.zeros(5))


def test_biharmonic():
    """The Laplacian of a Laplacian."""
    twice = blockjac.laplacian(blockjac.laplacian(mlp))
    same(jax.jit(twice)(V), jax.jit(laplacian_by_jax(laplacian_by_jax(mlp)))(V), 1e-8)
    r4 = lambda x: jnp.sum(x**2) ** 2  # noqa: E731
    same(blockjac.laplacian(blockjac.laplacian(r4))(jnp.ones(3)), jnp.asarray(120.0))


def test_in_a_loop_and_inside_of_a_program():
    def step(x, _):
        return x + 0.01 * jax.grad(lambda x: blockjac.laplacian(mlp)(x))(x), None

    def step_by_jax(x, _):
        return x + 0.01 * jax.grad(laplacian_by_jax(mlp))(x), None

    found = jax.jit(lambda x: lax.scan(step, x, None, 3)[0])(V)
    same(found, jax.jit(lambda x: lax.scan(step_by_jax, x, None, 3)[0])(V))


def test_a_batch_inside_of_the_function():
    """Many points in one array, each with its own result."""

    def many(X):
        return jnp.tanh(jnp.tanh(X @ W1) @ W2) @ jnp.ones(7)

    X = array(6, 5)
    found = blockjac.laplacian(many)(X)
    same(found, jax.vmap(laplacian_by_jax(many))(X))


def test_directions_start_at_rows():
    """A vector that is put into rows first keeps the rows apart."""
    rows = 30

    def total(flat):
        return jnp.sum(jnp.tanh(jnp.tanh(flat.reshape(rows, N) @ INTO) @ INNER))

    x = array(rows * N)
    same(blockjac.laplacian(total)(x), jax.jit(laplacian_by_jax(total))(x))
    counted = operations(jax.make_jaxpr(blockjac.laplacian(total))(x))
    assert counted.multiplications <= rows * ((N + 3) * H * H + 20 * N * H)
