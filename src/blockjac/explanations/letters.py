"""Letters for the axes of formulas, by their sizes; one that repeats has a prime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.places import in_order
from blockjac.explanations.traversal import rebuilt

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
        taken: dict[int, int] = {}
        names: dict[Letter, Letter] = {}
        for letter in in_order([*formula.letters, formula.body]):
            occurrence = taken.get(letter.size, 0)
            taken[letter.size] = occurrence + 1
            own, primes = self.letter(letter.size, occurrence)
            names[letter] = Letter(own, letter.size, primes)
        letters = tuple(_at(place, names) for place in formula.letters)
        return replace(formula, letters=letters, body=relettered(formula.body, names))


def _at(place: Place, names: Mapping[Letter, Letter]) -> Place:
    """A place with letters renamed."""
    lookup = None if place.lookup is None else relettered(place.lookup, names)
    strides = tuple((names.get(letter, letter), stride) for letter, stride in place.strides)
    return Place(place.offset, strides, lookup)


def relettered(expression: Expression, names: Mapping[Letter, Letter]) -> Expression:
    """An expression with letters renamed, summed ones too."""
    whole = rebuilt(
        expression, lambda part: relettered(part, names), lambda place: _at(place, names)
    )
    if not isinstance(whole, ex.Over):
        return whole
    return replace(whole, letters=tuple(names.get(letter, letter) for letter in whole.letters))
