"""Linear operators: elemental Jacobians that are better applied than written down.

An `OperatorGroup` stands for all blocks of one equation at once, since one backward (or forward)
pass gives them together; an `Operator` is one of them and what an edge of the graph holds. Where
the equation acts on each value of an axis apart, as linear algebra does on each matrix of a batch,
the group names that axis, and blocks that pass through keep what they have there: `batched_map`.
"""

from __future__ import annotations

import copy
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar, Self

from blockjac.algebra.backend import backend, planned, settled
from blockjac.algebra.losses import Unknown, note
from blockjac.algebra.place_counts import several
from blockjac.algebra.star import star
from blockjac.terms.block import Block


class _Frozen(ABCMeta):
    """Instances are assigned to in `__init__` alone; a change afterwards makes a copy."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        vars(instance)["_is_frozen"] = True
        return instance


class OperatorGroup(metaclass=_Frozen):
    """The Jacobian of one equation as a linear map, applied and never written down.

    Frozen. What an operator can do are its methods: `pullback` where `can_pull`, `pushforward`
    where `can_push`, and `block` always.

    Attributes:
        out_shapes: shapes of the results.
        wrt_shapes: shapes of the inputs.
        dtypes: dtypes of the inputs.
        out_dtypes: dtypes of the results.
        name: what it is, for explanations.
        unknown: why nothing is known of the structure that the equation has, or only a part; None
            where all of it is.
        equation: the equation of the graph, where losses of structure are looked for.
        plans: what was found out about blocks of given structures that go through, see
            `direct_sum`.
        whole: whether each row (or column) of what goes in has to go in as it is, zeros too.
        carries: whether the map is a program of its own, through which a block passes in one form
            in which all but deltas is dense.
        edge_by_edge: whether its one edge is eliminated as a block is, in the order that was asked
            for: what passes through keeps its structure, so that nothing is gained the other way.
    """

    whole: bool = False
    carries: ClassVar[bool] = False
    edge_by_edge: ClassVar[bool] = False

    def __init__(
        self,
        out_shapes: Sequence[tuple[int, ...]],
        wrt_shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[Any],
        out_dtypes: Sequence[Any],
        name: str = "",
        unknown: Unknown | None = None,
    ) -> None:
        self.out_shapes, self.wrt_shapes = out_shapes, wrt_shapes
        self.dtypes, self.out_dtypes = dtypes, out_dtypes
        self.name, self.unknown = name, unknown
        self.equation: Any = None
        self.is_backwards_only = False
        self.plans: dict[Any, Any] = {}
        self._blocks: dict[tuple[int, int], Block] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if "_is_frozen" in vars(self):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    def changed(self, **fields: Any) -> Self:
        """A copy with other values of some attributes; nothing is written down of it yet."""
        changed = copy.copy(self)
        vars(changed).update(fields, plans={}, _blocks={})
        return changed

    @property
    def can_pull(self) -> bool:
        """Whether cotangents can be pulled back."""
        return True

    @property
    def can_push(self) -> bool:
        """Whether tangents can be pushed forward: not where operands are not known any more."""
        return not self.is_backwards_only

    @property
    def held(self) -> Any:
        """The arrays that a rule has made this of, as a pytree; a pass keeps its own."""
        return ()

    @abstractmethod
    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent.

        Args:
            cotangents: for each output a block with respect to it, all of the same `out_shape`.
        """

    @abstractmethod
    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent.

        Args:
            tangents: for each input a block of it, all of the same `wrt_shape`.
        """

    @abstractmethod
    def written(self, row: int, column: int) -> Block:
        """One of the blocks, written out."""

    def block(self, row: int, column: int) -> Block:
        """One of the blocks, written out once."""
        known = backend().memory(self._blocks)
        if (row, column) not in known:
            known[row, column] = self.written(row, column)
        return known[row, column]

    def without_zeros(self, place: int, may: Any) -> OperatorGroup:
        """The operator where what multiplies an operand is known to be zero; no use here.

        Args:
            place: of the operand that is differentiated.
            may: where the other one may hold another number than zero.
        """
        del place, may
        return self

    def edges(self) -> list[list[Operator]]:
        """One operator for each output and input."""
        return [
            [Operator(self, row, column) for column in range(len(self.wrt_shapes))]
            for row in range(len(self.out_shapes))
        ]

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

    def pull_by_blocks(self, given: dict[int, Block]) -> list[Block | None]:
        """The pullback by blocks that are written out."""
        return [
            added([star(block, self.block(row, column)) for row, block in given.items()])
            for column in range(len(self.wrt_shapes))
        ]

    def push_by_blocks(self, given: dict[int, Block]) -> list[Block | None]:
        """The pushforward by blocks that are written out."""
        return [
            added([star(self.block(row, column), block) for column, block in given.items()])
            for row in range(len(self.out_shapes))
        ]


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


def transposed(blocks: Sequence[Block | None]) -> list[Block | None]:
    """The transpose of each block that is there."""
    return [None if block is None else block.T for block in blocks]


def present(blocks: Sequence[Block | None]) -> dict[int, Block]:
    """The blocks that are given and not zero, by their places."""
    return {place: block for place, block in enumerate(blocks) if block is not None and block.terms}


def cheapest(*ways: Callable[[], list[Block | None]]) -> list[Block | None]:
    """What the way gives whose plan takes the least time; the first of equals."""
    plans = [(way, *planned(way)) for way in ways]
    return settled(*min(plans, key=lambda plan: plan[2].seconds()))


def added(blocks: Sequence[Block | None]) -> Block | None:
    """The sum of the blocks that are there; None if none is."""
    total: Block | None = None
    for block in blocks:
        if block is not None:
            total = block if total is None else total + block
    return total
