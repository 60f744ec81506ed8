"""Tangents by several variables at once, as one block over the direct sum of their spaces.

A loop that carries a block for each variable does every small operation of a step once for each.
Where these blocks are dense anyway, it may as well carry one whose input axis holds the entries of
all of them, one variable after the other, as a basis of tangents does:

    J star [T1  T2  ...]  =  [J star T1   J star T2  ...]

What enters keeps its structure: a variable's entries are a range of the axis, and its own axes are
the digits of the positions there, so an identity stores nothing. Cotangents of several results go
back through a loop in the same way, transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from blockjac.algebra.backend import planned, settled
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import at_equation
from blockjac.algebra.plan_cache import signature_of
from blockjac.algebra.star import star
from blockjac.base.promises import is_forwards, is_structure_kept
from blockjac.base.tracing import is_in_a_step
from blockjac.operators.compose import pulled_through, pushed_through
from blockjac.operators.operator import Blocks, OperatorGroup, added, transposed
from blockjac.terms.block import Block
from blockjac.terms.index import Index, Label, collect
from blockjac.terms.term import Term

Tangents = Mapping[Hashable, Blocks]
"""By variable, a block for each operand of an operator; None for zero."""

Results = dict[Hashable, list[Block | None]]
"""By variable, a block for each result of an operator; None for zero."""

Act = Callable[[Blocks], list[Block | None]]
"""A linear map of blocks."""


@dataclass(frozen=True)
class _Map:
    """An operator in one direction.

    Attributes:
        group: the operator.
        direction: of the map.
        alone: the map of blocks by one variable.
        at_once: the map of blocks by several.
    """

    group: OperatorGroup
    direction: Literal["forwards", "backwards"]
    alone: Act
    at_once: Act


def pushed_together(group: OperatorGroup, tangents: Tangents, needed: Collection[int]) -> Results:
    """`sum over inputs of J star tangent`, by each variable.

    Variables are taken together where that takes less time and no result loses structure by it.

    Args:
        group: the operator.
        tangents: those of its operands.
        needed: the numbers of the results that matter.
    """
    if not group.can_push:
        return {variable: pushed_through(group, blocks) for variable, blocks in tangents.items()}
    forwards = _Map(group, "forwards", partial(pushed_through, group), group.pushforward)
    return _together(forwards, tangents, needed)


def pulled_together(group: OperatorGroup, cotangents: Tangents, needed: Collection[int]) -> Results:
    """`sum over outputs of cotangent star J`, of each dependent variable.

    Args:
        group: the operator.
        cotangents: those of its results.
        needed: the numbers of the inputs that matter.
    """
    if not group.can_pull:
        return {variable: pulled_through(group, blocks) for variable, blocks in cotangents.items()}
    backwards = _Map(
        group,
        "backwards",
        lambda blocks: transposed(pulled_through(group, transposed(blocks))),
        lambda blocks: transposed(group.pullback(transposed(blocks))),
    )
    tangents = {variable: transposed(blocks) for variable, blocks in cotangents.items()}
    results = _together(backwards, tangents, needed)
    return {variable: transposed(blocks) for variable, blocks in results.items()}


def _together(act: _Map, tangents: Tangents, needed: Collection[int]) -> Results:
    """The results of a linear map by each variable, some of which may be taken together."""
    results: Results = {}
    if act.group.carries and not is_structure_kept():  # which would keep that of each variable
        for together in _of_one_dtype(tangents):
            results |= _jointly(act, together, needed)
    return {
        variable: results[variable] if variable in results else act.alone(blocks)
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


def _jointly(act: _Map, tangents: Tangents, needed: Collection[int]) -> Results:
    """The results by these variables, taken together where that is faster."""
    key, plans = (act.direction, *_key(tangents, needed)), act.group.plans
    if key not in plans:  # the candidates of an order ask the same again
        plans[key] = _compared(act, tangents, needed)
    separate, joint = plans[key]
    results: Results = {}
    if joint is not None:
        compute = partial(_joint, act, tangents, joint.full)
        results = settled(compute, joint.results, joint.cost)
    for variable, plan in separate.items():
        if variable not in results:
            compute = partial(act.alone, tangents[variable])
            results[variable] = settled(compute, list(plan.results), plan.cost)
    return results


def _key(tangents: Tangents, needed: Collection[int]) -> tuple[Any, ...]:
    """All that a comparison depends on."""
    signatures = tuple(
        (variable, tuple([None if block is None else signature_of(block)[0] for block in blocks]))
        for variable, blocks in tangents.items()
    )
    return signatures, frozenset(needed), is_in_a_step(), is_forwards()


def _compared(
    act: _Map, tangents: Tangents, needed: Collection[int]
) -> tuple[dict[Hashable, _Planned], _Joint | None]:
    """The plans by each variable, and that by several if it takes less time."""
    separate = {
        variable: _Planned(*planned(partial(act.alone, blocks)))
        for variable, blocks in tangents.items()
    }
    full = {variable: plan for variable, plan in separate.items() if plan.is_full(needed)}
    if len(full) < 2:
        return separate, None
    joint = _Joint(full, *planned(partial(_joint, act, tangents, full)))
    is_faster = joint.cost.seconds() < sum(plan.cost.seconds() for plan in full.values())
    return separate, joint if is_faster else None


def _joint(act: _Map, tangents: Tangents, full: Mapping[Hashable, _Planned]) -> Results:
    """The results by some variables, taken together."""
    space = DirectSum.of({variable: tangents[variable] for variable in full})
    entering = space.joined(tangents)
    with at_equation(act.group.equation):
        leaving = act.at_once(entering)
    results = space.parted(leaving)
    return {variable: full[variable].without_zeros(results[variable]) for variable in full}


@dataclass(frozen=True)
class _Joint:
    """The planned results by several variables together, and their cost."""

    full: Mapping[Hashable, _Planned]
    results: Results
    cost: Cost


@dataclass(frozen=True)
class _Planned:
    """The planned results by one variable, and their cost."""

    results: Blocks
    cost: Cost

    def is_full(self, needed: Collection[int]) -> bool:
        """Whether each of the results that matter stores all of its entries, or is zero."""
        return all(
            block is None or block.stored >= block.size
            for number, block in enumerate(self.results)
            if number in needed
        )

    def without_zeros(self, blocks: Blocks) -> list[Block | None]:
        """The blocks, without those whose results are zero here."""
        return [result and block for result, block in zip(self.results, blocks, strict=True)]


@dataclass(frozen=True)
class DirectSum:
    """The entries of several variables one after the other along one axis.

    Attributes:
        shapes: of the variables.
    """

    shapes: Mapping[Hashable, tuple[int, ...]]

    @staticmethod
    def of(tangents: Tangents) -> DirectSum:
        """That of the variables of some tangents; each variable has one that is not None."""
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

    def parted(self, blocks: Blocks) -> Results:
        """The blocks by each variable, from those by all of them."""
        return {
            variable: [block and self._part(variable, block) for block in blocks]
            for variable in self.shapes
        }

    def _entering(self, variable: Hashable, block: Block) -> Block:
        """The block by all variables of a block by one of them."""
        return star(star(block, self._digits(variable, block).T), self._range(variable, block).T)

    def _part(self, variable: Hashable, block: Block) -> Block:
        """The block by one variable of a block by all: first cut out, then over its axes."""
        return star(star(block, self._range(variable, block)), self._digits(variable, block))

    def _range(self, variable: Hashable, block: Block) -> Block:
        """From a variable's entries in a row to their positions in the sum."""
        entries = math.prod(self.shapes[variable])
        label = Label(entries)
        position = Index.of(label, 1, self.offsets[variable])
        term = Term((), (position,), (Index.of(label),))
        return Block((self.size,), (entries,), block.dtype, [term])

    def _digits(self, variable: Hashable, block: Block) -> Block:
        """From a variable's axes to its entries in a row."""
        shape = self.shapes[variable]
        labels = [Label(size) for size in shape]
        weights = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        position = Index(0, collect(zip(labels, weights, strict=True)))
        term = Term((), (position,), tuple(map(Index.of, labels)))
        return Block((math.prod(shape),), shape, block.dtype, [term])
