"""Diagonals read off the structure, against those of the dense matrix."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import dense_of
from support.strategies import blocks, shapes

from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term
from blockjac.sparsity.bands import offsets, on_diagonal

SOME = settings(max_examples=min(60, settings.default.max_examples))


def dense_grid(grid):
    return np.block([[np.reshape(b.dense(), b.matrix_shape) for b in row] for row in grid])


def check(grid, wanted):
    """Each diagonal is that of the matrix, and those that are not named are zero."""
    named = offsets(grid)
    rows, columns = wanted.shape
    for offset in {*named, -1, 0, 1, rows, -columns}:
        diagonal = np.diagonal(wanted, offset) if -rows < offset < columns else np.zeros(0)
        np.testing.assert_array_equal(on_diagonal(grid, offset), diagonal)
    off = {*range(1 - rows, columns)} - set(named)
    assert all(not np.diagonal(wanted, offset).any() for offset in off)


def band(rows, columns, offset, values):
    label = Label(len(values))
    term = Term(
        (Factor(jnp.asarray(values), (label,)),),
        (Index.of(label, 1, max(0, -offset)),),
        (Index.of(label, 1, max(0, offset)),),
    )
    return Block((rows,), (columns,), np.float64, [term])


@given(st.data())
@SOME
def test_random_blocks(data):
    block, terms = data.draw(blocks(data.draw(shapes(1)), data.draw(shapes(1)), most_terms=2))
    if offsets([[block]]) is not None and block.size:
        check([[block]], dense_of(terms, block.shape).reshape(block.matrix_shape))


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (4, 6), (6, 4)])
def test_one_diagonal(rows, columns, offset):
    count = min(rows - max(0, -offset), columns - max(0, offset))
    block = band(rows, columns, offset, np.arange(1.0, 1 + count))
    assert offsets([[block]]) == [offset]
    check([[block]], np.asarray(block.dense()))


def test_terms_of_one_diagonal_add_up():
    block = Block.diag(jnp.array([1.0, 2.0]))
    twice = Block((2,), (2,), np.float64, [*block.terms, *block.terms])
    np.testing.assert_array_equal(on_diagonal([[twice]], 0), [2.0, 4.0])
    assert on_diagonal([[twice]], 7).shape == (0,)


def test_several_axes_are_flattened():
    """A shift along the second axis of a grid, and one along the first, which is longer."""
    i, j = Label(3), Label(3)
    along = Term((), (Index.of(i), Index.of(j)), (Index.of(i), Index.of(j, 1, 1)))
    across = Term((), (Index.of(i), Index.of(j)), (Index.of(i, 1, 1), Index.of(j)))
    block = Block((3, 3), (4, 4), np.float64, [along])
    assert offsets([[block]]) is None  # a row of 3 against one of 4
    square = Block(
        (3, 4),
        (4, 4),
        np.float64,
        [
            Term((), (Index.of(i), Index.of(k)), (Index.of(i, 1, 1), Index.of(k)))
            for k in [Label(4)]
        ],
    )
    assert offsets([[square]]) == [4]
    assert offsets([[Block((3, 3), (4, 3), np.float64, [across])]]) == [3]


def test_a_grid_of_blocks_of_other_shapes():
    """Outputs of 2 and 3 by inputs of 4 and 1: diagonals go through the blocks."""
    grid = [
        [band(2, 4, 0, [1.0, 2.0]), Block.zeros(2, 1)],
        [band(3, 4, 2, [3.0, 4.0]), band(3, 1, -2, [5.0])],
    ]
    assert offsets(grid) == [0, 0, 0]
    check(grid, dense_grid(grid))
    np.testing.assert_array_equal(on_diagonal(grid, 0), [1.0, 2.0, 3.0, 4.0, 5.0])


def test_what_is_no_diagonal():
    label = Label(3)
    lookup = Index(0, (), Lookup(jnp.arange(3), (label,)))
    looked_up = Block((3,), (3,), np.float64, [Term((), (Index.of(label),), (lookup,))])
    assert offsets([[looked_up]]) is None
    assert offsets([[Block.from_dense(jnp.ones((2, 2)), 1)]]) is None
    assert offsets([[Block.zeros((2,), (2,))]]) == []
