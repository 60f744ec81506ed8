"""One variable as several operands of an operator: `f(x, x)` has one derivative by x, a sum."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.operators.opaque import CompleteGroup
from blockjac.operators.operator import Blocks, OperatorGroup, added, spread
from blockjac.terms.block import Block


class RepeatedGroup(OperatorGroup):
    """An operator some of whose operands are one variable: their columns are added.

    Attributes:
        inner: the operator by operand.
        members: for each variable, its columns of `inner`.
    """

    def __init__(self, inner: OperatorGroup, members: Sequence[Sequence[int]]) -> None:
        firsts = [columns[0] for columns in members]
        super().__init__(
            out_shapes=inner.out_shapes,
            wrt_shapes=[inner.wrt_shapes[column] for column in firsts],
            dtypes=[inner.dtypes[column] for column in firsts],
            out_dtypes=inner.out_dtypes,
            name=inner.name,
            unknown=inner.unknown,
        )
        self.inner, self.members = inner, members
        self.whole, self.equation = inner.whole, inner.equation

    @property
    def can_pull(self) -> bool:
        """Whether the operator by operand can."""
        return self.inner.can_pull

    @property
    def can_push(self) -> bool:
        """Whether the operator by operand can."""
        return self.inner.can_push

    def pullback(self, cotangents: Blocks) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each variable."""
        shares = self.inner.pullback(cotangents)
        return [added([shares[column] for column in columns]) for columns in self.members]

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over variables of J star tangent`, for each output."""
        full: list[Block | None] = [None] * len(self.inner.wrt_shapes)
        for columns, tangent in zip(self.members, tangents, strict=True):
            for column in columns:
                full[column] = tangent
        return self.inner.pushforward(full)

    def written(self, row: int, column: int) -> Block:
        """The sum of the operands' blocks."""
        total: Block | None = None
        if isinstance(self.inner, CompleteGroup) and self.can_push:  # all operands at once
            identity = Block.identity(self.wrt_shapes[column], self.dtypes[column])
            total = self.pushforward(spread([identity], [column], len(self.members)))[row]
        if total is None:
            total = added([self.inner.block(row, operand) for operand in self.members[column]])
        shape = self.out_shapes[row], self.wrt_shapes[column]
        return Block.zeros(*shape, self.dtypes[column]) if total is None else total
