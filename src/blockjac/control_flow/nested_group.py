"""An operator with a program of its own, whose pullback and pushforward are recursions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from blockjac.algebra.backend import backend
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks
from blockjac.control_flow.carry_structure import may_lose
from blockjac.graph.linearity import is_inexact
from blockjac.operators.operator import OperatorGroup, cheapest, present
from blockjac.rules.fallback import placed, real_dtype, vertex_shape


class NestedGroup(OperatorGroup):
    """An operator whose pullback and pushforward are recursions, and whose blocks they write.

    Attributes:
        rows: which of the equation's results are differentiated.
        columns: which of its operands are.
    """

    def __init__(
        self, name: str, outs: Sequence[Any], inputs: Sequence[Any], active: Sequence[bool]
    ) -> None:
        self.rows = [place for place, out in enumerate(outs) if is_inexact(out)]
        self.columns = [place for place, wanted in enumerate(active) if wanted]
        self._counts = (len(outs), len(inputs))
        super().__init__(
            out_shapes=[vertex_shape(outs[place]) for place in self.rows],
            wrt_shapes=[vertex_shape(inputs[place]) for place in self.columns],
            dtypes=[real_dtype(inputs[place].dtype) for place in self.columns],
            out_dtypes=[real_dtype(outs[place].dtype) for place in self.rows],
            name=name,
        )

    def placed(self) -> list[list[Any]]:
        """The operators by result and operand of the equation; None for the others."""
        return placed(self, self.rows, self.columns, self._counts)

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """The cotangents of all operands from those of all results of the equation."""
        raise NotImplementedError

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """The tangents of all results from those of all operands of the equation."""
        raise NotImplementedError

    def pullback(self, cotangents: Blocks) -> list[Block | None]:
        """`sum over results of cotangent star J`, for each operand that is differentiated."""
        given = present(cotangents)
        if not self.can_pull:
            return self.pull_by_blocks(given)
        if self.carries and any(map(may_lose, given.values())):
            return cheapest(lambda: self._pulled(cotangents), lambda: self.pull_by_blocks(given))
        return self._pulled(cotangents)

    def _pulled(self, cotangents: Blocks) -> list[Block | None]:
        found = self.pulled(_spread(cotangents, self.rows, self._counts[0]))
        return [found[column] for column in self.columns]

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over operands of J star tangent`, for each result that is differentiated."""
        given = present(tangents)
        if not self.can_push:
            return self.push_by_blocks(given)
        if self.carries and any(may_lose(block) for block in given.values()):
            return cheapest(lambda: self._pushed(tangents), lambda: self.push_by_blocks(given))
        return self._pushed(tangents)

    def _pushed(self, tangents: Blocks) -> list[Block | None]:
        found = self.pushed(_spread(tangents, self.columns, self._counts[1]))
        return [found[row] for row in self.rows]

    def block(self, row: int, column: int) -> Block:
        """One of the blocks: the identity pulled back or pushed forward, whichever is narrower."""
        known = backend().memory(self._blocks)
        if (row, column) not in known:
            known.update(self._written_beside(row, column))
        return known[row, column]

    def written(self, row: int, column: int) -> Block:
        """One of the blocks alone."""
        return self._written_beside(row, column)[row, column]

    def _written_beside(self, row: int, column: int) -> dict[tuple[int, int], Block]:
        """The blocks that come with one: those of its row, or those of its column."""
        out_shape, wrt_shape = tuple(self.out_shapes[row]), tuple(self.wrt_shapes[column])
        by_rows = not self.can_push or (
            self.can_pull and math.prod(out_shape) <= math.prod(wrt_shape)
        )
        if by_rows:
            identity = Block.identity(out_shape, self.out_dtypes[row])
            found = self.pullback(_spread([identity], [row], len(self.rows)))
            places = [(row, place) for place in range(len(self.columns))]
        else:
            identity = Block.identity(wrt_shape, self.dtypes[column])
            found = self.pushforward(_spread([identity], [column], len(self.columns)))
            places = [(place, column) for place in range(len(self.rows))]
        return {
            place: Block.zeros(
                tuple(self.out_shapes[place[0]]),
                tuple(self.wrt_shapes[place[1]]),
                self.dtypes[place[1]],
            )
            if block is None
            else block
            for place, block in zip(places, found, strict=True)
        }


def _spread(blocks: Blocks, places: Sequence[int], count: int) -> list[Block | None]:
    full: list[Block | None] = [None] * count
    for place, block in zip(places, blocks, strict=True):
        full[place] = block
    return full
