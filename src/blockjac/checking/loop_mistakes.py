"""Mistakes that are made each time a loop passes, and two mistakes of one kind at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from blockjac.base import compat
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.edge_mistakes import overwritten
from blockjac.checking.passes import Change, Edge
from blockjac.checking.report import Mistake
from blockjac.checking.tape import Arrays, Entry
from blockjac.checking.tape_rules import product_pulled, pulled

Pass = tuple[Mistake, dict[Edge, Change], int]
"""A mistake, the changes of the reverse pass that make it, and its rank."""

MAX_PAIRS = 300
"""How many pairs of paths are left out together, at most."""


def loop_passes(known: Dictionary) -> Iterator[Pass]:
    """The mistakes on edges that one line makes several times, and on all that do the same."""
    families = _families(known)
    for group in _groups(known):
        first = known.tape.entries[group[0][0]]
        yield from _of_paths(known, group)
        yield from _of_sums(known, group)
        yield from _of_cotangents(known, group, families)
        if first.name in ("dot_general", "mul"):
            yield from _of_products(known, group, families)
        if first.name == "gather" and group[0][1] == 0:
            yield from _of_lookups(known, group)


def _groups(known: Dictionary) -> list[list[Edge]]:
    """The edges that one line makes each time, and those that do the same anywhere."""
    groups: dict[object, list[Edge]] = {}
    for position, places in enumerate(known.passes.edges):
        for place in places:
            for key in _keys(known, known.tape.entries[position], place):
                groups.setdefault(key, []).append((position, place))
    several = [group for group in groups.values() if len(group) > 1]
    different = {tuple(group): group for group in several}
    return list(different.values())


def _keys(known: Dictionary, entry: Entry, place: int) -> Iterator[object]:
    """The same for what one line makes each time, but for the first time, or of its kind."""
    shapes = tuple(known.tape.shape(value) for value in (*entry.operands, *entry.results))
    line = compat.at_place(entry.source), shapes
    yield *_kind(known, entry, place), *line
    yield entry.name, place, *line
    yield _kind(known, entry, place)


def _kind(known: Dictionary, entry: Entry, place: int) -> tuple[object, ...]:
    """The same for what does the same, wherever it is."""
    makers = [known.passes.makers.get(value) for value in entry.operands]
    depths = tuple(None if maker is None else known.tape.entries[maker].name for maker in makers)
    return entry.name, place, depths[1:]


def _families(known: Dictionary) -> dict[tuple[int, ...], list[list[int]]]:
    """The values that one line computes several times, in order, by shape."""
    groups: dict[object, list[int]] = {}
    for entry in known.tape.entries:
        for value in entry.results:
            key = (entry.name, compat.at_place(entry.source), known.tape.shape(value))
            groups.setdefault(key, []).append(value)
    families: dict[tuple[int, ...], list[list[int]]] = {}
    for values in groups.values():
        families.setdefault(known.tape.shape(values[0]), []).append(values)
    return families


def _of_paths(known: Dictionary, group: list[Edge]) -> Iterator[Pass]:
    """A path that is left out each time, or has another sign each time."""
    tape = known.tape
    values = [tape.entries[position].operands[place] for position, place in group]
    has_siblings = any(len(known.passes.readers[value]) > 1 for value in values)
    if values[0] in tape.wrt and not has_siblings:
        return
    where = _where(known, group[0])
    for name, hint, factor, rank in (
        ("missing term", "the paths through {where} were left out", 0.0, 24),
        ("sign of a term", "the paths through {where} have the other sign each time", -1.0, 25),
        ("constant factor of a term", "the paths through {where} count twice each", 2.0, 27),
        ("constant factor of a term", "the paths through {where} count half each", 0.5, 27),
    ):
        changes = {edge: _times(known, edge, factor) for edge in group}
        yield Mistake(name, hint.format(where=where)), changes, rank


def _of_sums(known: Dictionary, group: list[Edge]) -> Iterator[Pass]:
    """Of what all steps pass back to one value, only the last or the first step's is taken."""
    operands = {known.tape.entries[position].operands[place] for position, place in group}
    if len(operands) > 1 or len(group) < 3:
        return
    called = f"{known.name(operands.pop())} through {_where(known, group[0])}"
    for which, edges in (("last", group[:-1]), ("first", group[1:])):
        hint = f"of the terms of {called} only the {which} step's was taken; add them up"
        changes = {edge: _times(known, edge, 0.0) for edge in edges}
        yield Mistake("missing sum", hint), changes, 26


def _where(known: Dictionary, edge: Edge) -> str:
    entry = known.tape.entries[edge[0]]
    return f"{entry.name}{compat.at_place(entry.source)}"


def _of_lookups(known: Dictionary, group: list[Edge]) -> Iterator[Pass]:
    """Of all cotangents of a place that is looked up several times the last alone is kept."""

    def change(edge: Edge, cotangent: np.ndarray, _: Arrays) -> np.ndarray:
        kept = overwritten(known, known.tape.entries[edge[0]], cotangent)
        return pulled(known.tape, *edge, [cotangent]) if kept is None else kept

    hint = (
        f"some places are looked up several times, as by {_where(known, group[0])}; of all "
        "cotangents of such a place only the last was kept: np.add.at(d, i, q) adds up"
    )
    yield Mistake("missing sum", hint), {edge: partial(change, edge) for edge in group}, 23


