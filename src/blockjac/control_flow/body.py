"""A program inside an equation, and its own elimination."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Abstract
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.carry_structure import may_lose
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
from blockjac.graph.linearity import is_inexact
from blockjac.graph.trace import graph_of
from blockjac.operators.operator import Edge, OperatorGroup, cheapest, present, written
from blockjac.rules.fallback import placed, real_dtype, vertex_shape
from blockjac.rules.registry import Residuals, edition

Blocks = Sequence[Block | None]
"""A block for each input or result; None for zero."""


@dataclass(eq=False)
class Body:
    """A jaxpr that is run and differentiated inside a loop or a branch.

    Attributes:
        jaxpr: closed.
        active: which of its inputs are differentiated.
        by_value: whether functions with a rule of their own are differentiated as what they
            compute.
        told: what is known of each of its inputs; None where structure is not asked for.
        carried: which of its inputs change from run to run and are kept for the way back where it
            needs them; the others are there in any case.
    """

    jaxpr: Any
    active: Sequence[bool]
    by_value: bool = False
    told: Sequence[Known | None] | None = None
    carried: range = range(0)

    @cached_property
    def graph(self) -> Graph:
        """Its equations, flat."""
        return graph_of(self.jaxpr, self.active, self.by_value)

    @cached_property
    def structured(self) -> Graph:
        """The same equations, with what is known of their places and zeros."""
        return self.graph if self.told is None else with_known_places(self.graph, self.told)

    @cached_property
    def part(self) -> ActiveGraph:
        """What lies between the differentiated inputs and the results."""
        return ActiveGraph.of(self.graph, self.graph.outputs)

    @cached_property
    def moving(self) -> list[bool]:
        """For each result whether it depends on a differentiated input."""
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
        """The values that the first entries of `kept` are; derivatives and residuals follow."""
        return values_needed_for(self._needs, self.early)

    @cached_property
    def early(self) -> list[Equation]:
        """The equations whose derivatives are computed with the values, and kept."""
        inputs, carried = self.graph.inputs, self.carried
        fixed = {*inputs[: carried.start], *self.graph.constants}
        for equation in self.graph.equations:  # what the constants of a loop alone decide
            operands = values_of(equation.operands)
            if carried and operands and fixed.issuperset(operands):
                fixed.update(equation.results)
        return early_partials(self._needs, fixed.union(inputs[carried.stop :]))

    @cached_property
    def _needs(self) -> dict[Equation, Needs]:
        return needs_of(self.part)

    def restored(self, kept: Sequence[Any]) -> Point:
        """The point again, as far as a pullback needs it."""
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
        return [one for one in around_passes(self.part) if one not in kept]

    def restored_ahead(self, kept: Sequence[Any], values: Sequence[Any], parts: Any) -> Point:
        """The point again, as far as a pushforward needs it.

        Args:
            kept: what `kept` gave.
            values: what `ahead` gave first.
            parts: what it gave second.
        """
        point = self.restored(kept)
        for value, array in zip(self.ahead_values, values, strict=True):
            point.values[value] = array
        for equation, part in zip(self.part.passes, parts, strict=True):
            point.residuals[equation] = Residuals.whole(point.residuals[equation], part)
        return replace(point, whole=True)

    @cached_property
    def has_passes(self) -> bool:
        """Whether there are equations without a rule on the way."""
        return bool(self.part.passes)

    def reached_from(self, wanted: Sequence[bool]) -> list[bool]:
        """Which inputs some of the results depend on."""
        needed = {
            output.vertex
            for output, one in zip(self.graph.outputs, wanted, strict=True)
            if one and isinstance(output, Operand)
        }
        for equation in reversed(self.part.equations):
            if not needed.isdisjoint(equation.results):
                needed.update(self.part.tails(equation))
        return [value in needed and value in self.part.vertices for value in self.graph.inputs]

    @cached_property
    def reversible(self) -> bool:
        """Whether cotangents can be pulled back through it."""
        return self.part.is_reversible

    def edges(self, point: Point, known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians at a point.

        Args:
            point: where the body was evaluated.
            known: the same equations with what is known of places and zeros, for blocks in the
                structure that they have; if None, writes and reads are made in place.
        """
        if known is None or known is self.graph:
            return elemental(self.part, point, in_place=True)
        values = list(point.values)
        for value, array in known.known.items():
            values[value] = array
        own = dict(zip(self.graph.equations, known.equations, strict=True))
        seen = replace(
            point,
            values=values,
            residuals={own[one]: residuals for one, residuals in point.residuals.items()},
            partials={own[one]: array for one, array in point.partials.items()},
        )
        return elemental(self.part.on(known), seen)

    def abstract_edges(self, whole: bool, known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians as a plan sees them: shapes instead of arrays.

        Args:
            whole: at a point with all values, not at one that was restored.
            known: as for `edges`.
        """
        key = (whole, known or self.graph)
        if key not in self._abstract_edges:
            self._abstract_edges[key] = self._abstract(*key)
        return self._abstract_edges[key].copy()

    @cached_property
    def _abstract_edges(self) -> dict[tuple[bool, Graph], EliminationGraph]:
        return {}

    def _abstract(self, whole: bool, known: Graph) -> EliminationGraph:
        found: list[EliminationGraph] = []

        def at(inputs: Sequence[Any], captured: Sequence[Any]) -> None:
            point = evaluate(self.graph, inputs, captured, self.part)
            seen = point if whole else self.restored(self.kept(point))
            found.append(self.edges(seen, known))

        structs = [compat.struct(self.graph.avals[one]) for one in self.graph.inputs]
        jax.eval_shape(at, structs, self.graph.captured)
        return _abstract(found[0])

    def edges_at(self, point: Callable[[], Point], known: Graph | None = None) -> EliminationGraph:
        """The elemental Jacobians at a point that is computed for them, or as a plan sees them.

        Args:
            point: gives the point, with all values.
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
        found = edges.entering.get(("out", 0), {})
        return [_block(found.get(value)) for value in self.graph.inputs]

    def pushed(self, edges: EliminationGraph, tangents: Blocks) -> list[Block | None]:
        """The tangents of the results from those of the inputs; `edges` are used up."""
        lead_to_results(self.part, edges)
        for value, block in zip(self.graph.inputs, tangents, strict=True):
            if block is not None and value in self.part.vertices:
                edges.add("tangent", value, block)
        eliminate(edges, [*self.graph.independents, *self.part.forward_order])
        found = edges.leaving.get("tangent", {})
        return [_block(found.get(("out", place))) for place in range(len(self.graph.outputs))]


_remembered: weakref.WeakKeyDictionary[Equation, dict[Any, Any]] = weakref.WeakKeyDictionary()


def remembered(
    equation: Equation, active: Sequence[bool], make: Callable[[Equation, Sequence[bool]], Any]
) -> Any:
    """What is static of an equation, made once: its values and its edges both need it."""
    made = _remembered.setdefault(equation, {})
    key = (make, tuple(active), edition())
    if key not in made:
        made[key] = make(equation, active)
    return made[key]


def _block(edge: Edge | None) -> Block | None:
    block = None if edge is None else written(edge)
    return block if block is not None and block.terms else None


def _abstract(edges: EliminationGraph) -> EliminationGraph:
    shown: dict[int, tuple[Any, Abstract]] = {}  # one array of several blocks stays one

    def shape_of(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iub":  # structure, which is known
            return leaf
        return shown.setdefault(id(leaf), (leaf, Abstract(tuple(leaf.shape), leaf.dtype)))[1]

    made = EliminationGraph(whole=edges.whole, equations=edges.equations)
    for tail, heads in edges.leaving.items():
        for head, edge in heads.items():
            abstract = jax.tree.map(shape_of, edge) if isinstance(edge, Block) else edge
            made.leaving.setdefault(tail, {})[head] = abstract
            made.entering.setdefault(head, {})[tail] = abstract
    return made


class NestedGroup(OperatorGroup):
    """An operator whose pullback and pushforward are recursions, and whose blocks they write.

    Attributes:
        rows: which of the equation's results are differentiated.
        columns: which of its operands are.
    """

    def __init__(
        self, name: str, outs: Sequence[Any], inputs: Sequence[Any], active: Sequence[bool]
    ) -> None:
        self.rows = [place for place, out in enumerate(outs) if is_inexact(out)]
        self.columns = [place for place, wanted in enumerate(active) if wanted]
        self._counts = (len(outs), len(inputs))
        super().__init__(
            out_shapes=[vertex_shape(outs[place]) for place in self.rows],
            wrt_shapes=[vertex_shape(inputs[place]) for place in self.columns],
            dtypes=[real_dtype(inputs[place].dtype) for place in self.columns],
            out_dtypes=[real_dtype(outs[place].dtype) for place in self.rows],
            pull=lambda parts: self._dense(self.pullback([Block.from_dense(p, 0) for p in parts])),
            push=lambda parts: self._dense(
                self.pushforward([Block.from_dense(p, p.ndim) for p in parts])
            ),
            name=name,
        )

    def _dense(self, blocks: Blocks) -> list[Any]:
        return [None if block is None else block.dense() for block in blocks]

    def placed(self) -> list[list[Any]]:
        """The operators by result and operand of the equation; None for the others."""
        return placed(self, self.rows, self.columns, self._counts)

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """The cotangents of all operands from those of all results of the equation."""
        raise NotImplementedError

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """The tangents of all results from those of all operands of the equation."""
        raise NotImplementedError

    def pullback(self, cotangents: Blocks) -> list[Block | None]:
        """`sum over results of cotangent star J`, for each operand that is differentiated."""
        given = present(cotangents)
        if self.pull is None:
            return self._pull_by_blocks(given)
        if self.carries and any(map(may_lose, given.values())):
            return cheapest(lambda: self._pulled(cotangents), lambda: self._pull_by_blocks(given))
        return self._pulled(cotangents)

    def _pulled(self, cotangents: Blocks) -> list[Block | None]:
        found = self.pulled(_spread(cotangents, self.rows, self._counts[0]))
        return [found[column] for column in self.columns]

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over operands of J star tangent`, for each result that is differentiated."""
        given = present(tangents)
        if self.push is None:
            return self._push_by_blocks(given)
        if self.carries and any(may_lose(block) for block in given.values()):
            return cheapest(lambda: self._pushed(tangents), lambda: self._push_by_blocks(given))
        return self._pushed(tangents)

    def _pushed(self, tangents: Blocks) -> list[Block | None]:
        found = self.pushed(_spread(tangents, self.columns, self._counts[1]))
        return [found[row] for row in self.rows]

    def block(self, row: int, column: int) -> Block:
        """One of the blocks: the identity pulled back or pushed forward, whichever is narrower."""
        known = backend().memory(self._blocks)
        if (row, column) not in known:
            known.update(self._written_beside(row, column))
        return known[row, column]

    def _written_beside(self, row: int, column: int) -> dict[tuple[int, int], Block]:
        """The blocks that come with one: those of its row, or those of its column."""
        out_shape, wrt_shape = tuple(self.out_shapes[row]), tuple(self.wrt_shapes[column])
        by_rows = self.push is None or (
            self.pull is not None and math.prod(out_shape) <= math.prod(wrt_shape)
        )
        if by_rows:
            identity = Block.identity(out_shape, self.out_dtypes[row])
            found = self.pullback(_spread([identity], [row], len(self.rows)))
            places = [(row, place) for place in range(len(self.columns))]
        else:
            identity = Block.identity(wrt_shape, self.dtypes[column])
            found = self.pushforward(_spread([identity], [column], len(self.columns)))
            places = [(place, column) for place in range(len(self.rows))]
        return {
            place: Block.zeros(
                tuple(self.out_shapes[place[0]]),
                tuple(self.wrt_shapes[place[1]]),
                self.dtypes[place[1]],
            )
            if block is None
            else block
            for place, block in zip(places, found, strict=True)
        }


def _spread(blocks: Blocks, places: Sequence[int], count: int) -> list[Block | None]:
    full: list[Block | None] = [None] * count
    for place, block in zip(places, blocks, strict=True):
        full[place] = block
    return full
