"""Derivatives of any order of programs of all kinds, beside nested derivatives of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.laplacian_programs import PROGRAMS
from support.random_functions import random_function
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)
NAMES = ["", "a", "ab", "bba", "aabb"]
PURE = ["b", "aa", "bbb", "aaaa"]


def along_two(fun, x):
    """The function of two coordinates, of which one bends."""
    A, B = (jnp.asarray(RNG.normal(size=jnp.shape(x)), jnp.asarray(x).dtype) for _ in range(2))
    return lambda a, b: fun(x + a * A + b * B * jnp.cos(a))


def by_jax(fun, name, jacobian=jax.jacfwd):
    """A derivative by Jacobians of Jacobians; of complex results that of both parts."""

    def derivative(part):
        function = lambda *point: part(fun(*point))  # noqa: E731
        for coordinate in name:
            function = jacobian(function, "ab".index(coordinate))
        return function

    def both(*point):
        if jnp.iscomplexobj(fun(*point)):
            return derivative(jnp.real)(*point) + 1j * derivative(jnp.imag)(*point)
        return derivative(lambda value: value)(*point)

    return jax.jit(both)


def same(found, wanted, rtol=1e-9):
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    single = found.dtype == jnp.float32
    scale = 1 + float(jnp.max(jnp.abs(wanted), initial=0))
    np.testing.assert_allclose(
        found, wanted, rtol=1e-4 if single else rtol, atol=scale * (1e-5 if single else 1e-10)
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    fun, x = PROGRAMS[name]
    fun, dtype = along_two(fun, x), jnp.asarray(x).dtype
    point = jnp.asarray(0.1, dtype), jnp.asarray(-0.2, dtype)
    # Mixed derivatives by what is no derivative depend on their order.
    names = PURE if name == "a rule that is no derivative" else NAMES
    found = blockjac.partial_derivatives(fun, names)(*point)
    jacobian = jax.jacrev if name == "backwards only" else jax.jacfwd
    for written, derivative in zip(names, found, strict=True):
        same(derivative, by_jax(fun, written, jacobian)(*point))


@pytest.mark.parametrize("seed", sampled(range(40), 5))
def test_random_programs(seed):
    fun = along_two(*random_function(seed))
    point = jnp.asarray(0.1), jnp.asarray(-0.2)
    found = jax.jit(blockjac.partial_derivatives(fun, ["aab", "bbbb"]))(*point)
    for written, derivative in zip(["aab", "bbbb"], found, strict=True):
        same(derivative, by_jax(fun, written)(*point), 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network", "scan", "softplus", "backwards only", "complex"])
def test_batched_and_differentiated(name):
    fun, x = PROGRAMS[name]
    fun = along_two(fun, x)
    points = jnp.array([0.1, 0.3]), jnp.array([-0.2, 0.4])
    found = jax.jit(jax.vmap(blockjac.partial_derivatives(fun, "aab")))(*points)
    jacobian = jax.jacrev if name == "backwards only" else jax.jacfwd
    same(found, jax.vmap(by_jax(fun, "aab", jacobian))(*points))

    def total(derivative):
        return lambda a, b: jnp.abs(derivative(a, b)) ** 2

    found = jax.jit(jax.grad(total(blockjac.partial_derivatives(fun, "aab"))))(0.1, 0.2)
    same(found, jax.grad(total(by_jax(fun, "aab", jacobian)))(0.1, 0.2))


def test_two_that_share_an_operand_with_own_rules():
    """Results of a function with its own rule that nothing but the rule depends on."""

    @jax.custom_jvp
    def powers(x):
        return x**2, jnp.exp(x)

    @powers.defjvp
    def _(point, tangents):
        square, exponential = powers(*point)
        (x,), (dx,) = point, tangents
        return (square, exponential), (2 * x * dx * exponential, square * dx)

    fun = lambda a, b: powers(a * b)[0]  # noqa: E731
    point = jnp.asarray(0.7), jnp.asarray(1.3)
    for written in ("ab", "aab", "aabb"):
        found = blockjac.partial_derivatives(fun, written)(*point)
        same(found, by_jax(fun, written)(*point))


# What is computed

N, H = 50, 30
LAYERS = [jnp.asarray(RNG.normal(size=shape)) / 4 for shape in [(3, H), (H, H), (H, H), (H, 1)]]


def network(points):
    for W in LAYERS[:-1]:
        points = jnp.tanh(points @ W)
    return jnp.squeeze(points @ LAYERS[-1], -1)


NAMED = {"x": (0, 0), "y": (0, 1), "t": (0, 2)}
POINTS = jnp.asarray(RNG.normal(size=(N, 3)))


@pytest.mark.parametrize(
    ("written", "count"), [(["t"], 1), (["xx"], 2), (["xx", "yy", "t"], 5), (["xxyy"], 8)]
)
def test_each_layer_is_multiplied_once_for_each_derivative_below(written, count):
    """Of the first layer rows are read, and all of its second derivatives are known to be 0."""
    derivatives = blockjac.partial_derivatives(network, written, coordinates=NAMED)
    compiled = jax.jit(derivatives).lower(POINTS).compile()
    values = jax.jit(network).lower(POINTS).compile()
    taken = compiled.cost_analysis()["flops"] - values.cost_analysis()["flops"]
    layer, elementwise = 2 * N * H * H, 8 * N * H * count**2
    assert 2 * count * layer <= taken <= 2 * count * layer + 3 * elementwise


def test_no_array_is_larger_than_a_layer_of_all_points():
    derivatives = blockjac.partial_derivatives(network, ["xx", "xy", "t"], coordinates=NAMED)
    compiled = jax.jit(derivatives).lower(POINTS).compile()
    layer = 8 * N * H
    assert compiled.memory_analysis().temp_size_in_bytes <= 40 * layer
