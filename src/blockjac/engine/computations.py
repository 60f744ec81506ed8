"""What a traced function is asked for: its values, its Jacobian, a pullback, a pushforward.

Each computation is a frozen dataclass, so that it can key a compiled program, and a function of the
graph and of arrays, so that `engine.run.run` can emit it inside a caller's trace or compile it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

import blockjac.control_flow  # pyright: ignore[reportUnusedImport]  # noqa: F401  (registers rules)
from blockjac.algebra.mask_layout import NUMBERS_A_PLACE
from blockjac.algebra.nonzeros import without_masks
from blockjac.algebra.sums import compact
from blockjac.base.promises import keeping_structure
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import elemental
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.evaluate import evaluate, results, typed_as
from blockjac.elimination.linearize import (
    LinearizedGraph,
    lead_to_results,
    linearize,
    linearize_to_results,
)
from blockjac.elimination.residuals import residuals_of, restored_point
from blockjac.engine.finish import NO_LIMIT, cotangent_of, finished, tangent_of
from blockjac.graph.graph import Graph, Operand
from blockjac.graph.linearity import is_inexact
from blockjac.planning import Order, choose_order
from blockjac.planning.directions import (
    check_backwards,
    check_forwards,
    goes_forwards,
    has_one_way,
)
from blockjac.rules.complex_parts import complexified, is_complex
from blockjac.rules.fallback import packed, real_dtype, vertex_shape

Arrays = Sequence[Any]


@dataclass(frozen=True)
class Values:
    """The results of a graph; and what a later `Pullback` needs of the way there.

    Attributes:
        count: how many of the graph's results will be pulled back; the others are auxiliary.
        keep: whether to give the kept values at all.
    """

    count: int
    keep: bool = False

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """`(results, kept values)`."""
        del extra
        if not self.keep:
            return results(graph, evaluate(graph, arguments, captured).values), []
        active = ActiveGraph.of(graph, graph.outputs[: self.count])
        check_backwards(active)
        point = evaluate(graph, arguments, captured, active)
        return results(graph, point.values), residuals_of(active, point)


@dataclass(frozen=True)
class Jacobian:
    """The results of a graph, and the Jacobian of the first of them by every differentiated leaf.

    Attributes:
        count: how many results are differentiated.
        wrt: the graph's inputs to differentiate by, all of them floats or complex.
        order: of elimination.
        dense: arrays, not Blocks.
        holomorphic: whether complex derivatives are asked for.
        values: whether to answer with the differentiated results too, as `(values, rows)`.
        symmetric: whether the results are derivatives by the same inputs, in their order and again
            for each result of the function below. Of two blocks that are each other's transpose one
            is then computed; of Blocks the one below the diagonal is left out.
        unasked: pairs of the number of a result and of an input whose block is not asked for and
            comes as zero.
        listed: whether the Blocks become a sparse matrix, of which each place costs a row, a column
            and a value.
    """

    count: int
    wrt: tuple[int, ...]
    order: Order
    dense: bool
    holomorphic: bool = False
    values: bool = False
    symmetric: bool = False
    unasked: frozenset[tuple[int, int]] = frozenset()
    listed: bool = False

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and a row of arrays or Blocks for each differentiated one."""
        del extra
        with keeping_structure(self.keeps_structure):
            return self._answer(graph, arguments, captured)

    def _answer(self, graph: Graph, arguments: Arrays, captured: Arrays) -> Any:
        """What the call gives, once it is known whether structure is kept."""
        outputs = graph.outputs[: self.count]
        linear = linearize_to_results(ActiveGraph.of(graph, outputs), arguments, captured)
        unasked = {(self.wrt[number], ("out", position)) for position, number in self.unasked}
        mirrored = self.skipped
        linear.edges.skipped = mirrored | unasked
        self._eliminate(linear)
        return self.beside_results(linear.results(), self.rows(linear))

    def rows(self, linear: LinearizedGraph) -> list[list[Any]]:
        """A row of arrays or Blocks for each result, once the intermediate vertices are eliminated.

        Args:
            linear: only edges from inputs to results are left of it.
        """
        graph, mirrored = linear.graph, self.skipped
        rows: list[list[Any]] = []
        for position, output in enumerate(graph.outputs[: self.count]):
            result = graph.aval(output)
            row: list[Any] = []
            for number, leaf in enumerate(self.wrt):
                if (leaf, ("out", position)) in mirrored:
                    if self.dense:
                        row.append(self._mirrored(rows, position, number, graph))
                    continue
                block = _block(linear, leaf, position, result)
                row.append(
                    _dense(block, result, graph.avals[leaf], self.holomorphic)
                    if self.dense
                    else compact(without_masks(block, NUMBERS_A_PLACE if self.listed else 1))
                )
            rows.append(row)
        return rows

    def beside_results(self, values: Sequence[Any], rows: Any) -> Any:
        """The auxiliary results and the answer, from all results of the graph and the rows."""
        return values[self.count :], (values[: self.count], rows) if self.values else rows

    @property
    def keeps_structure(self) -> bool:
        """Whether the answer's structure may depend on constants of the program."""
        return not self.dense

    @property
    def takes_any_numbers(self) -> bool:
        """Whether the answer is arrays alone: then Python numbers of the program may be open."""
        return self.dense

    @property
    def skipped(self) -> frozenset[tuple[Any, Any]]:
        """The pairs of an input and a result whose block is the transpose of another."""
        size = len(self.wrt)
        return frozenset(
            (leaf, ("out", position))
            for position in range(self.count if self.symmetric else 0)
            for leaf in self.wrt[: position % size]
        )

    def _mirrored(self, rows: Sequence[Any], position: int, number: int, graph: Graph) -> Any:
        """The derivative of result `position` by input `number`, from that of its mirror image."""
        size = len(self.wrt)
        mirror = rows[position - position % size + number][position % size]
        value = graph.avals[self.wrt[number]]
        inner = len(graph.avals[self.wrt[position % size]].shape)
        outer = mirror.ndim - inner - len(value.shape)
        axes = range(mirror.ndim)
        first, last = axes[outer : outer + len(value.shape)], axes[outer + len(value.shape) :]
        return typed_as(jnp.transpose(mirror, (*axes[:outer], *last, *first)), value)

    def _eliminate(self, linear: LinearizedGraph) -> None:
        """Eliminate in the order; forwards from identities if operators need whole tangents."""
        graph, active, edges = linear.graph, linear.active, linear.edges
        order = choose_order(self.order, linear, self.dense)
        by_rule = self.order != "reverse" and goes_forwards(active)
        if not by_rule and not (self.order == "forward" and has_one_way(active)):
            eliminate(edges, order)
            return
        for leaf in graph.independents:
            aval = graph.avals[leaf]
            identity = Block.identity(vertex_shape(aval), real_dtype(aval.dtype))
            edges.add(("in", leaf), leaf, identity)
        eliminate(edges, [*graph.independents, *order])
        for leaf in graph.independents:
            edges.leaving[leaf] = edges.leaving.pop(("in", leaf), {})


