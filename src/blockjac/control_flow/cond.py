"""`cond` and `switch`: the branch that ran is the branch that is differentiated.

The branches' eliminations are a switch of their own. All give blocks of one structure: the deltas
that every branch keeps. The values that the branches need on the way back share one set of arrays,
since only one of the branches ran.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Body, remembered
from blockjac.control_flow.carry_notes import note_branches
from blockjac.control_flow.carry_structure import (
    Forms,
    Pattern,
    abstract_arrays,
    arrays_of,
    blocks_of,
    carry_structure_of,
    joined,
    written_cost,
)
from blockjac.control_flow.followed import union, unknown
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.control_flow.varying_types import alike
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point
from blockjac.graph.graph import Equation
from blockjac.operators.operator import Blocks
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule

Act = Callable[[Body, EliminationGraph], list[Block | None]]
"""What a branch does with blocks, from its elemental Jacobians."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "operands", "slots"],
    meta_fields=["trees", "slots_of"],
)
@dataclass(frozen=True)
class Kept:
    """What a switch keeps for its way back.

    Attributes:
        index: the number of the branch that ran.
        operands: those that a branch needs, by position.
        slots: arrays that the branch that ran has filled as far as it needs them.
        trees: the tree of what each branch keeps besides operands.
        slots_of: for each branch, the slots of the leaves of that tree.
    """

    index: Any
    operands: Mapping[int, Any]
    slots: Sequence[Any]
    trees: tuple[Any, ...]
    slots_of: tuple[tuple[int, ...], ...]


@remembered
def branches_of(equation: Equation, active: Sequence[bool]) -> list[Body]:
    """The branches of an equation."""
    told = None if equation.told is None else equation.told[1:]
    return [Body(branch, tuple(active[1:]), told=told) for branch in equation.params["branches"]]


