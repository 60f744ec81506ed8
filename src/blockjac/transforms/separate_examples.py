"""Jacobians of examples that do not meet, by the sweep of their sum.

Where each loss depends on its own example alone, the gradient of the sum of all losses by a value
that has the examples on an axis holds the gradient of each of them: `Q[n,h]`, an array and no
block with a delta. The sweep is then that of an ordinary gradient, through any loop, pooling or
factorization. Where it arrives at what all examples share, the parameters, the example's number is
put back: the product `δ[n,n'] Q[n',h]` with the block of the layer by its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blockjac.algebra.dense import dense
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Index, Label, Term
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Operand
from blockjac.operators.compose import compose
from blockjac.operators.operator import Edge, Operator
from blockjac.transforms.example_places import Places, with_examples
from blockjac.transforms.unmade_edges import Unmade


@dataclass
class Separate(Unmade):
    """Edges of a graph whose examples do not meet, by the sums over the examples of its results.

    Attributes:
        places: where the vertices that examples do not share have them.
        counts: how many examples each result has, for each axis that counts them.
    """

    places: dict[Vertex, Places] = field(default_factory=dict)
    counts: dict[int, Shape] = field(default_factory=dict)

    def lead_to_sums(self, active: ActiveGraph) -> None:
        """Lead each result to its sum over the examples, and no longer to itself."""
        for position, counts in self.counts.items():
            output, head = active.outputs[position], ("out", position)
            if not isinstance(output, Operand) or output.vertex is None:
                continue
            self.leaving[output.vertex].pop(head)
            self.entering[head].pop(output.vertex)
            self.same.discard((output.vertex, head))
            aval = active.graph.avals[output.vertex]
            labels = [Label(size) for size in aval.shape]
            indices = tuple(map(Index.of, labels))
            rest = len(counts)
            term = Term((), indices[rest:], indices)
            block = Block(aval.shape[rest:], aval.shape, aval.dtype, [term])
            self.add(output.vertex, ("sum", position), block)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge; the gradient of a sum holds a number for each place, found by none."""
        if (
            isinstance(head, tuple)
            and head[0] == "sum"
            and isinstance(edge, Block)
            and looks_up(edge)
        ):
            rows = dense(edge, max_bytes=NO_LIMIT)
            edge = Block.from_dense(rows, len(edge.out_shape))
        super().add(tail, head, edge)

    def take_shared(self, vertex: Vertex) -> None:
        """Before a vertex is eliminated: take the paths from what all examples share."""
        if vertex not in self.places:
            return
        shared = [tail for tail in self.entering.get(vertex, {}) if tail not in self.places]
        for position, counts in self.counts.items():
            left = self.leaving.get(vertex, {}).get(("sum", position))
            if left is None or not shared:
                continue
            assert isinstance(left, Block)
            rows = with_examples(left, self.places[vertex], counts)
            for tail in shared:
                self._note(tail, ("out", position), rows, self.entering[vertex][tail])
        for tail in shared:
            del self.entering[vertex][tail], self.leaving[tail][vertex]

    def _note(self, tail: Vertex, head: Vertex, left: Block, right: Any) -> None:
        """Note a product, or make it where the path does not end."""
        if (tail, head) not in self.collected:
            self.add(tail, head, compose(left, right))
        elif isinstance(right, Operator):
            self.collected[tail, head].append((compose(left, right),))
        else:
            self.collected[tail, head].append((left, right))


def looks_up(block: Block) -> bool:
    """Whether some index of a block is an array, as behind the maximum of a window."""
    return any(index.lookup is not None for term in block.terms for index in term.indices)


def is_separable(edges: EliminationGraph, places: Mapping[Vertex, Places]) -> bool:
    """Whether each path from what all share to an example passes an edge of its own."""
    if edges.whole:
        return False
    for tail, leaving in edges.leaving.items():
        for head, edge in leaving.items():
            if not isinstance(edge, Operator) or tail in places or head not in places:
                continue
            if edge.group.carries or edge.group.whole or len(edge.group.out_shapes) > 1:
                return False
    return True
