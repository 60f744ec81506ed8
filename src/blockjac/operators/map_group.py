"""An operator that is given by functions of arrays, with names for the axes that they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from blockjac.algebra.backend import backend
from blockjac.algebra.losses import Unknown, is_following
from blockjac.algebra.place_counts import is_full, several
from blockjac.algebra.term_product import cast_term
from blockjac.errors import report_lost_structure
from blockjac.operators.batched_map import through
from blockjac.operators.joint_map import through_jointly
from blockjac.operators.linear_map import LinearMap, Side
from blockjac.operators.operator import OperatorGroup, added, cheapest, present
from blockjac.terms.block import Block, rebuilt

Arrays = Sequence[Any]
Names = Sequence[Sequence[Hashable]]


class MapGroup(OperatorGroup):
    """An operator by a function of cotangents, or of tangents, or both.

    Attributes:
        pull: cotangents of all results (a list of arrays) to cotangents of all inputs; None if only
            `push` exists.
        push: tangents of all inputs to tangents of all results; None if only `pull` exists.
        row_axes: for each result, a name or None for each axis. The map acts apart on each value of
            an axis that has the same name in a result and in an input: a delta of that block. An
            input that lacks a result's name sums over that axis. None if no axis has a name.
        column_axes: the same for each input.
        uniform: the names of axes along which the map does the same everywhere. There `pull` and
            `push` must take any number of values, so that a constant goes through once.
        structured: whether all structure that the equation has is in these names; if not, the user
            is told once that it was lost.
        place: file and line of the equation, for what the user is told.
        takes_none: whether `pull` and `push` take None for what is zero, so that no 0 is multiplied
            by an infinite derivative that nobody asks for.
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
        """Whether there is a function of tangents, and what it needs is known."""
        return super().can_push and self.push is not None

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent.

        Args:
            cotangents: for each output a block with respect to it, all of the same `out_shape`.
        """
        given = present(cotangents)
        if not given:
            return [None] * len(self.wrt_shapes)
        self._tell_of(given)
        if not self.can_pull:
            return self.pull_by_blocks(given)
        if self._is_wide(given):
            return cheapest(lambda: self._pull_applied(given), lambda: self.pull_by_blocks(given))
        return self._pull_applied(given)

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent.

        Args:
            tangents: for each input a block of it, all of the same `wrt_shape`.
        """
        given = present(tangents)
        if not given:
            return [None] * len(self.out_shapes)
        if not self.can_push:
            self._tell_of(given)
            return self.push_by_blocks(given)
        flipped = [None if block is None else block.T for block in tangents]
        dtype = next(iter(given.values())).dtype
        return [
            None if answer is None else _typed(answer.T, dtype)
            for answer in self._transposed().pullback(flipped)
        ]

    def written(self, row: int, column: int) -> Block:
        """One of the blocks, by whichever direction is narrower."""
        results, inputs = self._results(), self._inputs()
        pulls = results.core(row, inputs, column)
        pushes = inputs.core(column, results, row)
        if not self.can_push or (self.can_pull and pulls <= pushes):
            rows = Block.identity(self.out_shapes[row], self.out_dtypes[row])
            return through(rows, self._backward().only([row], [column]))[0]
        columns = Block.identity(self.wrt_shapes[column], self.dtypes[column])
        return _typed(
            through(columns, self._forward().only([column], [row]))[0].T, self.dtypes[column]
        )

    def _tell_of(self, given: dict[int, Block]) -> None:
        """Tell of the structure that is lost where more than one number is differentiated."""
        block = next(iter(given.values()))
        if block.out_shape and block.wrt_shape and not self.structured:
            backend().perform(report_lost_structure, self.name, self.place)
        if self.unknown is not None and is_following():
            for one in given.values():
                if several(one.out_shape) and several(one.wrt_shape) and not is_full(one):
                    self.note_unknown()

    def _is_wide(self, given: dict[int, Block]) -> bool:
        """Whether more is asked for than a block has rows or columns that differ in structure."""
        results, inputs = self._results(), self._inputs()
        narrowest = min(
            min(results.core(row, inputs, column), inputs.core(column, results, row))
            for row in given
            for column in range(len(self.wrt_shapes))
        )
        return any(math.prod(block.out_shape) > narrowest for block in given.values())

    def _pull_applied(self, given: dict[int, Block]) -> list[Block | None]:
        """By passes of the map: one for all outputs, or one for each term if that is cheaper."""
        if len(given) == 1 and len(next(iter(given.values())).terms) == 1:
            return self._pull_separately(given)
        if not next(iter(given.values())).out_shape:
            return self._pull_jointly(given)
        return cheapest(lambda: self._pull_jointly(given), lambda: self._pull_separately(given))

    def _pull_separately(self, given: dict[int, Block]) -> list[Block | None]:
        columns = range(len(self.wrt_shapes))
        answers = [
            through(block, self._backward().only([row], columns)) for row, block in given.items()
        ]
        return [added([answer[column] for answer in answers]) for column in columns]

    def _pull_jointly(self, given: dict[int, Block]) -> list[Block | None]:
        columns = range(len(self.wrt_shapes))
        return [*through_jointly([*given.values()], self._backward().only([*given], columns))]

    def _transposed(self) -> MapGroup:
        """The transposed Jacobian: outputs and inputs change places."""
        # Not one of a subclass, whose own passes are for its own outputs and inputs.
        transposed = MapGroup(
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
        transposed._blocks.update(
            {(column, row): block.T for (row, column), block in self._blocks.items()}
        )
        return transposed

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
