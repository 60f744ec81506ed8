"""The entries that a constant mask leaves, as runs, digits or a list of positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from blockjac.base.caches import remembering
from blockjac.terms.index import Label
from blockjac.terms.known_indices import index_along

NUMBERS_A_RUN = 8
"""The cost of a further term, in stored numbers, when its entries could be in a list instead."""

SHARE_A_RUN = 1 / 8
"""Its cost per number of the block, since every term is contracted and added to the others."""

NUMBERS_A_PLACE = 3
"""The cost of a place of an answer, besides stored numbers: a sparse matrix holds a value, a row
and a column for it, even if the value is always zero."""

MOST_RUNS = 15
"""At most this many runs of diagonals become terms of their own; the others are listed."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A way to write the places of an array that may be nonzero.

    Attributes:
        split: for each axis the sizes of the digits that it is first split into; `(size,)` if it
            is not split.
        axes: the digits that are not whole, on which the pieces have coordinates.
        pieces: the runs and the list, each the coordinates of its places, `(axes, count)`; None
            if the array stays dense.
        cost: the cost in numbers.
        lookups: the numbers in the lookups of the pieces.
    """

    split: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]
    pieces: tuple[np.ndarray, ...] | None
    cost: float
    lookups: int = 0


def layout(may: np.ndarray, is_answer: bool = False, times: int = 1) -> Layout:
    """The cheapest way to write an array, by the numbers stored, lookups included.

    A dense array with a mask tells its places as well as a list does, until it is an answer: there
    every place counts, nonzero or not.

    Args:
        may: where the array may be nonzero.
        is_answer: whether to count the places where the array is always zero, too.
        times: the number of places of the answer per entry, such as for the kernel of a
            convolution; the cost of lookups and terms is shared by all of them.
    """
    return _layout(np.packbits(may).tobytes(), may.shape, is_answer, times)


@remembering("layouts of patterns", 64)
def _layout(bits: bytes, shape: tuple[int, ...], is_answer: bool, times: int) -> Layout:
    """The layout of a pattern, computed once since a program is evaluated again and again."""
    whole = np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(shape))
    may = whole.astype(bool).reshape(shape)
    layouts = [_of_digits(may, split, is_answer, times) for split in _splits(may.shape)]
    dense = Layout(
        tuple((size,) for size in may.shape),
        (),
        None,
        may.size * (1 + NUMBERS_A_PLACE * is_answer),
    )
    best = min(layouts, key=lambda candidate: candidate.cost)
    return best if best.cost < dense.cost else dense


def _splits(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The axes unsplit, then the axes of a matrix as two digits each, in all ways that fit."""
    yield tuple((size,) for size in shape)
    if len(shape) == 2 and all(size > 1 for size in shape):
        for parts in _divisors(math.gcd(*shape)):
            rows, columns = (size // parts for size in shape)
            if rows * columns > 1:
                yield (parts, rows), (parts, columns)
                yield (rows, parts), (columns, parts)


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(2, number + 1) if number % divisor == 0]


def _of_digits(
    may: np.ndarray, split: tuple[tuple[int, ...], ...], is_answer: bool, times: int
) -> Layout:
    """The cheapest layout once axes are split into digits."""
    digits = may.reshape([size for sizes in split for size in sizes])
    axes = tuple(axis for axis in range(digits.ndim) if not _is_constant_along(digits, axis))
    is_split = any(len(sizes) > 1 for sizes in split)
    if is_split and len(axes) == digits.ndim:  # no digit is whole: the split gains nothing
        return Layout(split, axes, None, math.inf)
    whole = math.prod(size for axis, size in enumerate(digits.shape) if axis not in axes)
    rest = digits[tuple(slice(None) if axis in axes else 0 for axis in range(digits.ndim))]
    places = np.stack(np.nonzero(rest)) if rest.ndim else np.zeros((0, int(rest)), np.int64)
    pieces = _pieces(places)
    count = places.shape[1] * whole
    lookups = sum(_lookups(piece) for piece in pieces)
    terms = max(len(pieces) - 1, 0)
    worth = NUMBERS_A_RUN + SHARE_A_RUN * places.shape[1]
    cost = count * (1 + NUMBERS_A_PLACE * is_answer) + (lookups + worth * terms) / times
    return Layout(split, axes, tuple(pieces), cost, lookups)


def _is_constant_along(array: np.ndarray, axis: int) -> bool:
    """Whether all slices of an array along an axis are equal."""
    if array.shape[axis] < 2:
        return True
    first = np.take(array, [0], axis)
    if (np.take(array, [1], axis) != first).any():  # nearly always, so that the rest is not read
        return False
    return bool((array == first).all())


def _pieces(places: np.ndarray) -> list[np.ndarray]:
    """Runs along diagonals that are cheaper than a list, then a list of all other places."""
    if len(places) != 2 or places.shape[1] < 2:
        return [places] if places.shape[1] else []
    offsets = places[1] - places[0]
    order = np.lexsort((places[0], offsets))
    ordered, along = places[:, order], offsets[order]
    new = np.ones(len(along), bool)
    new[1:] = (np.diff(along) != 0) | (np.diff(ordered[0]) != 1)
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(along)))
    longest = np.argsort(-lengths, kind="stable")[:MOST_RUNS]
    worth = NUMBERS_A_RUN + SHARE_A_RUN * len(along)
    chosen = sorted(int(run) for run in longest if 2 * lengths[run] > worth)
    runs = [ordered[:, starts[run] : starts[run] + lengths[run]] for run in chosen]
    listed = np.ones(len(along), bool)
    for run in chosen:
        listed[starts[run] : starts[run] + lengths[run]] = False
    rest = ordered[:, listed]
    rest = rest[:, np.lexsort(rest[::-1])]
    return [*runs, rest] if rest.shape[1] else runs


def _lookups(piece: np.ndarray) -> int:
    """The numbers in the lookups of a piece."""
    label = Label(piece.shape[1])
    return sum(label.size for values in piece if index_along(values, label).lookup is not None)
