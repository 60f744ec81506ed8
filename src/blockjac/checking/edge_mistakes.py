"""Mistakes in what one entry of a program passes back to one of its operands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from blockjac.base import compat
from blockjac.checking.candidates import Candidate
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.passes import Edge
from blockjac.checking.product_mistakes import Wrong, place_of, wrong_products
from blockjac.checking.report import Mistake
from blockjac.checking.slopes import softmax
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
    elif entry.name == "exp":
        yield from _of_a_softmax(known, entry, cotangent)
    elif entry.name == "gather" and place == 0:
        yield from _of_a_lookup(known, entry, cotangent)
    elif entry.name == "transpose" and cotangent.ndim == 2 and len(set(cotangent.shape)) == 1:
        hint = f"the result of {place_of(entry)} is a transpose, and so is its cotangent; use .T"
        yield Mistake("factor transposed", hint), cotangent, 26


def _of_a_softmax(known: Dictionary, entry: Entry, cotangent: np.ndarray) -> Iterator[Wrong]:
    """What passes back to z in `log(sum(exp(z)))` is its softmax: over other axes, by mistake."""
    z = known.tape.values[_without_its_largest(known, entry.operands[0])]
    right = cotangent * known.tape.values[entry.results[0]]
    if z.ndim < 2 or not z.size or not np.isfinite(z).all():
        return
    for axis in range(z.ndim):
        with np.errstate(all="ignore"):
            factors = right / softmax(z, axis)
        if not np.isfinite(factors).all():
            continue
        if np.ptp(factors, axis=axis).max() > 1e-6 * (np.abs(factors).max() or 1.0):
            continue
        for wrong in (*range(z.ndim), None):
            if wrong != axis:
                hint = (
                    f"in the derivative of {place_of(entry)} softmax was taken over axis {wrong} "
                    f"of {z.shape} in place of axis {axis}"
                )
                mistake = Mistake("summed over the wrong axis", hint)
                yield mistake, factors * softmax(z, wrong), 22


def _without_its_largest(known: Dictionary, value: int) -> int:
    """The value z of `z - max(z)`, as usual in front of `exp`; else the value itself."""
    maker = known.passes.makers.get(value)
    entry = None if maker is None else known.tape.entries[maker]
    if entry is None or entry.name != "sub":
        return value
    shift = entry.operands[1]
    while shift in known.passes.makers:
        inner = known.tape.entries[known.passes.makers[shift]]
        if inner.name == "reduce_max":
            return entry.operands[0]
        shift = inner.operands[-1]
    return value


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
