"""What curves a composition, for blocks with every kind of index, beside dense arrays."""

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from support.strategies import blocks

from blockjac.algebra.curved import curved
from blockjac.blocks import Block, Factor, Term


def dense_curved(block, array, rates, tangents, kept):
    """The same by dense arrays: each use of the array replaced by its rate."""
    directions = int(np.prod(tangents.wrt_shape))
    moved = np.asarray(rates.dense()).reshape(*rates.out_shape, directions)
    columns = np.asarray(tangents.dense()).reshape(-1, directions)
    answers = []
    for direction in range(directions):
        rate = jnp.asarray(moved[..., direction])
        total = np.zeros(block.shape)
        for term in block.terms:
            for place, factor in enumerate(term.factors):
                if factor.array is array:
                    replaced = list(term.factors)
                    replaced[place] = Factor(rate, factor.labels)
                    own = Term(tuple(replaced), term.out, term.wrt, term.coefficient)
                    single = Block(block.out_shape, block.wrt_shape, block.dtype, [own])
                    total += np.asarray(single.dense())
        matrix = total.reshape(int(np.prod(block.out_shape)), -1)
        answers.append((matrix @ columns[:, direction]).reshape(block.out_shape))
    stacked = np.stack(answers, -1) if answers else np.zeros((*block.out_shape, 0))
    if kept:
        return stacked.reshape(*block.out_shape, *tangents.wrt_shape)
    return stacked.sum(-1)


@settings(max_examples=60)
@given(st.data())
def test_any_blocks(data):
    out, middle, directions = ((2,), (3,)), (2, 3), data.draw(st.sampled_from([(), (2,), (2, 3)]))
    block, _ = data.draw(blocks(out[0], middle, 2))
    arrays = [f.array for term in block.terms for f in term.factors if f.array.dtype == float]
    if not arrays:
        return
    array = arrays[0]
    rates, _ = data.draw(blocks(tuple(array.shape), directions, 2))
    tangents, _ = data.draw(blocks(middle, directions, 2))
    kept = data.draw(st.booleans())
    found = curved(block, array, rates, tangents, kept)
    assert found.wrt_shape == (directions if kept else ())
    wanted = dense_curved(block, array, rates, tangents, kept)
    np.testing.assert_allclose(found.dense(), wanted, rtol=1e-12, atol=1e-9)


def test_deltas_meet():
    """The squares of the slopes of each row, with nothing off the diagonals."""
    slopes = jnp.arange(6.0).reshape(2, 3)
    block, rows = Block.diag(slopes), Block.identity((2, 3))
    found = curved(block, slopes, Block.diag(slopes**2), rows, kept=False)
    np.testing.assert_allclose(found.dense(), slopes**2)
    assert found.stored <= 2 * slopes.size


def test_a_factor_used_twice_counts_twice():
    array = jnp.array([1.0, 2.0])
    own = Block.diag(array).terms[0]
    square = Block((2,), (2,), float, [Term((*own.factors, *own.factors), own.out, own.wrt)])
    identity = Block.identity((2,), float)
    np.testing.assert_allclose(curved(square, array, identity, identity, False).dense(), 2 * array)
