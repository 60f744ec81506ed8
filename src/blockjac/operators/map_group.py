"""An operator defined by functions of arrays, with names for the axes that they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from blockjac.algebra.backend import backend
from blockjac.algebra.losses import Unknown, is_following
from blockjac.algebra.place_counts import is_full, several
from blockjac.algebra.term_product import cast_term
from blockjac.errors import report_lost_structure
from blockjac.operators.batched_map import through
from blockjac.operators.joint_map import through_jointly
from blockjac.operators.linear_map import Arrays, LinearMap, Side
from blockjac.operators.operator import Blocks, OperatorGroup, added, cheapest, present, transposed
from blockjac.terms.block import Block, rebuilt

Names = Sequence[Sequence[Hashable]]


class MapGroup(OperatorGroup):
    """An operator defined by a function of cotangents, or of tangents, or both.

    Attributes:
        pull: cotangents of all results (a list of arrays) to cotangents of all inputs; None if only
            `push` exists.
        push: tangents of all inputs to tangents of all results; None if only `pull` exists.
        row_axes: for each result, a name or None for each axis. The map acts separately on each
            value of an axis with the same name in a result and in an input: a delta of that block.
            An input that lacks a result's name sums over that axis. None if no axis has a name.
        column_axes: the same for each input.
        uniform: the names of axes along which the map does the same everywhere. There `pull` and
            `push` must take any number of values, so that a constant goes through once.
        structured: whether these names cover all structure of the equation; if not, the user is
            warned once that it was lost.
        place: file and line of the equation, for that warning.
        takes_none: whether `pull` and `push` take None for zero, so that no 0 is multiplied by an
            infinite derivative that is not needed.
    """

    def __init__(
        self,
        out_shapes: Sequence[tuple[int, ...]],
        wrt_shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[Any],
        out_dtypes: Sequence[Any],
        pull: Callable[[Arrays], Arrays] | None,
        push: Callable[[Arrays], Arrays] | None,
        name: str = "",
        row_axes: Names | None = None,
        column_axes: Names | None = None,
        uniform: frozenset[Hashable] = frozenset(),
        structured: bool = False,
        place: str = "",
        takes_none: bool = False,
        unknown: Unknown | None = None,
    ) -> None:
        super().__init__(out_shapes, wrt_shapes, dtypes, out_dtypes, name, unknown)
        self.pull, self.push = pull, push
        self.row_axes, self.column_axes, self.uniform = row_axes, column_axes, uniform
        self.structured, self.place, self.takes_none = structured, place, takes_none

    @property
    def can_pull(self) -> bool:
        """Whether there is a function of cotangents."""
        return self.pull is not None

    @property
    def can_push(self) -> bool:
        """Whether there is a function of tangents, and the operands are known that it needs."""
        return super().can_push and self.push is not None

    def pullback(self, cotangents: Blocks) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent."""
        nonzero = present(cotangents)
        if not nonzero:
            return [None] * len(self.wrt_shapes)
        self._report(nonzero)
        if not self.can_pull:
            return self.pull_by_blocks(nonzero)
        apply = partial(self._pull_applied, nonzero)
        if self._is_wide(nonzero):
            return cheapest(apply, partial(self.pull_by_blocks, nonzero))
        return apply()

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent."""
        nonzero = present(tangents)
        if not nonzero:
            return [None] * len(self.out_shapes)
        if not self.can_push:
            self._report(nonzero)
            return self.push_by_blocks(nonzero)
        dtype = next(iter(nonzero.values())).dtype
        pulled = self._transposed().pullback(transposed(tangents))
        return [None if block is None else _typed(block.T, dtype) for block in pulled]

    def written(self, row: int, column: int) -> Block:
        """One of the blocks, by whichever direction is narrower."""
        results, inputs = self._results(), self._inputs()
        pulls = results.core(row, inputs, column)
        pushes = inputs.core(column, results, row)
        if not self.can_push or (self.can_pull and pulls <= pushes):
            identity = Block.identity(self.out_shapes[row], self.out_dtypes[row])
            return through(identity, self._backward().only([row], [column]))[0]
        dtype = self.dtypes[column]
        identity = Block.identity(self.wrt_shapes[column], dtype)
        return _typed(through(identity, self._forward().only([column], [row]))[0].T, dtype)

    def _report(self, blocks: dict[int, Block]) -> None:
        """Report the structure that is lost if more than one number is differentiated."""
        block = next(iter(blocks.values()))
        if block.out_shape and block.wrt_shape and not self.structured:
            backend().perform(report_lost_structure, self.name, self.place)
        if self.unknown is not None and is_following():
            for block in blocks.values():
                if several(block.out_shape) and several(block.wrt_shape) and not is_full(block):
                    self.note_unknown()

    def _is_wide(self, cotangents: dict[int, Block]) -> bool:
        """Whether a cotangent has more rows than a block has that differ in structure."""
        results, inputs = self._results(), self._inputs()
        narrowest = min(
            min(results.core(row, inputs, column), inputs.core(column, results, row))
            for row in cotangents
            for column in range(len(self.wrt_shapes))
        )
        return any(math.prod(block.out_shape) > narrowest for block in cotangents.values())

    def _pull_applied(self, cotangents: dict[int, Block]) -> list[Block | None]:
        """By passes of the map: one for all outputs, or one for each term if that is cheaper."""
        jointly = partial(self._pull_jointly, cotangents)
        separately = partial(self._pull_separately, cotangents)
        first = next(iter(cotangents.values()))
        if len(cotangents) == 1 and len(first.terms) == 1:
            return separately()
        return cheapest(jointly, separately) if first.out_shape else jointly()

    def _pull_separately(self, cotangents: dict[int, Block]) -> list[Block | None]:
        linear, columns = self._backward(), range(len(self.wrt_shapes))
        shares = [through(block, linear.only([row], columns)) for row, block in cotangents.items()]
        return [added(blocks) for blocks in zip(*shares, strict=True)]

    def _pull_jointly(self, cotangents: dict[int, Block]) -> list[Block | None]:
        linear = self._backward().only([*cotangents], range(len(self.wrt_shapes)))
        return [*through_jointly([*cotangents.values()], linear)]

    def _transposed(self) -> MapGroup:
        """The transposed Jacobian: outputs and inputs change places."""
        # A `MapGroup` even for a subclass, whose own passes are for its own outputs and inputs.
        flipped = MapGroup(
            self.wrt_shapes,
            self.out_shapes,
            self.out_dtypes,
            self.dtypes,
            self.push,
            self.pull,
            self.name,
            self.column_axes,
            self.row_axes,
            self.uniform,
            self.structured,
            self.place,
            self.takes_none,
            self.unknown,
        ).changed(equation=self.equation, whole=self.whole)
        flipped._blocks.update(
            {(column, row): block.T for (row, column), block in self._blocks.items()}
        )
        return flipped

    def _results(self) -> Side:
        return _side(self.out_shapes, self.out_dtypes, self.row_axes)

    def _inputs(self) -> Side:
        return _side(self.wrt_shapes, self.dtypes, self.column_axes)

    def _backward(self) -> LinearMap:
        if self.pull is None:
            raise ValueError("this operator has no pullback")
        return LinearMap(self.pull, self._results(), self._inputs(), self.uniform, self.takes_none)

    def _forward(self) -> LinearMap:
        if self.push is None:
            raise ValueError("this operator has no pushforward")
        return LinearMap(self.push, self._inputs(), self._results(), self.uniform, self.takes_none)


def _side(shapes: Sequence[Sequence[int]], dtypes: Sequence[Any], names: Names | None) -> Side:
    if names is None:
        names = [(None,) * len(shape) for shape in shapes]
    return Side(tuple(map(tuple, shapes)), tuple(dtypes), tuple(map(tuple, names)))


def _typed(block: Block, dtype: Any) -> Block:
    """The block with its numbers in another dtype; masks stay masks."""
    if block.dtype == dtype:
        return block
    terms = [cast_term(term, dtype) for term in block.terms]
    return rebuilt(block.out_shape, block.wrt_shape, dtype, terms)
