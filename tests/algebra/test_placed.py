"""Few entries at looked-up places, added into an array that is there."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import dense_of

from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add

SIZES = (1, 1, 2, 5, 12)
SOME = settings(max_examples=min(60, settings.default.max_examples))


@st.composite
def places(draw, shape, random):
    """Along each axis: all of it, a window that starts at a place, or places looked up."""
    shared = Label(draw(st.integers(1, 3)))
    indices = []
    for size in shape:
        kind = draw(st.sampled_from(("plain", "start", "window", "shared")))
        if kind == "plain":
            indices.append(Index.of(Label(size)))
        elif kind == "shared":
            table = random.integers(-1, size + 1, shared.size).astype(np.int32)
            indices.append(Index(0, (), Lookup(jnp.asarray(table), (shared,), (-1, size))))
        else:
            width = 1 if kind == "start" else draw(st.integers(1, size))
            label, start = Label(width), random.integers(0, size - width + 1)
            lookup = Lookup(jnp.asarray(start, np.int32), (), (0, size - width))
            indices.append(Index(0, Index.of(label).strides, lookup))
    return indices


@pytest.mark.slow
@SOME
@given(data=st.data())
def test_entries_are_added_where_they_belong(data):
    shape = tuple(data.draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4)))
    rank = data.draw(st.integers(0, len(shape)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    base = Block.from_dense(random.integers(-9, 9, shape).astype(float), rank)
    terms = []
    for _ in range(data.draw(st.integers(1, 3))):
        indices = data.draw(places(shape, random))
        labels = list(dict.fromkeys(label for index in indices for label in index.labels))
        labels = data.draw(st.permutations(labels))
        entries = random.integers(-9, 9, [label.size for label in labels]).astype(float)
        factor = Factor(jnp.asarray(entries), tuple(labels))
        terms.append(Term((factor,), tuple(indices[:rank]), tuple(indices[rank:]), 2))
    few = Block(shape[:rank], shape[rank:], np.float64, terms)
    total = add(base, few)
    twice = add(total, add(few, base))
    wanted = dense_of([*base.terms, *terms], shape)
    np.testing.assert_array_equal(total.dense(), wanted)
    np.testing.assert_array_equal(twice.dense(), 2 * wanted)
    for block in (total, twice):
        assert block.stored <= max(math.prod(shape), base.stored + few.stored)
        carried = {label for term in block.terms for one in term.factors for label in one.labels}
        assert all(label.size > 1 for label in carried)
