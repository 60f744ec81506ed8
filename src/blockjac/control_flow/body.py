"""A program inside an equation, and its own elimination."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Abstract
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import elemental
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point, evaluate, read
from blockjac.elimination.linearize import lead_to_results
from blockjac.elimination.residuals import (
    Needs,
    around_passes,
    early_partials,
    needs_of,
    residuals_of,
    restored_point,
    values_needed_for,
)
from blockjac.graph.graph import Equation, Graph, Known, Operand, values_of
from blockjac.graph.known_places import with_known_places
from blockjac.graph.trace import graph_of
from blockjac.operators.compose import written
from blockjac.operators.operator import Blocks, Edge
from blockjac.rules.registry import Residuals, edition

T = TypeVar("T")


@dataclass(eq=False)
class Body:
    """A jaxpr that is run and differentiated inside a loop or a branch.

    Attributes:
        jaxpr: the program, closed.
        active: which of its inputs are differentiated.
        by_value: whether functions with their own rule are differentiated as what they compute.
        told: what is known of each input; None if structure does not matter.
        carried: which inputs change from run to run; the way back must keep those that it needs,
            the others are available in any case.
    """

    jaxpr: Any
    active: Sequence[bool]
    by_value: bool = False
    told: Sequence[Known | None] | None = None
    carried: range = range(0)
    _abstract_edges: dict[tuple[bool, Graph], EliminationGraph] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """Its equations, without calls."""
        return graph_of(self.jaxpr, self.active, self.by_value)

    @cached_property
    def structured(self) -> Graph:
        """The same equations, annotated with known places and zeros."""
        return self.graph if self.told is None else with_known_places(self.graph, self.told)

    @cached_property
    def part(self) -> ActiveGraph:
        """The part between the differentiated inputs and the results."""
        return ActiveGraph.of(self.graph, self.graph.outputs)

    @cached_property
    def active_results(self) -> list[bool]:
        """Which results depend on a differentiated input."""
        return [self.part.is_active(output) for output in self.graph.outputs]

    def evaluate(self, inputs: Sequence[Any]) -> Point:
        """All values at the inputs, with the residuals of passes."""
        return evaluate(self.graph, inputs, self.graph.captured, self.part)

    def results(self, point: Point) -> list[Any]:
        """The results' values."""
        return [
            jnp.asarray(read(output, point.values), self.graph.aval(output).dtype)
            for output in self.graph.outputs
        ]

    def kept(self, point: Point) -> list[Any]:
        """What `restored` needs of a point: arrays, and the pytrees of passes after them."""
        return residuals_of(self.part, point, self.kept_values, self.early)

    @cached_property
    def kept_values(self) -> list[int]:
        """The values at the start of `kept`; derivatives and residuals follow them."""
        return values_needed_for(self._needs, self.early)

    @cached_property
    def early(self) -> list[Equation]:
        """The equations whose derivatives are computed with the values, and kept."""
        inputs, carried = self.graph.inputs, self.carried
        fixed = {*inputs[: carried.start], *self.graph.constants}
        for equation in self.graph.equations:  # those that depend on constants of a loop alone
            operands = values_of(equation.operands)
            if carried and operands and fixed.issuperset(operands):
                fixed.update(equation.results)
        return early_partials(self._needs, fixed.union(inputs[carried.stop :]))

    @cached_property
    def _needs(self) -> dict[Equation, Needs]:
        return needs_of(self.part)

    def restored(self, kept: Sequence[Any]) -> Point:
        """The point restored, as far as a pullback needs it."""
        return restored_point(self.part, kept, self.kept_values, self.early)

    def ahead(self, point: Point) -> tuple[list[Any], list[Any]]:
        """What a pushforward needs beside `kept`: values, and parts of the residuals of passes."""
        return (
            [point.values[value] for value in self.ahead_values],
            [Residuals.ahead_of(point.residuals[equation]) for equation in self.part.passes],
        )

    @cached_property
    def ahead_values(self) -> list[int]:
        """The values that a pushforward needs beside the `kept_values`."""
        kept = set(self.kept_values)
        return [value for value in around_passes(self.part) if value not in kept]

    def restored_ahead(self, kept: Sequence[Any], values: Sequence[Any], parts: Any) -> Point:
        """The point restored, as far as a pushforward needs it.

        Args:
            kept: the result of `kept`.
            values: the first result of `ahead`.
            parts: its second result.
        """
        point = self.restored(kept)
        for value, array in zip(self.ahead_values, values, strict=True):
            point.values[value] = array
        for equation, part in zip(self.part.passes, parts, strict=True):
            point.residuals[equation] = Residuals.whole(point.residuals[equation], part)
        return replace(point, whole=True)

    def reached_from(self, chosen: Sequence[bool]) -> list[bool]:
        """Which inputs the chosen results depend on."""
        needed = {
            output.vertex
            for output, is_chosen in zip(self.graph.outputs, chosen, strict=True)
            if is_chosen and isinstance(output, Operand)
        }
        for equation in reversed(self.part.equations):
            if not needed.isdisjoint(equation.results):
                needed.update(self.part.tails(equation))
        return [value in needed and value in self.part.vertices for value in self.graph.inputs]

    def edges(self, point: Point, known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians at a point.

        Args:
            point: where the body was evaluated.
            known: the same equations annotated with known places and zeros, for structured
                blocks; if None, writes and reads are made in place.
        """
        if known is None or known is self.graph:
            return elemental(self.part, point, in_place=True)
        values = list(point.values)
        for value, array in known.known.items():
            values[value] = array
        same = dict(zip(self.graph.equations, known.equations, strict=True))
        known_point = replace(
            point,
            values=values,
            residuals={same[equation]: kept for equation, kept in point.residuals.items()},
            partials={same[equation]: array for equation, array in point.partials.items()},
        )
        return elemental(self.part.on(known), known_point)

    def abstract_edges(self, whole: bool, known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians as a plan sees them: shapes instead of arrays.

        Args:
            whole: whether the point has all values, and was not restored.
            known: as for `edges`.
        """
        key = (whole, known or self.graph)
        if key not in self._abstract_edges:
            self._abstract_edges[key] = self._abstract(*key)
        return self._abstract_edges[key].copy()

    def _abstract(self, whole: bool, known: Graph) -> EliminationGraph:
        """The same, traced on shapes."""
        traced: list[EliminationGraph] = []

        def trace(inputs: Sequence[Any], captured: Sequence[Any]) -> None:
            point = evaluate(self.graph, inputs, captured, self.part)
            point = point if whole else self.restored(self.kept(point))
            traced.append(self.edges(point, known))

        structs = [compat.struct(self.graph.avals[value]) for value in self.graph.inputs]
        jax.eval_shape(trace, structs, self.graph.captured)
        return _abstract(traced[0])

    def edges_at(self, point: Callable[[], Point], known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians at a point that is computed only now, or as a plan sees them.

        Args:
            point: computes the point, with all values.
            known: as for `edges`.
        """
        return backend().select(
            lambda: self.edges(point(), known), lambda: self.abstract_edges(True, known)
        )()

    def pulled(self, edges: EliminationGraph, cotangents: Blocks) -> list[Block | None]:
        """The cotangents of the inputs from those of the results; `edges` are used up."""
        for output, block in zip(self.graph.outputs, cotangents, strict=True):
            if block is not None and isinstance(output, Operand) and self.part.is_active(output):
                edges.add(output.vertex, ("out", 0), block)
        eliminate(edges, self.part.reverse_order)
        pulled = edges.entering.get(("out", 0), {})
        return [_block(pulled.get(value)) for value in self.graph.inputs]

    def pushed(self, edges: EliminationGraph, tangents: Blocks) -> list[Block | None]:
        """The tangents of the results from those of the inputs; `edges` are used up."""
        lead_to_results(self.part, edges)
        for value, block in zip(self.graph.inputs, tangents, strict=True):
            if block is not None and value in self.part.vertices:
                edges.add("tangent", value, block)
        eliminate(edges, [*self.graph.independents, *self.part.forward_order])
        pushed = edges.leaving.get("tangent", {})
        return [_block(pushed.get(("out", number))) for number in range(len(self.graph.outputs))]


def remembered(
    make: Callable[[Equation, Sequence[bool]], T],
) -> Callable[[Equation, Sequence[bool]], T]:
    """Cache the static data of an equation, which its evaluation and its edges both need."""
    by_equation: weakref.WeakKeyDictionary[Equation, dict[Any, T]] = weakref.WeakKeyDictionary()

    @wraps(make)
    def recall(equation: Equation, active: Sequence[bool]) -> T:
        known = by_equation.setdefault(equation, {})
        key = (tuple(active), edition())
        if key not in known:
            known[key] = make(equation, active)
        return known[key]

    return recall


def _block(edge: Edge | None) -> Block | None:
    block = None if edge is None else written(edge)
    return block if block is not None and block.terms else None


def _abstract(edges: EliminationGraph) -> EliminationGraph:
    """The same edges with shapes instead of arrays, but for arrays that are structure."""
    shapes: dict[int, tuple[Any, Abstract]] = {}  # an array that blocks share stays shared

    def shape_of(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iub":
            return leaf
        return shapes.setdefault(id(leaf), (leaf, Abstract(tuple(leaf.shape), leaf.dtype)))[1]

    planned = EliminationGraph(whole=edges.whole, equations=edges.equations)
    for tail, heads in edges.leaving.items():
        for head, edge in heads.items():
            abstract = jax.tree.map(shape_of, edge) if isinstance(edge, Block) else edge
            planned.leaving.setdefault(tail, {})[head] = abstract
            planned.entering.setdefault(head, {})[tail] = abstract
    return planned
