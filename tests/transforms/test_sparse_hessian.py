"""Sparse Hessians beside `jax.hessian`, whole and by triangles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from blockjac import sparse_hessian

FORMATS = ("csr", "csc", "coo", "dia", "bcoo", "bcsr", "dense")
RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def coupled(p):
    return jnp.sum(jnp.cosh(p["a"])) * jnp.sum(p["b"]) + jnp.sum(p["b"] ** 3 * p["c"][:, None])


PLACES = np.array([3, 0, 4, 1, 1])


def gathered(x):
    return jnp.sum(x[PLACES] ** 2 * x[:5]) + jnp.prod(x[2:4])


def separable(x):
    return jnp.sum(x**4)


PROGRAMS = {
    "band": (rosenbrock, numbers(8)),
    "tree": (coupled, {"a": numbers(3), "b": numbers(4, 2), "c": numbers(4)}),
    "gather": (gathered, numbers(6)),
    "diagonal": (separable, numbers(2, 3)),
    "dense": (lambda x: jnp.prod(jnp.sin(x)), numbers(4)),
    "linear": (lambda x: jnp.sum(3 * x), numbers(4)),
    "two dtypes": (lambda p: jnp.sum(p[0] ** 2 * p[1]), (numbers(3), numbers(3).astype("f4"))),
}


def oracle(fun, point):
    vector, tree = ravel_pytree(point)
    return np.asarray(jax.hessian(lambda v: fun(tree(v)))(vector))


def dense(matrix):
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.todense())


CUT = {None: lambda matrix: matrix, "lower": np.tril, "upper": np.triu}


@pytest.mark.slow
@pytest.mark.parametrize("triangle", CUT)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_hessians(name, format, triangle):
    fun, point = PROGRAMS[name]
    if format == "dia" and name in ("tree", "dense", "gather", "two dtypes"):
        pytest.skip("its entries lie on many diagonals")
    matrix = sparse_hessian(fun, format=format, triangle=triangle)(point)
    rtol = 1e-5 if name == "two dtypes" else 1e-12
    np.testing.assert_allclose(dense(matrix), CUT[triangle](oracle(fun, point)), rtol=rtol)


def lagrangian(x, multipliers, sigma):
    constraints = x[1:] * x[:-1] - 1
    return sigma * rosenbrock(x) + multipliers @ constraints


@pytest.mark.parametrize("seed", range(3))
def test_the_hessian_of_a_lagrangian_has_fixed_places(seed):
    """The places that a solver was told at the start are those of every later point."""
    random = np.random.default_rng(seed)
    hessian = sparse_hessian(lagrangian, format="coo", triangle="lower")
    first = hessian(np.zeros(12), np.zeros(11), 0.0)
    x, multipliers, sigma = random.normal(size=12), random.normal(size=11), random.normal()
    matrix = hessian(x, multipliers, sigma)
    for own, known in zip(matrix.coords, first.coords, strict=True):
        np.testing.assert_array_equal(own, known)
    assert (matrix.coords[0] >= matrix.coords[1]).all()
    wanted = np.tril(jax.hessian(lagrangian)(jnp.asarray(x), multipliers, sigma))
    np.testing.assert_allclose(dense(matrix), wanted, rtol=1e-12)
    assert matrix.nnz == 12 + 11


def test_only_the_values_are_computed_again():
    hessian = sparse_hessian(jax.jit(rosenbrock), triangle="lower")
    first, second = hessian(numbers(50)), hessian(numbers(50))
    assert first.nnz == second.nnz == 99
    assert first.indices is not second.indices


@pytest.mark.slow
@pytest.mark.parametrize("triangle", CUT)
@pytest.mark.parametrize("format", ["bcoo", "bcsr"])
def test_under_jit_vmap_and_grad(format, triangle):
    fun, point = PROGRAMS["gather"]
    hessian = sparse_hessian(fun, format=format, triangle=triangle)
    matrix = jax.jit(hessian)(point)
    np.testing.assert_allclose(dense(matrix), CUT[triangle](oracle(fun, point)), rtol=1e-12)
    weights = CUT[triangle](numbers(6, 6))

    def weighted(x):
        return jnp.sum(hessian(x).todense() * weights)

    found = jax.grad(weighted)(point)
    wanted = jax.grad(lambda x: jnp.sum(jax.hessian(fun)(x) * weights))(point)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    points = jnp.stack([point, 2 * point])
    batch = jax.vmap(lambda x: hessian(x).data)(points)
    np.testing.assert_allclose(batch[1], hessian(points[1]).data, rtol=1e-12)


def test_several_arguments_and_auxiliary_results():
    def fun(x, y, scale):
        return scale * jnp.sum(x * y**2), {"scale": scale}

    x, y = numbers(3), numbers(3)
    matrix, aux = sparse_hessian(fun, (0, 1), True, triangle="lower")(x, y, 2.0)
    wanted = oracle(lambda pair: fun(*pair, 2.0)[0], (x, y))
    np.testing.assert_allclose(dense(matrix), np.tril(wanted), rtol=1e-12)
    assert aux == {"scale": 2.0}


def test_bad_input():
    with pytest.raises(ValueError, match=r"triangle must be 'lower', 'upper' or None .* 'low'"):
        sparse_hessian(rosenbrock, triangle="low")
    with pytest.raises(TypeError, match=r"format must be one of 'csr'.* but is 'lil'"):
        sparse_hessian(rosenbrock, format="lil")
    with pytest.raises(TypeError, match="sparse_hessian with format='csr' gives an array of scipy"):
        jax.jit(sparse_hessian(rosenbrock))(jnp.ones(3))
    with pytest.raises(TypeError, match="Gradient only defined for scalar-output functions"):
        sparse_hessian(lambda x: x**2)(jnp.ones(3))
    with pytest.raises(TypeError, match="has no inputs for its rows"):
        sparse_hessian(lambda tree: jnp.sum(jnp.ones(3)))({})


def test_places_that_only_the_program_knows():
    def fun(x, order):
        return jnp.sum(x[order] ** 2 * x)

    x, order = numbers(3), jnp.array([2, 0, 1])
    wanted = np.tril(jax.hessian(fun)(x, order))
    hessian = sparse_hessian(fun, format="bcoo", triangle="lower")
    for call in (hessian, jax.jit(hessian)):
        np.testing.assert_allclose(dense(call(x, order)), wanted, rtol=1e-12)
