"""How many entries a structure has: overlaps counted once, batch axes set aside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add
from blockjac.sparsity.pattern import Arrangement, Pattern


def over(*labels):
    return tuple(map(Index.of, labels))


def test_an_overlap_counts_once():
    block = add(Block.identity((4,)), Block.diag(jnp.ones(4)))
    assert block.nnz == 4
    corner = Block.from_dense(jnp.ones((4, 4)), 1)
    two = Block((4,), (4,), np.float64, [*Block.identity((4,)).terms, *corner.terms])
    assert two.nnz == 16


def test_windows_that_overlap_count_once():
    o, t = Label(5), Label(3)
    band = Block((5,), (5,), np.float64, [Term((), over(o), (Index(-1, ((o, 1), (t, 1))),))])
    assert band.nnz == 13
    overlapping = Block((), (5,), np.float64, [Term((), (), (Index(0, ((Label(3), 1), (t, 1))),))])
    assert overlapping.nnz == 5


def test_lookups_are_counted_by_their_values():
    label = Label(4)
    index = Index(0, (), Lookup(jnp.array([1, 1, 7, -1]), (label,)))
    column = Block((), (3,), np.float64, [Term((), (), (index,))])
    assert column.nnz == 1
    rows = Block((4,), (3,), np.float64, [Term((), over(label), (index,))])
    assert rows.nnz == 2


def test_run_time_lookups_are_bounded_under_jit():
    found = []

    @jax.jit
    def count(places):
        label = Label(4)
        index = Index(0, (), Lookup(places, (label,)))
        found.append(Block((4,), (3,), np.float64, [Term((), over(label), (index,))]).nnz)
        found.append(Block((), (3,), np.float64, [Term((), (), (index,))]).nnz)
        return places

    count(jnp.array([1, 1, 7, -1]))
    assert found == [4, 3]


def test_equal_batch_axes_are_set_aside():
    """The softmax of a million rows is counted without a look at each row."""
    rows, classes = 1_000_000, 10
    n, i, j = Label(rows), Label(classes), Label(classes)
    shape = (rows, classes)
    values = np.ones((1, classes))
    terms = [
        Term((Factor(values[0], (i,)),), over(n, i), over(n, i)),
        Term((Factor(values[0], (i,)), Factor(values[0], (j,))), over(n, i), over(n, j), -1),
    ]
    assert Block(shape, shape, np.float64, terms).nnz == rows * classes**2


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [2, 1, 3, 1, 1], [1, 40, 1, 2], [2] * 900])
def test_the_entries_of_each_place_add_up_in_any_order_of_the_places(counts):
    generator = np.random.default_rng(0)
    places = np.arange(len(counts))
    place = np.repeat(places, counts)
    order = generator.permutation(len(place))
    starts = None if max(counts) == 1 else np.cumsum(counts) - counts
    given = Arrangement(Pattern(places, 2 * places, (1000, 2000)), order, starts)
    values = generator.normal(size=len(place))
    expected = np.zeros(len(counts))
    np.add.at(expected, place, values[order])
    np.testing.assert_allclose(given.arranged(values), expected, rtol=1e-14, atol=1e-14)

    turned = generator.permutation(len(counts))
    other = given.chosen(turned)
    np.testing.assert_allclose(other.arranged(values), expected[turned], rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(other.pattern.columns, 2 * turned)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "dia"])
def test_overlapping_terms_add_up_in_every_format(format):
    def function(x):
        return x[1:] * x[:-1] + jnp.sum(x[:2]) * x[1:] + x[jnp.array([3, 1, 0, 2])]

    x = np.linspace(0.5, 1.5, 5)
    for point in (x, x + 1):
        found = blockjac.sparse_jacobian(function, format=format)(point)
        np.testing.assert_allclose(found.toarray(), jax.jacfwd(function)(point), rtol=1e-12)