def kept_operands(body: Body) -> list[int | None]:
    """Which operand each value is that a branch keeps; None if it is not an operand."""
    positions = {value: position for position, value in enumerate(body.graph.inputs)}
    return [positions.get(value) for value in body.kept_values]


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results, and the values that the branch that ran needs on the way back."""
    bodies = branches_of(equation, active)
    index, *operands = inputs
    programs, trees, leaves = zip(*(_traced(body, operands) for body in bodies), strict=True)
    slots, slots_of = _shared_slots(leaves)
    count = len(bodies[0].graph.outputs)

    def branch(program: Any, own_slots: Sequence[int]) -> Callable[[Arrays], list[Any]]:
        """A branch that gives its results, and all slots."""

        def run(operands: Arrays) -> list[Any]:
            """The branch; the slots of others are zeros."""
            outs = compat.evaluated(program, operands)
            filled = dict(zip(own_slots, outs[count:], strict=True))
            arrays = [
                filled[number] if number in filled else jnp.zeros(slot.shape, slot.dtype)
                for number, slot in enumerate(slots)
            ]
            return [*outs[:count], *arrays]

        return run

    runs = list(map(branch, programs, slots_of))
    outs = _run_one(equation, index, alike(runs, operands), operands)
    needed = {operand for body in bodies for operand in kept_operands(body) if operand is not None}
    kept = {operand: operands[operand] for operand in sorted(needed)}
    return list(outs[:count]), Kept(index, kept, outs[count:], trees, tuple(slots_of))


def _run_one(
    equation: Equation, index: Any, branches: Sequence[Callable[..., Any]], *operands: Any
) -> Any:
    """Run the branch of an index, or of the platform; then the others are not even lowered."""
    platforms = equation.params.get("branches_platforms")  # of each branch; None for the rest
    if platforms is None:
        return lax.switch(index, branches, *operands)
    pairs = list(zip(platforms, branches, strict=True))
    default = next((branch for names, branch in pairs if names is None), None)
    named = {name: branch for names, branch in pairs if names is not None for name in names}
    return lax.platform_dependent(*operands, default=default, **named)


def _traced(body: Body, operands: Arrays) -> tuple[Any, Any, list[Any]]:
    """A branch as a jaxpr of its results and kept leaves, with the tree and shapes of these."""
    trees: list[Any] = []
    positions = kept_operands(body)

    def run(*operands: Any) -> list[Any]:
        """The results, and the leaves that are kept besides operands."""
        point = body.evaluate(operands)
        kept = body.kept(point)
        values = [
            value for value, position in zip(kept, positions, strict=False) if position is None
        ]
        leaves, tree = jax.tree.flatten([values, kept[len(positions) :]])
        trees.append(tree)
        return [*body.results(point), *leaves]

    program, shapes = jax.make_jaxpr(run, return_shape=True)(*operands)
    return program, trees[0], shapes[len(body.graph.outputs) :]


def _shared_slots(leaves: Sequence[Sequence[Any]]) -> tuple[list[Any], list[tuple[int, ...]]]:
    """Arrays that serve all branches, and for each branch the slots of its leaves."""
    slots: list[Any] = []
    slots_of = []
    for shapes in leaves:
        free = list(range(len(slots)))
        filled = []
        for shape in shapes:
            fitting = (number for number in free if _kind(slots[number]) == _kind(shape))
            slot = next(fitting, None)
            if slot is None:
                slot = len(slots)
                slots.append(shape)
            else:
                free.remove(slot)
            filled.append(slot)
        slots_of.append(tuple(filled))
    return slots, slots_of


def _kind(shape: Any) -> tuple[Any, Any]:
    return tuple(shape.shape), shape.dtype


class SwitchGroup(NestedGroup):
    """A switch: its pullback and its pushforward are switches between those of the branches."""

    carries = True

    @functools.cached_property
    def bodies(self) -> list[Body]:
        """The branches."""
        return branches_of(self.equation, self.active)

    @property
    def can_pull(self) -> bool:
        """Whether the operators of all branches can."""
        return all(body.part.is_reversible for body in self.bodies)

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """By the branch that ran."""
        return [None, *self._switched(lambda body, edges: body.pulled(edges, cotangents), True)]

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By the branch that ran."""
        return self._switched(lambda body, edges: body.pushed(edges, tangents[1:]), False)

    def _switched(self, act: Act, backwards: bool) -> list[Block | None]:
        """The blocks that the branch gives that ran, in the form that all branches share."""
        costs, planned = [], []
        for body in self.bodies:
            with planning() as cost:
                planned.append(act(body, body.abstract_edges(_is_whole(body, backwards))))
            costs.append(cost)
        forms_of_branches = ([*map(carry_structure_of, blocks)] for blocks in planned)
        forms = [joined(shared) for shared in zip(*forms_of_branches, strict=True)]
        places = self._places(act, backwards, forms)

        def dearest() -> Cost:
            for cost, blocks in zip(costs, planned, strict=True):
                cost.add(written_cost(forms, blocks))
            return max(costs, key=lambda cost: cost.seconds())

        def branch(number: int) -> Callable[[], list[Any]]:
            def run() -> list[Any]:
                body = self.bodies[number]
                return arrays_of(forms, act(body, body.edges(self._point(number, backwards))))

            return run

        def emit() -> list[Any]:
            branches = alike([branch(number) for number in range(len(self.bodies))])
            return _run_one(self.equation, self.residuals.index, branches)

        if is_recording():
            note_branches(unknown(forms, places), planned)
        arrays = backend().runs(dearest, 1, emit, lambda: abstract_arrays(forms))
        return blocks_of(forms, arrays, places)

    def _places(self, act: Act, backwards: bool, forms: Forms) -> list[Pattern | None]:
        """Where the blocks of one branch or another may be nonzero."""
        if any(body.told is None for body in self.bodies) or not backend().knows_places:
            return [None] * len(forms)
        with planning(knows_places=True):
            planned = [
                act(body, body.abstract_edges(_is_whole(body, backwards), body.structured))
                for body in self.bodies
            ]
        return [
            form and union([form.places(block) for block in blocks])
            for form, *blocks in zip(forms, *planned, strict=True)
        ]

    def _point(self, number: int, backwards: bool) -> Point:
        """The point of a branch, from what the switch kept or evaluated again."""
        body, kept = self.bodies[number], self.residuals
        if _is_whole(body, backwards):
            return body.evaluate(self.inputs[1:])
        leaves = [kept.slots[slot] for slot in kept.slots_of[number]]
        computed, passes = jax.tree.unflatten(kept.trees[number], leaves)
        rest = iter(computed)
        values = [
            next(rest) if position is None else kept.operands[position]
            for position in kept_operands(body)
        ]
        return body.restored([*values, *passes])


def _is_whole(body: Body, backwards: bool) -> bool:
    """Whether a branch needs its point whole: the values kept serve only the way back."""
    return not backwards and bool(body.part.passes)


OPERATOR_RULES["cond"] = OperatorRule(
    evaluate,
    SwitchGroup.rows_of,
    lambda equation, active: all(body.part.is_reversible for body in branches_of(equation, active)),
)
