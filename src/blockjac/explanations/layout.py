"""Equations in pieces, so that every rendering can break them where a line is full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import Paths, Rule
from blockjac.explanations.expressions import Formula, Letter
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.styles.style import PRODUCT, Style
from blockjac.explanations.styles.text import TEXT


@dataclass(frozen=True)
class Space:
    """That a tensor has a shape: `W ∈ T_(30,20)`."""

    name: Name
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Application:
    """What a step computes: `Z = φ(X, W)`, with the shape of the result.

    Attributes:
        results: their names.
        function: the step's.
        operands: names, or the numbers that stand in the program.
        shapes: of the results.
    """

    results: tuple[Name, ...]
    function: Name
    operands: tuple[Name | str, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Claim:
    """An equation between a Jacobian's name and an expression of whole arrays."""

    name: Name | Derivative
    body: ex.Expression

    def __str__(self) -> str:
        return " ".join(pieces(self, TEXT))


@dataclass(frozen=True)
class Accumulation:
    """A Jacobian that the steps of a loop add up: `D_W scan = sum_t q_(t+1) ⋆ D_W f`.

    Attributes:
        derivative: the Jacobian.
        letter: what numbers the steps.
        paths: what one step adds.
    """

    derivative: Derivative
    letter: str
    paths: Paths


Equation = Space | Application | Claim | Rule | Formula | Accumulation


def pieces(equation: Equation, style: Style) -> list[str]:
    """An equation in pieces that a line may end after: its left side, then its terms."""
    equals = style.symbol("=")
    match equation:
        case Space(name, shape):
            return [f"{style.name(name)} {style.symbol('∈')} {style.space(shape)}"]
        case Application():
            return [_application(equation, style)]
        case Claim(name, body):
            return [f"{style.called(name)} {equals}", *_terms(body, style)]
        case Rule(name, derivative, paths):
            left = [*([style.name(name)] if name else []), style.derivative(derivative)]
            return [f" {equals} ".join([*left, ""]).rstrip(), *_paths(paths, style)]
        case Accumulation(derivative, letter, paths):
            body = " ".join(_paths(paths, style))
            inside = style.parentheses(body) if len(paths.terms) > 1 else body
            step = style.letter(Letter(letter, 0))
            return [f"{style.derivative(derivative)} {equals}", style.over("sum", [step], inside)]
        case Formula(name, letters, body, _):
            left = style.entry(name, style.places(letters))
            return [f"{left} {equals}", *_terms(body, style)]


def _application(application: Application, style: Style) -> str:
    """`Z = φ(X, W) ∈ T_(400,20)`; the call alone of what gives nothing, such as a print."""
    comma = style.symbol(",") + " "
    results = comma.join(map(style.name, application.results))
    operands = [
        style.digits(operand) if isinstance(operand, str) else style.name(operand)
        for operand in application.operands
    ]
    call = style.name(application.function) + style.parentheses(comma.join(operands))
    if not application.results:
        return call
    spaces = f" {style.symbol('×')} ".join(map(style.space, application.shapes))
    return f"{results} {style.symbol('=')} {call} {style.symbol('∈')} {spaces}"


def _paths(paths: Paths, style: Style) -> list[str]:
    """A sum over paths, each factor a piece."""
    written: list[str] = []
    for number, term in enumerate(paths.terms):
        sign = f"{style.symbol('+')} " if number else ""
        factors = list(map(style.called, term.factors)) or [style.identity()]
        written.append(sign + factors[0])
        written += [f"{style.symbol('⋆')} {factor}" for factor in factors[1:]]
    return written or [style.digits("0")]


def _terms(body: ex.Expression, style: Style) -> list[str]:
    """A sum, each term a piece."""
    if not isinstance(body, ex.Total):
        return [style.write(body)]
    written = [style.write(body.terms[0])]
    for term in body.terms[1:]:
        sign = "-" if isinstance(term, ex.Negative) else "+"
        own = term.body if isinstance(term, ex.Negative) else term
        written.append(f"{style.symbol(sign)} {style.write(own, PRODUCT)}")
    return written


def lines(parts: Sequence[str], lengths: Sequence[int], width: int) -> list[list[str]]:
    """Pieces put into lines of at most a width, where that is possible.

    Args:
        parts: the pieces.
        lengths: how wide each is.
        width: of a line.
    """
    result: list[list[str]] = [[parts[0]]]
    used = lengths[0]
    for part, length in zip(parts[1:], lengths[1:], strict=True):
        if used + 1 + length > width and len(result[-1]) > (1 if len(result) == 1 else 0):
            result.append([part])
            used = 4 + length
        else:
            result[-1].append(part)
            used += 1 + length
    return result
