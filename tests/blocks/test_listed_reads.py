import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import BlockMatrix
from blockjac.blocks.listed_reads import buckets_of, squares, with_whole_rows
from blockjac.blocks.normal_matrix import normal_matrix

RANDOM = np.random.default_rng(0)


def jacobian(function, *args):
    blocks = blockjac.block_jacobian(function, tuple(range(len(args))))(*args)
    return BlockMatrix([list(blocks)])


def dense(function, *args):
    parts = jax.jacfwd(function, tuple(range(len(args))))(*args)
    rows = parts[0].size // args[0].size
    return np.concatenate([np.reshape(part, (rows, -1)) for part in parts], axis=1)


def seen(cameras, points, seen_by):
    camera, point = cameras[seen_by], points
    depth = 2 + jnp.tanh(point[:, 2:] + camera[:, 2:3])
    plane = camera[:, 5:] * (point[:, :2] + jnp.sin(camera[:, :2])) / depth
    return plane * (1 + camera[:, 3:4] * jnp.sum(plane**2, axis=1, keepdims=True)) + camera[:, 4:5]


@pytest.mark.parametrize("many", [1, 7, 300])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_normal_matrices_are_those_of_the_dense_jacobian(many, is_weighted):
    cameras, points = RANDOM.normal(size=(5, 6)), RANDOM.normal(size=(many, 3))
    seen_by = RANDOM.integers(0, 4, many)  # which nobody of the last one

    def function(cameras, points):
        return seen(cameras, points, seen_by)

    arguments = jnp.asarray(cameras), jnp.asarray(points)
    weights = jnp.asarray(RANDOM.uniform(0.5, 2, (many, 2)))
    middle = [blockjac.Block.diag(weights)] if is_weighted else None
    J = dense(function, *arguments)
    W = np.diag(weights.ravel()) if is_weighted else np.eye(2 * many)
    matrix = jax.jit(lambda *args: normal_matrix(jacobian(function, *args), middle))(*arguments)
    np.testing.assert_allclose(matrix.dense(), J.T @ W @ J, rtol=1e-10, atol=1e-10)


def rows_read(count, many):
    """A function of rows, of which each residual reads one."""
    seen_by = RANDOM.integers(0, count, many)
    points = jnp.asarray(RANDOM.normal(size=(many, 3)))
    return lambda rows: seen(rows, points, seen_by)


@pytest.mark.slow
def test_the_terms_of_a_camera_become_one():
    function, cameras = rows_read(5, 300), jnp.ones((5, 6))
    numbers = []

    @jax.jit  # where the places are constants
    def joined(cameras):
        block = blockjac.block_jacobian(function)(cameras)
        whole = with_whole_rows(block)
        numbers.extend([len(block.terms), len(whole.terms)])
        return whole.dense()

    wanted = jax.jacfwd(function)(cameras)
    np.testing.assert_allclose(joined(cameras), wanted, rtol=1e-12, atol=1e-12)
    assert numbers[0] > numbers[1] == 1


@pytest.mark.parametrize("is_gathered", [True, False])
def test_squares_of_many_reads_are_gathered_and_of_few_are_not(is_gathered):
    function, rows = rows_read(8, 20_000), jnp.asarray(RANDOM.normal(size=(8, 6)))
    if not is_gathered:
        seen_by, mixed = RANDOM.integers(0, 15_000, 20_000), jnp.asarray(RANDOM.normal(size=(2, 2)))
        function, rows = lambda rows: jnp.tanh(rows[seen_by] @ mixed), jnp.ones((15_000, 2))
    vector = jnp.asarray(RANDOM.normal(size=rows.shape))
    answers = []

    @jax.jit
    def product(rows, vector):
        block = with_whole_rows(blockjac.block_jacobian(function)(rows))
        answers.append(squares(block, block))
        return normal_matrix(BlockMatrix([[block]])).matvec((vector,))

    pushed, pull = jax.linearize(function, rows)[1](vector), jax.vjp(function, rows)[1]
    np.testing.assert_allclose(product(rows, vector)[0], pull(pushed)[0], rtol=1e-9, atol=1e-9)
    assert (answers[0] is not None) == is_gathered
    if is_gathered:
        assert answers[0].structure.startswith("δ[i,i']")


@pytest.mark.slow
def test_blocks_of_other_structure_stay_as_they_are():
    for function, shape in [
        (lambda x: x[1:] * x[:-1], (5,)),
        (lambda x: jnp.tanh(x) @ jnp.ones((3, 2)), (4, 3)),
        (lambda x: x[np.array([0, 2, 1])] * x[np.array([1, 1, 0])], (3,)),
        (lambda x: x**2, ()),
    ]:
        x = jnp.asarray(RANDOM.normal(size=shape))
        block = blockjac.block_jacobian(function)(x)
        np.testing.assert_allclose(with_whole_rows(block).dense(), block.dense(), rtol=1e-12)
        J = np.reshape(jax.jacfwd(function)(x), (-1, x.size))
        matrix = normal_matrix(BlockMatrix([[block]]))
        np.testing.assert_allclose(matrix.dense(), J.T @ J, rtol=1e-12, atol=1e-12)


def test_every_read_is_in_one_bucket_once():
    rows = RANDOM.integers(0, 50, 400) ** 2 // 50
    buckets = buckets_of(rows, 50)
    assert sorted(np.concatenate([bucket.rows for bucket in buckets])) == list(range(50))
    for bucket in buckets:
        for row, reads in zip(bucket.rows, bucket.reads, strict=True):
            np.testing.assert_array_equal(reads[reads < 400], np.flatnonzero(rows == row))
        inside = (bucket.reads < 400).sum()
        assert inside == 0 or bucket.reads.size <= 2 * inside
