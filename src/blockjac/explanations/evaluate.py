"""The numbers that formulas with indices stand for, by NumPy: what is printed can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.scipy import special

from blockjac.explanations.expressions import (
    Angle,
    Applied,
    Entry,
    Equal,
    Expression,
    Formula,
    Letter,
    Negative,
    NotBefore,
    Number,
    Over,
    Place,
    Product,
    Quotient,
    Total,
    Within,
)
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.traversal import children

Arrays = Mapping[Name | Derivative, np.ndarray]


def _by_jax(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda *arguments: np.asarray(function(*arguments))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "and": np.logical_and,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cbrt": np.cbrt,
    "conj": np.conj,
    "cos": np.cos,
    "cosh": np.cosh,
    "digamma": _by_jax(special.digamma),
    "erf": _by_jax(special.erf),
    "erfc": _by_jax(special.erfc),
    "erf_inv": _by_jax(special.erfinv),
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "imag": np.imag,
    "is_finite": np.isfinite,
    "lgamma": _by_jax(special.gammaln),
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "logistic": _by_jax(jax.nn.sigmoid),
    "max": np.maximum,
    "min": np.minimum,
    "not": np.logical_not,
    "or": np.logical_or,
    "real": np.real,
    "rem": np.fmod,
    "round": np.round,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
    "xor": np.logical_xor,
    "where": np.where,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
"""The elementwise functions that formulas may contain."""


@dataclass(frozen=True)
class Values:
    """Numbers over letters: an axis for each."""

    array: Any
    letters: tuple[Letter, ...]

    def along(self, letters: Sequence[Letter]) -> Any:
        """The array with its axes in the order of these letters; size 1 for those it lacks."""
        own = [letter for letter in letters if letter in self.letters]
        array = np.transpose(self.array, [self.letters.index(letter) for letter in own])
        sizes = [letter.size if letter in self.letters else 1 for letter in letters]
        return array.reshape(sizes)


def evaluated(formula: Formula, arrays: Arrays) -> np.ndarray:
    """The array that a formula gives the entries of.

    Args:
        formula: with letters, or 0 for axes of size 1, as its places.
        arrays: those that it reads, by their names.
    """
    letters = [place.letter for place in formula.letters]
    present = [letter for letter in letters if letter is not None]
    values = value(formula.body, arrays)
    array = np.broadcast_to(values.along(present), [letter.size for letter in present])
    return array.reshape(formula.shape)


def value(expression: Expression, arrays: Arrays) -> Values:
    """The numbers of an expression, for all values of its letters."""
    match expression:
        case Number(number):
            return Values(np.asarray(number), ())
        case Entry(name, places, _):
            return _entry(arrays[name], places, arrays)
        case Product(factors):
            return _contracted([value(factor, arrays) for factor in factors], ())
        case Over("sum", letters, body):
            factors = body.factors if isinstance(body, Product) else (body,)
            return _contracted([value(factor, arrays) for factor in factors], letters)
        case Over(kind, letters, body):
            return _reduced(kind, value(body, arrays), letters)
        case Equal(left, right):
            return _joined(np.equal, [_position(left, arrays), _position(right, arrays)], float)
        case Within(place, size):
            return _joined(partial(_is_within, size), [_position(place, arrays)], float)
        case NotBefore(left, right):
            sides = [_position(left, arrays), _position(right, arrays)]
            return _joined(np.greater_equal, sides, float)
        case Angle(turns):
            return _joined(_angle, [_turn(*turn, arrays) for turn in turns])
        case _:
            parts = [value(part, arrays) for part in children(expression)]
            return _joined(_function(expression), parts)


def _function(expression: Expression) -> Callable[..., Any]:
    """What an expression does with the numbers of its parts."""
    match expression:
        case Total(_):
            return lambda *parts: sum(parts)
        case Negative(_):
            return np.negative
        case Quotient(_, _):
            return np.divide
        case Applied(function, _):
            return FUNCTIONS[function]
        case _:
            return _power


def _turn(left: Place, right: Place, size: int, arrays: Arrays) -> Values:
    """A fraction of a turn; whole turns are left out, so that the rest is exact."""
    positions = [_position(left, arrays), _position(right, arrays)]
    return _joined(partial(_part_of_turn, size), positions)


def _part_of_turn(size: int, first: Any, second: Any) -> Any:
    """A product over a number, but for its whole part."""
    return np.mod(first * second, size) / size


def _angle(*turns: Any) -> Any:
    """The angle of a sum of turns."""
    return 2 * np.pi * np.asarray(sum(turns))


def _is_within(size: int, position: Any) -> Any:
    """Whether positions lie on an axis."""
    return (position >= 0) & (position < size)


def _power(base: Any, exponent: Any) -> Any:
    """A power; NumPy refuses integers with negative exponents."""
    return np.power(base * 1.0 if np.any(np.asarray(exponent) < 0) else base, exponent)


def _joined(function: Callable[..., Any], parts: Sequence[Values], dtype: Any = None) -> Values:
    """An elementwise function of values, over the letters of all."""
    letters = tuple(dict.fromkeys(letter for part in parts for letter in part.letters))
    array = np.asarray(function(*(part.along(letters) for part in parts)))
    return Values(array if dtype is None else array.astype(dtype), letters)


def _contracted(factors: Sequence[Values], summed: Sequence[Letter]) -> Values:
    """The product of values, summed over letters."""
    letters = tuple(dict.fromkeys(letter for factor in factors for letter in factor.letters))
    number = {letter: position for position, letter in enumerate(letters)}
    kept = tuple(letter for letter in letters if letter not in summed)
    operands: list[Any] = []
    for factor in factors:
        array = factor.array.astype(float) if factor.array.dtype == bool else factor.array
        operands += [array, [number[letter] for letter in factor.letters]]
    array = np.einsum(*operands, [number[letter] for letter in kept], optimize=len(factors) > 2)
    for letter in summed:
        if letter not in letters:  # the sum of equal terms
            array = array * letter.size
    return Values(array, kept)


def _reduced(kind: str, values: Values, letters: Sequence[Letter]) -> Values:
    """The product, maximum or minimum over letters."""
    function = {"prod": np.prod, "max": np.max, "min": np.min}[kind]
    axes = tuple(values.letters.index(letter) for letter in letters if letter in values.letters)
    kept = tuple(letter for letter in values.letters if letter not in letters)
    return Values(function(values.array, axis=axes), kept)


def _position(place: Place, arrays: Arrays) -> Values:
    """The position on an axis, for all values of the letters."""
    parts = [Values(np.asarray(place.offset), ())]
    for letter, stride in place.strides:
        parts.append(Values(stride * np.arange(letter.size), (letter,)))
    if place.lookup is not None:
        parts.append(value(place.lookup, arrays))
    return _joined(lambda *terms: sum(terms), parts)


def _entry(array: Any, places: Sequence[Place], arrays: Arrays) -> Values:
    """Entries of an array; 0 where a position is outside of it."""
    array = np.asarray(array)
    letters = [place.letter for place in places]
    if len(set(letters)) == len(letters) and all(
        letter is not None and letter.size == size
        for letter, size in zip(letters, array.shape, strict=True)
    ):
        return Values(array, tuple(letter for letter in letters if letter is not None))
    positions = [_position(place, arrays) for place in places]
    own = tuple(dict.fromkeys(letter for part in positions for letter in part.letters))
    indices = [position.along(own) for position in positions]
    sizes = [letter.size for letter in own]
    inside = np.ones(sizes, bool)
    for index, size in zip(indices, array.shape, strict=True):
        inside = inside & (index >= 0) & (index < size)
    clipped = [np.clip(i, 0, size - 1) for i, size in zip(indices, array.shape, strict=True)]
    taken = np.broadcast_to(array[tuple(clipped)], sizes) if clipped else array
    return Values(np.where(inside, taken, np.zeros((), array.dtype)), own)
