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
"""What a further term costs, in numbers stored, where its numbers might stand in a list."""


SHARE_A_RUN = 1 / 8
"""The same of each of a block's numbers: every term is contracted and added to the others."""


NUMBERS_A_PLACE = 3
"""What a place of an answer costs beside what is stored: a sparse matrix of it holds a value, a row
and a column, whether or not the value is always zero."""


MOST_RUNS = 15
"""Up to so many runs of diagonals are terms of their own; the others stand in the list."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How the places of an array that may hold other numbers than zero are written.

    Attributes:
        split: for each axis the sizes of the digits that it is split into first; `(size,)` where
            it is not.
        axes: of the digits those that are not whole, on which places are told.
        pieces: the runs and the list, each the coordinates of its places, `(axes, count)`; None
            where the array stays dense.
        cost: in numbers.
        lookups: how many of them say where the pieces are.
    """

    split: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]
    pieces: tuple[np.ndarray, ...] | None
    cost: float
    lookups: int = 0


def layout(may: np.ndarray, is_answer: bool = False, times: int = 1) -> Layout:
    """The cheapest way to write an array.

    What counts is the numbers stored, lookups included. A dense array with a mask tells its places
    as well as a list does, until it is an answer: there every place counts, needed or not.

    Args:
        may: where the array may hold another number than zero.
        is_answer: whether places that the array has for nothing count as well.
        times: how many places of the answer an entry stands for, as one of a convolution's kernel
            does: lookups and terms are as many whatever that number is.
    """
    return _layout(np.packbits(may).tobytes(), may.shape, is_answer, times)


@remembering("layouts of patterns", 64)
def _layout(bits: bytes, shape: tuple[int, ...], is_answer: bool, times: int) -> Layout:
    """The same, found once for a pattern: a program is asked about again and again."""
    whole = np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(shape))
    may = whole.astype(bool).reshape(shape)
    found = [_of_digits(may, split, is_answer, times) for split in _splits(may.shape)]
    dense = Layout(
        tuple((size,) for size in may.shape),
        (),
        None,
        may.size * (1 + NUMBERS_A_PLACE * is_answer),
    )
    best = min(found, key=lambda one: one.cost)
    return best if best.cost < dense.cost else dense


def _splits(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The axes as they are, and those of a matrix as two digits each, in all ways that fit."""
    yield tuple((size,) for size in shape)
    if len(shape) == 2 and all(size > 1 for size in shape):
        for parts in _divisors(math.gcd(*shape)):
            rows, columns = (size // parts for size in shape)
            if rows * columns > 1:
                yield (parts, rows), (parts, columns)
                yield (rows, parts), (columns, parts)


def _divisors(number: int) -> list[int]:
    return [one for one in range(2, number + 1) if number % one == 0]


def _of_digits(
    may: np.ndarray, split: tuple[tuple[int, ...], ...], is_answer: bool, times: int
) -> Layout:
    """The cheapest way after axes are split."""
    digits = may.reshape([size for sizes in split for size in sizes])
    axes = tuple(axis for axis in range(digits.ndim) if not _is_constant_along(digits, axis))
    is_split = any(len(sizes) > 1 for sizes in split)
    if is_split and len(axes) == digits.ndim:  # no digit is whole: no better than before
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
    if array.shape[axis] < 2:
        return True
    first = np.take(array, [0], axis)
    if (np.take(array, [1], axis) != first).any():  # nearly always: no need to look at the rest
        return False
    return bool((array == first).all())


def _pieces(places: np.ndarray) -> list[np.ndarray]:
    """Runs along diagonals of a matrix that are cheaper than a list, and the list of the others."""
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
    """How many numbers the lookups of a piece are."""
    label = Label(piece.shape[1])
    return sum(label.size for values in piece if index_along(values, label).lookup is not None)
