"""Zeros that are constants of a program are structure: the pattern has none of their places."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

lineax = pytest.importorskip("lineax")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def _written_entry_by_entry() -> jax.Array:
    matrix = jnp.zeros((9, 9))
    for k in range(9):
        matrix = matrix.at[k, 2 * k % 9].set(1.0 + k)
    return matrix.at[3].set(0.0).at[4:6, 7:].add(2.0).at[jnp.arange(3), jnp.arange(3)].set(0.5)


def _written_in_a_window() -> jax.Array:
    return jax.lax.dynamic_update_slice(jnp.zeros((9, 9)), jnp.ones((2, 3)), (4, 5))


def check(fun: Callable[..., jax.Array], x: Any) -> blockjac.Block:
    """The pattern is that of the true Jacobian, and its numbers are right."""
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(x))
    block = blockjac.block_jacobian(fun)(x)
    matrix = exact.reshape((block.out_shape and int(np.prod(block.out_shape))) or 1, -1)
    places = int(np.count_nonzero(exact))
    assert not (block.pattern().to_scipy().toarray() & ~(matrix != 0)).any()
    assert block.nnz == places
    assert block.stored <= (1 + len(block.shape)) * places + 100
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)
    sparse = blockjac.sparse_jacobian(fun)(x)
    assert sparse.nnz == places
    np.testing.assert_allclose(sparse.toarray(), matrix, rtol=1e-10, atol=1e-12)
    return block


def few(rows: int, columns: int, share: float = 0.05, seed: int = 0) -> np.ndarray:
    """A matrix of which a share of the entries is not zero."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1.5, (rows, columns)) * (rng.random((rows, columns)) < share)


def banded(size: int) -> np.ndarray:
    return sum(np.diag(np.full(size - abs(k), 2.0 - abs(k)), k) for k in (-1, 0, 1)) - 2 * (
        np.eye(size, k=1) + np.eye(size, k=-1)
    )


FEW, BANDED, FULL = few(40, 40), banded(9), numbers(9, 9)
THIRD = np.arange(9) % 3 == 0
LABELS = np.array([0, 2, 1, 2])

MATRICES = {
    "5 percent of NumPy": (lambda x: FEW @ x, 40),
    "5 percent of JAX": (lambda x: jnp.asarray(FEW) @ x, 40),
    "inside": (lambda x: jnp.sin(FEW @ jnp.cos(x)), 40),
    "tridiagonal": (lambda x: BANDED @ x, 9),
    "a quadratic form's parts": (lambda x: x * (BANDED @ x), 9),
    "a gradient": (jax.grad(lambda x: x @ (BANDED @ x)), 9),
    "identity": (lambda x: jnp.eye(9) @ x, 9),
    "written entry by entry": (lambda x: _written_entry_by_entry() @ jnp.sin(x), 9),
    "written in a window": (lambda x: _written_in_a_window() @ jnp.sin(x), 9),
    "where": (lambda x: jnp.where(THIRD, x, 0.0), 9),
    "mask": (lambda x: x * THIRD, 9),
    "both sides of where": (lambda x: jnp.where(THIRD, x[::-1], jnp.sin(x)), 9),
    "set": (lambda x: x.at[::2].set(0.0), 9),
    "set at places": (lambda x: jnp.sin(x.at[np.array([0, 3])].set(0.0)), 9),
    "lower triangle": (lambda x: jnp.tril(FULL) @ x, 9),
    "upper triangle": (lambda x: jnp.triu(FULL, 1) @ x, 9),
    "transposed triangle": (lambda x: x @ jnp.tril(FULL), 9),
    "identity by matrix": (lambda x: jnp.kron(jnp.eye(3), FULL[:3, :3]) @ x, 9),
    "matrix by identity": (lambda x: jnp.kron(FULL[:3, :3], jnp.eye(3)) @ x, 9),
    "running sum": (jnp.cumsum, 9),
    "running sum from the end": (lambda x: jnp.cumsum(x[::-1])[::-1], 9),
    "running product": (jnp.cumprod, 9),
    "diag": (jnp.diag, 9),
    "diag beside": (lambda x: jnp.diag(x, 2), 9),
    "padded": (lambda x: jnp.concatenate([jnp.zeros(3), x[:3]]) * x[:6], 9),
    "division": (lambda x: x * THIRD / 3.0, 9),
}


TRIANGLE = np.tril(numbers(30, 30))
EVERY_THIRD = np.arange(30) % 3 == 0

