"""`cond` and `switch`: the branch that ran is the branch that is differentiated.

The branches' eliminations stand in a switch of their own. All give blocks of one structure: the
deltas that every branch keeps. What the branches need on the way back shares one set of arrays,
since only one of them ran.
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
from blockjac.control_flow.body import Blocks, Body, remembered
from blockjac.control_flow.carry_notes import note_branches
from blockjac.control_flow.carry_structure import (
    CarryStructure,
    Pattern,
    carry_structure_of,
    joined,
    written_cost,
)
from blockjac.control_flow.followed import union, unknown
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.control_flow.varying_types import alike
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point
from blockjac.graph.graph import Equation
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule

Arrays = Sequence[Any]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "operands", "slots"],
    meta_fields=["trees", "places"],
)
@dataclass(frozen=True)
class Kept:
    """What is kept of a switch for its way back.

    Attributes:
        index: of the branch that ran.
        operands: those that a branch needs, by place.
        slots: arrays that the branch that ran has filled as far as it needs them.
        trees: for each branch, of what it kept beside operands.
        places: for each branch, the slots of these leaves.
    """

    index: Any
    operands: Mapping[int, Any]
    slots: Sequence[Any]
    trees: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...]


def branches_of(equation: Equation, active: Sequence[bool]) -> list[Body]:
    """The branches of an equation."""
    return remembered(equation, active, _branches_of)


def _branches_of(equation: Equation, active: Sequence[bool]) -> list[Body]:
    told = None if equation.told is None else equation.told[1:]
    return [Body(branch, tuple(active[1:]), told=told) for branch in equation.params["branches"]]


def operand_places(body: Body) -> list[int | None]:
    """Of each value that a branch needs: which operand it is, None if it is none of them."""
    places = {value: place for place, value in enumerate(body.graph.inputs)}
    return [places.get(value) for value in body.kept_values]


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results, and what the branch that ran needs on the way back."""
    bodies = branches_of(equation, active)
    index, *operands = inputs
    programs, trees, leaves = [], [], []
    for body in bodies:
        program, tree, shapes = _traced(body, operands)
        programs.append(program)
        trees.append(tree)
        leaves.append(shapes)
    slots, places = _shared_slots(leaves)
    count = len(bodies[0].graph.outputs)

    def branch(program: Any, own: Sequence[int]) -> Callable[[Arrays], list[Any]]:
        def run(operands: Arrays) -> list[Any]:
            found = compat.evaluated(program, operands)
            filled = dict(zip(own, found[count:], strict=True))
            empty = [filled.get(k) for k in range(len(slots))]
            return [
                *found[:count],
                *(
                    jnp.zeros(slot.shape, slot.dtype) if one is None else one
                    for slot, one in zip(slots, empty, strict=True)
                ),
            ]

        return run

    runs = [branch(program, own) for program, own in zip(programs, places, strict=True)]
    found = _run_one(_platforms(equation), index, alike(runs, operands), operands)
    needed = {place for body in bodies for place in operand_places(body) if place is not None}
    kept = {place: operands[place] for place in sorted(needed)}
    return list(found[:count]), Kept(index, kept, found[count:], tuple(trees), tuple(places))


def _platforms(equation: Equation) -> Sequence[Sequence[str] | None] | None:
    """For `lax.platform_dependent` the platforms of each branch, None for all others."""
    return equation.params.get("branches_platforms")


def _run_one(
    platforms: Sequence[Sequence[str] | None] | None,
    index: Any,
    branches: Sequence[Callable[..., Any]],
    *operands: Any,
) -> Any:
    """The branch of an index; or of the platform, when the others are not even lowered for it."""
    if platforms is None:
        return lax.switch(index, branches, *operands)
    pairs = list(zip(platforms, branches, strict=True))
    default = next((branch for names, branch in pairs if names is None), None)
    named = {name: branch for names, branch in pairs if names is not None for name in names}
    return lax.platform_dependent(*operands, default=default, **named)


def _traced(body: Body, operands: Arrays) -> tuple[Any, Any, list[Any]]:
    """A branch as a jaxpr that gives its results and what it keeps; the tree and shapes of that."""
    trees: list[Any] = []
    places = operand_places(body)

    def run(*operands: Any) -> list[Any]:
        point = body.evaluate(operands)
        kept = body.kept(point)
        own = [one for one, place in zip(kept, places, strict=False) if place is None]
        leaves, tree = jax.tree.flatten([own, kept[len(places) :]])
        trees.append(tree)
        return [*body.results(point), *leaves]

    program, shapes = jax.make_jaxpr(run, return_shape=True)(*operands)
    return program, trees[0], shapes[len(body.graph.outputs) :]


