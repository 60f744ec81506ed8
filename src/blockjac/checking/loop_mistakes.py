"""Mistakes that are made each time a loop passes, and two mistakes of one kind at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from blockjac.base import compat
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.passes import Change, Edge
from blockjac.checking.report import Mistake
from blockjac.checking.tape import Arrays, Entry
from blockjac.checking.tape_rules import product_pulled, pulled

Pass = tuple[Mistake, dict[Edge, Change], int]
"""A mistake, the changes of the reverse pass that make it, and its rank."""

MAX_PAIRS = 300
"""How many pairs of paths are left out together, at most."""


def loop_passes(known: Dictionary) -> Iterator[Pass]:
    """The mistakes on edges that one line makes several times."""
    tape = known.tape
    groups: dict[object, list[Edge]] = {}
    for position, places in enumerate(known.passes.edges):
        for place in places:
            groups.setdefault(_key(known, tape.entries[position], place), []).append(
                (position, place)
            )
    families = _families(known)
    for group in groups.values():
        if len(group) < 2:
            continue
        yield from _of_paths(known, group)
        if tape.entries[group[0][0]].name == "dot_general":
            yield from _of_products(known, group, families)


def _key(known: Dictionary, entry: Entry, place: int) -> object:
    """The same for what one line makes each time."""
    shapes = tuple(known.tape.shape(value) for value in (*entry.operands, *entry.results))
    makers = [known.passes.makers.get(value) for value in entry.operands]
    depths = tuple(None if maker is None else known.tape.entries[maker].name for maker in makers)
    return entry.name, compat.at_place(entry.source), shapes, place, depths[1:]


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
    entry = tape.entries[group[0][0]]
    values = [tape.entries[position].operands[place] for position, place in group]
    has_siblings = any(len(known.passes.readers[value]) > 1 for value in values)
    if values[0] in tape.wrt and not has_siblings:
        return
    where = f"{entry.name}{compat.at_place(entry.source)}"
    for name, hint, factor, rank in (
        ("missing term", "the paths through {where} were left out", 0.0, 24),
        ("sign of a term", "the paths through {where} have the other sign each time", -1.0, 25),
        ("constant factor of a term", "the paths through {where} count twice each", 2.0, 27),
        ("constant factor of a term", "the paths through {where} count half each", 0.5, 27),
    ):
        changes = {edge: _times(known, edge, factor) for edge in group}
        yield Mistake(name, hint.format(where=where)), changes, rank


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
    where = f"{entry.name}{compat.at_place(entry.source)}, each time"
    shape = tape.shape(partner)
    residuals = [tape.entries[p].operands[1 - place] for p, _ in group]

    def passes(residual_of: Callable[[int], np.ndarray]) -> dict[Edge, Change]:
        return {edge: _with_residual(known, edge, residual_of(n)) for n, edge in enumerate(group)}

    if len(shape) == 2 and shape[0] == shape[1]:
        hint = (
            f"{known.name(partner)} was taken transposed in the derivative of {where}; use its .T"
        )
        yield (
            Mistake("factor transposed", hint),
            passes(lambda n: tape.values[residuals[n]].T),
            20,
        )
    if tape.shape(entry.results[0]) == tape.shape(entry.operands[place]):
        hint = f"{known.name(partner)} was left out of the derivative of {where}; multiply by it"
        left_out = dict.fromkeys(group, _as_it_is)
        yield Mistake("missing factor", hint), left_out, 21
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


def _as_it_is(cotangent: np.ndarray, _: Arrays) -> np.ndarray:
    """The cotangent of the result, passed on unchanged."""
    return cotangent


def _with_residual(known: Dictionary, edge: Edge, residual: np.ndarray) -> Change:
    """The contribution of a product with another matrix."""
    entry = known.tape.entries[edge[0]]

    def change(cotangent: np.ndarray, _: Arrays) -> np.ndarray:
        return product_pulled(known.tape, entry, edge[1], cotangent, residual)

    return change


def pairs_of_paths(known: Dictionary) -> Iterator[Pass]:
    """Two paths that are left out together."""
    edges = [edge for edges in known.passes.readers.values() if len(edges) > 1 for edge in edges]
    for first, second in itertools.islice(itertools.combinations(edges, 2), MAX_PAIRS):
        names = [
            f"{known.tape.entries[p].name}{compat.at_place(known.tape.entries[p].source)}"
            for p, _ in (first, second)
        ]
        hint = f"the paths through {names[0]} and through {names[1]} were left out; add them"
        changes = {edge: _times(known, edge, 0.0) for edge in (first, second)}
        yield Mistake("missing term", hint), changes, 40
