"""Tangents by several variables at once: one dense block over the direct sum of their spaces.

A loop that carries a block for each variable does every small operation of a step once for each.
Where these blocks are dense anyway, it may as well carry one whose input axis holds the entries of
all of them, one variable after the other, as a basis of tangents does:

    J star [T1  T2  ...]  =  [J star T1   J star T2  ...]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.cost import Abstract, Cost, following_places, is_planning, planning
from blockjac.algebra.outside import outside_parts
from blockjac.algebra.star import star
from blockjac.base.promises import is_structure_kept
from blockjac.errors import DenseTooLargeError
from blockjac.operators.operator import OperatorGroup, pushed_through
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

Blocks = Sequence[Block | None]
Tangents = Mapping[Hashable, Blocks]
"""By variable, for each operand of an operator a block of it; None for zero."""


def pushed_together(
    group: OperatorGroup, tangents: Tangents, wanted: Collection[int]
) -> dict[Hashable, list[Block | None]]:
    """`sum over inputs of J star tangent` by each variable, for each output; None for no tangent.

    Variables are taken together where that takes less time and no result loses structure by it.

    Args:
        group: the operator.
        tangents: what enters it.
        wanted: places of the results that matter.
    """
    found: dict[Hashable, list[Block | None]] = {}
    for together in _of_one_dtype(tangents) if _may_join(group) else ():
        found.update(_pushed_jointly(group, together, wanted))
    for variable, blocks in tangents.items():
        if variable not in found:
            found[variable] = pushed_through(group, blocks)
    return {variable: found[variable] for variable in tangents}


def _may_join(group: OperatorGroup) -> bool:
    """Whether small operations stand in a program of the operator's own, and the answer is dense.

    An answer that keeps its structure keeps that of each variable.
    """
    return group.carries and group.push is not None and not is_structure_kept()


def _of_one_dtype(tangents: Tangents) -> list[dict[Hashable, Blocks]]:
    groups: dict[Any, dict[Hashable, Blocks]] = {}
    for variable, blocks in tangents.items():
        block = next((one for one in blocks if one is not None), None)
        if block is not None:
            groups.setdefault(block.dtype, {})[variable] = blocks
    return list(groups.values())


def _pushed_jointly(
    group: OperatorGroup, tangents: Tangents, wanted: Collection[int]
) -> dict[Hashable, list[Block | None]]:
    """The answers of those variables that are taken together; none if they are better apart."""
    if _count_of_parts(tangents) < 2:
        return {}
    apart = {variable: _planned(group, blocks) for variable, blocks in tangents.items()}
    full = {variable: one for variable, one in apart.items() if one.is_full(wanted)}
    chosen = {variable: tangents[variable] for variable in full}
    if _count_of_parts(chosen) < 2:
        return {}
    space = DirectSum.of(chosen)

    def jointly() -> dict[Hashable, list[Block | None]]:
        return space.parted(pushed_through(group, space.joined(chosen)), full)

    try:
        joint = _priced(jointly)[1].seconds()
    except DenseTooLargeError:
        return {}
    return jointly() if joint < sum(one.cost.seconds() for one in full.values()) else {}


def _count_of_parts(tangents: Tangents) -> int:
    """How many index maps there are, each of which an operator may be applied to by itself."""
    return sum(
        len(outside_parts([block and block.T for block in blocks])) for blocks in tangents.values()
    )


@dataclass(frozen=True)
class Planned:
    """What a plan says of the answers by one variable, and what they cost."""

    answers: Blocks
    cost: Cost

    def is_full(self, wanted: Collection[int]) -> bool:
        """Whether each of the answers that matter stores all of its entries, or is zero."""
        return all(
            block is None or block.stored >= block.size
            for place, block in enumerate(self.answers)
            if place in wanted
        )


def _planned(group: OperatorGroup, tangents: Blocks) -> Planned:
    return Planned(*_priced(lambda: pushed_through(group, tangents)))


def _priced(way: Callable[[], Any]) -> tuple[Any, Cost]:
    with planning() as cost, following_places(False):
        return way(), cost


@dataclass(frozen=True)
class DirectSum:
    """The entries of several variables one after the other along one axis.

    Attributes:
        shapes: of the variables.
    """

    shapes: Mapping[Hashable, tuple[int, ...]]

    @staticmethod
    def of(tangents: Tangents) -> DirectSum:
        """That of the variables of some tangents, each of which has one that is not None."""
        return DirectSum(
            {
                variable: next(block.wrt_shape for block in blocks if block is not None)
                for variable, blocks in tangents.items()
            }
        )

    @cached_property
    def offsets(self) -> dict[Hashable, int]:
        """Where each variable begins."""
        offsets, reached = {}, 0
        for variable, shape in self.shapes.items():
            offsets[variable] = reached
            reached += math.prod(shape)
        return offsets

    @cached_property
    def size(self) -> int:
        """How many entries there are."""
        return sum(map(math.prod, self.shapes.values()))

    def joined(self, tangents: Tangents) -> list[Block | None]:
        """For each operand one dense block by all variables."""
        return [
            self._joined(
                {variable: one for variable, one in zip(tangents, own, strict=True) if one}
            )
            for own in zip(*tangents.values(), strict=True)
        ]

    def _joined(self, blocks: Mapping[Hashable, Block]) -> Block | None:
        if not blocks:
            return None
        first = next(iter(blocks.values()))
        terms = [self._term(variable, block) for variable, block in blocks.items()]
        array = Block(first.out_shape, (self.size,), first.dtype, terms).dense()
        return _dense(array, len(first.out_shape))

    def _term(self, variable: Hashable, block: Block) -> Term:
        """A block written dense, with its input axes as places of the one axis."""
        entries = math.prod(block.wrt_shape)
        out = [Label(size) for size in block.out_shape]
        own = Label(entries)
        array = _reshaped(block.dense(), (*block.out_shape, entries))
        place = Index.of(own, 1, self.offsets[variable])
        return Term((Factor(array, (*out, own)),), tuple(map(Index.of, out)), (place,))

    def parted(
        self, answers: Blocks, apart: Mapping[Hashable, Planned]
    ) -> dict[Hashable, list[Block | None]]:
        """The answers by each variable.

        Args:
            answers: by all of them.
            apart: what is known of each by itself: which answers are zero.
        """
        return {
            variable: [
                None if one is None or known is None else star(one, self._selection(variable, one))
                for one, known in zip(answers, planned.answers, strict=True)
            ]
            for variable, planned in apart.items()
        }

    def _selection(self, variable: Hashable, block: Block) -> Block:
        """From a variable's axes to the places of its entries."""
        shape = self.shapes[variable]
        labels = [Label(size) for size in shape]
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        place = Index(
            self.offsets[variable],
            tuple(pair for pair in zip(labels, strides, strict=True) if pair[0].size != 1),
        )
        term = Term((), (place,), tuple(map(Index.of, labels)))
        return Block((self.size,), shape, block.dtype, [term])


def _reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    return Abstract(shape, array.dtype) if is_planning() else jnp.reshape(array, shape)


def _dense(array: Any, out_ndim: int) -> Block:
    labels = [Label(size) for size in array.shape]
    out, wrt = labels[:out_ndim], labels[out_ndim:]
    term = Term((Factor(array, tuple(labels)),), tuple(map(Index.of, out)), tuple(map(Index.of, wrt)))
    return Block(array.shape[:out_ndim], array.shape[out_ndim:], array.dtype, [term])
