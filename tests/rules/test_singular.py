"""Determinants of singular matrices, and vectors that are isolated beside equal values."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

pytestmark = pytest.mark.slow

ORDERS = ("forward", "reverse", "auto")


def real(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def rotation(size, seed=0):
    return jnp.asarray(np.linalg.qr(np.asarray(real(size, size, seed=seed)))[0])


# Determinants


def leibniz(matrix):
    """The determinant by its definition, a polynomial."""
    size = matrix.shape[-1]
    places = np.array(list(itertools.permutations(range(size))))
    total = np.round(np.linalg.det(np.eye(size)[places]))
    for row in range(size):
        total = total * matrix[..., row, places[:, row]]
    return jnp.sum(total, -1)


def matrices(size):
    regular = real(size, size)
    less = regular.at[-1].set(2 * regular[0])
    return {
        "regular": regular,
        "rank n - 1": less,
        "rank n - 2": less.at[-2].set(regular[0] - regular[1]) if size > 3 else less,
        "rank 1": jnp.outer(regular[0], regular[1]),
        "zeros": jnp.zeros((size, size)),
        "ones": jnp.ones((size, size)),
        "identity": jnp.eye(size),
        "nearly singular": less + 1e-7 * jnp.eye(size),
    }


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_the_hessian_of_a_determinant_is_finite_everywhere(size):
    @jax.jit
    def both(points):
        ours = [blockjac.hessian(jnp.linalg.det, order=order) for order in ORDERS]
        transforms = [jax.hessian(leibniz), *ours, jax.grad(leibniz), blockjac.grad(jnp.linalg.det)]
        return [jax.vmap(one)(points) for one in transforms]

    wanted, *found, gradient, ours = both(jnp.stack(list(matrices(size).values())))
    for order, one in zip(ORDERS, found, strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-8, err_msg=order)
    np.testing.assert_allclose(ours, gradient, atol=1e-8)


def test_determinants_of_a_batch_and_inside_functions():
    batch = jnp.stack(list(matrices(4).values())[1:6])

    def ours(batch):
        return jnp.sum(jnp.sin(jnp.linalg.det(batch) + batch[:, 0, 0]))

    def theirs(batch):
        return jnp.sum(jnp.sin(leibniz(batch) + batch[:, 0, 0]))

    v = real(*batch.shape, seed=3)
    wanted = jax.jit(jax.hessian(theirs))(batch)
    np.testing.assert_allclose(blockjac.hessian(ours)(batch), wanted, atol=1e-8)
    block = blockjac.block_hessian(ours)(batch)[0, 0]
    np.testing.assert_allclose(block.dense(), wanted, atol=1e-8)
    assert block.stored < block.size / 2  # no matrix meets another
    np.testing.assert_allclose(blockjac.hvp(ours, batch, v), jnp.tensordot(wanted, v, 3), atol=1e-8)


def test_determinants_of_complex_matrices():
    regular = real(4, 4) + 1j * real(4, 4, seed=1)
    for point in (regular, regular.at[3].set(1j * regular[0]), jnp.ones((4, 4), complex)):
        wanted = jax.jit(jax.jacfwd(jax.jacfwd(leibniz, holomorphic=True), holomorphic=True))(point)
        inner = blockjac.jacobian(jnp.linalg.det, holomorphic=True)
        found = blockjac.jacobian(inner, holomorphic=True)(point)
        np.testing.assert_allclose(found, wanted, atol=1e-8)


def test_determinants_in_single_precision():
    points = jnp.stack(list(matrices(4).values())).astype(jnp.float32)
    found = jax.jit(jax.vmap(blockjac.hessian(jnp.linalg.det)))(points)
    assert found.dtype == jnp.float32
    wanted = jax.jit(jax.vmap(jax.hessian(leibniz)))(points)
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_third_derivatives_of_determinants_are_right_or_unknown():
    third = jax.jit(blockjac.jacobian(blockjac.hessian(jnp.linalg.det)))
    for name in ("regular", "identity"):
        wanted = jax.jit(jax.jacfwd(jax.hessian(leibniz)))(matrices(4)[name])
        np.testing.assert_allclose(third(matrices(4)[name]), wanted, atol=1e-8)
    assert np.all(np.isnan(third(jnp.ones((4, 4)))))


def test_logarithms_of_determinants():
    matrix = real(4, 4) + 2 * jnp.eye(4)
    for function in (
        lambda a: jnp.linalg.slogdet(a)[1],
        lambda a: jnp.log(jnp.abs(jnp.linalg.det(a))),
    ):
        wanted = jax.jit(jax.hessian(lambda a: jnp.log(jnp.abs(leibniz(a)))))(matrix)
        np.testing.assert_allclose(blockjac.hessian(function)(matrix), wanted, atol=1e-9)


# Isolated vectors: the oracle solves their equations by Newton's method, which JAX differentiates


DEGENERATE = {
    "two below": ((1.0, 1.0, 4.0), -1),
    "three above": ((-2.0, 3.0, 3.0, 3.0), 0),
    "between": ((1.0, 1.0, 2.0, 5.0, 5.0), 2),
    "diagonal": (None, -1),
}


def with_exact_ties(name):
    """A matrix whose equal eigenvalues are found equal."""
    values, place = DEGENERATE[name]
    return jnp.diag(jnp.array([4.0, 1.0, 1.0] if values is None else values)), place


@pytest.mark.slow
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("order", ORDERS)
def test_an_isolated_eigenvector(name, order):
    matrix, place = with_exact_ties(name)

    def ours(matrix):
        return jnp.linalg.eigh(matrix)[1][:, place]

    direction = real(len(matrix), seed=2)
    wanted = oracle_derivatives(name)
    found = blockjac.jacobian(ours, order=order)(matrix)
    np.testing.assert_allclose(found, wanted[0], atol=1e-10)
    number = blockjac.hessian(lambda m: jnp.sin(ours(m)) @ direction, order=order)(matrix)
    np.testing.assert_allclose(number, wanted[1], atol=1e-9)


@functools.cache
def oracle_derivatives(name):
    """First derivatives of the vector, and second ones of a number made of it."""
    matrix, place = with_exact_ties(name)
    direction = real(len(matrix), seed=2)
    values, vectors = np.linalg.eigh(np.asarray(matrix))
    start = jnp.concatenate([vectors[:, place], values[[place]]])

    def equations(z, matrix):
        v, w = z[:-1], z[-1]
        return jnp.concatenate([matrix @ v - w * v, (v @ v - 1)[None] / 2])

    def vector(matrix):
        z, matrix = start, (matrix + matrix.T) / 2
        for _ in range(4):
            z = z - jnp.linalg.solve(jax.jacfwd(equations)(z, matrix), equations(z, matrix))
        return z[:-1]

    second = jax.jit(jax.hessian(lambda m: jnp.sin(vector(m)) @ direction))(matrix)
    return jax.jit(jax.jacfwd(vector))(matrix), second


def test_eigenvalues_beside_equal_ones():
    matrix, place = with_exact_ties("between")

    def number(matrix):
        values = jnp.linalg.eigvalsh(matrix)
        return values[2] ** 2

    values, vectors = np.linalg.eigh(np.asarray(matrix))
    v, w = vectors[:, place], values[place]
    first = np.outer(v, v)
    gaps = np.array([0 if k == place else 1 / (w - values[k]) for k in range(len(values))])
    resolvent = (vectors * gaps) @ vectors.T
    parts = np.einsum("a,bc,d->abdc", v, resolvent, v)
    second = sum(
        np.transpose(parts, order)
        for order in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2))
    )
    wanted = 2 * np.einsum("ab,cd->abcd", first, first) + w * second
    found = blockjac.hessian(number)(matrix)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(blockjac.grad(number)(matrix), 2 * w * first, atol=1e-12)


def test_what_equal_eigenvalues_do_not_tell_is_not_made_up():
    """The Hessian of a sum over equal eigenvalues exists; JAX has nan, and no number is wrong."""
    found = blockjac.hessian(lambda m: jnp.sum(jnp.log(jnp.linalg.eigvalsh(m))))(jnp.eye(3))
    assert np.all(np.isnan(found))


OF_ALL_VECTORS = {
    "exponential": lambda m: spectral_function(jnp.exp, *jnp.linalg.eigh(m)),
    "projector": lambda m: jnp.linalg.eigh(m)[1][:, :2] @ jnp.linalg.eigh(m)[1][:, :2].T,
    "least squares": lambda m: jnp.linalg.lstsq(m, jnp.arange(3.0))[0],
    "polar factor": lambda m: jnp.linalg.svd(m)[0] @ jnp.linalg.svd(m)[2],
}


def spectral_function(function, values, vectors):
    return (vectors * function(values)) @ vectors.T


@pytest.mark.parametrize("name", OF_ALL_VECTORS)
@pytest.mark.parametrize("order", ORDERS)
def test_what_equal_vectors_do_not_tell_is_not_made_up(name, order):
    """The rates of single vectors do not tell how these functions move; JAX has nan as well."""
    matrix, function = jnp.diag(jnp.array([1.0, 1.0, 4.0])), OF_ALL_VECTORS[name]
    found = blockjac.jacobian(function, order=order)(matrix)
    assert np.any(np.isnan(found))
    known = ~np.isnan(found)
    apart = matrix + jnp.diag(jnp.array([0.0, 1e-6, 0.0]))
    nearly = jax.jit(jax.jacfwd(function))(apart)
    np.testing.assert_allclose(found[known], nearly[known], atol=1e-4)


def with_equal_singular_values(shape):
    return jnp.zeros(shape).at[0, 0].set(4.0).at[1, 1].set(1.0).at[2, 2].set(1.0)


def number_of_vectors(function, shape):
    """A number made of a pair of singular vectors."""
    left, right = real(shape[0], seed=5), real(shape[1], seed=6)

    def of(matrix):
        u, v = function(matrix)
        return jnp.sin(u @ left) * (v @ right) + jnp.sum(u**3)

    return of


@functools.cache
def oracle_of_singular_vectors(shape):
    """First derivatives of the first pair of vectors, and second ones of a number made of it."""
    rows, matrix = shape[0], with_equal_singular_values(shape)
    u0, s0, vt0 = np.linalg.svd(np.asarray(matrix), full_matrices=False)
    start = jnp.concatenate([u0[:, 0], vt0[0], s0[:1]])

    def equations(z, matrix):
        u, v, s = z[:rows], z[rows:-1], z[-1]
        norm = (u @ u + v @ v - 2)[None] / 4
        return jnp.concatenate([matrix @ v - s * u, matrix.T @ u - s * v, norm])

    def vectors(matrix):
        z = start
        for _ in range(4):
            z = z - jnp.linalg.solve(jax.jacfwd(equations)(z, matrix), equations(z, matrix))
        return z[:rows], z[rows:-1]

    second = jax.jit(jax.hessian(number_of_vectors(vectors, shape)))(matrix)
    return jax.jit(jax.jacfwd(vectors))(matrix), second


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 4)])
@pytest.mark.parametrize("order", ORDERS)
def test_isolated_singular_vectors(shape, order):
    def vectors(matrix):
        u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
        return u[:, 0], vt[0]

    matrix = with_equal_singular_values(shape)
    first, second = oracle_of_singular_vectors(shape)
    found = blockjac.jacobian(vectors, order=order)(matrix)
    for one, wanted in zip(found, first, strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-10)
    found = blockjac.hessian(number_of_vectors(vectors, shape), order=order)(matrix)
    np.testing.assert_allclose(found, second, atol=1e-9)


def invariants(function):
    """Of complex factors, what does not depend on the phases."""

    def of(re, im):
        return [jnp.abs(one) for one in function(lax.complex(re, im))]

    return of


def singular_values_to(function, u, s, vh):
    """The matrix with other singular values, in which the phases of the vectors meet."""
    return (u * function(s)) @ vh


COMPLEX = {
    "eigh": lambda a: jnp.linalg.eigh(a + jnp.conj(a.T)),
    "svd": lambda a: jnp.linalg.svd(a, full_matrices=False),
    "product": lambda a: [singular_values_to(jnp.sin, *jnp.linalg.svd(a, full_matrices=False))],
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_factors_at_second_order(name):
    point = real(3, 3, seed=7), real(3, 3, seed=8)

    def number(re, im):
        return sum(jnp.sum(jnp.sin(one)) for one in invariants(COMPLEX[name])(re, im))

    wanted = jax.jit(jax.hessian(number, (0, 1)))(*point)
    found = blockjac.hessian(number, (0, 1))(*point)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), found, wanted)


def test_functions_of_these_beside_equal_values():
    """Norms and pseudo-inverses at equal singular values."""
    matrix = jnp.diag(jnp.array([4.0, 1.0, 1.0]))
    largest = np.zeros((3, 3))
    largest[0, 0] = 1
    found = blockjac.grad(lambda m: jnp.linalg.norm(m, 2))(matrix)
    np.testing.assert_allclose(found, largest, atol=1e-12)
    found = blockjac.grad(lambda m: jnp.linalg.norm(m, "nuc"))(matrix)
    np.testing.assert_allclose(found, np.eye(3), atol=1e-12)
    wanted = jax.jit(jax.jacfwd(jnp.linalg.inv))(matrix)
    np.testing.assert_allclose(blockjac.jacobian(jnp.linalg.pinv)(matrix), wanted, atol=1e-9)
