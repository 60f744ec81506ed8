"""Where the rows of an epoch come from: shuffled, a block at a time, so that no table is copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from blockjac.estimators.archive import digest_of
from blockjac.estimators.objective import Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.tables import Numbers

BLOCK_BYTES = 2**24
"""Of the rows that a compiled program gets at a time."""


@dataclass(frozen=True)
class Block:
    """Some rows, of which batches are cut.

    Attributes:
        X: the rows as they are in the table, shape `(n, inputs)`.
        targets: of them.
    """

    X: Numbers
    targets: Targets

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> Block:
        return Block(self.X[rows], Targets(*(part[rows] for part in self.targets)))

    @staticmethod
    def joined(blocks: list[Block]) -> Block:
        """The rows of all, in this order."""
        if len(blocks) == 1:
            return blocks[0]
        parts = zip(*(block.targets for block in blocks), strict=True)
        return Block(
            np.concatenate([block.X for block in blocks]), Targets(*map(np.concatenate, parts))
        )

    @staticmethod
    def permuted(blocks: list[Block], order: Numbers) -> Block:
        """The rows of all in another order, `joined(blocks)[order]` in one copy.

        Args:
            blocks: at least one.
            order: the numbers of their rows.
        """
        places = np.argsort(order)

        def one(parts: list[Numbers]) -> Numbers:
            made, first = np.empty((len(places), *parts[0].shape[1:]), parts[0].dtype), 0
            for part in parts:
                made[places[first : first + len(part)]] = part
                first += len(part)
            return made

        targets = zip(*(block.targets for block in blocks), strict=True)
        return Block(one([block.X for block in blocks]), Targets(*(one(list(t)) for t in targets)))


class Source(Protocol):
    """Rows to fit, and rows held out."""

    @property
    def count(self) -> int:
        """How many rows are to be fitted."""
        ...

    @property
    def kept(self) -> Rows:
        """Of the rows to fit, those in memory."""
        ...

    @property
    def held_out(self) -> Rows | None:
        """Rows that are not, in memory."""
        ...

    @property
    def digest(self) -> str:
        """Of what is known of the rows, beside the scales of their columns."""
        ...

    def epoch(self, generator: np.random.Generator, rows: int) -> Iterator[Block]:
        """All rows to fit once, shuffled; blocks of as many rows, and a last one of those left.

        Args:
            generator: shuffles.
            rows: of a block.
        """
        ...

    def some(self, most: int, seed: int) -> Block:
        """Rows to fit: a random sample of at most this many.

        Args:
            most: rows.
            seed: of the sample.
        """
        ...


@dataclass(frozen=True)
class Memory:
    """Rows of a table in memory.

    Attributes:
        kept: the rows to fit.
        held_out: rows that are not, or None.
    """

    kept: Rows
    held_out: Rows | None

    @property
    def count(self) -> int:
        """How many rows are to be fitted."""
        return len(self.kept)

    @property
    def digest(self) -> str:
        """Of targets and places."""
        return digest_of(self.kept.values, self.kept.weights, self.kept.places)

    def epoch(self, generator: np.random.Generator, rows: int) -> Iterator[Block]:
        """All rows once, shuffled."""
        order = generator.permutation(self.count)
        for first in range(0, self.count, rows):
            yield block_of(self.kept, order[first : first + rows])

    def some(self, most: int, seed: int) -> Block:
        """As many rows, by chance; in their order."""
        if most >= self.count:
            return block_of(self.kept, np.arange(self.count))
        chosen = np.random.RandomState(seed).choice(self.count, most, replace=False)
        return block_of(self.kept, np.sort(chosen))


def block_of(rows: Rows, chosen: Numbers) -> Block:
    """Some of the rows.

    Args:
        rows: of a table.
        chosen: their places among the rows.
    """
    return Block(rows.some(chosen), Targets(*(part[chosen] for part in rows.targets)))


def blocks_in_order(rows: Rows, most: int) -> Iterator[Block]:
    """All rows in their order, some at a time.

    Args:
        rows: of a table.
        most: of a block.
    """
    for first in range(0, len(rows), most):
        yield block_of(rows, np.arange(first, min(first + most, len(rows))))


def regrouped(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """The same rows in the same order, in blocks of as many rows; what is left comes last.

    Args:
        blocks: of any sizes.
        rows: of a block.
    """
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) < rows:
            continue
        whole = Block.joined(waiting)
        full = len(whole) // rows * rows
        for first in range(0, full, rows):
            yield whole[first : first + rows]
        waiting = [whole[full:]] if full < len(whole) else []
    if waiting:
        yield Block.joined(waiting)
