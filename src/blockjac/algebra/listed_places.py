"""The places that terms have along the axes of a list, and which of them are each there once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

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
    coordinates = np.unravel_index(places, sizes) if sizes else ()
    for count in range(1, len(axes) + 1):
        for full in itertools.combinations(axes, count):
            width = math.prod(sizes[axis] for axis in full)
            if len(places) % width:
                continue
            outer = [axis for axis in range(len(sizes)) if axis not in full]
            lines = len(np.unique(joint_places(coordinates, sizes, outer)))
            cost = lines * (width + len(axes) - count)
            if lines * width == len(places) and cost < best:
                best, choice = cost, list(full)
    return choice


def joint_places(
    coordinates: Sequence[np.ndarray], sizes: Sequence[int], chosen: Sequence[int]
) -> np.ndarray:
    """The positions on the chosen axes as one number."""
    total = np.zeros_like(coordinates[0])
    for axis in chosen:
        total = total * sizes[axis] + coordinates[axis]
    return total
