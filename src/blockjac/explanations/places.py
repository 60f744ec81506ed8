"""Places in place of letters, and which letters an expression has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import count

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Entry, Expression, Letter, Number, Place
from blockjac.explanations.traversal import children, mapped

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


def within(place: Place, size: int) -> Expression:
    """1 where a place lies on an axis; a number where that is known."""
    if place.lookup is None:
        low = high = place.offset
        for letter, stride in place.strides:
            reach = stride * (letter.size - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        if low >= 0 and high < size:
            return ex.ONE
        if high < 0 or low >= size:
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


def place_letters(place: Place) -> set[Letter]:
    """The letters of a place, those of a lookup too."""
    own = {letter for letter, _ in place.strides}
    return own if place.lookup is None else own | letters_of(place.lookup)


def letters_of(expression: Expression) -> set[Letter]:
    """Every letter of an expression, summed ones too."""
    letters: set[Letter] = set()
    match expression:
        case ex.Entry(_, places, _):
            for place in places:
                letters |= place_letters(place)
        case ex.Equal(left, right):
            letters |= place_letters(left) | place_letters(right)
        case ex.Within(place, _):
            letters |= place_letters(place)
        case ex.Over(_, own, _):
            letters |= set(own)
        case _:
            pass
    for child in children(expression):
        letters |= letters_of(child)
    return letters


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
