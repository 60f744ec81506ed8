"""The places that terms have along the axes of a list, and which of them are each there once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

TABLE = 64
"""Up to this many times the numbers, a table is faster than sorting."""


def each_once(numbers: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers in order, and for each number its position among them.

    Args:
        numbers: non-negative integers.
        limit: an exclusive upper bound of the numbers.
    """
    if limit > TABLE * len(numbers):
        return np.unique(numbers, return_inverse=True)
    is_there = np.zeros(limit, bool)
    is_there[numbers] = True
    distinct = np.flatnonzero(is_there)
    position = np.empty(limit, np.int64)
    position[distinct] = np.arange(len(distinct))
    return distinct, position[numbers]


def full_axes(places: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """The axes to store in full, which are full wherever they have entries, for fewest numbers."""
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    best = len(places) * (1 + len(axes))
    choice: list[int] = []
    if len(axes) > 6:
        return choice
    lines_by = _lines_by(places, sizes)
    for count in range(1, len(axes) + 1):
        for full in itertools.combinations(axes, count):
            width = math.prod(sizes[axis] for axis in full)
            if len(places) % width or (len(places) // width) * (width + len(axes) - count) >= best:
                continue
            if lines_by(full) * width == len(places):
                best, choice = (len(places) // width) * (width + len(axes) - count), list(full)
    return choice


def _lines_by(places: np.ndarray, sizes: Sequence[int]) -> Callable[[tuple[int, ...]], int]:
    """A function of axes: how many lines along them have entries."""
    size = math.prod(sizes)
    if size <= TABLE * len(places):
        is_there = np.zeros(size, bool)
        is_there[places] = True
        table = is_there.reshape(tuple(sizes))
        return lambda full: int(np.count_nonzero(table.any(axis=full)))
    coordinates = np.unravel_index(places, sizes)

    def count(full: tuple[int, ...]) -> int:
        outer = [axis for axis in range(len(sizes)) if axis not in full]
        return len(np.unique(joint_places(coordinates, sizes, outer)))

    return count


def least_numbers(flat: np.ndarray, sizes: Sequence[int]) -> int:
    """At least how many numbers, lookups included, a list of these places takes; 0 if unknown.

    It takes less time than the list. A lookup can be left out where an axis has one position, or
    where positions grow evenly, which they do over no more lines than the axis has positions.

    Args:
        flat: the places as one number each, in any order and more than once; -1 for no place.
        sizes: of the axes.
    """
    size = math.prod(sizes)
    if size > TABLE * len(flat):
        return 0
    is_there = np.zeros(size + 1, bool)
    is_there[flat] = True
    table = is_there[:-1].reshape(tuple(sizes))
    places = np.flatnonzero(table)
    full = full_axes(places, sizes)
    outer = [axis for axis in range(len(sizes)) if axis not in full]
    lines = len(places) // math.prod(sizes[axis] for axis in full)
    if lines <= max((sizes[axis] for axis in outer), default=1):
        return len(places)
    others = {axis: tuple(each for each in range(len(sizes)) if each != axis) for axis in outer}
    lookups = [axis for axis in outer if np.count_nonzero(table.any(axis=others[axis])) > 1]
    return len(places) + lines * len(lookups)


def joint_places(
    coordinates: Sequence[np.ndarray], sizes: Sequence[int], chosen: Sequence[int]
) -> np.ndarray:
    """The positions on the chosen axes as one number."""
    total = np.zeros_like(coordinates[0])
    for axis in chosen:
        total = total * sizes[axis] + coordinates[axis]
    return total