def _shared_slots(leaves: Sequence[Sequence[Any]]) -> tuple[list[Any], list[tuple[int, ...]]]:
    """Arrays that serve all branches, and for each branch which of them its leaves go to."""
    slots: list[Any] = []
    places = []
    for shapes in leaves:
        free = list(range(len(slots)))
        own = []
        for shape in shapes:
            same = (k for k in free if _kind(slots[k]) == _kind(shape))
            slot = next(same, None)
            if slot is None:
                slot = len(slots)
                slots.append(shape)
            else:
                free.remove(slot)
            own.append(slot)
        places.append(tuple(own))
    return slots, places


def _kind(shape: Any) -> tuple[Any, Any]:
    return tuple(shape.shape), shape.dtype


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The switch as an operator."""
    return SwitchGroup(equation, inputs, outs, residuals, active).placed()


class SwitchGroup(NestedGroup):
    """A switch: its pullback and its pushforward are switches between those of the branches."""

    carries = True

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Kept,
        active: Sequence[bool],
    ) -> None:
        super().__init__("cond", outs, inputs, active)
        self.bodies = branches_of(equation, active)
        self.platforms, self.inputs, self.kept = _platforms(equation), inputs, residuals

    @property
    def can_pull(self) -> bool:
        """Whether the operators of all branches can be."""
        return all(body.reversible for body in self.bodies)

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """By the branch that ran."""
        return [None, *self._switched(lambda body, edges: body.pulled(edges, cotangents), True)]

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By the branch that ran."""
        return self._switched(lambda body, edges: body.pushed(edges, tangents[1:]), False)

    def _switched(
        self, act: Callable[[Body, EliminationGraph], list[Block | None]], backwards: bool
    ) -> list[Block | None]:
        costs, found, given = [], [], []
        for body in self.bodies:
            with planning() as cost:
                abstract = body.abstract_edges(whole=_is_whole(body, backwards))
                given.append(act(body, abstract))
            found.append([*map(carry_structure_of, given[-1])])
            costs.append(cost)
        forms: list[CarryStructure | None] = [joined(each) for each in zip(*found, strict=True)]
        seen = self._seen(act, backwards, forms)

        def dearest() -> Cost:
            for cost, blocks in zip(costs, given, strict=True):
                cost.add(written_cost(zip(forms, blocks, strict=True)))
            return max(costs, key=lambda cost: cost.seconds())

        numbers = range(len(self.bodies))

        def branch(number: int) -> Callable[[], list[Any]]:
            def run() -> list[Any]:
                body = self.bodies[number]
                blocks = act(body, body.edges(self._point(number, backwards)))
                return [
                    None if form is None else form.array(block)
                    for form, block in zip(forms, blocks, strict=True)
                ]

            return run

        if is_recording():
            note_branches(unknown(forms, seen), given)
        arrays = backend().runs(
            dearest,
            1,
            lambda: _run_one(self.platforms, self.kept.index, alike(list(map(branch, numbers)))),
            lambda: [form and form.abstract() for form in forms],
        )
        return [
            None if form is None else form.block(array, may)
            for form, array, may in zip(forms, arrays, seen, strict=True)
        ]

    def _seen(
        self,
        act: Callable[[Body, EliminationGraph], list[Block | None]],
        backwards: bool,
        forms: Sequence[CarryStructure | None],
    ) -> list[Pattern | None]:
        """Where the blocks of one branch or another may hold other numbers than zero."""
        seen: list[Pattern | None] = [None] * len(forms)
        if any(body.told is None for body in self.bodies) or not backend().knows_places:
            return seen
        with planning(knows_places=True):
            given = [
                act(body, body.abstract_edges(_is_whole(body, backwards), body.structured))
                for body in self.bodies
            ]
        for place, form in enumerate(forms):
            if form is not None:
                seen[place] = union([form.places(blocks[place]) for blocks in given])
        return seen

    def _point(self, number: int, backwards: bool) -> Point:
        body = self.bodies[number]
        if _is_whole(body, backwards):
            return body.evaluate(self.inputs[1:])
        leaves = [self.kept.slots[slot] for slot in self.kept.places[number]]
        own, passes = jax.tree.unflatten(self.kept.trees[number], leaves)
        given = iter(own)
        values = [
            next(given) if place is None else self.kept.operands[place]
            for place in operand_places(body)
        ]
        return body.restored([*values, *passes])


def _is_whole(body: Body, backwards: bool) -> bool:
    """Whether a branch needs its point whole: what is kept serves the way back only."""
    return not backwards and body.has_passes


def reversible(equation: Equation, active: Sequence[bool]) -> bool:
    """Whether every branch is."""
    return all(body.reversible for body in branches_of(equation, active))


OPERATOR_RULES["cond"] = OperatorRule(evaluate, edges, reversible)
