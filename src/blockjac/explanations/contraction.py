"""The chain rule on formulas: terms of blocks contracted letter by letter, and nothing computed.

A block's term is `coefficient * factors * deltas` over labels. To contract it with what arrives,
each label takes the place that it has on the axes in between; labels that no axis has any more are
summed. The formula is the same for all sizes, where the library chooses by cost what to multiply
out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

from blockjac.blocks import Block
from blockjac.explanations import expressions as ex
from blockjac.explanations.constants import constant
from blockjac.explanations.expressions import Expression, Letter, Number, Place
from blockjac.explanations.letters import relettered
from blockjac.explanations.places import (
    equal,
    fresh,
    in_order,
    letters_of,
    place_letters,
    plus,
    solved,
    substituted,
    within,
)
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


class Arrays(Protocol):
    """The arrays of a block, which are positions among the results of a traced program."""

    def factor(self, position: Any, places: Sequence[Place]) -> Expression:
        """An entry of a factor."""
        ...

    def lookup(self, position: Any, places: Sequence[Place]) -> Expression:
        """An entry of an array of integers, short enough to stand in an index."""
        ...


@dataclass(frozen=True)
class Partial:
    """A term on its way back through the program.

    Attributes:
        factors: its factors so far.
        axes: where the axes of the current variable are.
        bound: letters that are summed unless an axis has them.
    """

    factors: tuple[Expression, ...]
    axes: tuple[Place, ...]
    bound: tuple[Letter, ...] = ()


def identity(letters: Sequence[Letter]) -> Partial:
    """The term that a result starts with: its own axes."""
    return Partial((), tuple(map(Place.of, letters)))


def arriving(entry: Callable[[Sequence[Place]], Expression], shape: Sequence[int]) -> Partial:
    """The term that starts with an array that has the axes of a variable.

    Args:
        entry: an entry of the array at places of the variable's axes.
        shape: of the variable.
    """
    letters = [fresh(size) for size in shape]
    places = tuple(map(Place.of, letters))
    return Partial(
        (entry(places),), places, tuple(letter for letter in letters if letter.size != 1)
    )


def contracted(partial: Partial, block: Block, arrays: Arrays) -> list[Partial]:
    """A term times a block: one term for each of the block's.

    Args:
        partial: with an axis for each output axis of the block.
        block: whose arrays are positions.
        arrays: of the block.
    """
    return [_contracted(partial, term, block, arrays) for term in block.terms]


def _contracted(partial: Partial, term: Term, block: Block, arrays: Arrays) -> Partial:
    """A term times one term of a block."""
    places: dict[Label, Place] = {}
    relations: list[tuple[Place, Index]] = []
    factors: list[Expression] = []
    for place, index, size in zip(partial.axes, term.out, block.out_shape, strict=True):
        label = index.strides[0][0] if index.is_plain(size) and size != 1 else None
        if label is not None and label not in places:
            places[label] = place
        elif label is not None:
            factors.append(equal(places[label], place))
        elif not (size == 1 and index.constant and not index.offset):
            relations.append((place, index))
    bound = list(partial.bound)
    for label in term.labels:
        if label not in places:
            letter = fresh(label.size)
            places[label] = Place.of(letter)
            bound += [letter] if label.size != 1 else []
    substitutions: dict[Letter, Place] = {}
    for place, index in relations:
        at = _place(index, places, arrays)
        letter = place.letter
        within = letter is not None and index.within(letter.size)
        if (
            within
            and letter in bound
            and letter not in substitutions
            and letter not in place_letters(at)
        ):
            substitutions[letter] = at
        else:
            factors.append(equal(place, at))
    factors += [
        arrays.factor(factor.array, [places[label] for label in factor.labels])
        for factor in term.factors
    ]
    if not isinstance(term.coefficient, int | float) or term.coefficient != 1:
        factors.append(constant(term.coefficient, block.dtype))
    axes = [_place(index, places, arrays) for index in term.wrt]
    whole = Partial((*partial.factors, *factors), tuple(axes), tuple(bound))
    return with_places(whole, substitutions)


def _place(index: Index, places: Mapping[Label, Place], arrays: Arrays) -> Place:
    """An index expression with places for its labels."""
    lookup = index.lookup
    entry = None
    if lookup is not None:
        entry = arrays.lookup(lookup.array, [places[label] for label in lookup.labels])
    place = Place(index.offset, (), entry)
    for label, stride in index.strides:
        place = plus(place, places[label], stride)
    return place


def with_places(partial: Partial, letters: Mapping[Letter, Place]) -> Partial:
    """A term with places for some of its bound letters."""
    if not letters:
        return partial
    # Places may read letters that are replaced as well, so that these are settled first.
    axes = [substituted(ex.Entry(ex.Name("#"), partial.axes, ()), letters)]
    (entry,) = axes
    assert isinstance(entry, ex.Entry)
    return Partial(
        tuple(substituted(factor, letters) for factor in partial.factors),
        entry.places,
        tuple(letter for letter in partial.bound if letter not in letters),
    )


def body(partials: Sequence[Partial], wrt: Sequence[Letter]) -> Expression:
    """The sum of terms, with the axes of the variable at given letters.

    Args:
        partials: that have arrived at the variable.
        wrt: a letter for each of its axes.
    """
    return ex.total(list(like_terms([_summed(partial, wrt) for partial in partials])))


def _summed(partial: Partial, wrt: Sequence[Letter]) -> Expression:
    """One term: bound letters take the place of the axes that they stand in, or are summed."""
    substitutions: dict[Letter, Place] = {}
    relations: list[tuple[Place, Place]] = []
    for letter, place in zip(wrt, partial.axes, strict=True):
        own = place.letter
        is_free = own is not None and own in partial.bound and own not in substitutions
        if letter.size == 1 and place == Place():
            continue
        if is_free and own is not None and own.size == letter.size:
            substitutions[own] = Place.of(letter)
        else:
            relations.append((place, Place.of(letter)))
    factors = [*partial.factors, *(equal(left, right) for left, right in relations)]
    partial = with_places(replace(partial, factors=tuple(factors)), substitutions)
    partial = _without_deltas(partial)
    whole = ex.product(list(partial.factors))
    present = letters_of(whole)
    repeated = [Number(letter.size) for letter in partial.bound if letter not in present]
    letters = tuple(letter for letter in partial.bound if letter in present)
    return ex.product([*repeated, ex.over("sum", letters, whole)])


def _without_deltas(partial: Partial) -> Partial:
    """A term without relations that say where a summed letter is: it takes that place."""
    for factor in partial.factors:
        if not isinstance(factor, ex.Equal):
            continue
        for own, target in ((factor.left, factor.right), (factor.right, factor.left)):
            solution = solved(own, target, partial.bound)
            if solution is None:
                continue
            letter, place = solution
            rest = [part for part in partial.factors if part is not factor]
            inside = within(place, letter.size)
            factors = (*rest, *([] if inside == ex.ONE else [inside]))
            return _without_deltas(with_places(replace(partial, factors=factors), {letter: place}))
    return partial


def like_terms(terms: Sequence[Expression]) -> Sequence[Expression]:
    """Equal terms added up."""
    counts: dict[Expression, Fraction] = {}
    shown: dict[Expression, Expression] = {}
    for term in terms:
        sign, own = (-1, term.body) if isinstance(term, ex.Negative) else (1, term)
        number, rest = _coefficient(own)
        key = _sorted(rest)
        shown.setdefault(key, rest)
        counts[key] = counts.get(key, Fraction(0)) + sign * number
    return [
        ex.product(
            [Number(count.numerator), shown[own], ex.Quotient(ex.ONE, Number(count.denominator))]
        )
        for own, count in counts.items()
        if count
    ]


def _coefficient(expression: Expression) -> tuple[Fraction, Expression]:
    """One over the whole number below the line, and the rest."""
    match expression:
        case ex.Quotient(above, Number(int(below))) if below:
            return Fraction(1, below), above
        case ex.Over("sum", letters, ex.Quotient(above, Number(int(below)))) if below:
            return Fraction(1, below), ex.over("sum", letters, above)
        case _:
            return Fraction(1), expression


def _sorted(expression: Expression) -> Expression:
    """A product or a sum of products with its factors in an order of their own.

    Letters that are summed are renamed by where they occur, so that sums that differ in these alone
    are equal.
    """
    match expression:
        case ex.Product(factors):
            return ex.Product(tuple(sorted(factors, key=repr)))
        case ex.Over(kind, letters, body):
            erased = {letter: Letter("*", letter.size) for letter in letters}
            factors = sorted(ex.flat([body]), key=lambda part: repr(relettered(part, erased)))
            order = [letter for letter in in_order([*factors, *letters]) if letter in letters]
            names = {letter: Letter("*", letter.size, n) for n, letter in enumerate(order)}
            renamed = [relettered(part, names) for part in factors]
            return ex.Over(
                kind, tuple(names.values()), ex.Product(tuple(sorted(renamed, key=repr)))
            )
        case _:
            return expression
