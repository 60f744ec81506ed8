"""Entries of a traced program that need no formula: those of a named array at other places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from blockjac.base import compat
from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Number, Place
from blockjac.explanations.places import equal, not_before, plus

Moved = Callable[[Sequence[Place]], list[Place]]
"""Places of one array by those of another with the same entries."""


def aliases(
    variable: Any, producers: Mapping[Any, Any], names: Mapping[Any, Any]
) -> Iterator[tuple[Any, tuple[Any, Moved]]]:
    """The variables whose entries are those of a named one, at other places.

    Args:
        variable: the named one.
        producers: the equation that computes each variable.
        names: of the variables that have them.
    """
    moved: Moved = list
    current = variable
    while current in producers:
        equation = producers[current]
        step = _moved_by(equation)
        if step is None or not compat.is_variable(equation.invars[0]):
            return
        moved = partial(_composed, moved, step)
        (current, *_) = equation.invars
        if current in names:
            return
        yield current, (variable, moved)


def _composed(outer: Moved, inner: Moved, places: Sequence[Place]) -> list[Place]:
    """One after the other."""
    return outer(inner(places))


def _moved_by(equation: Any) -> Moved | None:
    """Places of a result by those of its operand; None where entries change or are repeated."""
    name = equation.primitive.name
    if name == "transpose":
        permutation = equation.params["permutation"]
        return lambda places: [places[axis] for axis in permutation]
    if name not in ("reshape", "squeeze", "expand_dims"):
        return None
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if [size for size in before if size != 1] != [size for size in after if size != 1]:
        return None

    def moved(places: Sequence[Place]) -> list[Place]:
        """Axes of size 1 come and go."""
        rest = iter([place for place, size in zip(places, before, strict=True) if size != 1])
        return [Place() if size == 1 else next(rest) for size in after]

    return moved


def pattern(array: np.ndarray, places: Sequence[Place]) -> Expression | None:
    """An entry of an identity, or of ones on and below or above some diagonal; None of others.

    Args:
        array: a matrix of numbers.
        places: of the entry.
    """
    row, column = places
    rows, columns = array.shape
    if (array == np.eye(*array.shape)).all():
        return equal(row, column)
    if (array == 1 - np.eye(*array.shape)).all():
        return ex.total([ex.ONE, ex.product([Number(-1), equal(row, column)])])
    for offset in (0, 1, -1):
        if (array == np.tri(rows, columns, -offset)).all():
            return not_before(row, plus(column, Place(offset), 1))
        if (array == np.tri(columns, rows, -offset).T).all():
            return not_before(column, plus(row, Place(offset), 1))
    return None
