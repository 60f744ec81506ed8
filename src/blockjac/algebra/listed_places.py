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
    is_there = _table(numbers, limit)
    if is_there is None:
        return np.unique(numbers, return_inverse=True)
    distinct = np.flatnonzero(is_there)
    position = np.empty(limit, np.int64)
    position[distinct] = np.arange(len(distinct))
    return distinct, position[numbers]


def _table(numbers: np.ndarray, limit: int) -> np.ndarray | None:
    """For each number below a limit whether it is there; None where sorting is faster.

    Args:
        numbers: non-negative integers, and -1 for what is not counted.
        limit: an exclusive upper bound of the numbers.
    """
    if limit > TABLE * len(numbers):
        return None
    is_there = np.zeros(limit + 1, bool)
    is_there[numbers] = True
    return is_there[:-1]


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
            lines, rest = divmod(len(places), width)
            cost = lines * (width + len(axes) - count)
            if not rest and cost < best and lines_by(full) == lines:
                best, choice = cost, list(full)
    return choice


def _lines_by(places: np.ndarray, sizes: Sequence[int]) -> Callable[[tuple[int, ...]], int]:
    """A function of axes: how many lines along them have entries."""
    is_there = _table(places, math.prod(sizes))
    if is_there is not None:
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
    is_there = _table(flat, math.prod(sizes))
    if is_there is None:
        return 0
    places, table = np.flatnonzero(is_there), is_there.reshape(tuple(sizes))
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
