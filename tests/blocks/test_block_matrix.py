"""Grids of blocks: products, solutions and trees, against one flat matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.blocks import Block, BlockMatrix, star
from blockjac.errors import BlockShapeError, DenseTooLargeError


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def sample(seed=0):
    """Outputs of shapes (2,) and (2, 2), inputs of shapes (2,) and (2, 2)."""
    corner = Block.from_dense(numbers(2, 2, seed=seed), 1)
    right = Block.from_dense(numbers(2, 2, 2, seed=seed + 1), 1)
    return BlockMatrix([[corner, right], [None, Block.diag(numbers(2, 2, seed=seed + 2))]])


def flat(block):
    return np.asarray(block.dense()).reshape(int(np.prod(block.out_shape)), -1)


def test_the_grid():
    matrix = sample()
    assert matrix.shape == (6, 6)
    assert matrix.out_shapes == matrix.wrt_shapes == ((2,), (2, 2))
    assert matrix[1, 0].terms == ()
    assert matrix.nbytes == 8 * (4 + 8 + 4)
    wanted = np.block([[flat(matrix[i, j]) for j in range(2)] for i in range(2)])
    np.testing.assert_array_equal(matrix.dense(), wanted)
    np.testing.assert_array_equal(matrix.T.dense(), wanted.T)
    diagonal = jnp.concatenate([x.ravel() for x in matrix.diagonal()])
    np.testing.assert_array_equal(diagonal, np.diagonal(wanted))
    assert "δ[i,i']" in repr(matrix)


def test_products_are_those_of_the_flat_matrices():
    one, other = sample(0), sample(10)
    wanted = one.dense() @ other.dense()
    np.testing.assert_allclose((one @ other).dense(), wanted, rtol=1e-14)
    np.testing.assert_allclose(star(one, other).dense(), wanted, rtol=1e-14)
    tall = BlockMatrix([[Block.from_dense(numbers(2, 3), 1)], [Block.zeros((2, 2), (3,))]])
    np.testing.assert_allclose((one @ tall).dense(), one.dense() @ tall.dense(), rtol=1e-14)
    assert (one @ tall).shape == (6, 3)


def test_trees():
    tree = jax.tree.structure({"b": 0, "w": 0})
    matrix = BlockMatrix(sample().rows, tree, tree)
    assert matrix.tree()["b"]["w"] is matrix[0, 1]
    assert matrix[1]["w"] is matrix[1, 1]
    tangent = {"b": numbers(2), "w": numbers(2, 2)}
    wanted = matrix.dense() @ np.concatenate([tangent["b"], tangent["w"].ravel()])
    answer = matrix.matvec(tangent)
    np.testing.assert_allclose(np.concatenate([answer["b"], answer["w"].ravel()]), wanted)
    assert (matrix @ matrix).tree()["w"]["b"].shape == (2, 2, 2)


def test_solve():
    tree = jax.tree.structure({"b": 0, "w": 0})
    matrix = BlockMatrix(sample().rows, tree, tree)
    right = {"b": numbers(2), "w": numbers(2, 2, seed=4)}
    solution = matrix.solve(right, damping=0.5)
    again = jax.tree.map(lambda x, y: x + 0.5 * y, matrix.matvec(solution), solution)
    for name in ("b", "w"):
        np.testing.assert_allclose(again[name], right[name], rtol=1e-10)


def test_a_matrix_goes_through_jit():
    matrix = jax.jit(lambda matrix: matrix @ matrix)(sample())
    np.testing.assert_allclose(matrix.dense(), sample().dense() @ sample().dense(), rtol=1e-14)


def symmetric(seed=0):
    """Inputs of shapes (2,), (0, 2) and (3,)."""
    square = numbers(2, 2, seed=seed)
    side = Block.from_dense(numbers(2, 3, seed=seed + 1), 1)
    return BlockMatrix.symmetric(
        [
            [Block.from_dense(square + square.T, 1), Block.zeros((2,), (0, 2)), side],
            [Block.zeros((0, 2), (0, 2)), Block.zeros((0, 2), (3,))],
            [Block.diag(numbers(3, seed=seed + 2))],
        ]
    )


def test_a_symmetric_grid_shares_the_arrays_of_mirror_images():
    matrix = symmetric()
    wanted = matrix.dense()
    assert wanted.shape == (5, 5)
    np.testing.assert_array_equal(wanted, wanted.T)
    assert matrix.nbytes == 8 * (4 + 6 + 3)
    assert len(jax.tree.leaves(matrix)) == 3
    assert matrix.T is matrix
    for again in (
        jax.jit(lambda m: m)(matrix),
        jax.tree.unflatten(*reversed(jax.tree.flatten(matrix))),
        jax.tree.map(lambda leaf: 1 * leaf, matrix),
    ):
        assert again[2, 0].terms[0].factors[0].array is again[0, 2].terms[0].factors[0].array
        np.testing.assert_array_equal(again.dense(), wanted)
    assert not (matrix @ matrix).is_mirrored
    np.testing.assert_allclose((matrix @ matrix).dense(), wanted @ wanted, rtol=1e-12)


def two_factors():
    """One block whose two arrays are multiplied lazily."""
    return BlockMatrix([[Block.diag(numbers(2)) @ Block.from_dense(numbers(2, 2), 1)]])


@pytest.mark.parametrize(
    "matrix", [sample(), symmetric(), two_factors()], ids=["any", "symmetric", "factors"]
)
def test_leaves_may_be_any_objects(matrix):
    """JAX and its libraries put trees of masks, axes and placeholders together."""
    leaves, tree = jax.tree.flatten(matrix)
    masks = jax.tree.map(lambda _: True, matrix)
    assert jax.tree.leaves(masks) == [True] * len(leaves)
    assert jax.tree.structure(masks) == tree
    kept = jax.tree.map(lambda mask, leaf: leaf if mask else None, masks, matrix)
    np.testing.assert_array_equal(kept.dense(), matrix.dense())
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), matrix)
    mapped = jax.vmap(lambda m: m.dense(), in_axes=(jax.tree.map(lambda _: 0, matrix),))(stacked)
    np.testing.assert_array_equal(mapped[0], matrix.dense())


@pytest.mark.slow
def test_a_batch_of_matrices():
    numbers_of = jnp.stack([numbers(2, 2, seed=seed) for seed in range(3)])
    batch = jax.vmap(lambda A: BlockMatrix([[Block.from_dense(A, 1)]]))(numbers_of)
    v = numbers(2)
    solved = jnp.stack([jnp.linalg.solve(A + 3 * jnp.eye(2), v) for A in numbers_of])
    assert batch.batch_shape == (3,)
    np.testing.assert_allclose(batch.matvec((v,))[0], numbers_of @ v)
    np.testing.assert_allclose(batch.solve((v,), damping=3.0)[0], solved)
    np.testing.assert_allclose(batch.diagonal()[0], jax.vmap(jnp.diagonal)(numbers_of))
    own = jnp.stack([v, 2 * v, 3 * v])
    wanted = solved * jnp.arange(1, 4)[:, None]
    np.testing.assert_allclose(batch.solve((own,), damping=3.0)[0], wanted)
    twice = jax.vmap(jax.vmap(lambda A: BlockMatrix([[Block.from_dense(A, 1)]])))(numbers_of[None])
    assert twice.batch_shape == (1, 3)
    np.testing.assert_allclose(twice.matvec((v,))[0][0], numbers_of @ v)
    np.testing.assert_allclose(twice.dense()[0], numbers_of)


def test_solutions_by_damping():
    matrix = symmetric()
    right = (numbers(2), numbers(0, 2), numbers(3))
    flat_right = np.concatenate([right[0], right[2]])
    for damping in (0, 2.0, np.float32(2), jnp.asarray(2.0)):
        solved = matrix.solve(right, damping)
        wanted = np.linalg.solve(matrix.dense() + float(damping) * np.eye(5), flat_right)
        np.testing.assert_allclose(np.concatenate([solved[0], solved[2]]), wanted, rtol=1e-9)
    inside = jax.jit(matrix.solve)(right, 2.0)
    np.testing.assert_allclose(inside[2], matrix.solve(right, 2.0)[2])
    singular = BlockMatrix([[Block.zeros(2, 2)]])
    assert not np.any(np.isfinite(singular.solve((numbers(2),))[0]))
    np.testing.assert_allclose(singular.solve((numbers(2),), damping=2.0)[0], numbers(2) / 2)
    for damping, message in [(-1, "not be negative, but is -1"), ("1", "be a real number.*'1'")]:
        with pytest.raises(ValueError, match=message):
            matrix.solve(right, damping)


def test_numbers_of_single_precision_stay_so():
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), numbers(2, 2))
    matrix = BlockMatrix([[Block.from_dense(half, 1)]])
    right = (np.ones(2, np.float32),)
    assert matrix.solve(right, damping=np.float64(0.1))[0].dtype == jnp.float32
    assert matrix.dense().dtype == jnp.float32


def test_bad_grids():
    block = Block.identity((2,))
    with pytest.raises(BlockShapeError, match=r"rows of one length.*\[2, 1\]"):
        BlockMatrix([[block, block], [block]])
    with pytest.raises(BlockShapeError, match=r"at least 1.*\[\]"):
        BlockMatrix([])
    with pytest.raises(BlockShapeError, match=r"column 1 .* but found no block"):
        BlockMatrix([[block, None]])
    with pytest.raises(BlockShapeError, match=r"row 0 .*out_shape \[\(2,\), \(3,\)\]"):
        BlockMatrix([[block, Block.identity((3,))]])
    wide = BlockMatrix([[Block.zeros((2,), (3,))]])
    with pytest.raises(BlockShapeError, match=r"\(\(3,\),\).*\(\(2,\),\)"):
        wide @ wide
    with pytest.raises(BlockShapeError, match=r"BlockMatrix and Block; use .matvec"):
        wide @ block
    with pytest.raises(BlockShapeError, match=r"BlockMatrix and .*Array.*use .matvec"):
        star(wide, jnp.ones(3))
    with pytest.raises(BlockShapeError, match=r"equal output and input.*\(2,\).*\(3,\)"):
        wide.diagonal()
    with pytest.raises(BlockShapeError, match=r"square matrix.*\(2,\).*\(3,\)"):
        wide.solve((jnp.ones(2),))
    with pytest.raises(BlockShapeError, match=r"shapes \(\(3,\),\), but found .* \(\(2,\),\)"):
        wide.matvec((jnp.ones(2),))
    with pytest.raises(BlockShapeError, match=r"shapes \(\(2,\),\), but found .* \(\(3,\),\)"):
        BlockMatrix([[block]]).solve((jnp.ones(3),))


def test_a_dense_matrix_over_the_limit_is_refused():
    with pytest.raises(DenseTooLargeError, match=r"needs 288 bytes.*limit of 100 bytes.*\.matvec"):
        sample().dense(max_bytes=100)


def test_what_is_no_block_is_named():
    block = Block.identity(3)
    assert block.shape == (3, 3)
    with pytest.raises(TypeError, match=r"row 0 of a BlockMatrix.*holds ndarray; Block.from_dense"):
        BlockMatrix([[np.ones((3, 3))]])
    with pytest.raises(TypeError, match=r"row 0 of a BlockMatrix.*holds Block|row 0 .* holds int"):
        BlockMatrix([3])
    matrix = BlockMatrix([[block]])
    for key in (slice(0, 1), (0, slice(None)), "a", (0, 0, 0)):
        with pytest.raises(TypeError, match=r"matrix\[i, j\] or matrix\[i\] with ints, but found"):
            matrix[key]
    for array in (np.ones(3), jnp.ones(3)):
        with pytest.raises(ValueError, match=r"a BlockMatrix contracts with a BlockMatrix"):
            array @ matrix
        with pytest.raises(ValueError, match=r"a BlockMatrix contracts with a BlockMatrix"):
            matrix @ array


def test_shapes_and_quotients_of_blocks():
    block = Block.diag(jnp.array([2.0, 4.0]))
    np.testing.assert_allclose((block / 2).dense(), [[1, 0], [0, 2]])
    assert Block.zeros(2, (3,)).shape == (2, 3)
    with pytest.raises(TypeError, match=r"a shape must be ints, as \(2, 3\), but is 'ab'"):
        Block.identity("ab")
    with pytest.raises(ValueError, match=r"negative sizes, but is \(-1,\)"):
        Block.identity(-1)
    with pytest.raises(TypeError, match=r"unsupported operand"):
        block / block