@dataclass(frozen=True)
class Pullback:
    """Cotangents of the input leaves from those of the results.

    It is asked not at the graph's arguments but at what `Values` kept, so that a point is evaluated
    once and pulled back often.

    Attributes:
        count: how many results have cotangents.
        wrt: the graph's inputs, all of them floats or complex.
    """

    count: int
    wrt: tuple[int, ...]

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, kept: Arrays, captured: Arrays, cotangents: Arrays) -> Any:
        """One cotangent an input; `cotangents` are those of the float and complex results."""
        del captured
        outputs = graph.outputs[: self.count]
        active = ActiveGraph.of(graph, outputs)
        point = restored_point(active, kept)
        linear = LinearizedGraph(active, point, elemental(active, point))
        edges = linear.edges
        smooth = [output for output in outputs if is_inexact(graph.aval(output))]
        for output, array in zip(smooth, cotangents, strict=True):
            if isinstance(output, Operand) and active.is_active(output):
                cotangent = jnp.asarray(array, graph.aval(output).dtype)
                row = Block.from_dense(packed(jnp.conj(cotangent)), 0)
                edges.add(output.vertex, ("out", 0), row)
        eliminate(edges, active.reverse_order)
        return [cotangent_of(linear, leaf) for leaf in self.wrt]


@dataclass(frozen=True)
class Pushforward:
    """The results of a graph, and their tangents from those of the inputs.

    Attributes:
        count: how many results have tangents.
        wrt: the graph's inputs that move, all of them floats or complex.
        is_restored: whether it is asked at what `Values` kept, in place of the arguments, and gives
            the tangents alone.
    """

    count: int
    wrt: tuple[int, ...]
    is_restored: bool = False

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, tangents: Arrays) -> Any:
        """`(results, tangents)`, a tangent for each float or complex result."""
        outputs = graph.outputs[: self.count]
        active = ActiveGraph.of(graph, outputs)
        check_forwards(active)
        if self.is_restored:
            point = restored_point(active, arguments)
            linear = LinearizedGraph(active, point, elemental(active, point))
        else:
            linear = linearize(active, arguments, captured)
        lead_to_results(active, linear.edges)
        dtypes = [
            real_dtype(graph.aval(output).dtype)
            for output in outputs
            if is_inexact(graph.aval(output))
        ]
        for leaf, array in zip(self.wrt, tangents, strict=True):
            tangent = packed(jnp.asarray(array, graph.avals[leaf].dtype))
            # A product of blocks has the dtype of its input: here the widest that is asked for.
            tangent = tangent.astype(jnp.result_type(tangent.dtype, *dtypes))
            linear.edges.add("tangent", leaf, Block.from_dense(tangent, tangent.ndim))
        eliminate(linear.edges, [*graph.independents, *active.forward_order])
        rates = [
            tangent_of(linear, position, graph.aval(output))
            for position, output in enumerate(outputs)
            if is_inexact(graph.aval(output))
        ]
        return rates if self.is_restored else (linear.results(), rates)


def _block(linear: LinearizedGraph, leaf: int, position: int, result: Any) -> Block:
    """The block of a result by an input; of real vertices where the input is complex."""
    block, value = linear.block(leaf, ("out", position)), linear.graph.avals[leaf]
    if block is None:
        block = Block.zeros(vertex_shape(result), vertex_shape(value), real_dtype(value.dtype))
    return complexified(block) if is_complex(result) and not is_complex(value) else block


def _dense(block: Block, result: Any, value: Any, holomorphic: bool) -> Any:
    """The dense Jacobian from a block of real vertices."""
    return finished(block.dense(max_bytes=NO_LIMIT), result, value, holomorphic)
