"""Index expressions: what is known of them without touching an array."""

import numpy as np
import pytest

from blockjac.blocks import Index, Label, Lookup
from blockjac.terms.index import collect, radix


def test_labels_are_the_same_only_as_objects():
    assert Label(3) != Label(3)
    label = Label(3)
    assert Index.of(label) == Index.of(label)
    assert Index.of(label) != Index.of(Label(3))


def test_an_axis_of_size_one_carries_no_label():
    assert Index.of(Label(1)) == Index(0)
    assert Index.of(Label(1), 2, 5) == Index(5)


@pytest.mark.parametrize(
    ("stride", "offset", "bounds"),
    [(1, 0, (0, 3)), (2, 1, (1, 7)), (-1, 3, (0, 3)), (-2, 0, (-6, 0))],
)
def test_bounds(stride, offset, bounds):
    index = Index.of(Label(4), stride, offset)
    assert index.bounds() == bounds
    assert index.within(bounds[1] + 1) == (bounds[0] >= 0)
    assert not index.within(bounds[1])


def test_bounds_of_lookups():
    label = Label(2)
    known = Index(1, ((label, 3),), Lookup(np.array([4, 6]), (label,), (4, 6)))
    assert known.bounds() == (5, 10)
    assert Index(0, (), Lookup(np.array([4, 6]), (label,))).bounds() is None
    assert not Index(0, (), Lookup(np.array([0, 0]), (label,))).within(10)


def test_plain_means_the_whole_axis_in_order():
    label = Label(4)
    assert Index.of(label).is_plain(4)
    assert not Index.of(label).is_plain(5)
    assert not Index.of(label, -1, 3).is_plain(4)
    assert Index(0).is_plain(1)
    assert not Index(0).is_plain(4)


def test_parts():
    one, other = Label(2), Label(3)
    index = Index(1, ((one, 3), (other, -1)))
    assert index.labels == (one, other)
    assert (index.stride(one), index.stride(other), index.stride(Label(2))) == (3, -1, 0)
    assert index.without(other) == Index(1, ((one, 3),))
    assert index.shifted(4).offset == 5
    renamed = Label(2)
    assert index.relabelled({one: renamed}) == Index(1, ((renamed, 3), (other, -1)))
    assert index.single is None
    assert index.without(one).single == (other, -1)


def test_collect_adds_up_and_drops_what_cancels():
    one, other, unit = Label(2), Label(3), Label(1)
    assert collect([(one, 2), (other, 1), (one, -2), (unit, 5), (other, 1)]) == ((other, 2),)


def test_a_radix_runs_over_all_values_once():
    high, middle, low = Label(2), Label(3), Label(4)
    complete = Index(0, ((low, 1), (high, 12), (middle, 4)))
    assert radix(complete) == (high, middle, low)
    assert radix(complete.shifted(1)) is None
    assert radix(Index(0, ((high, 3), (low, 1)))) is None  # windows that overlap
    assert radix(Index(0, ((high, 8), (low, 1)))) is None  # gaps
    assert radix(Index.of(low, 2)) is None
    assert radix(Index(0)) is None
