"""Places in place of letters, and which letters an expression has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Entry, Expression, Letter, Number, Place
from blockjac.explanations.traversal import held, mapped

_fresh = count()


def fresh(size: int) -> Letter:
    """A letter that occurs nowhere else, named when a formula is complete."""
    return Letter("#", size, next(_fresh))


def substituted(expression: Expression, letters: Mapping[Letter, Place]) -> Expression:
    """The expression with places in place of letters."""

    def at(place: Place) -> Place:
        """A place with its letters replaced."""
        lookup = place.lookup
        result = Place(place.offset, (), None if lookup is None else substituted(lookup, letters))
        for letter, stride in place.strides:
            own = letters.get(letter, Place(0, ((letter, 1),)))
            result = plus(result, own, stride)
        return result

    def changed(part: Expression) -> Expression:
        """A part with its places replaced."""
        match part:
            case Entry(name, places, shape):
                return Entry(name, tuple(map(at, places)), shape)
            case ex.Equal(left, right):
                return equal(at(left), at(right))
            case ex.Within(place, size):
                return within(at(place), size)
            case ex.NotBefore(left, right):
                return not_before(at(left), at(right))
            case ex.Angle(turns):
                return angle([(at(left), at(right), size) for left, right, size in turns])
            case _:
                return mapped(part, changed)

    return changed(expression)


def equal(left: Place, right: Place) -> Expression:
    """1 where two places are the same; a number where that is known."""
    if left == right:
        return ex.ONE
    if not (left.strides or right.strides or left.lookup or right.lookup):
        return ex.ZERO
    return ex.Equal(left, right)


def bounds(place: Place) -> tuple[int, int] | None:
    """The first and the last position that a place may be; None where it is looked up."""
    if place.lookup is not None:
        return None
    reaches = [stride * (letter.size - 1) for letter, stride in place.strides]
    low = place.offset + sum(reach for reach in reaches if reach < 0)
    return low, place.offset + sum(reach for reach in reaches if reach > 0)


def not_before(left: Place, right: Place) -> Expression:
    """1 where a place is another or comes after it; a number where that is known."""
    gap = bounds(plus(left, right, -1))
    if gap is not None and gap[0] >= 0:
        return ex.ONE
    if gap is not None and gap[1] < 0:
        return ex.ZERO
    return ex.NotBefore(left, right)


def angle(turns: Sequence[tuple[Place, Place, int]]) -> Expression:
    """`2 pi` times a sum of fractions of a turn; 0 where nothing turns."""
    moving = [turn for turn in turns if Place() not in turn[:2]]
    return ex.Angle(tuple(moving)) if moving else ex.ZERO


def within(place: Place, size: int) -> Expression:
    """1 where a place lies on an axis; a number where that is known."""
    ends = bounds(place)
    if ends is not None and ends[0] >= 0 and ends[1] < size:
        return ex.ONE
    if ends is not None and (ends[1] < 0 or ends[0] >= size):
        return ex.ZERO
    return ex.Within(place, size)


def plus(place: Place, other: Place, stride: int) -> Place:
    """`place + stride * other`."""
    strides = dict(place.strides)
    for letter, own in other.strides:
        strides[letter] = strides.get(letter, 0) + stride * own
    lookup = place.lookup
    if other.lookup is not None:
        scaled = ex.product([Number(stride), other.lookup])
        lookup = scaled if lookup is None else ex.total([lookup, scaled])
    kept = tuple((letter, own) for letter, own in strides.items() if own and letter.size != 1)
    return Place(place.offset + stride * other.offset, kept, lookup)


def in_order(parts: Iterable[Any]) -> dict[Letter, None]:
    """The letters of places and expressions in the order of reading, summed ones too."""
    letters: dict[Letter, None] = {}
    for part in parts:
        if isinstance(part, Letter):
            letters[part] = None
        elif isinstance(part, Place):
            lookup = () if part.lookup is None else (part.lookup,)
            letters |= in_order([*(letter for letter, _ in part.strides), *lookup])
        elif isinstance(part, Expression):
            letters |= in_order(held(part))
    return letters


def place_letters(place: Place) -> set[Letter]:
    """The letters of a place, those of a lookup too."""
    return set(in_order([place]))


def letters_of(expression: Expression) -> set[Letter]:
    """Every letter of an expression, summed ones too."""
    return set(in_order([expression]))


def solved(own: Place, target: Place, bound: Collection[Letter]) -> tuple[Letter, Place] | None:
    """A summed letter of a place, and where it is if the place is the target."""
    if own.lookup is not None:
        return None
    for letter, stride in own.strides:
        if abs(stride) != 1 or letter not in bound or letter in place_letters(target):
            continue
        rest = tuple(pair for pair in own.strides if pair[0] != letter)
        return letter, plus(plus(Place(), target, stride), Place(own.offset, rest), -stride)
    return None
