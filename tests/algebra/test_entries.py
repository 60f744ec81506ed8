"""Entries one by one: their places and values, and what is known of overlaps without a look."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import entries as by_definition
from support.strategies import blocks, shapes, terms

from blockjac.algebra.distinct import are_disjoint, are_distinct, is_determined
from blockjac.algebra.entries import pieces, places, shape_of, values
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term

SOME = settings(max_examples=min(60, settings.default.max_examples))


def over(*labels):
    return tuple(map(Index.of, labels))


def block_of(out_shape, wrt_shape, *terms):
    return Block(out_shape, wrt_shape, np.float64, terms)


def listed(block):
    """`(row, column)` of each entry that is on the block, as often as it is there."""
    found = []
    for piece in pieces([[block]]):
        where = places(piece)
        inside = np.ones(piece.count, bool) if where.inside is None else where.inside
        found += zip(where.rows[inside].tolist(), where.columns[inside].tolist(), strict=True)
    return found


def flat(place, shape):
    return int(np.ravel_multi_index(place, shape)) if shape else 0


def positions(term, block):
    rank = len(block.out_shape)
    return [
        (flat(place[:rank], block.out_shape), flat(place[rank:], block.wrt_shape))
        for place, _ in by_definition(term, block.shape)
    ]


@given(st.data())
@SOME
def test_places_of_random_terms(data):
    block, made = data.draw(blocks(data.draw(shapes()), data.draw(shapes())))
    wanted = [place for term in made if term.coefficient for place in positions(term, block)]
    assert sorted(listed(block)) == sorted(wanted)
    if are_distinct([[block]]):
        assert len(set(wanted)) == len(wanted)


@given(st.data())
@SOME
def test_what_is_called_disjoint_has_no_place_in_common(data):
    shape = data.draw(shapes(zero=False))
    one, other = (data.draw(terms(shape, len(shape))) for _ in range(2))
    block = block_of(shape, (), one, other)
    if len(block.terms) == 2 and are_disjoint(*block.terms, block):
        assert not set(positions(block.terms[0], block)) & set(positions(block.terms[1], block))


@given(st.data())
@SOME
def test_what_is_called_determined_has_no_place_twice(data):
    shape = data.draw(shapes(zero=False))
    block = block_of(shape, (), data.draw(terms(shape, len(shape))))
    for term in block.terms:
        if is_determined(term):
            found = positions(term, block)
            assert len(set(found)) == len(found)


def test_overlaps_that_are_known_without_a_look():
    i, o, t = Label(5), Label(5), Label(3)
    window = Index(-1, ((o, 1), (t, 1)))
    assert is_determined(Term((), over(o), (window,)))
    assert not is_determined(Term((), (), (window,)))
    assert is_determined(Term((), (), (Index(0, ((o, 3), (t, 1))),)))
    assert not is_determined(Term((), (), (Index(0, ((o, 2), (t, 1))),)))  # 0 + 2 = 2 + 0
    here, ahead = Term((), over(i), over(i)), Term((), over(i), (Index.of(i, 1, 1),))
    assert are_disjoint(here, ahead, block_of((5,), (6,), here))
    assert not are_disjoint(here, here, block_of((5,), (6,), here))
    looked_up = Term((), over(i), (Index(0, (), Lookup(jnp.arange(5), (i,))),))
    assert is_determined(looked_up)
    assert not are_disjoint(looked_up, ahead, block_of((5,), (6,), here))


def test_values_of_a_grid():
    """Term after term, block after block; rows and columns begin where the blocks before end."""
    i, j = Label(2), Label(2)
    identity = block_of((2,), (2,), Term((), over(i), over(i), 3))
    full = Block.from_dense(jnp.arange(4.0).reshape(2, 2), 1)
    row = block_of((), (2,), Term((Factor(jnp.array([5.0, 6.0]), (j,)),), (), over(j)))
    grid = [[identity, full], [row, Block.zeros((), (2,))]]
    np.testing.assert_array_equal(values(grid), [3, 3, 0, 1, 2, 3, 5, 6])
    assert shape_of(grid) == (3, 4)
    assert [(piece.row, piece.column) for piece in pieces(grid)] == [(0, 0), (0, 2), (2, 0)]


def test_values_have_the_dtype_of_all():
    half, double = Block.diag(jnp.ones(2, jnp.float16)), Block.diag(jnp.ones(3))
    found = values(
        [[half, Block.zeros((2,), (3,), jnp.float16)], [Block.zeros((3,), (2,)), double]]
    )
    assert found.dtype == np.float64


@pytest.mark.parametrize("xp", [np, jnp])
def test_places_where_the_program_runs(xp):
    """In numpy and in JAX alike, also with a lookup that is traced."""
    label, other = Label(3), Label(2)
    index = Index(1, ((other, -1),), Lookup(jnp.array([0, 4, 9]), (label,)))
    block = block_of((3,), (4,), Term((), over(label), (index,)))

    def found(block):
        (piece,) = pieces([[block]])
        where = places(piece, xp, np.dtype(np.int32) if xp is jnp else np.int64)
        return where.rows, where.columns, where.inside

    rows, columns, inside = (jax.jit(found) if xp is jnp else found)(block)
    np.testing.assert_array_equal(rows, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(columns, [1, 0, 5, 4, 10, 9])
    np.testing.assert_array_equal(inside, [True, True, False, False, False, False])
