"""What curves a composition, for blocks with every kind of index, beside dense arrays."""

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from support.strategies import blocks

from blockjac.algebra.curved import curved, paired, replaced
from blockjac.algebra.sums import summed
from blockjac.blocks import Block, Factor, Term


def dense_curved(block, array, rates, tangents):
    """The same by dense arrays, for all pairs of directions: those of the tangents come first."""
    directions = int(np.prod(tangents.wrt_shape))
    moved = np.asarray(rates.dense()).reshape(*rates.out_shape, directions)
    columns = np.asarray(tangents.dense()).reshape(-1, directions)
    answers = []  # one for each direction of the rates
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
        answers.append((matrix @ columns).reshape(*block.out_shape, directions))
    return np.stack(answers, -1)


@pytest.mark.slow
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
    wanted = dense_curved(block, array, rates, tangents)
    both = curved(block, array, rates, tangents, "both")
    assert both.wrt_shape == (*directions, *directions)
    size = int(np.prod(directions))
    square = np.asarray(both.dense()).reshape(*out[0], size, size)
    np.testing.assert_allclose(square, wanted, rtol=1e-12, atol=1e-9)
    one = curved(block, array, rates, tangents, "one")
    assert one.wrt_shape == directions
    diagonal = np.diagonal(wanted, axis1=-2, axis2=-1)
    np.testing.assert_allclose(
        np.asarray(one.dense()).reshape(*out[0], size), diagonal, rtol=1e-12, atol=1e-9
    )
    none = curved(block, array, rates, tangents, "none")
    np.testing.assert_allclose(none.dense(), diagonal.sum(-1), rtol=1e-12, atol=1e-9)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.data())
def test_pairs_of_outputs(data):
    block, _ = data.draw(blocks((2,), data.draw(st.sampled_from([(3,), (2, 2), ()])), 2))
    dense = np.asarray(block.dense())
    wanted = dense[:, None] * dense[None]
    np.testing.assert_allclose(paired(block).dense(), wanted, rtol=1e-12, atol=1e-9)


def test_deltas_meet():
    """The squares of the slopes of each row, with nothing off the diagonals."""
    slopes = jnp.arange(6.0).reshape(2, 3)
    block, rows = Block.diag(slopes), Block.identity((2, 3))
    found = curved(block, slopes, Block.diag(slopes**2), rows, "none")
    np.testing.assert_allclose(found.dense(), slopes**2)
    assert found.stored <= 2 * slopes.size


def test_a_factor_used_twice_counts_twice():
    array = jnp.array([1.0, 2.0])
    own = Block.diag(array).terms[0]
    square = Block((2,), (2,), float, [Term((*own.factors, *own.factors), own.out, own.wrt)])
    identity = Block.identity((2,), float)
    np.testing.assert_allclose(curved(square, array, identity, identity, "none").dense(), 2 * array)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_several_factors_replaced(data):
    """Each factor that is replaced is as if it had been another one."""
    middle = data.draw(st.sampled_from([(3,), (2, 3)]))
    block, _ = data.draw(blocks((2,), middle, 2))
    tangents, _ = data.draw(blocks(middle, (), 2))
    terms, wanted = [], jnp.zeros((2,))
    for term in block.terms:
        places = [n for n, f in enumerate(term.factors) if f.array.dtype == float]
        if not places:
            continue
        rates = {n: data.draw(blocks(term.factors[n].array.shape, (), 2))[0] for n in places}
        terms += replaced(block, term, rates, tangents)
        factors = [
            Factor(rates[n].dense(), factor.labels) if n in rates else factor
            for n, factor in enumerate(term.factors)
        ]
        own = Term(tuple(factors), term.out, term.wrt, term.coefficient)
        wanted += (Block((2,), middle, block.dtype, [own]) @ tangents).dense()
    found = summed((2,), (), tangents.dtype, terms).dense()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-9)
