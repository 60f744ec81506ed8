"""Linear operators: elemental Jacobians that are better applied than written down.

An `OperatorGroup` stands for all blocks of one equation at once, since one backward (or forward)
pass gives them together; an `Operator` is one of them and what an edge of the graph holds. Where
the equation acts on each value of an axis apart, as linear algebra does on each matrix of a batch,
the group names that axis, and blocks that pass through keep what they have there; see `applying`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend, planned, planning, settled
from blockjac.algebra.losses import (
    Unknown,
    at_equation,
    is_following,
    is_full,
    is_recording,
    note,
    note_excess,
    places_of,
    several,
)
from blockjac.algebra.outside import outside_parts
from blockjac.algebra.star import star
from blockjac.errors import report_lost_structure
from blockjac.operators.batched_map import LinearMap, Side, through, through_jointly
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.term import Term

Arrays = Sequence[Any]
Names = Sequence[Sequence[Hashable]]


@dataclass(eq=False)
class OperatorGroup:
    """The Jacobian of one equation as a linear map, applied and never written down.

    Attributes:
        out_shapes: shapes of the results.
        wrt_shapes: shapes of the inputs.
        dtypes: dtypes of the inputs.
        out_dtypes: dtypes of the results.
        pull: cotangents of all results (a list of arrays) to cotangents of all inputs; None if only
            `push` exists.
        push: tangents of all inputs to tangents of all results; None if only `pull` exists.
        name: what it is, for explanations.
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
        whole: whether each row (or column) of what goes in has to go in as it is, zeros too.
        unknown: why nothing but the names is known of the structure that the equation has; None
            where all of it is.
        equation: the equation of the graph, where losses of structure are looked for.
        carries: whether the map is a program of its own, through which a block passes in one form
            in which all but deltas is dense.
        plans: what was found out about blocks of given structures that go through, see
            `direct_sum`.
    """

    out_shapes: Sequence[tuple[int, ...]]
    wrt_shapes: Sequence[tuple[int, ...]]
    dtypes: Sequence[Any]
    out_dtypes: Sequence[Any]
    pull: Callable[[Arrays], Arrays] | None
    push: Callable[[Arrays], Arrays] | None
    name: str = ""
    row_axes: Names | None = None
    column_axes: Names | None = None
    uniform: frozenset[Hashable] = frozenset()
    structured: bool = False
    place: str = ""
    takes_none: bool = False
    whole: bool = False
    unknown: Unknown | None = None
    equation: Any = None
    carries: ClassVar[bool] = False
    plans: dict[Any, Any] = field(default_factory=dict, repr=False)
    _blocks: dict[tuple[int, int], Block] = field(default_factory=dict)

    @property
    def held(self) -> Any:
        """The arrays that a rule has made this of, as a pytree; a pass keeps its own."""
        return ()

    def without_zeros(self, place: int, may: Any) -> None:
        """Take note of where what multiplies an operand is known to be zero; no use here.

        Args:
            place: of the operand that is differentiated.
            may: where the other one may hold another number than zero.
        """

    def edges(self) -> list[list[Operator]]:
        """One operator for each output and input."""
        return [
            [Operator(self, row, column) for column in range(len(self.wrt_shapes))]
            for row in range(len(self.out_shapes))
        ]

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent.

        Args:
            cotangents: for each output a block with respect to it, all of the same `out_shape`.
        """
        given = present(cotangents)
        if not given:
            return [None] * len(self.wrt_shapes)
        self._tell_of(given)
        if self.pull is None:
            return self._pull_by_blocks(given)
        if self._is_wide(given):
            return cheapest(lambda: self._pull_applied(given), lambda: self._pull_by_blocks(given))
        return self._pull_applied(given)

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent.

        Args:
            tangents: for each input a block of it, all of the same `wrt_shape`.
        """
        given = present(tangents)
        if not given:
            return [None] * len(self.out_shapes)
        if self.push is None:
            self._tell_of(given)
            return self._push_by_blocks(given)
        flipped = [None if block is None else block.T for block in tangents]
        dtype = next(iter(given.values())).dtype
        return [
            None if answer is None else _typed(answer.T, dtype)
            for answer in self._transposed().pullback(flipped)
        ]

    def block(self, row: int, column: int) -> Block:
        """One of the blocks, written out by whichever direction is narrower."""
        known = backend().memory(self._blocks)
        if (row, column) not in known:
            known[row, column] = self._written(row, column)
        return known[row, column]

    def _written(self, row: int, column: int) -> Block:
        results, inputs = self._results(), self._inputs()
        pulls = results.core(row, inputs, column)
        pushes = inputs.core(column, results, row)
        if self.push is None or (self.pull is not None and pulls <= pushes):
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

    def note_unknown(self) -> None:
        """Note the loss of this equation's own structure, if it may have had any."""
        core = max(
            (
                math.prod(out) * math.prod(wrt)
                for out in self.out_shapes
                for wrt in self.wrt_shapes
                if several(out) and several(wrt)
            ),
            default=0,
        )
        if self.unknown is not None and core:
            note(self.unknown.reason, self.unknown.advice, core, None, self.name)

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

    def _pull_by_blocks(self, given: dict[int, Block]) -> list[Block | None]:
        return [
            added([star(block, self.block(row, column)) for row, block in given.items()])
            for column in range(len(self.wrt_shapes))
        ]

    def _push_by_blocks(self, given: dict[int, Block]) -> list[Block | None]:
        return [
            added([star(self.block(row, column), block) for column, block in given.items()])
            for row in range(len(self.out_shapes))
        ]

    def _transposed(self) -> OperatorGroup:
        """The transposed Jacobian: outputs and inputs change places."""
        return OperatorGroup(
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
            self.whole,
            self.unknown,
            self.equation,
            {(column, row): block.T for (row, column), block in self._blocks.items()},
        )

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


