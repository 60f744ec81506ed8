"""Linear operators: elemental Jacobians that are better applied than written down.

An `OperatorGroup` represents all blocks of one equation, since one backward (or forward) pass gives
them together; an `Operator` is one of these blocks, the value of an edge of the graph. Where the
equation acts on each value of an axis separately, as linear algebra does on each matrix of a batch,
the group names that axis, and blocks that pass through keep their structure there: `batched_map`.
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

Blocks = Sequence[Block | None]
"""A block for each operand or result; None for zero."""


class _Frozen(ABCMeta):
    """Attributes are set in `__init__` only; a later change makes a copy."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        vars(instance)["_is_frozen"] = True
        return instance


class OperatorGroup(metaclass=_Frozen):
    """The Jacobian of one equation as a linear map, applied and never written down.

    Frozen. Call `pullback` if `can_pull`, `pushforward` if `can_push`, and `block` always.

    Attributes:
        out_shapes: shapes of the results.
        wrt_shapes: shapes of the inputs.
        dtypes: dtypes of the inputs.
        out_dtypes: dtypes of the results.
        name: shown in explanations.
        unknown: why the equation's structure is not known, or only in part; None if all of it is.
        equation: the equation of the graph, to which losses of structure are assigned.
        plans: comparisons made for blocks of given structures, see `direct_sum`.
        whole: whether each row (or column) must enter complete, zeros included.
        carries: whether the map is a program of its own, through which a block passes in one form,
            dense but for deltas.
        edge_by_edge: whether its only edge is eliminated as a block is, in the requested order:
            what passes through keeps its structure, so the other direction gains nothing.
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
        """A copy with some attributes replaced; none of its blocks is written down yet."""
        changed = copy.copy(self)
        vars(changed).update(fields, plans={}, _blocks={})
        return changed

    @property
    def can_pull(self) -> bool:
        """Whether cotangents can be pulled back."""
        return True

    @property
    def can_push(self) -> bool:
        """Whether tangents can be pushed forward: not if the operands have not been kept."""
        return not self.is_backwards_only

    @property
    def held(self) -> Any:
        """The arrays that a rule made this operator of, as a pytree; () if a pass keeps them."""
        return ()

    @abstractmethod
    def pullback(self, cotangents: Blocks) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent.

        Args:
            cotangents: for each output a block with respect to it, all of the same `out_shape`.
        """

    @abstractmethod
    def pushforward(self, tangents: Blocks) -> list[Block | None]:
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

    def without_zeros(self, position: int, may: Any) -> OperatorGroup:
        """The operator given where the other factor of a product is zero; here unchanged.

        Args:
            position: the position of the operand that is differentiated.
            may: where the other one may be nonzero.
        """
        del position, may
        return self

    def edges(self) -> list[list[Operator]]:
        """An operator for each output and input."""
        return [
            [Operator(self, row, column) for column in range(len(self.wrt_shapes))]
            for row in range(len(self.out_shapes))
        ]

    def note_unknown(self) -> None:
        """Note that this equation's own structure is lost, if it may have had any."""
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

    def pull_by_blocks(self, cotangents: dict[int, Block]) -> list[Block | None]:
        """The pullback, by blocks that are written out."""
        return [
            added([star(block, self.block(row, column)) for row, block in cotangents.items()])
            for column in range(len(self.wrt_shapes))
        ]

    def push_by_blocks(self, tangents: dict[int, Block]) -> list[Block | None]:
        """The pushforward, by blocks that are written out."""
        return [
            added([star(self.block(row, column), block) for column, block in tangents.items()])
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


def transposed(blocks: Blocks) -> list[Block | None]:
    """The transpose of each block."""
    return [None if block is None else block.T for block in blocks]


def present(blocks: Blocks) -> dict[int, Block]:
    """The blocks that are not zero, by position."""
    return {n: block for n, block in enumerate(blocks) if block is not None and block.terms}


def spread(blocks: Blocks, positions: Sequence[int], count: int) -> list[Block | None]:
    """A list of `count` blocks: those given at their positions, None elsewhere."""
    full: list[Block | None] = [None] * count
    for position, block in zip(positions, blocks, strict=True):
        full[position] = block
    return full


def cheapest(*ways: Callable[[], list[Block | None]]) -> list[Block | None]:
    """The result of whichever computation is planned to be fastest; the first of equals."""
    plans = [(way, *planned(way)) for way in ways]
    return settled(*min(plans, key=lambda plan: plan[2].seconds()))


def added(blocks: Blocks) -> Block | None:
    """The sum of the blocks; None if all of them are zero."""
    total: Block | None = None
    for block in blocks:
        if block is not None:
            total = block if total is None else total + block
    return total
