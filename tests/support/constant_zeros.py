"""Constant matrices with zeros, and a check that a Jacobian stores only its true nonzeros."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import blockjac


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Positive numbers, so that no entry of a result is zero by chance."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def check_zeros(fun: Callable[..., jax.Array], x: Any) -> blockjac.Block:
    """Assert that the pattern is that of the true Jacobian, and that the numbers are right."""
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(x))
    block = blockjac.block_jacobian(fun)(x)
    matrix = exact.reshape((block.out_shape and int(np.prod(block.out_shape))) or 1, -1)
    nonzeros = int(np.count_nonzero(exact))
    assert not (block.pattern().to_scipy().toarray() & ~(matrix != 0)).any()
    assert block.nnz == nonzeros
    assert block.stored <= (1 + len(block.shape)) * nonzeros + 100
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)
    sparse = blockjac.sparse_jacobian(fun)(x)
    assert sparse.nnz == nonzeros
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
