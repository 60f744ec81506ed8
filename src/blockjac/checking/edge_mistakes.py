"""Mistakes in what one entry of a program passes back to one of its operands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from blockjac.base import compat
from blockjac.checking.candidates import Candidate
from blockjac.checking.dictionary import Dictionary, Known
from blockjac.checking.passes import Edge
from blockjac.checking.product_mistakes import Wrong, place_of, swapped, wrong_products
from blockjac.checking.report import Mistake
from blockjac.checking.tape import Entry
from blockjac.checking.tape_rules import pulled


def edge_candidates(known: Dictionary, edge: Edge) -> Iterator[Candidate]:
    """The mistakes on one edge of the program, each as a change of the operand's cotangent.

    Args:
        known: the arrays of the program.
        edge: an entry and one of its operands.
    """
    passes, tape = known.passes, known.tape
    position, place = edge
    entry = tape.entries[position]
    value = entry.operands[place]
    if any(result not in passes.exact for result in entry.results if result in tape.active):
        return
    outs = [passes.exact.get(v, np.zeros(tape.shape(v))) for v in entry.results]
    right = pulled(tape, position, place, outs)
    if not np.isfinite(right).all():
        return
    for mistake, wrong, rank in wrong_pulls(known, entry, place, outs[0]):
        if wrong.shape == right.shape:
            yield Candidate(mistake, value, wrong - right, rank=rank)
    if _is_one_of_several(known, edge):
        yield from _of_a_path(known, entry, value, right)


def _is_one_of_several(known: Dictionary, edge: Edge) -> bool:
    """Whether the operand is read elsewhere too."""
    operands = known.tape.entries[edge[0]].operands
    value = operands[edge[1]]
    return operands.count(value) == 1 and len(known.passes.readers.get(value, ())) > 1


def path_called(known: Dictionary, entry: Entry, value: int) -> str:
    """The path from a value through an entry, in words, with the constants that it meets there."""
    partners = [
        known.name(operand)
        for operand in entry.operands
        if operand not in known.tape.active and known.tape.shape(operand)
    ]
    met = f" with {' and '.join(partners)}" if partners else ""
    return f"the path from {known.name(value)} through {entry.name}{met}{_at(entry)}"


def _at(entry: Entry) -> str:
    return compat.at_place(entry.source)


def _of_a_path(
    known: Dictionary, entry: Entry, value: int, right: np.ndarray
) -> Iterator[Candidate]:
    """One of several paths from a value is left out, or counted with a factor."""
    called = path_called(known, entry, value)
    hint = f"the term of {called} was taken {{k}} times; it counts once"
    mistake = Mistake("constant factor of a term", hint)
    yield Candidate(mistake, value, -right, right, rank=22)


def wrong_pulls(
    known: Dictionary, entry: Entry, place: int, cotangent: np.ndarray
) -> Iterator[Wrong]:
    """What is passed back by mistake in place of the cotangent of an operand.

    Args:
        known: the arrays of the program.
        entry: of the tape.
        place: of the operand.
        cotangent: of the entry's result.
    """
    if entry.name == "dot_general":
        yield from wrong_products(known, entry, place, cotangent)
    elif entry.name in ("mul", "div"):
        yield from _of_a_multiplication(known, entry, place, cotangent)
    elif entry.name == "broadcast_in_dim":
        yield from _of_a_sum(known, entry, cotangent)
    elif entry.name == "gather" and place == 0:
        yield from _of_a_lookup(known, entry, cotangent)
    elif entry.name == "transpose" and cotangent.ndim == 2 and len(set(cotangent.shape)) == 1:
        hint = f"the result of {place_of(entry)} is a transpose, and so is its cotangent; use .T"
        yield Mistake("factor transposed", hint), cotangent, 26


def _of_a_lookup(known: Dictionary, entry: Entry, cotangent: np.ndarray) -> Iterator[Wrong]:
    """Where one place is looked up several times, the last cotangent is kept, and not the sum."""
    kept = overwritten(known, entry, cotangent)
    if kept is None:
        return
    hint = (
        f"some places of {known.name(entry.operands[0])} are looked up several times{_at(entry)}; "
        "of what comes back to such a place only the last was kept: d[i] = q and d[i] += q "
        "overwrite, np.add.at(d, i, q) adds up"
    )
    yield Mistake("missing sum", hint), kept, 22


def overwritten(known: Dictionary, entry: Entry, cotangent: np.ndarray) -> np.ndarray | None:
    """What is left of a lookup's cotangents where only the last counts; None if all do.

    Args:
        known: the arrays of the program.
        entry: the lookup.
        cotangent: of its result.
    """
    table, indices = entry.operands[:2]
    shape = known.tape.shape(table)
    size = int(np.prod(shape))
    numbered = np.arange(size).reshape(shape)
    (read,) = compat.bind(entry.primitive, [numbered, known.tape.values[indices]], entry.params)
    places = np.asarray(read).ravel()
    inside = (places >= 0) & (places < size)
    places, values = places[inside], cotangent.ravel()[inside]
    if len(np.unique(places)) == len(places):
        return None
    kept = np.zeros(size)
    kept[places] = values
    return kept.reshape(shape)


def _of_a_multiplication(
    known: Dictionary, entry: Entry, place: int, cotangent: np.ndarray
) -> Iterator[Wrong]:
    """Mistakes in the other factor of an entry-by-entry product, and in the divisor of a ratio."""
    partner = entry.operands[1 - place]
    called = known.name(partner)
    hint = f"{called} was left out of the derivative of {place_of(entry)}"
    yield Mistake("missing factor", hint), cotangent, 22
    if partner not in known.tape.active:  # -y, of which the sign was kept
        hint = f"{called} was left out of the derivative of {place_of(entry)}, but for a sign"
        yield Mistake("missing factor", hint), -cotangent, 27
    if entry.name == "div":
        return
    factor = known.tape.values[partner]
    for array in known.like(cotangent.shape):
        if not np.array_equal(array.array, factor):
            hint = f"{array.name} was taken for {called} in the derivative of {place_of(entry)}"
            yield Mistake("wrong factor", hint), cotangent * array.array, 28


def _of_a_sum(known: Dictionary, entry: Entry, cotangent: np.ndarray) -> Iterator[Wrong]:
    """The derivative of a broadcast is a sum: over other axes of the same sizes, by mistake."""
    shape = known.tape.shape(entry.operands[0])
    entries = int(np.prod(shape))
    if entries == cotangent.size:
        return
    right = cotangent
    for count in range(1, cotangent.ndim + 1):
        for axes in itertools.combinations(range(cotangent.ndim), count):
            summed = right.sum(axis=axes)
            if summed.size == entries and summed.shape == tuple(n for n in shape if n != 1):
                hint = (
                    f"the sum in the derivative of {known.name(entry.operands[0])} was taken over "
                    f"axis {', '.join(map(str, axes))} of {cotangent.shape}, the wrong one"
                )
                mistake = Mistake("summed over the wrong axis", hint)
                yield mistake, summed.reshape(shape), 21


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
