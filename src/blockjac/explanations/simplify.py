"""Formulas made shorter: by the names of what they contain, and with less below a sum.

The derivative of a softmax `Q = E / sum E` comes as `E[i] / sum E`, where a reader wants to see
`Q[i]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.places import letters_of, solved, substituted, within
from blockjac.explanations.traversal import held, mapped

Matches = dict[Letter, Place]


def folded(expression: Expression, definitions: Sequence[ex.Formula]) -> Expression:
    """The expression with what the definitions compute replaced by the names of these.

    Args:
        expression: to rewrite.
        definitions: formulas of named arrays, each over letters that occur nowhere else.
    """

    def changed(part: Expression) -> Expression:
        """A part, rewritten from the inside."""
        part = mapped(part, changed)
        for definition in definitions:
            part = _replaced(part, definition)
        return part

    return changed(expression)


def pulled_out(expression: Expression) -> Expression:
    """The expression with factors that a sum's letters do not reach in front of the sum."""
    match expression:
        case ex.Over("sum", letters, body):
            letters, body = without_deltas(letters, pulled_out(body))
            top, bottom = parts_of_fraction(body)
            summed = set(letters)
            inside = [part for part in top if letters_of(part) & summed]
            under = [part for part in bottom if letters_of(part) & summed]
            inner = ex.product([*inside, *(ex.Quotient(ex.ONE, part) for part in under)])
            outside = [part for part in top if not letters_of(part) & summed]
            below = [ex.Quotient(ex.ONE, part) for part in bottom if not letters_of(part) & summed]
            return ex.product([*outside, *below, ex.over("sum", letters, inner)])
        case _:
            return mapped(expression, pulled_out)


def without_deltas(
    letters: tuple[Letter, ...], body: Expression
) -> tuple[tuple[Letter, ...], Expression]:
    """A sum without deltas of its letters, which take the other's place.

    Args:
        letters: that are summed.
        body: what is summed.
    """
    top, bottom = parts_of_fraction(body)
    for factor in top:
        if not isinstance(factor, ex.Equal):
            continue
        for own, other in ((factor.left, factor.right), (factor.right, factor.left)):
            solution = solved(own, other, letters)
            if solution is None:
                continue
            letter, place = solution
            rest = [part for part in top if part is not factor]
            rest.append(within(place, letter.size))
            whole = ex.product([*rest, *(ex.Quotient(ex.ONE, part) for part in bottom)])
            left = tuple(name for name in letters if name != letter)
            return without_deltas(left, substituted(whole, {letter: place}))
    return letters, body


def parts_of_fraction(expression: Expression) -> tuple[list[Expression], list[Expression]]:
    """The factors of an expression above and below the line."""
    match expression:
        case ex.Quotient(numerator, denominator):
            return [] if numerator == ex.ONE else ex.flat([numerator]), ex.flat([denominator])
        case _:
            return ex.flat([expression]), []


def inlined(expression: Expression, formulas: Mapping[Name | Derivative, ex.Formula]) -> Expression:
    """The expression with entries of some arrays replaced by their formulas, which sum nothing."""

    def changed(part: Expression) -> Expression:
        """A part with its own entries replaced."""
        if isinstance(part, ex.Entry) and part.name in formulas:
            formula = formulas[part.name]
            pairs = zip(formula.letters, part.places, strict=True)
            places = {own.letter: at for own, at in pairs if own.letter is not None}
            return substituted(formula.body, places)
        return mapped(part, changed)

    return changed(expression)


def _replaced(expression: Expression, definition: ex.Formula) -> Expression:
    """An expression that is a definition's body times something, by the definition's name."""
    wanted = parts_of_fraction(definition.body)
    if len(wanted[0]) + len(wanted[1]) < 2:
        return expression
    sign = isinstance(expression, ex.Negative)
    top, bottom = parts_of_fraction(expression.body if sign else expression)
    for tops in permutations(range(len(top)), len(wanted[0])):
        for bottoms in permutations(range(len(bottom)), len(wanted[1])):
            matches: Matches = {}
            pairs = [
                *zip(wanted[0], (top[n] for n in tops), strict=True),
                *zip(wanted[1], (bottom[n] for n in bottoms), strict=True),
            ]
            if not all(_matches(pattern, part, matches) for pattern, part in pairs):
                continue
            letters = [place.letter for place in definition.letters]
            if any(letter is not None and letter not in matches for letter in letters):
                continue
            places = tuple(Place() if letter is None else matches[letter] for letter in letters)
            entry = ex.Entry(definition.name, places, definition.shape)
            rest = [part for n, part in enumerate(top) if n not in tops]
            under = [part for n, part in enumerate(bottom) if n not in bottoms]
            inverse = [ex.Quotient(ex.ONE, part) for part in under]
            whole = [*([ex.Number(-1)] if sign else []), *rest, entry, *inverse]
            return _replaced(ex.product(whole), definition)
    return expression


def _matches(pattern: Expression, expression: Expression, matches: Matches) -> bool:
    """Whether an expression is a pattern with places for its letters, which are added."""
    if type(pattern) is not type(expression):
        return False
    if isinstance(pattern, ex.Over) and isinstance(expression, ex.Over):
        matches.update(zip(pattern.letters, map(Place.of, expression.letters), strict=False))
    mine, its = list(held(pattern)), list(held(expression))
    return len(mine) == len(its) and all(
        _same(part, own, matches) for part, own in zip(mine, its, strict=True)
    )


def _same(pattern: Any, own: Any, matches: Matches) -> bool:
    """Whether a part of an expression is that of a pattern."""
    if isinstance(pattern, Expression):
        return _matches(pattern, own, matches)
    if isinstance(pattern, Letter):  # one that is summed
        return isinstance(own, Letter)
    if isinstance(pattern, Place):
        return isinstance(own, Place) and _same_place(pattern, own, matches)
    return pattern == own


def _same_place(pattern: Place, place: Place, matches: Matches) -> bool:
    """Whether a place is a pattern's, with places for its letter."""
    letter = pattern.letter
    if letter is None:
        return pattern == place
    return matches.setdefault(letter, place) == place
