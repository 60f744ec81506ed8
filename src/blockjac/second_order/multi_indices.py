"""Multi-indices: how often a mixed derivative is taken by each coordinate.

`u_xxy` of the coordinates x, y and t is `(2, 1, 0)`. A product has the derivative

    d^a (p q) = sum over b <= a of binomial(a, b) d^b p d^(a - b) q

where sums and comparisons are by entry.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

MultiIndex = tuple[int, ...]


def below(index: MultiIndex) -> Iterator[MultiIndex]:
    """All multi-indices of which no entry is larger, the zero and the index itself included.

    Examples:
        >>> list(below((1, 2)))
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    """
    return itertools.product(*(range(entry + 1) for entry in index))


def closed(indices: Iterable[MultiIndex]) -> list[list[MultiIndex]]:
    """All that derivatives are computed from, by their order, beginning with the first.

    Examples:
        >>> closed([(2, 0), (0, 1)])
        [[(0, 1), (1, 0)], [(2, 0)]]
    """
    every = sorted({lower for index in indices for lower in below(index)})
    highest = max(map(sum, every), default=0)
    return [[index for index in every if sum(index) == order] for order in range(1, highest + 1)]


def minus(index: MultiIndex, other: MultiIndex) -> MultiIndex:
    """The difference of two multi-indices."""
    return tuple(entry - part for entry, part in zip(index, other, strict=True))


def binomial(index: MultiIndex, part: MultiIndex) -> int:
    """In how many ways derivatives that are `part` are chosen among all of `index`.

    Examples:
        >>> binomial((2, 3), (1, 1))
        6
    """
    return math.prod(map(math.comb, index, part))


def without_rarest(index: MultiIndex) -> MultiIndex:
    """The index with one derivative less, by the coordinate that leaves fewest below.

    Examples:
        >>> without_rarest((2, 0, 1))
        (2, 0, 0)
    """
    coordinate = min((n for n, entry in enumerate(index) if entry), key=index.__getitem__)
    return tuple(entry - (number == coordinate) for number, entry in enumerate(index))


def splits(index: MultiIndex, count: int) -> Iterator[tuple[int, tuple[MultiIndex, ...]]]:
    """How derivatives are shared out among some factors, and in how many ways each comes about.

    Args:
        index: the derivatives.
        count: how many factors there are, at least one.

    Examples:
        >>> list(splits((2,), 2))
        [(1, ((0,), (2,))), (2, ((1,), (1,))), (1, ((2,), (0,)))]
    """
    if count == 1:
        yield 1, (index,)
        return
    for part in below(index):
        for ways, others in splits(minus(index, part), count - 1):
            yield ways * binomial(index, part), (part, *others)
