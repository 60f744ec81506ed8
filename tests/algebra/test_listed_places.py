"""What a list of places holds, against counts that are made place by place."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blockjac.algebra.listed_places import TABLE, each_once, full_axes, least_numbers


@st.composite
def places(draw):
    """The sizes of some axes, and places on them that fill some axes where they have entries."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    full = [axis for axis in range(len(sizes)) if rng.random() < 0.4]
    lines = rng.random([1 if axis in full else size for axis, size in enumerate(sizes)])
    table = np.broadcast_to(lines < draw(st.sampled_from([0.1, 0.5, 1.1])), sizes)
    return sizes, np.flatnonzero(table)


def lines_along(flat, sizes, full):
    """The positions on all other axes where there are entries, by a set of tuples."""
    outer = [axis for axis in range(len(sizes)) if axis not in full]
    points = zip(*(axis.tolist() for axis in np.unravel_index(flat, sizes)), strict=True)
    return sorted({tuple(point[axis] for axis in outer) for point in points})


def best_cost(flat, sizes):
    """The fewest numbers of a list with positions on each axis that is not full."""
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    costs = [len(flat) * (1 + len(axes))]
    for count in range(1, len(axes) + 1):
        for full in itertools.combinations(axes, count):
            width = math.prod(sizes[axis] for axis in full)
            lines = len(lines_along(flat, sizes, full))
            if lines * width == len(flat):
                costs.append(lines * (width + len(axes) - count))
    return min(costs)


@given(places())
def test_axes_are_full_for_fewest_numbers(case):
    sizes, flat = case
    if not len(flat):
        return
    full = full_axes(flat, sizes)
    width = math.prod(sizes[axis] for axis in full)
    lines = lines_along(flat, sizes, full)
    assert len(lines) * width == len(flat)
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    assert len(lines) * (width + len(axes) - len(full)) == best_cost(flat, sizes)


def is_even(positions):
    return len(positions) < 3 or len(set(np.diff(positions))) == 1


@given(places(), st.booleans())
def test_a_list_has_no_fewer_numbers_than_the_least(case, is_shuffled):
    sizes, flat = case
    given_places = np.concatenate([flat, flat[:3], [-1]])
    if is_shuffled:
        given_places = np.random.default_rng(0).permutation(given_places)
    least = least_numbers(given_places, sizes)
    full = full_axes(flat, sizes)
    found = lines_along(flat, sizes, full)
    lines = np.array(found).reshape(len(found), len(sizes) - len(full))
    numbers = len(flat) + sum(len(lines) for axis in lines.T if not is_even(axis))
    assert least <= numbers
    outer = [size for axis, size in enumerate(sizes) if axis not in full]
    if math.prod(sizes) <= TABLE * len(given_places) and len(lines) > max(outer, default=1):
        assert least == numbers


@given(st.lists(st.integers(0, 30), max_size=40), st.sampled_from([31, 10**9]))
def test_each_number_once(numbers, limit):
    distinct, position = each_once(np.array(numbers, np.int64), limit)
    assert distinct.tolist() == sorted(set(numbers))
    assert distinct[position].tolist() == numbers