@dataclass(frozen=True, eq=False)
class Operator:
    """One block of an operator group."""

    group: OperatorGroup
    row: int
    column: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.group.out_shapes[self.row])

    @property
    def wrt_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return tuple(self.group.wrt_shapes[self.column])

    def block(self) -> Block:
        """The block written out."""
        return self.group.block(self.row, self.column)


Edge = Block | Operator


def written(edge: Edge) -> Block:
    """An edge as a block."""
    if not isinstance(edge, Operator):
        return edge
    if not is_following():
        return edge.block()
    with at_equation(edge.group.equation):
        edge.group.note_unknown()
        return edge.block()


def compose(left: Edge, right: Edge) -> Block:
    """`left star right` where either may be an operator."""
    if isinstance(right, Operator):
        block = written(left)
        cotangents: list[Block | None] = [None] * len(right.group.out_shapes)
        cotangents[right.row] = block
        answer = pulled_through(right.group, cotangents)[right.column]
        dtype = right.group.dtypes[right.column]
        return Block.zeros(block.out_shape, right.wrt_shape, dtype) if answer is None else answer
    if isinstance(left, Operator):
        tangents: list[Block | None] = [None] * len(left.group.wrt_shapes)
        tangents[left.column] = right
        answer = pushed_through(left.group, tangents)[left.row]
        return (
            Block.zeros(left.out_shape, right.wrt_shape, right.dtype) if answer is None else answer
        )
    return star(left, right)


