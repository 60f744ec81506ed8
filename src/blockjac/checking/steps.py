"""The steps of a program: parts from one value to another that everything on the way passes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from blockjac.base import compat
from blockjac.checking.passes import Passes
from blockjac.checking.tape import Entry, Tape

SHOWN_PRIMITIVES = 5
"""A step of more primitives than this is called by its first and last one."""


MAX_STEPS = 200
"""How many steps are tried, the likeliest first."""


@dataclass(frozen=True)
class Step:
    """A part of the program from one value to another of the same shape.

    Attributes:
        start: the value u.
        end: the value v; every path to it passes u.
        positions: of the entries between, in order.
        entries: those entries.
        rank: 0 for a whole function of the user's, 1 for a whole line or a call of a library's
            function, 2 for one entry, else 3.
        called: the function that it is a call of; empty where it is none.
    """

    start: int
    end: int
    positions: tuple[int, ...]
    entries: tuple[Entry, ...]
    rank: int
    called: str = ""

    def __str__(self) -> str:
        names = [self.called] if self.called else [entry.name for entry in self.entries]
        if len(names) > SHOWN_PRIMITIVES:
            names = [names[0], "...", names[-1]]
        return ", ".join(names) + compat.at_place(self.entries[-1].source)

    @property
    def is_elementwise(self) -> bool:
        """Whether each entry of v is computed from one of u."""
        return all(entry.is_elementwise for entry in self.entries)

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the steps that one line of a loop makes."""
        places = [(entry.name, compat.at_place(entry.source)) for entry in self.entries]
        return (*places, self.rank)

    @property
    def kind(self) -> tuple[object, ...]:
        """The same for the steps that do the same, wherever they are."""
        return self.called, *(entry.name for entry in self.entries), min(self.rank, 2)


def steps_of(passes: Passes) -> list[Step]:
    """The steps of a program, the likeliest to be differentiated by hand first.

    These are whole functions and whole lines of the user's code, then single entries, then the
    rest; the shortest of each kind first.

    Only active values count. The dominators of such a value are the values that every path to it
    passes: those that its operands share, and the value itself.
    """
    tape = passes.tape
    passed: dict[int, int] = {}  # dominators as bits, by value
    above: dict[int, frozenset[int]] = {}  # positions of the entries that a value is computed by
    for bit, value in enumerate(tape.wrt):
        passed[value], above[value] = 1 << bit, frozenset()
    order = list(tape.wrt)
    for position, entry in enumerate(tape.entries):
        operands = [value for value in entry.operands if value in passed]
        results = [value for value in entry.results if value in tape.active]
        if not operands or not results:
            continue
        shared = passed[operands[0]]
        for operand in operands[1:]:
            shared &= passed[operand]
        behind = frozenset({position}).union(*(above[operand] for operand in operands))
        for value in results:
            passed[value] = shared | 1 << len(order)
            above[value] = behind
            order.append(value)
    boundaries = _Boundaries(passes)

    def steps() -> Iterator[Step]:
        """All steps; of a loop that was unrolled there are too many to hold together."""
        for end in order:
            if end not in passes.exact:
                continue
            for bit, start in enumerate(order):
                if start == end or not passed[end] >> bit & 1 or not _are_alike(tape, start, end):
                    continue
                positions = tuple(sorted(above[end] - above[start]))
                entries = tuple(tape.entries[position] for position in positions)
                called = boundaries.called(positions)
                rank = boundaries.rank(start, end, entries)
                yield Step(start, end, positions, entries, min(rank, 1) if called else rank, called)

    return heapq.nsmallest(MAX_STEPS, steps(), key=lambda step: (step.rank, len(step.entries)))


class _Boundaries:
    """Where functions, those of a library too, and lines of the user's code begin and end."""

    def __init__(self, passes: Passes) -> None:
        entries = passes.tape.entries
        self.passes = passes
        self.codes = {id(entry): compat.user_code(entry.source) for entry in entries}
        calls: dict[str, list[int]] = {}
        for position, entry in enumerate(entries):
            if any(value in passes.exact for value in entry.results):
                for scope in compat.scopes(entry.source):
                    calls.setdefault(scope, []).append(position)
        self.calls: dict[tuple[int, ...], str] = {}
        for scope, positions in calls.items():  # of calls within calls the outermost
            self.calls.setdefault(tuple(positions), scope.partition("#")[0])

    def called(self, positions: tuple[int, ...]) -> str:
        """The function whose call some entries are; empty if there is none."""
        return self.calls.get(positions, "")

    def rank(self, start: int, end: int, entries: tuple[Entry, ...]) -> int:
        """0 for a whole function of the user's, 1 for a whole line, 2 for one entry, else 3."""
        tape = self.passes.tape
        around = [tape.entries[position] for position, _ in self.passes.readers.get(end, ())]
        if start in self.passes.makers:
            around.append(tape.entries[self.passes.makers[start]])
        for rank, size in enumerate((2, 3)):
            codes = {(self.codes[id(entry)] or ())[:size] for entry in entries}
            beyond = {(self.codes[id(entry)] or ())[:size] for entry in around}
            if len(codes) == 1 and () not in codes and codes.isdisjoint(beyond):
                return rank
        if len(entries) == 1:
            return 2
        places = {compat.at_place(entry.source) for entry in entries}
        beyond = {compat.at_place(entry.source) for entry in around}
        is_whole = len(places) == 1 and "" not in places and places.isdisjoint(beyond)
        return 1 if is_whole else 3  # one call within a line


def _are_alike(tape: Tape, start: int, end: int) -> bool:
    return tape.shape(start) == tape.shape(end)
