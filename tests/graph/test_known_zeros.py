"""Zeros of constants are structure for every size, share and number of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.constant_zeros import banded, numbers

import blockjac

pytestmark = pytest.mark.slow

lineax = pytest.importorskip("lineax")

BANDED, FULL = banded(9), numbers(9, 9)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 16, 17, 90])
def test_no_size_is_a_cliff(size):
    """Triangles and bands of all sizes: at most a list of the places, and never more of them."""
    x = jnp.asarray(numbers(size))
    for matrix in (np.tri(size), banded(size) if size > 1 else np.ones((1, 1))):
        block = blockjac.block_jacobian(lambda x, A=matrix: A @ x)(x)
        places = np.count_nonzero(matrix)
        assert block.nnz <= 1.1 * places + 10
        assert block.stored <= 3 * places


def test_other_numbers_at_the_same_places_are_one_program():
    """Constants stay values: a matrix is not taken for another with zeros at the same places."""
    x = jnp.asarray(numbers(9))
    for scale in (1.0, 3.0):
        matrix = scale * BANDED
        np.testing.assert_allclose(
            blockjac.block_jacobian(lambda x, A=matrix: A @ x)(x).dense(), matrix
        )
    moved = np.roll(BANDED, 1, 0)
    block = blockjac.block_jacobian(lambda x: moved @ x)(x)
    np.testing.assert_allclose(block.dense(), moved)


def test_constants_that_are_not_finite_are_no_zeros():
    matrix = np.diag([np.nan, np.inf, 0.0])
    block = blockjac.block_jacobian(lambda x: matrix @ x)(jnp.ones(3))
    assert block.nnz == 2
    np.testing.assert_array_equal(np.diagonal(block.dense()), np.diagonal(matrix))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.diag(numbers(6)), (True, True, True, True)),
        (banded(6), (False, True, False, False)),
        (np.tril(numbers(6, 6)), (False, False, True, False)),
        (np.triu(numbers(6, 6)), (False, False, False, True)),
        (numbers(6, 6), (False, False, False, False)),
    ],
)
def test_lineax_knows_the_shape(matrix, expected):
    block = blockjac.block_jacobian(lambda x: matrix @ x)(jnp.ones(6))
    operator = block.as_linear_operator()
    asked = (
        lineax.is_diagonal,
        lineax.is_tridiagonal,
        lineax.is_lower_triangular,
        lineax.is_upper_triangular,
    )
    assert tuple(ask(operator) for ask in asked) == expected
    right = jnp.asarray(numbers(6))
    found = lineax.linear_solve(operator, right, lineax.AutoLinearSolver(well_posed=True)).value
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-8)


def test_lineax_knows_a_triangle_cut_while_tracing():
    block = blockjac.block_jacobian(lambda x: jnp.tril(FULL) @ x)(jnp.ones(9))
    assert lineax.is_lower_triangular(block.as_linear_operator())


# Matrices that stand in a Jacobian many times


def _of_counts(rows: int, columns: int) -> jax.Array:
    """A matrix of floats that a program forms of counts: zero where `3 i` is `2 j`."""
    i, j = jnp.arange(1.0, rows + 1), jnp.arange(1.0, columns + 1)
    return (3 * i[:, None] - 2 * j) / (rows + columns)


MANY_TIMES = {
    "rows": lambda M, X: X @ M.T,
    "columns": lambda M, X: M @ X.T,
    "steps": lambda M, X: jnp.diff(X @ M.T, axis=0),
    "three axes": lambda M, X: jnp.einsum("ij,btj->bti", M, X[None] * jnp.ones((2, 1, 1))),
    "after a sine": lambda M, X: jnp.sin(jnp.cos(X) @ M.T),
}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 20, 300])
@pytest.mark.parametrize("form", MANY_TIMES)
@pytest.mark.parametrize("seed", range(4))
def test_a_matrix_that_multiplies_many_columns(seed, form, count):
    """Whatever its share of zeros, the places are those of the other entries, or a tenth more."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(size) for size in rng.integers(2, 8, 2))
    share = float(rng.uniform(0.3, 1.0))
    captured = numbers(rows, columns, seed=seed) * (rng.random((rows, columns)) < share)
    X = jnp.asarray(numbers(count, columns, seed=seed + 1))
    formed = functools.partial(_of_counts, rows, columns)
    for matrix in (lambda: captured, lambda: jnp.asarray(captured), formed):

        def program(X, matrix=matrix):
            return MANY_TIMES[form](matrix(), X)

        block = blockjac.block_jacobian(program)(X)
        exact = np.asarray(jax.jacfwd(program)(X))
        np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)
        true = np.count_nonzero(exact)
        assert block.nnz <= 1.1 * true + 100, (block.nnz, true, block.structure)


# Answers whose masks leave places empty


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_sums_of_squares_of_guarded_products(seed):
    """Residuals that read before the beginning of an array as 0, as a causal filter does."""
    rng = np.random.default_rng(seed)
    taps, length, ahead = (int(size) for size in rng.integers((3, 12, 0), (12, 40, 12)))
    weights = jnp.asarray(rng.uniform(0.5, 1.5, length))

    def squares(y):
        signal, kernel = y[: length + ahead], y[length + ahead :]

        def residual(k):
            places = k - jnp.arange(taps)
            read = jnp.where(places >= 0, signal[places + ahead], 0.0)
            return jnp.dot(kernel, read) - weights[k]

        return jnp.sum(jax.vmap(residual)(jnp.arange(length)) ** 2)

    y = jnp.asarray(rng.uniform(0.5, 1.5, length + ahead + taps))
    block = blockjac.block_hessian(squares)(y)[0, 0]
    exact = np.asarray(jax.hessian(squares)(y))
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-10)
    true = np.count_nonzero(exact)
    assert block.nnz <= 1.1 * true + 100, (block.nnz, true, block.structure)
    assert block.to_scipy().nnz <= 1.1 * true + 100
