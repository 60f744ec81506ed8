"""One given array or Block beside the exact block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.blocks import Block
from blockjac.checking import compare
from blockjac.checking.compare import Tolerance, differences, distance, equal, in_double, largest
from blockjac.checking.large import by_products
from blockjac.checking.report import LeafReport, Mistake
from blockjac.checking.shapes import guesses, plain_shape
from blockjac.checking.structure import Seen
from blockjac.checking.sums import Axes, dot_for_outer, sums
from blockjac.checking.values import recognized


def compared(given: Any, exact: Block, leaf: str, tolerance: Tolerance, axes: Axes) -> LeafReport:
    """The report on one output and one variable.

    Args:
        given: an array or a Block.
        exact: the exact block.
        leaf: what to call it.
        tolerance: of equal entries.
        axes: of the arguments, to name an axis by.
    """
    report = LeafReport(leaf, exact.out_shape, exact.wrt_shape, tuple(given.shape))
    if exact.size > compare.MAX_ENTRIES:
        return by_products(given, exact, report, tolerance)
    if math.prod(given.shape) > max(exact.size, compare.MAX_ENTRIES):
        mistake = plain_shape(report.given_shape, exact.out_shape, exact.wrt_shape)
        return replace(report, mistakes=(mistake,), compared=False)
    array, wanted = in_double(given), in_double(exact)
    mistakes: list[Mistake] = []
    if np.iscomplexobj(array) and not np.iscomplexobj(wanted):
        hint = f"{given.dtype} was given for a real derivative, {exact.dtype}"
        mistakes.append(Mistake("complex", hint))
    elif isinstance(given, Block) and given.shape == exact.shape:
        mistakes += _split(given, exact)
    limit = tolerance.limit(given.dtype, exact.dtype, largest(wanted))
    if array.shape != wanted.shape:
        mistake, mended = _mended(array, wanted, exact, axes, limit)
        mistakes.append(mistake)
        if mended is None:
            return replace(report, mistakes=tuple(mistakes), compared=False)
        array = mended
        report = replace(report, mended=mended)
    wrong = ~equal(array, wanted, limit)
    if wrong.any():
        value_mistake = recognized(Seen(array, wanted, exact, in_double, limit))
        mistakes += [value_mistake] if value_mistake is not None else []
    return replace(
        report,
        differences=differences(array, wanted, wrong, len(exact.out_shape), leaf),
        count=int(wrong.sum()),
        largest=distance(array, wanted, wrong),
        mistakes=tuple(mistakes),
    )


def _split(given: Block, exact: Block) -> list[Mistake]:
    """Whether a Block takes an output's axis for one of the variable's."""
    if given.out_shape == exact.out_shape:
        return []
    hint = (
        f"a Block of {given.out_shape} with respect to {given.wrt_shape} was given, wanted is one "
        f"of {exact.out_shape} with respect to {exact.wrt_shape}; see out_ndim of Block.from_dense"
    )
    return [Mistake("axes split elsewhere", hint)]


def _mended(
    given: np.ndarray, wanted: np.ndarray, exact: Block, axes: Axes, limit: float
) -> tuple[Mistake, np.ndarray | None]:
    """The mistake behind a wrong shape, and what was given in the exact one, if that tells more."""
    out_ndim = len(exact.out_shape)
    first = None
    dot = dot_for_outer(given, wanted, limit)
    if dot is not None:
        return dot, None
    summed = list(sums(given, wanted, axes, limit))
    for guess in (*guesses(given, wanted, out_ndim), *summed):
        if guess.mended is None:
            if guess.wanted is not None and compare.same(given, guess.wanted, limit):
                return guess.mistake, None
            continue
        loose = limit * max(1.0, largest(given) * given.size / (largest(wanted) or 1.0) / 10)
        if guess in summed and compare.same(guess.mended, wanted, loose):
            return guess.mistake, wanted  # a sum that cancels is rounded more
        if compare.same(guess.mended, wanted, limit):
            return guess.mistake, guess.mended
        if first is None or (not first[1] and _explained(guess.mended, wanted, exact, limit)):
            first = guess, _explained(guess.mended, wanted, exact, limit)
    if first is None:
        return plain_shape(given.shape, exact.out_shape, exact.wrt_shape), None
    return first[0].mistake, first[0].mended


def _explained(mended: np.ndarray, wanted: np.ndarray, exact: Block, limit: float) -> bool:
    return recognized(Seen(mended, wanted, exact, in_double, limit)) is not None


def with_exchanges(
    reports: Sequence[LeafReport], pairs: Sequence[tuple[Any, Block]], tolerance: Tolerance
) -> list[LeafReport]:
    """The reports, with the mistake named where two leaves were given in each other's place.

    Args:
        reports: one per leaf.
        pairs: what was given and the exact block, one per leaf.
        tolerance: of equal entries.
    """
    answer = list(reports)
    wrong = [position for position, report in enumerate(reports) if not report.right]
    for position, partner in itertools.permutations(wrong, 2):
        if _agree(pairs[position][0], pairs[partner][1], tolerance) and _agree(
            pairs[partner][0], pairs[position][1], tolerance
        ):
            hint = f"what was given is {reports[partner].leaf}; exchange the two"
            mistake = Mistake("exchanged", hint, rank=3)
            answer[position] = replace(answer[position], mistakes=(mistake,))
    for position in wrong:
        if any(mistake.name == "exchanged" for mistake in answer[position].mistakes):
            continue
        for partner, report in enumerate(reports):
            if partner != position and _agree(pairs[position][0], pairs[partner][1], tolerance):
                hint = f"what was given is {report.leaf}"
                mistake = Mistake("derivative of another variable", hint, rank=3)
                answer[position] = replace(answer[position], mistakes=(mistake,))
                break
    return answer


def _agree(given: Any, exact: Block, tolerance: Tolerance) -> bool:
    if tuple(given.shape) != exact.shape:
        return False
    values, wanted = _seen(given, exact), _seen(exact, exact)
    return compare.same(values, wanted, tolerance.limit(given.dtype, exact.dtype, largest(wanted)))


def _seen(value: Any, exact: Block) -> np.ndarray:
    """All entries, or random products where they are too many."""
    many = exact.size > compare.MAX_ENTRIES
    return compare.products(value, exact) if many else in_double(value)
