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