def pulled_through(group: OperatorGroup, cotangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over outputs of cotangent star J`, whatever index maps the cotangents' outputs have."""
    with at_equation(group.equation):
        found = _by_parts(cotangents, group.pullback, group.whole)
        if is_recording() and not group.whole:
            _note_applied(
                cotangents, found, lambda row, block, column: star(block, group.block(row, column))
            )
    return found


def pushed_through(group: OperatorGroup, tangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over inputs of J star tangent`, whatever index maps the tangents' inputs have."""
    if all(block is None or is_one(block.wrt_shape) for block in tangents):
        return group.pushforward(tangents)
    with at_equation(group.equation):
        found = transposed(
            _by_parts(
                transposed(tangents),
                lambda parts: transposed(group.pushforward(transposed(parts))),
                group.whole,
            )
        )
        if is_recording() and not group.whole:
            _note_applied(
                tangents, found, lambda column, block, row: star(group.block(row, column), block)
            )
    return found


def transposed(blocks: Sequence[Block | None]) -> list[Block | None]:
    """The transpose of each block that is there."""
    return [None if block is None else block.T for block in blocks]


def pulled_in_one(group: OperatorGroup, cotangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over outputs of cotangent star J`, of all index maps of the cotangents at once."""
    with at_equation(group.equation):
        return group.pullback(cotangents)


def pushed_in_one(group: OperatorGroup, tangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over inputs of J star tangent`, of all index maps that the tangents have at once."""
    with at_equation(group.equation):
        return group.pushforward(tangents)


APPLIED = (
    "it is applied to a basis, so that its result is dense where its own Jacobian is structured"
)
CHOOSE = (
    "another order= may keep the structure; else write the step in operations that are no linear "
    "map (slices, products, sums)"
)


def _note_applied(
    given: Sequence[Block | None],
    found: Sequence[Block | None],
    product: Callable[[int, Block, int], Block],
) -> None:
    """Note where an operator's answer is stored over more places than its blocks would give.

    Args:
        given: what it was applied to.
        found: what came out.
        product: of the number of a block that went in, the block, and the number of a result.
    """
    parts = present(given)
    for place, answer in enumerate(found):
        if answer is None or not (several(answer.out_shape) and several(answer.wrt_shape)):
            continue
        with planning():
            places = sum(places_of(product(own, block, place)) for own, block in parts.items())
        note_excess(places_of(answer), places, APPLIED, CHOOSE)


def is_one(shape: Sequence[int]) -> bool:
    """Whether a tensor of a shape has one entry."""
    return all(size == 1 for size in shape)


def _by_parts(
    blocks: Sequence[Block | None],
    act: Callable[[Sequence[Block | None]], list[Block | None]],
    whole: bool,
) -> list[Block | None]:
    """A linear map of the input axes of blocks, in coordinates that suit their output axes."""
    if all(block is None or is_one(block.out_shape) for block in blocks):
        return act(blocks)
    parts = outside_parts(blocks, whole)
    if all(part.embedding is None for part in parts) or (whole and len(parts) > 1):
        return act(blocks)

    def apart() -> list[Block | None]:
        return [added(each) for each in zip(*(part.through(act) for part in parts), strict=True)]

    return apart() if len(parts) == 1 else cheapest(lambda: act(blocks), apart)


def present(blocks: Sequence[Block | None]) -> dict[int, Block]:
    """The blocks that are given and not zero, by their places."""
    return {place: block for place, block in enumerate(blocks) if block is not None and block.terms}


def _side(shapes: Sequence[Sequence[int]], dtypes: Sequence[Any], names: Names | None) -> Side:
    if names is None:
        names = [(None,) * len(shape) for shape in shapes]
    return Side(tuple(map(tuple, shapes)), tuple(dtypes), tuple(map(tuple, names)))


def cheapest(*ways: Callable[[], list[Block | None]]) -> list[Block | None]:
    """What the way gives whose plan takes the least time; the first of equals."""
    plans = [(way, *planned(way)) for way in ways]
    return settled(*min(plans, key=lambda plan: plan[2].seconds()))


def _typed(block: Block, dtype: Any) -> Block:
    """The block with its numbers in another dtype; masks stay masks."""
    if block.dtype == dtype:
        return block
    terms = [
        Term(
            tuple(one if arrays.is_mask(one) else arrays.cast(one, dtype) for one in term.factors),
            term.out,
            term.wrt,
            term.coefficient,
        )
        for term in block.terms
    ]
    return rebuilt(block.out_shape, block.wrt_shape, dtype, terms)


def added(blocks: Sequence[Block | None]) -> Block | None:
    """The sum of the blocks that are there; None if none is."""
    total: Block | None = None
    for block in blocks:
        if block is not None:
            total = block if total is None else total + block
    return total