def _times(known: Dictionary, edge: Edge, factor: float) -> Change:
    """A multiple of the right contribution."""

    def change(cotangent: np.ndarray, _: Arrays) -> np.ndarray:
        return factor * pulled(known.tape, *edge, [cotangent])

    return change


def _of_products(
    known: Dictionary, group: list[Edge], families: dict[tuple[int, ...], list[list[int]]]
) -> Iterator[Pass]:
    """Another matrix in place of the right one, each time."""
    tape = known.tape
    position, place = group[0]
    entry = tape.entries[position]
    partner = entry.operands[1 - place]
    where = f"{_where(known, group[0])}, each time"
    shape = tape.shape(partner)
    residuals = [tape.entries[p].operands[1 - place] for p, _ in group]

    def passes(residual_of: Callable[[int], np.ndarray]) -> dict[Edge, Change]:
        return {edge: with_residual(known, edge, residual_of(n)) for n, edge in enumerate(group)}

    partners = {tape.shape(value) for value in residuals}
    if all(len(sizes) == 2 and sizes[0] == sizes[1] for sizes in partners):
        hint = (
            f"{known.name(partner)} was taken transposed in the derivative of {where}; use its .T"
        )
        yield (
            Mistake("factor transposed", hint),
            passes(lambda n: tape.values[residuals[n]].T),
            20,
        )
    ends = [(tape.entries[p].results[0], tape.entries[p].operands[place]) for p, _ in group]
    if all(tape.shape(result) == tape.shape(operand) for result, operand in ends):
        hint = f"{known.name(partner)} was left out of the derivative of {where}; multiply by it"
        left_out = dict.fromkeys(group, _as_it_is)
        yield Mistake("missing factor", hint), left_out, 21
    if len(partners) > 1:
        return
    for family in families.get(shape, []):
        if family == residuals:
            continue
        for shift in (0, 1, -1) if len(family) >= len(group) - 1 else ():
            chosen = [
                family[n + shift] if 0 <= n + shift < len(family) else residuals[n]
                for n in range(len(group))
            ]
            if chosen == residuals:
                continue
            hint = f"{known.name(chosen[0])} was taken for {known.name(residuals[0])} in {where}"
            yield (
                Mistake("wrong factor", hint),
                passes(lambda n, chosen=chosen: tape.values[chosen[n]]),
                24,
            )
    if len(set(residuals)) == 1:
        for array in known.like(shape):
            if not np.array_equal(array.array, tape.values[partner]):
                hint = f"{array.name} was taken for {known.name(partner)} in {where}"
                yield (
                    Mistake("wrong factor", hint),
                    passes(lambda _, array=array: array.array),
                    25,
                )


def _of_cotangents(
    known: Dictionary, group: list[Edge], families: dict[tuple[int, ...], list[list[int]]]
) -> Iterator[Pass]:
    """What passes back to an operand is that of another result's cotangent, each time."""
    tape, exact, makers = known.tape, known.passes.exact, known.passes.makers
    entry = tape.entries[group[0][0]]
    if len({tape.shape(tape.entries[position].results[0]) for position, _ in group}) > 1:
        return
    is_last = all(tape.entries[p].operands[place] in tape.wrt for p, place in group)

    def change(value: int, edge: Edge, c: np.ndarray, cotangents: Arrays) -> np.ndarray:
        taken = exact if is_last else cotangents
        return pulled(tape, *edge, [taken.get(value, np.zeros(c.shape))])

    for family in families.get(tape.shape(entry.results[0]), []):
        for shift in (0, 1, -1) if len(family) >= len(group) - 1 else ():
            places = range(shift, len(group) + shift)
            taken = [family[n] if 0 <= n < len(family) else -1 for n in places]
            pairs = list(zip(taken, group, strict=True))
            is_later = all(makers.get(value, edge[0]) >= edge[0] for value, edge in pairs)
            if taken[0] == entry.results[0] or not (is_last or is_later):
                continue
            hint = f"the cotangent of {known.name(family[0])} was taken for that of the result of "
            hint += f"{_where(known, group[0])}, each time"
            changes = {edge: partial(change, value, edge) for value, edge in pairs}
            yield Mistake("wrong factor", hint), changes, 27


def _as_it_is(cotangent: np.ndarray, _: Arrays) -> np.ndarray:
    """The cotangent of the result, passed on unchanged."""
    return cotangent


def with_residual(known: Dictionary, edge: Edge, residual: np.ndarray) -> Change:
    """The contribution of a product, of matrices or entry by entry, with another factor.

    Args:
        known: the arrays of the program.
        edge: the product and one of its operands.
        residual: what the other operand is taken to be.
    """
    entry = known.tape.entries[edge[0]]

    def change(cotangent: np.ndarray, _: Arrays) -> np.ndarray:
        if entry.is_elementwise:
            return cotangent * residual
        return product_pulled(known.tape, entry, edge[1], cotangent, residual)

    return change


def pairs_of_paths(known: Dictionary) -> Iterator[Pass]:
    """Two paths that are left out together."""
    edges = [edge for edges in known.passes.readers.values() if len(edges) > 1 for edge in edges]
    for first, second in itertools.islice(itertools.combinations(edges, 2), MAX_PAIRS):
        names = [_where(known, edge) for edge in (first, second)]
        hint = f"the paths through {names[0]} and through {names[1]} were left out; add them"
        changes = {edge: _times(known, edge, 0.0) for edge in (first, second)}
        yield Mistake("missing term", hint), changes, 40
