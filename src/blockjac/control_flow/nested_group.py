"""An operator with a program of its own, whose pullback and pushforward are recursions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from blockjac.algebra.backend import backend
from blockjac.blocks import Block
from blockjac.control_flow.carry_structure import may_lose
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact
from blockjac.operators.operator import Blocks, OperatorGroup, cheapest, present, spread
from blockjac.rules.fallback import placed, real_dtype, vertex_shape
from blockjac.rules.registry import Rows

Arrays = Sequence[Any]


class NestedGroup(OperatorGroup):
    """An operator whose pullback and pushforward are recursions, from which its blocks are written.

    Attributes:
        equation: the equation, whose operands and results the maps are between.
        inputs: its operands.
        residuals: those of its evaluation.
        active: which of the operands are differentiated.
        rows: the numbers of the results that are.
        columns: the numbers of those operands.
        title: its name in explanations, if it is not that of the primitive.
    """

    title: ClassVar[str] = ""

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Any,
        active: Sequence[bool],
    ) -> None:
        self.rows = [row for row, out in enumerate(outs) if is_inexact(out)]
        self.columns = [column for column, is_active in enumerate(active) if is_active]
        self._counts = (len(outs), len(inputs))
        super().__init__(
            out_shapes=[vertex_shape(outs[row]) for row in self.rows],
            wrt_shapes=[vertex_shape(inputs[column]) for column in self.columns],
            dtypes=[real_dtype(inputs[column].dtype) for column in self.columns],
            out_dtypes=[real_dtype(outs[row].dtype) for row in self.rows],
            name=self.title or equation.primitive.name,
        )
        self.equation, self.inputs, self.residuals = equation, inputs, residuals
        self.active = tuple(active)

    @classmethod
    def rows_of(
        cls,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Any,
        active: Sequence[bool],
    ) -> Rows:
        """The `edges` of an `OperatorRule`."""
        return cls(equation, inputs, outs, residuals, active).placed()

    def placed(self) -> Rows:
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

        def recurse() -> list[Block | None]:
            blocks = self.pulled(spread(cotangents, self.rows, self._counts[0]))
            return [blocks[column] for column in self.columns]

        return self._applied(cotangents, self.can_pull, recurse, self.pull_by_blocks)

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over operands of J star tangent`, for each result that is differentiated."""

        def recurse() -> list[Block | None]:
            blocks = self.pushed(spread(tangents, self.columns, self._counts[1]))
            return [blocks[row] for row in self.rows]

        return self._applied(tangents, self.can_push, recurse, self.push_by_blocks)

    def _applied(
        self,
        blocks: Blocks,
        can_recurse: bool,
        recurse: Callable[[], list[Block | None]],
        by_blocks: Callable[[dict[int, Block]], list[Block | None]],
    ) -> list[Block | None]:
        """By recursion if possible, unless that may lose structure and written blocks cost less."""
        nonzero = present(blocks)
        if not can_recurse:
            return by_blocks(nonzero)
        if self.carries and any(map(may_lose, nonzero.values())):
            return cheapest(recurse, lambda: by_blocks(nonzero))
        return recurse()

    def block(self, row: int, column: int) -> Block:
        """One of the blocks: the identity pulled back or pushed forward, whichever is narrower."""
        known = backend().memory(self._blocks)
        if (row, column) not in known:
            known.update(self._written_with(row, column))
        return known[row, column]

    def written(self, row: int, column: int) -> Block:
        """One of the blocks alone."""
        return self._written_with(row, column)[row, column]

    def _written_with(self, row: int, column: int) -> dict[tuple[int, int], Block]:
        """A block with those that come with it: its row, or its column."""
        out_shape, wrt_shape = tuple(self.out_shapes[row]), tuple(self.wrt_shapes[column])
        by_rows = not self.can_push or (
            self.can_pull and math.prod(out_shape) <= math.prod(wrt_shape)
        )
        if by_rows:
            identity = Block.identity(out_shape, self.out_dtypes[row])
            blocks = self.pullback(spread([identity], [row], len(self.rows)))
            keys = [(row, number) for number in range(len(self.columns))]
        else:
            identity = Block.identity(wrt_shape, self.dtypes[column])
            blocks = self.pushforward(spread([identity], [column], len(self.columns)))
            keys = [(number, column) for number in range(len(self.rows))]
        return {
            (i, j): Block.zeros(
                tuple(self.out_shapes[i]), tuple(self.wrt_shapes[j]), self.dtypes[j]
            )
            if block is None
            else block
            for (i, j), block in zip(keys, blocks, strict=True)
        }
