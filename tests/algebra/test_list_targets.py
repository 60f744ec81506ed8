"""Axes that follow from one that all terms have whole: a list leaves them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import dense_of

import blockjac
from blockjac.algebra.dense import dense
from blockjac.algebra.list_targets import target_of
from blockjac.algebra.listed import in_a_list
from blockjac.algebra.listing import count_listed, listing
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term
from blockjac.terms.known_indices import known_lookup

ROWS, GROUPS = 5, 3


@st.composite
def sums(draw):
    """Terms `(n, i) -> (group of n, k)`, some of which drop rows, shift `k`, or sum over it."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = draw(st.sampled_from([0, -1]))  # -1 stands for no entry
    group = numbers.integers(low, GROUPS, size=ROWS)
    terms = []
    for _ in range(draw(st.integers(1, 5))):
        row, inner, outer = (
            Label(ROWS),
            Label(draw(st.integers(1, 2))),
            Label(draw(st.integers(1, 3))),
        )
        lookup = Index(0, (), known_lookup(group, (row,)))
        out = (Index.of(row), Index.of(inner, 1, draw(st.integers(0, 1))))
        wrt = (lookup, Index.of(outer, 1, draw(st.integers(0, 2))))
        carried = [label for label in (row, inner, outer) if label.size > 1 and draw(st.booleans())]
        values = numbers.integers(-3, 4, size=[label.size for label in carried]).astype(float)
        factors = (Factor(values, tuple(carried)),) if carried else ()
        terms.append(Term(factors, out, wrt, draw(st.sampled_from([1, -1, 2]))))
    return Block((ROWS, 3), (GROUPS, 5), np.float64, terms), terms


@given(sums())
def test_lists_hold_the_entries_of_all_terms(case):
    block, terms = case
    wanted = dense_of(terms, (ROWS, 3, GROUPS, 5))
    np.testing.assert_array_equal(dense(block), wanted)
    places = listing(block)
    if places is None:
        return
    listed = in_a_list(block, places)
    whole = Block(block.out_shape, block.wrt_shape, block.dtype, [] if listed is None else [listed])
    np.testing.assert_array_equal(dense(whole), wanted)


def observations(count, seed=0):
    """A residual of each observation, by groups and points that are looked up."""
    numbers = np.random.default_rng(seed)
    group, point = numbers.integers(7, size=count), numbers.integers(11, size=count)

    def residuals(groups, points):
        seen, where = groups[group], points[point]
        turned = jnp.stack([seen[:, 0] * where[:, 1], jnp.sin(seen[:, 1]) * where[:, 0]], axis=1)
        return turned * jnp.sum(seen, axis=1, keepdims=True) + where[:, :1]

    return residuals, (numbers.normal(size=(7, 3)), numbers.normal(size=(11, 2)))


def test_the_jacobian_of_observations_is_right():
    residuals, arguments = observations(23)
    ours = blockjac.jacobian(residuals, (0, 1))(*arguments)
    wanted = jax.jacrev(residuals, (0, 1))(*arguments)
    for own, theirs in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count", [50, 5_000])
def test_lists_do_not_grow_with_the_observations(count, monkeypatch):
    """What is listed is worked out once for all observations, not for each."""
    counts = []

    def counted(block, *args):
        counts.append(count_listed(block) or 0)
        return listing(block, *args)

    monkeypatch.setattr("blockjac.algebra.sums.listing", counted)
    residuals, arguments = observations(count)
    blocks = blockjac.block_jacobian(residuals, (0, 1))(*arguments)
    assert 0 < max(counts) <= 100
    assert sum(block.nnz for block in blocks) <= count * 2 * (3 + 2)


def test_what_follows_is_the_same_in_all_terms():
    row = Label(ROWS)
    groups = np.array([0, 2, 1, 1, 0])
    others = np.array([0, 2, 1, 1, 2])

    def block(*lookups):
        terms = [
            Term((), (Index.of(row),), (Index(0, (), known_lookup(values, (row,))),))
            for values in lookups
        ]
        return Block((ROWS,), (GROUPS,), np.float64, terms)

    same, different = block(groups, groups), block(groups, others)
    assert target_of(same).listed == []
    assert list(target_of(same).following) == [1]
    assert target_of(different).listed == [0, 1]
    wanted = np.zeros((ROWS, GROUPS))
    wanted[np.arange(ROWS), groups] += 1
    wanted[np.arange(ROWS), others] += 1
    np.testing.assert_array_equal(dense(different), wanted)
    assert isinstance(target_of(same).following[1].lookup, Lookup)