CHAINS = {
    "triangle after triangle": lambda x: TRIANGLE @ jnp.sin(TRIANGLE @ x),
    "three triangles": lambda x: TRIANGLE @ jnp.exp(TRIANGLE @ jnp.sin(TRIANGLE @ x) / 900),
    "running sum twice": lambda x: jnp.cumsum(jnp.sin(jnp.cumsum(x) / 30)),
    "running sum of a triangle": lambda x: jnp.cumsum(jnp.exp(TRIANGLE @ x / 30)),
    "triangle of a masked one": lambda x: TRIANGLE @ jnp.where(EVERY_THIRD, TRIANGLE @ x, 0.0),
    "triangle plus mask": lambda x: TRIANGLE @ jnp.sin(TRIANGLE @ x + jnp.where(EVERY_THIRD, x, 0)),
    "mask of masks": lambda x: jnp.where(EVERY_THIRD, jnp.sin(x * EVERY_THIRD), 0.0),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_constants(name):
    """Patterns of products: those of zeros that are masks in between, too."""
    check(CHAINS[name], jnp.asarray(numbers(30)))


@pytest.mark.parametrize("name", sampled(MATRICES, 14))
def test_constants_and_vectors(name):
    fun, size = MATRICES[name]
    check(fun, jnp.asarray(numbers(size)))


@pytest.mark.parametrize(
    "name", ["5 percent of JAX", "lower triangle", "both sides of where", "running sum", "set"]
)
def test_under_jit_and_vmap(name):
    fun, size = MATRICES[name]
    x = jnp.asarray(numbers(size))
    several = jnp.stack([x, 2 * x])
    exact = jax.vmap(jax.jacfwd(fun))(several)
    asked = jax.vmap(lambda x: blockjac.block_jacobian(fun)(x).dense())
    np.testing.assert_allclose(asked(several), exact, rtol=1e-10, atol=1e-12)
    compiled = jax.jit(lambda x: blockjac.block_jacobian(fun)(x).dense())(x)
    np.testing.assert_allclose(compiled, exact[0], rtol=1e-10, atol=1e-12)


SQUARES = {
    "diagonal": jnp.diagonal,
    "diagonal beside": lambda X: jnp.diagonal(X, 1),
    "diag": jnp.diag,
    "trace": jnp.trace,
    "triu": jnp.triu,
    "tril": lambda X: jnp.tril(X, -1),
    "running sum": lambda X: jnp.cumsum(X, axis=0),
    "upper product": lambda X: X @ np.triu(np.ones((5, 5))),
    "two products": lambda X: jnp.einsum("ij,jk,kl->il", np.eye(5), X, banded(5)),
    "one hot": lambda X: jax.nn.one_hot(LABELS, 5) @ X,
    "one hot on the right": lambda X: X @ jax.nn.one_hot(LABELS, 5).T,
    "mask": lambda X: jnp.where(np.eye(5, dtype=bool), X, 0.0) @ np.ones(5),
}


@pytest.mark.parametrize("name", sampled(SQUARES, 6))
def test_constants_and_matrices(name):
    check(SQUARES[name], jnp.asarray(numbers(5, 5)))


@pytest.mark.parametrize("size", [4, 16, 64])
def test_diag_of_any_size(size):
    block = check(jnp.diag, jnp.asarray(numbers(size)))
    assert block.stored == 0


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
    ("matrix", "told"),
    [
        (np.diag(numbers(6)), (True, True, True, True)),
        (banded(6), (False, True, False, False)),
        (np.tril(numbers(6, 6)), (False, False, True, False)),
        (np.triu(numbers(6, 6)), (False, False, False, True)),
        (numbers(6, 6), (False, False, False, False)),
    ],
)
def test_lineax_is_told(matrix, told):
    block = blockjac.block_jacobian(lambda x: matrix @ x)(jnp.ones(6))
    operator = block.as_linear_operator()
    asked = (
        lineax.is_diagonal,
        lineax.is_tridiagonal,
        lineax.is_lower_triangular,
        lineax.is_upper_triangular,
    )
    assert tuple(ask(operator) for ask in asked) == told
    right = jnp.asarray(numbers(6))
    found = lineax.linear_solve(operator, right, lineax.AutoLinearSolver(well_posed=True)).value
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-8)


def test_lineax_is_told_of_a_triangle_cut_while_tracing():
    block = blockjac.block_jacobian(lambda x: jnp.tril(FULL) @ x)(jnp.ones(9))
    assert lineax.is_lower_triangular(block.as_linear_operator())


@pytest.mark.parametrize("seed", range(3))
def test_compositions(seed):
    check_composition(seed, 3)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3, 40))
def test_more_compositions(seed):
    check_composition(seed, 4)


def check_composition(seed: int, steps: int) -> None:
    """Random operations with constant zeros after each other: no place beside the true ones.

    All numbers are positive, so that no entry is zero by chance.
    """
    rng = np.random.default_rng(seed)
    chosen = [_random_step(rng, 12) for _ in range(steps)]

    def fun(x: jax.Array) -> jax.Array:
        for step in chosen:
            x = step(x)
        return x

    x = jnp.asarray(rng.uniform(0.5, 1.5, 12))
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(x))
    for order in ("auto", "reverse", "forward"):
        block = blockjac.block_jacobian(fun, order=order)(x)
        np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)
    matrix = blockjac.sparse_jacobian(fun)(x)
    np.testing.assert_allclose(matrix.toarray(), exact, rtol=1e-10, atol=1e-12)
    hessian = jax.jit(jax.hessian(lambda x: fun(x) @ fun(x)))(x)
    found = blockjac.block_hessian(lambda x: fun(x) @ fun(x))(x)
    np.testing.assert_allclose(found.dense(), hessian, rtol=1e-9, atol=1e-10)


def _random_step(rng: np.random.Generator, size: int) -> Callable[[jax.Array], jax.Array]:
    sparse, full = few(size, size, 0.2, int(rng.integers(99))), rng.uniform(0.5, 1.5, (size, size))
    mask, places = rng.random(size) < 0.5, rng.integers(0, size, 4)
    steps: list[Callable[[jax.Array], jax.Array]] = [
        lambda x: jnp.asarray(sparse) @ x + x,
        lambda x: jnp.where(mask, jnp.sin(x), x[::-1]),
        lambda x: jnp.tril(full) @ x,
        lambda x: jnp.cumsum(x) * mask + x,
        lambda x: x.at[places].set(1.0),
        lambda x: jnp.kron(jnp.eye(3), full[:4, :4]) @ x,
        lambda x: jnp.triu(jnp.outer(x, jnp.exp(-x))) @ x,
        lambda x: jnp.diag(x) @ (sparse @ x) + x,
        lambda x: jnp.cumprod(x)[::-1],
    ]
    return steps[rng.integers(len(steps))]


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
