"""Tables that come in parts, such as the row groups of a file: no more than a few at a time.

A first pass learns how many rows there are, the scales of the columns, the classes, and keeps a
random sample of the rows: some are held out, the others are for the curvature of the last layer.
Every epoch is a further pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.estimators.archive import digest_of
from blockjac.estimators.objective import Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import Block, block_of, regrouped
from blockjac.estimators.tables import Moments, Numbers

HELD_OUT = 2**14
"""The most rows that are held out, as they stay in memory."""

KEPT = 2**15
"""The rows of the sample, with those held out."""

MIXED = 2**16
"""Parts are put together until they have as many rows, which are then shuffled."""


@dataclass(frozen=True)
class Part:
    """Checked rows of one part.

    Attributes:
        X: the rows.
        y: what was given as their targets.
        counts: for how many rows each stands.
    """

    X: Numbers
    y: Numbers
    counts: Numbers


def check_again(parts: Any) -> None:
    """Raise unless parts can be gone through many times.

    Raises:
        InvalidDataError: says what to give.
    """
    if not isinstance(parts, Iterable) or isinstance(parts, Iterator):
        raise InvalidDataError(
            f"parts is of type {type(parts).__name__}, but must be something to go through more "
            "than once: a list of pairs (X, y), a RowGroups, or an object whose __iter__ starts "
            "again"
        )


def draws(seed: int, number: int, rows: int) -> Numbers:
    """A number between 0 and 1 for each row of a part, the same in each pass.

    Args:
        seed: of the fit.
        number: of the part.
        rows: how many it has.
    """
    return np.random.default_rng((seed, 1, number)).random(rows)


@dataclass
class Sample:
    """The rows of the smallest draws, and how many there were.

    Attributes:
        seed: of the draws.
        count: of all rows seen.
        parts: the number of parts seen.
        X: rows of the sample.
        y: what was given as their targets.
        counts: for how many rows each stands.
        drawn: their draws.
        places: their numbers.
    """

    seed: int
    count: int = 0
    parts: int = 0
    X: Any = None
    y: Any = None
    counts: Any = None
    drawn: Any = None
    places: Any = None

    def add(self, part: Part) -> None:
        """See the next part."""
        drawn = draws(self.seed, self.parts, len(part.X))
        limit = np.inf if self.X is None or len(self.X) < KEPT else np.max(self.drawn)
        low = np.flatnonzero(drawn < limit)
        new: tuple[Any, ...] = (
            part.X[low],
            part.y[low],
            part.counts[low],
            drawn[low],
            self.count + low,
        )
        old: tuple[Any, ...] = (self.X, self.y, self.counts, self.drawn, self.places)
        if self.X is not None:
            new = tuple(np.concatenate(pair) for pair in zip(old, new, strict=True))
        if len(new[0]) > KEPT:
            least = np.sort(np.argpartition(new[3], KEPT)[:KEPT])
            new = tuple(one[least] for one in new)
        self.X, self.y, self.counts, self.drawn, self.places = new
        self.count, self.parts = self.count + len(part.X), self.parts + 1

    def threshold(self, share: float) -> float:
        """The draw below which rows are held out: at most `HELD_OUT`, at least one other is left.

        Args:
            share: of the rows.
        """
        most = min(HELD_OUT, len(self.drawn) - 1)
        return min(share, float(np.sort(self.drawn)[most])) if len(self.drawn) else 0.0


@dataclass(frozen=True)
class Streamed:
    """Rows that are read again for each epoch.

    Attributes:
        parts: of the table.
        read: the rows of a part, as a `Block`.
        seed: of the fit.
        threshold: rows of smaller draws are held out.
        kept: a sample of the rows to fit.
        held_out: rows that are not, or None.
        count: how many rows are to be fitted.
    """

    parts: Iterable[Any]
    read: Any
    seed: int
    threshold: float
    kept: Rows
    held_out: Rows | None
    count: int

    @property
    def digest(self) -> str:
        """Of the sample, and of how many rows there are."""
        kept = self.kept
        return digest_of(kept.X, kept.values, kept.weights, f"{self.count} {self.seed}")

    def epoch(self, generator: np.random.Generator, rows: int) -> Iterator[Block]:
        """All rows to fit once: parts in random order where they have places, rows within them."""
        return regrouped(self._shuffled(generator), rows)

    def _shuffled(self, generator: np.random.Generator) -> Iterator[Block]:
        """Small parts put together, each piece shuffled."""
        waiting: list[Block] = []
        for number, part in _in_order(self.parts, generator):
            block = self.read(part)
            if self.threshold > 0:
                block = block[draws(self.seed, number, len(block)) >= self.threshold]
            waiting.append(block)
            if sum(map(len, waiting)) >= MIXED:
                yield _permuted(waiting, generator)
        if waiting:
            yield _permuted(waiting, generator)

    def some(self, most: int, seed: int) -> Block:
        """Of the sample as many rows, by chance."""
        places = np.arange(len(self.kept))
        if most < len(places):
            chosen = np.random.RandomState(seed).choice(len(places), most, replace=False)
            places = np.sort(chosen)
        return block_of(self.kept, places)


def _in_order(parts: Any, generator: np.random.Generator) -> Iterator[tuple[int, Any]]:
    """Parts with their numbers; shuffled where each can be asked for."""
    if not isinstance(parts, Sequence):
        yield from enumerate(parts)
        return
    for number in generator.permutation(len(parts)):
        yield int(number), parts[int(number)]


def _permuted(waiting: list[Block], generator: np.random.Generator) -> Block:
    """The rows of all blocks shuffled, in one copy; the list is emptied."""
    shuffled = Block.permuted(waiting, generator.permutation(sum(map(len, waiting))))
    waiting.clear()
    return shuffled


def with_rows(moments: Moments | None, values: Numbers, weights: Numbers) -> Moments:
    """Moments with further rows, or of the first ones."""
    before = Moments.none(values.shape[1]) if moments is None else moments
    return before.with_table(values, weights)


def rows_of(block: Block, places: Numbers, count: int) -> Rows:
    """Rows that are kept of a table of which the rest is not.

    Args:
        block: the rows.
        places: their numbers in the table.
        count: of all rows of the table.
    """
    targets: Targets = block.targets
    return Rows(block.X, targets.values, targets.weights, targets.units, places, count)
