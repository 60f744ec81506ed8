"""Matrices with an entry at every place: known by their structure, and counted off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import blockjac
from blockjac.sparsity.filled import is_filled

A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

FILLED = {
    "matrix": (lambda x: A @ x, (3,)),
    "one row": (lambda x: A[:1] @ x, (3,)),
    "one column": (lambda x: A[:, :1] @ x, (1,)),
    "one place": (lambda x: A[:1, :1] @ x, (1,)),
    "tensor": (lambda x: jnp.einsum("ij,jk,kl->il", A, x, A[:2]), (3, 2)),
}
NOT_FILLED = {
    "diagonal": (lambda x: x**2, (3,)),
    "backwards": (lambda x: (A @ x)[::-1], (3,)),
    "no rows": (lambda x: A[:0] @ x, (3,)),
    "no columns": (lambda x: A[:, :0] @ x, (0,)),
    "part of the columns": (lambda x: A[:, :2] @ x[1:], (3,)),
}

MAY_BE_WRITTEN_OUT = {
    "two terms": (lambda x: A @ x + jnp.concatenate([x, x[:1]]), (3,)),
    "rows twice": (lambda x: (A @ x)[jnp.array([0, 0, 1])], (3,)),
}


def block_of(function, shape):
    return blockjac.block_jacobian(function)(jnp.ones(shape))


@pytest.mark.parametrize("name", FILLED)
def test_blocks_that_cover_each_place_once_are_known(name):
    assert is_filled([[block_of(*FILLED[name])]])


@pytest.mark.parametrize("name", NOT_FILLED)
def test_other_blocks_are_not_taken_for_them(name):
    assert not is_filled([[block_of(*NOT_FILLED[name])]])


def test_grids_of_several_blocks_are_not_taken_for_them():
    block = block_of(*FILLED["matrix"])
    assert not is_filled([[block, block]])
    assert not is_filled([[block], [block]])


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "dense"])
@pytest.mark.parametrize("name", [*FILLED, *NOT_FILLED, *MAY_BE_WRITTEN_OUT])
def test_the_matrix_is_the_jacobian_and_scipys_own(name, format):
    function, shape = {**FILLED, **NOT_FILLED, **MAY_BE_WRITTEN_OUT}[name]
    x = np.random.default_rng(1).normal(size=shape)
    expected = jax.jacfwd(function)(x)
    expected = np.asarray(expected).reshape(int(np.prod(expected.shape[: -x.ndim])), x.size)
    matrix = blockjac.sparse_jacobian(function, format=format)(x)
    if format == "dense":
        np.testing.assert_allclose(matrix, expected, rtol=1e-12)
        return
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-12)
    if name in FILLED:
        alike = getattr(sparse, f"{format}_array")(np.ones(expected.shape))
        assert matrix.nnz == alike.nnz == expected.size
        for part in ("coords",) if format == "coo" else ("indices", "indptr"):
            np.testing.assert_array_equal(getattr(matrix, part), getattr(alike, part))


def test_matrices_of_two_points_share_no_memory_and_can_be_written():
    jacobian = blockjac.sparse_jacobian(lambda x: jnp.sin(A @ x))
    first, second = jacobian(np.zeros(3)), jacobian(np.ones(3))
    first.data[:] = 0
    first.eliminate_zeros()
    assert second.nnz == 12
    np.testing.assert_allclose(
        second.toarray(), jax.jacfwd(lambda x: jnp.sin(A @ x))(np.ones(3)), rtol=1e-12
    )


def test_triangles_of_filled_hessians():
    x = np.ones(3)
    H = blockjac.sparse_hessian(lambda x: jnp.sum(A @ x) ** 4, triangle="lower")(x)
    expected = jax.hessian(lambda x: jnp.sum(A @ x) ** 4)(x)
    np.testing.assert_allclose(H.toarray(), np.tril(expected), rtol=1e-12)


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("blockjac.algebra.entries.host_limit", lambda: 100_000)
    with pytest.raises(
        blockjac.errors.DenseTooLargeError, match="the places of the 10,000 entries"
    ):
        blockjac.sparse_jacobian(lambda x: jnp.ones((100, 1)) * jnp.sum(x))(np.ones(100))
