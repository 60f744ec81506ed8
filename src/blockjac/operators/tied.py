"""One variable as several operands of an operator: `f(x, x)` has one derivative by x, a sum."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.operators.opaque import CompleteGroup
from blockjac.operators.operator import OperatorGroup, added
from blockjac.terms.block import Block


class RepeatedGroup(OperatorGroup):
    """An operator some of whose operands are one variable: their columns are added up.

    Attributes:
        inner: the operator by operand.
        members: for each column the columns of `inner` that it stands for.
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
        """As the operator by operand."""
        return self.inner.can_pull

    @property
    def can_push(self) -> bool:
        """As the operator by operand."""
        return self.inner.can_push

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each variable."""
        found = self.inner.pullback(cotangents)
        return [added([found[column] for column in columns]) for columns in self.members]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over variables of J star tangent`, for each output."""
        full: list[Block | None] = [None] * len(self.inner.wrt_shapes)
        for columns, tangent in zip(self.members, tangents, strict=True):
            for column in columns:
                full[column] = tangent
        return self.inner.pushforward(full)

    def written(self, row: int, column: int) -> Block:
        """The sum of the operands' blocks."""
        if isinstance(self.inner, CompleteGroup) and self.can_push:  # both at once
            tangents: list[Block | None] = [None] * len(self.members)
            tangents[column] = Block.identity(self.wrt_shapes[column], self.dtypes[column])
            whole = self.pushforward(tangents)[row]
            if whole is not None:
                return whole
        total = added([self.inner.block(row, one) for one in self.members[column]])
        shape = self.out_shapes[row], self.wrt_shapes[column]
        return Block.zeros(*shape, self.dtypes[column]) if total is None else total
