"""What is taken for the cotangent of a value as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from blockjac.checking.candidates import Candidate
from blockjac.checking.dictionary import Dictionary, Known
from blockjac.checking.product_mistakes import swapped
from blockjac.checking.report import Mistake

MOST_NUMBERS = 4
"""Of how many numbers the cotangents are tried as factors."""


def scaled_cotangent(known: Dictionary, value: int) -> Iterator[Candidate]:
    """The cotangent of a value is multiplied by a number, which tells where others join it."""
    right = known.passes.exact[value]
    if right.any() and np.isfinite(right).all():
        hint = f"what passes {known.name(value)} was taken {{k}} times; it counts once"
        yield Candidate(Mistake("constant factor of a term", hint), value, -right, right, rank=21)


def cotangent_candidates(known: Dictionary, value: int) -> Iterator[Candidate]:
    """What is taken for the cotangent of a value as a whole.

    Args:
        known: the arrays of the program.
        value: an active value.
    """
    right = known.passes.exact.get(value)
    if right is None or not np.isfinite(right).all() or not right.any():
        return
    called = known.name(value)
    slopes = [*known.slopes_of(value)]
    for array in slopes:
        hint = f"the cotangent of {called} is multiplied by {array.name}, which is too much there"
        yield Candidate(Mistake("extra factor", hint), value, right * (array.array - 1), rank=32)
        with np.errstate(all="ignore"):
            divided = right / array.array - right
        if np.isfinite(divided).all():
            hint = f"the cotangent of {called} lacks the factor {array.name}; multiply by it"
            yield Candidate(Mistake("missing factor", hint), value, divided, rank=33)
    for turned in swapped(right):
        hint = f"the cotangent of {called} was taken transposed; use its .T"
        yield Candidate(Mistake("factor transposed", hint), value, turned - right, rank=30)
    arrays = [*known.like(right.shape), *known.functions_of(value)]
    for array in arrays:
        if not np.isfinite(array.array).all():
            continue
        mistake = Mistake("missing term", "")
        settle = partial(_left_out, known, value, array, arrays)
        yield Candidate(mistake, value, -right, array.array, rank=31, settle=settle)
    for array in known.like(right.shape):
        yield from _multiplied(known, value, right, array)
        yield from _in_its_place(known, value, right, array)


def _in_its_place(
    known: Dictionary, value: int, right: np.ndarray, array: Known
) -> Iterator[Candidate]:
    """An array, times the cotangent of a number that the program computes, is the cotangent."""
    numbers = {float(c) for c in known.passes.exact.values() if c.shape == ()}
    for number in itertools.islice(sorted(numbers), MOST_NUMBERS):
        hint = f"{array.name} was taken in the cotangent of {known.name(value)} by mistake"
        change = number * array.array - right
        yield Candidate(Mistake("wrong factor", hint), value, change, rank=37)


def _multiplied(
    known: Dictionary, value: int, right: np.ndarray, array: Known
) -> Iterator[Candidate]:
    """A cotangent is multiplied or divided by an array: too much, or what undoes a factor."""
    called = known.name(value)
    with np.errstate(all="ignore"):
        changes = {"multiplied": right * array.array, "divided": right / array.array}
    for done, change in changes.items():
        if not np.isfinite(change).all():
            continue
        undone = known.divisors if done == "multiplied" else known.multipliers
        if array.value in undone:
            operation = "division by" if done == "multiplied" else "multiplication by"
            hint = f"the {operation} {array.name} is missing in the cotangent of {called}"
            yield Candidate(Mistake("missing factor", hint), value, change - right, rank=34)
        else:
            hint = f"the cotangent of {called} is {done} by {array.name}, which is too much"
            yield Candidate(Mistake("extra factor", hint), value, change - right, rank=36)


def _left_out(
    known: Dictionary, value: int, array: Known, arrays: Sequence[Known]
) -> Mistake | None:
    """The mistake of taking an array for a cotangent that is a multiple of `array - t`."""
    target = known.passes.exact[value].ravel()
    if target.size > 1 and np.ptp(target) == 0:
        return None  # of a sum: nothing is subtracted in it
    flat = array.array.ravel()
    limit = 1e-5 * np.abs(target).max()
    one = Known("1", np.ones(array.array.shape), value)
    for partner in (*arrays, one):
        basis = np.stack([flat, partner.array.ravel()], axis=1)
        if partner.array is array.array or not np.isfinite(basis).all():
            continue
        coefficients, *_ = np.linalg.lstsq(basis, target, rcond=None)
        first, second = coefficients
        if abs(abs(first) - abs(second)) > 1e-4 * abs(first):
            continue
        if np.abs(basis @ coefficients - target).max() <= limit:
            hint = (
                f"{partner.name} was left out of the cotangent of {known.name(value)}: it was "
                f"taken to be {array.name} times {{k}}"
            )
            return Mistake("missing term", hint)
    return None
