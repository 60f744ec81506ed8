"""Each primitive carries zeros of constants on: the pattern has none of their entries."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.constant_zeros import banded, check_zeros, few, numbers
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow


def _written_entry_by_entry() -> jax.Array:
    matrix = jnp.zeros((9, 9))
    for k in range(9):
        matrix = matrix.at[k, 2 * k % 9].set(1.0 + k)
    return matrix.at[3].set(0.0).at[4:6, 7:].add(2.0).at[jnp.arange(3), jnp.arange(3)].set(0.5)


def _written_in_a_window() -> jax.Array:
    return jax.lax.dynamic_update_slice(jnp.zeros((9, 9)), jnp.ones((2, 3)), (4, 5))


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
    check_zeros(CHAINS[name], jnp.asarray(numbers(30)))


@pytest.mark.parametrize("name", sampled(MATRICES, 14))
def test_constants_and_vectors(name):
    fun, size = MATRICES[name]
    check_zeros(fun, jnp.asarray(numbers(size)))


@pytest.mark.slow
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
    check_zeros(SQUARES[name], jnp.asarray(numbers(5, 5)))


@pytest.mark.parametrize("size", [4, 16, 64])
def test_diag_of_any_size(size):
    block = check_zeros(jnp.diag, jnp.asarray(numbers(size)))
    assert block.stored == 0


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
