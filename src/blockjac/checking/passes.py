"""Forward and reverse passes over a tape, with changes in some places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from blockjac.checking.tape import Arrays, Tape
from blockjac.checking.tape_rules import pulled, pushed

Edge = tuple[int, int]
"""An entry's position and the place of an operand."""

Change = Callable[[np.ndarray, Arrays], np.ndarray]
"""The cotangent of an operand, from that of the result and from those known so far."""


class Passes:
    """The reverse passes of a tape.

    Args:
        tape: the function at the point.
        cotangents: of its results.
    """

    def __init__(self, tape: Tape, cotangents: Sequence[np.ndarray]) -> None:
        self.tape = tape
        self.seeds = cotangents
        self.edges: list[list[int]] = [
            [place for place, value in enumerate(entry.operands) if value in tape.active]
            if tape.active.intersection(entry.results)
            else []
            for entry in tape.entries
        ]
        self.readers: dict[int, list[Edge]] = {}
        for position, places in enumerate(self.edges):
            for place in places:
                value = tape.entries[position].operands[place]
                self.readers.setdefault(value, []).append((position, place))

    @cached_property
    def exact(self) -> Arrays:
        """The cotangent of each active value."""
        return self.reverse()

    def reverse(self, changes: Mapping[Edge, Change] | None = None) -> Arrays:
        """The cotangents of all values, with other contributions on some edges."""
        start: Arrays = {}
        for value, seed in zip(self.tape.results, self.seeds, strict=True):
            start[value] = start[value] + seed if value in start else np.asarray(seed, float)
        return self._swept(start, len(self.tape.entries), changes or {})

    def swept(self, start: Arrays) -> Arrays:
        """The cotangents of all values that result from adding some to many values at once."""
        return self._swept(start, len(self.tape.entries), {})

    def below(self, value: int, change: np.ndarray, stop: int = 0) -> Arrays:
        """The change of all cotangents that a change of one cotangent leads to.

        Args:
            value: whose cotangent changes.
            change: by how much.
            stop: the position of the first entry that is passed.
        """
        position = self.makers.get(value, -1)
        return self._swept({value: change}, position + 1, {}, stop)

    @cached_property
    def makers(self) -> dict[int, int]:
        """The entry that computes each value."""
        return {
            value: position
            for position, entry in enumerate(self.tape.entries)
            for value in entry.results
        }

    def _swept(
        self, start: Arrays, end: int, changes: Mapping[Edge, Change], stop: int = 0
    ) -> Arrays:
        """Add up cotangents, from the entry before `end` back to `stop`."""
        cotangents = dict(start)
        tape = self.tape
        for position in range(end - 1, stop - 1, -1):
            places = self.edges[position]
            entry = tape.entries[position]
            if not places or not any(value in cotangents for value in entry.results):
                continue
            outs = [
                cotangents[value] if value in cotangents else np.zeros(tape.shape(value))
                for value in entry.results
            ]
            for place in places:
                change = changes.get((position, place))
                if change is None:
                    part = pulled(tape, position, place, outs)
                else:
                    part = change(outs[0], cotangents)
                value = entry.operands[place]
                cotangents[value] = cotangents[value] + part if value in cotangents else part
        return cotangents

    def forward(self, tangents: Arrays, first: int = 0, last: int | None = None) -> Arrays:
        """The tangents of all values that some tangents lead to, by entries `first` to `last`."""
        moved = dict(tangents)
        for position in range(first, len(self.tape.entries) if last is None else last + 1):
            entry = self.tape.entries[position]
            if not self.edges[position]:
                continue
            operands = [
                moved.get(value) if place in self.edges[position] else None
                for place, value in enumerate(entry.operands)
            ]
            if all(tangent is None for tangent in operands):
                continue
            moved.update(zip(entry.results, pushed(self.tape, position, operands), strict=True))
        return moved
