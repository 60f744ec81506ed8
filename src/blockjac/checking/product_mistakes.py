"""Mistakes in what a product passes back: `X.T @ q` and `q @ W.T`, with something else in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from blockjac.base import compat
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.report import Mistake
from blockjac.checking.tape import Entry
from blockjac.checking.tape_rules import product_pulled

Wrong = tuple[Mistake, np.ndarray, int]
"""A mistake, the cotangent that it makes of an operand, and its rank."""

Pull = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the cotangent of a product and its other factor, the cotangent of one factor."""


def place_of(entry: Entry) -> str:
    """An entry in words: what it does, and at which line."""
    return f"{entry.name}{compat.at_place(entry.source)}"


def wrong_products(
    known: Dictionary, entry: Entry, place: int, cotangent: np.ndarray
) -> Iterator[Wrong]:
    """What is passed back by mistake to an operand of a product.

    Args:
        known: the arrays of the program.
        entry: the product.
        place: of the operand, 0 or 1.
        cotangent: of the product.
    """
    tape = known.tape
    partner = entry.operands[1 - place]
    residual = tape.values[partner].astype(float)
    called = known.name(partner)

    def pull(c: np.ndarray, array: np.ndarray) -> np.ndarray:
        return product_pulled(tape, entry, place, c, array)

    yield from _transposed(pull, cotangent, residual, called, place_of(entry))
    if cotangent.shape == tape.shape(entry.operands[place]):
        hint = f"{called} was left out of the derivative of {place_of(entry)}; multiply by it"
        yield Mistake("missing factor", hint), cotangent, 22
    if residual.size and np.ptp(residual):
        hint = f"{called} was left out of the derivative of {place_of(entry)}, as if it were all 1"
        yield Mistake("missing factor", hint), pull(cotangent, np.ones_like(residual)), 24
    for array in known.like(residual.shape):
        if not np.array_equal(array.array, residual):
            hint = f"{array.name} was taken for {called} in the derivative of {place_of(entry)}"
            yield Mistake("wrong factor", hint), pull(cotangent, array.array), 25
    for array in known.cotangents(cotangent.shape):
        if not np.array_equal(array.array, cotangent):
            hint = f"{array.name} was taken for that of the result of {place_of(entry)}"
            yield Mistake("wrong factor", hint), pull(array.array, residual), 29
    if cotangent.ndim == 2:
        for changed, name in _with_a_matrix(known, cotangent):
            hint = (
                f"the cotangent of the result of {place_of(entry)} is multiplied by {name}, which "
                "is too much"
            )
            yield Mistake("extra factor", hint), pull(changed, residual), 35


def _transposed(
    pull: Pull, cotangent: np.ndarray, residual: np.ndarray, called: str, where: str
) -> Iterator[Wrong]:
    """A factor, or the product, was taken transposed."""
    for turned in swapped(residual):
        hint = f"{called} was taken transposed in the derivative of {where}; use its .T"
        yield Mistake("factor transposed", hint), pull(cotangent, turned), 21
    for turned in swapped(cotangent):
        hint = f"the cotangent of {where} was taken transposed; use its .T"
        yield Mistake("factor transposed", hint), pull(turned, residual), 27
    for turned in swapped(pull(cotangent, residual)):
        hint = f"the product that {where} passes back was taken transposed; use its .T"
        yield Mistake("factor transposed", hint), turned, 27


def swapped(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array with two axes of one size swapped, for each two such axes."""
    for i, j in itertools.combinations(range(array.ndim), 2):
        if array.shape[i] == array.shape[j]:
            yield np.swapaxes(array, i, j)


def _with_a_matrix(known: Dictionary, cotangent: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """The cotangent multiplied by each square matrix of the program from each side."""
    rows, columns = cotangent.shape
    for matrix in known.like((rows, rows)):
        yield matrix.array @ cotangent, matrix.name
    for matrix in known.like((columns, columns)):
        yield cotangent @ matrix.array, matrix.name
