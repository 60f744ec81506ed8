"""Letters for the axes of formulas, by their sizes; one that repeats has a prime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.traversal import children, rebuilt

ALPHABET = "ijklmnpqrstuvwabcdefgh"


@dataclass
class Alphabet:
    """Which letter runs over axes of which size.

    Attributes:
        avoided: letters that are names of variables.
        by_size: those in use.
    """

    avoided: frozenset[str] = frozenset()
    by_size: dict[tuple[int, int], str] = field(default_factory=dict)

    def letter(self, size: int, occurrence: int = 0) -> tuple[str, int]:
        """The letter of a size and its primes: after `i` and `i'` come another letter and its own.

        Args:
            size: of the axis.
            occurrence: how many letters of this size the formula has before.
        """
        pair, primes = divmod(occurrence, 2)
        if (size, pair) not in self.by_size:
            letters = [own for own in ALPHABET if own not in self.avoided]
            round_, number = divmod(len(self.by_size), len(letters))
            self.by_size[size, pair] = letters[number] + (str(round_) if round_ else "")
        return self.by_size[size, pair], primes

    def lettered(self, formula: ex.Formula) -> ex.Formula:
        """The formula with letters of this alphabet, in the order in which they are read."""
        order: dict[Letter, None] = {}
        for place in formula.letters:
            _collect(place, order)
        _collect_all(formula.body, order)
        taken: dict[int, int] = {}
        names: dict[Letter, Letter] = {}
        for letter in order:
            occurrence = taken.get(letter.size, 0)
            taken[letter.size] = occurrence + 1
            own, primes = self.letter(letter.size, occurrence)
            names[letter] = Letter(own, letter.size, primes)
        letters = tuple(_at(place, names) for place in formula.letters)
        return replace(formula, letters=letters, body=relettered(formula.body, names))


def _collect(place: Place, order: dict[Letter, None]) -> None:
    """Add the letters of a place."""
    order.update(dict.fromkeys(letter for letter, _ in place.strides))
    if place.lookup is not None:
        _collect_all(place.lookup, order)


def _collect_all(expression: Expression, order: dict[Letter, None]) -> None:
    """Add the letters of an expression in the order in which it is read."""
    match expression:
        case ex.Over(_, letters, _):
            order.update(dict.fromkeys(letters))
        case ex.Entry(_, places, _):
            for place in places:
                _collect(place, order)
            return
        case ex.Equal(left, right):
            _collect(left, order)
            _collect(right, order)
            return
        case ex.NotBefore(left, right):
            _collect(left, order)
            _collect(right, order)
            return
        case ex.Angle(turns):
            for left, right, _ in turns:
                _collect(left, order)
                _collect(right, order)
            return
        case ex.Within(place, _):
            _collect(place, order)
            return
        case _:
            pass
    for child in children(expression):
        _collect_all(child, order)


def _at(place: Place, names: Mapping[Letter, Letter]) -> Place:
    """A place with letters renamed."""
    lookup = None if place.lookup is None else relettered(place.lookup, names)
    strides = tuple((names.get(letter, letter), stride) for letter, stride in place.strides)
    return Place(place.offset, strides, lookup)


def relettered(expression: Expression, names: Mapping[Letter, Letter]) -> Expression:
    """An expression with letters renamed, summed ones too."""
    match expression:
        case ex.Entry(name, places, shape):
            return ex.Entry(name, tuple(_at(place, names) for place in places), shape)
        case ex.Equal(left, right):
            return ex.Equal(_at(left, names), _at(right, names))
        case ex.Within(place, size):
            return ex.Within(_at(place, names), size)
        case ex.NotBefore(left, right):
            return ex.NotBefore(_at(left, names), _at(right, names))
        case ex.Angle(turns):
            return ex.Angle(tuple((_at(a, names), _at(b, names), size) for a, b, size in turns))
        case ex.Over(kind, letters, body):
            own = tuple(names.get(letter, letter) for letter in letters)
            return ex.Over(kind, own, relettered(body, names))
        case _:
            return rebuilt(expression, lambda part: relettered(part, names))
