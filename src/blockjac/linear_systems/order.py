"""Orders of the unknowns of a system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    """A permutation of the unknowns.

    Attributes:
        forth: the unknown at each position, `(n,)`.
        back: the position of each unknown.
    """

    forth: np.ndarray
    back: np.ndarray

    @staticmethod
    def of(forth: np.ndarray) -> Order:
        """The permutation that lists the unknowns in this order."""
        back = np.empty_like(forth)
        back[forth] = np.arange(len(forth))
        return Order(forth, back)


def folded(size: int, run: int) -> Order:
    """The order of a ring that is folded flat: runs from its two ends take turns.

    What joins the ends of the ring joins neighbours then, in a band that is twice as wide.

    Args:
        size: the number of unknowns.
        run: how many are taken from an end at a time.

    Examples:
        >>> folded(7, 2).forth
        array([0, 1, 6, 5, 2, 3, 4])
    """
    numbers = np.arange(size)
    mirrored = size - 1 - numbers
    ends = np.minimum(numbers, mirrored) // run * 2 + (numbers > mirrored)
    return Order.of(np.lexsort((np.minimum(numbers, mirrored), ends)))
