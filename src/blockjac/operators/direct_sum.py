"""Tangents by several variables at once, as one block over the direct sum of their spaces.

A loop that carries a block for each variable does every small operation of a step once for each.
Where these blocks are dense anyway, it may as well carry one whose input axis holds the entries of
all of them, one variable after the other, as a basis of tangents does:

    J star [T1  T2  ...]  =  [J star T1   J star T2  ...]

What goes in keeps its structure: a variable's entries are a range of the axis, and its own axes
are the digits of the places there, so that an identity stores nothing. Cotangents of several
results go back through a loop in the same way, transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from blockjac.algebra.backend import planned, settled
from blockjac.algebra.cost import Cost
from blockjac.algebra.plan_cache import signature_of
from blockjac.algebra.star import star
from blockjac.base.promises import is_forwards, is_structure_kept
from blockjac.base.tracing import is_in_a_step
from blockjac.operators.compose import pulled_in_one, pulled_through, pushed_in_one, pushed_through
from blockjac.operators.operator import OperatorGroup, added, transposed
from blockjac.terms.block import Block
from blockjac.terms.index import Index, Label, collect
from blockjac.terms.term import Term

Blocks = Sequence[Block | None]
Tangents = Mapping[Hashable, Blocks]
"""By variable, for each operand of an operator a block of it; None for zero."""

Answers = dict[Hashable, list[Block | None]]
"""By variable, for each result of an operator a block of it; None for zero."""


Act = Callable[[Blocks], list[Block | None]]
"""A linear map of blocks."""


@dataclass(frozen=True)
class _Map:
    """An operator in one direction.

    Attributes:
        group: the operator.
        direction: of the map.
        alone: the map of blocks by one variable.
        at_once: the same of blocks by several.
    """

    group: OperatorGroup
    direction: Literal["forwards", "backwards"]
    alone: Act
    at_once: Act


def pushed_together(group: OperatorGroup, tangents: Tangents, wanted: Collection[int]) -> Answers:
    """`sum over inputs of J star tangent` by each variable.

    Variables are taken together where that takes less time and no answer loses structure by it.

    Args:
        group: the operator.
        tangents: what enters it.
        wanted: places of the results that matter.
    """
    if not group.can_push:
        return {one: pushed_through(group, own) for one, own in tangents.items()}
    forwards = _Map(
        group, "forwards", partial(pushed_through, group), partial(pushed_in_one, group)
    )
    return _together(forwards, tangents, wanted)


def pulled_together(group: OperatorGroup, cotangents: Tangents, wanted: Collection[int]) -> Answers:
    """`sum over outputs of cotangent star J` of each result.

    Args:
        group: the operator.
        cotangents: what leaves it, by result.
        wanted: places of the inputs that matter.
    """
    if not group.can_pull:
        return {one: pulled_through(group, own) for one, own in cotangents.items()}
    backwards = _Map(
        group,
        "backwards",
        lambda own: transposed(pulled_through(group, transposed(own))),
        lambda own: transposed(pulled_in_one(group, transposed(own))),
    )
    tangents = {one: transposed(own) for one, own in cotangents.items()}
    answers = _together(backwards, tangents, wanted)
    return {one: transposed(own) for one, own in answers.items()}


def _together(act: _Map, tangents: Tangents, wanted: Collection[int]) -> Answers:
    """What a linear map gives by each variable, of which several may be taken together."""
    found: Answers = {}
    if act.group.carries and not is_structure_kept():  # such an answer keeps that of each variable
        for together in _of_one_dtype(tangents):
            found |= _jointly(act, together, wanted)
    return {
        variable: found[variable] if variable in found else act.alone(blocks)
        for variable, blocks in tangents.items()
    }


def _of_one_dtype(tangents: Tangents) -> list[dict[Hashable, Blocks]]:
    """The variables in groups that one block can hold."""
    groups: dict[Any, dict[Hashable, Blocks]] = {}
    for variable, blocks in tangents.items():
        dtypes = {block.dtype for block in blocks if block is not None}
        if len(dtypes) == 1:
            groups.setdefault(dtypes.pop(), {})[variable] = blocks
    return [group for group in groups.values() if len(group) > 1]


def _jointly(act: _Map, tangents: Tangents, wanted: Collection[int]) -> Answers:
    """The answers by these variables, of which those are taken together that are better so."""
    key, plans = (act.direction, *_key(tangents, wanted)), act.group.plans
    if key not in plans:  # the candidates of an order ask the same again
        plans[key] = _compared(act, tangents, wanted)
    apart, joint = plans[key]
    found: Answers = {}
    if joint is not None:
        way = partial(_joint, tangents, joint.full, act.at_once)
        found = settled(way, joint.answers, joint.cost)
    for variable, one in apart.items():
        if variable not in found:
            way = partial(act.alone, tangents[variable])
            found[variable] = settled(way, list(one.answers), one.cost)
    return found


def _key(tangents: Tangents, wanted: Collection[int]) -> tuple[Any, ...]:
    """All that a comparison depends on."""
    signatures = tuple(
        (variable, tuple([None if block is None else signature_of(block)[0] for block in blocks]))
        for variable, blocks in tangents.items()
    )
    return signatures, frozenset(wanted), is_in_a_step(), is_forwards()


def _compared(
    act: _Map, tangents: Tangents, wanted: Collection[int]
) -> tuple[dict[Hashable, _Planned], _Joint | None]:
    """The plans by each variable, and that by several if it takes less time."""
    apart = {
        variable: _Planned(*planned(partial(act.alone, blocks)))
        for variable, blocks in tangents.items()
    }
    full = {variable: one for variable, one in apart.items() if one.is_full(wanted)}
    if len(full) < 2:
        return apart, None
    answers, cost = planned(partial(_joint, tangents, full, act.at_once))
    is_better = cost.seconds() < sum(one.cost.seconds() for one in full.values())
    return apart, _Joint(full, answers, cost) if is_better else None


def _joint(tangents: Tangents, full: Mapping[Hashable, _Planned], at_once: Act) -> Answers:
    """The answers by some variables, taken together."""
    space = DirectSum.of({variable: tangents[variable] for variable in full})
    answers = space.parted(at_once(space.joined(tangents)))
    return {variable: full[variable].without_zeros(answers[variable]) for variable in full}


@dataclass(frozen=True)
class _Joint:
    """What a plan says of the answers by several variables together, and what they cost."""

    full: Mapping[Hashable, _Planned]
    answers: Answers
    cost: Cost


@dataclass(frozen=True)
class _Planned:
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

    def without_zeros(self, answers: Blocks) -> list[Block | None]:
        """Those of other answers that are not zero here."""
        return [
            None if own is None else other for own, other in zip(self.answers, answers, strict=True)
        ]


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
        """For each operand one block by all variables."""
        entering = [
            [block and self._entering(variable, block) for block in tangents[variable]]
            for variable in self.shapes
        ]
        return [added(blocks) for blocks in zip(*entering, strict=True)]

    def parted(self, answers: Blocks) -> Answers:
        """The answers by each variable, from those by all of them."""
        return {
            variable: [block and self._part(variable, block) for block in answers]
            for variable in self.shapes
        }

    def _entering(self, variable: Hashable, block: Block) -> Block:
        """What a block by one variable is by all of them."""
        return star(star(block, self._digits(variable, block).T), self._range(variable, block).T)

    def _part(self, variable: Hashable, block: Block) -> Block:
        """What a block by all variables is by one of them: first cut out, then over its axes."""
        return star(star(block, self._range(variable, block)), self._digits(variable, block))

    def _range(self, variable: Hashable, block: Block) -> Block:
        """From a variable's entries in a row to where they stand in the sum."""
        entries = math.prod(self.shapes[variable])
        own = Label(entries)
        place = Index.of(own, 1, self.offsets[variable])
        term = Term((), (place,), (Index.of(own),))
        return Block((self.size,), (entries,), block.dtype, [term])

    def _digits(self, variable: Hashable, block: Block) -> Block:
        """From a variable's axes to its entries in a row."""
        shape = self.shapes[variable]
        labels = [Label(size) for size in shape]
        weights = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        place = Index(0, collect(zip(labels, weights, strict=True)))
        term = Term((), (place,), tuple(map(Index.of, labels)))
        return Block((math.prod(shape),), shape, block.dtype, [term])
