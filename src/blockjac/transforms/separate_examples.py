"""Jacobians of examples that do not meet, by the sweep of their sum.

Where each loss depends on its own example alone, the gradient of the sum of all losses by a value
that has the examples on an axis holds the gradient of each of them: `Q[n,h]`, an array and no
block with a delta. The sweep is then that of an ordinary gradient, through any loop, pooling or
factorization. Where it arrives at what all examples share, the parameters, the example's number is
put back: the product `δ[n,n'] Q[n',h]` with the block of the layer by its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blockjac.algebra.dense import dense
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Index, Label, Term, star
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.example_states import SINGLE, Apart, State
from blockjac.graph.examples import Walk, state_of
from blockjac.graph.graph import Atom, Graph, Operand
from blockjac.operators.compose import compose
from blockjac.operators.operator import Edge, Operator
from blockjac.terms.block import rebuilt
from blockjac.terms.index import collect
from blockjac.transforms.unmade_edges import Unmade

Places = tuple[Apart, ...]
"""Where a value has its examples, for each axis that counts them."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Where the values of a graph have the examples of a result.

    Attributes:
        counts: how many examples there are, for each axis that counts them.
        states: for each of these axes the states of values, by number.
    """

    counts: Shape
    states: tuple[dict[int, State], ...]

    @staticmethod
    def of(graph: Graph, wrt: Sequence[int], position: int, axes: int) -> Examples:
        """Where values have the examples of one result, which are on its first axes.

        Args:
            graph: the traced function.
            wrt: its inputs that are differentiated, and belong to all examples.
            position: the number of the result.
            axes: how many axes count examples.
        """
        counts = tuple(graph.aval(graph.outputs[position]).shape[:axes])
        states: list[dict[int, State]] = []
        for axis, count in enumerate(counts):
            inputs = [
                Apart(axis, 1)
                if value not in wrt and tuple(graph.avals[value].shape[:axes]) == counts
                else None
                for value in graph.inputs
            ]
            states.append(Walk(graph, count).states(inputs))
        return Examples(counts, tuple(states))

    def inside(self, graph: Graph, operands: Sequence[Atom]) -> Examples:
        """Where the values of a further program have them, from those of its operands."""
        walks = [Walk(graph, count) for count in self.counts]
        states = [
            walk.states([state_of(atom, own) for atom in operands])
            for walk, own in zip(walks, self.states, strict=True)
        ]
        return replace(self, states=tuple(states))

    def are_in_front(self, places: Places | None) -> bool:
        """Whether a value has its examples on its first axes, in order."""
        return places == tuple(Apart(axis, 1) for axis in range(len(self.counts)))

    def add_places(self, places: dict[Vertex, Places], names: Mapping[int, Vertex]) -> bool:
        """Add where values have their examples; whether that is possible, as none meet.

        Args:
            places: by vertex, to add to.
            names: the vertices of the values.
        """
        if min(self.counts) < 2:
            return False
        for value, vertex in names.items():
            found = [states.get(value) for states in self.states]
            if all(state is None for state in found):
                continue
            own = tuple(
                replace(state, own=frozenset())
                for state in found
                if isinstance(state, Apart) and state != SINGLE
            )
            if len(own) < len(found) or places.setdefault(vertex, own) != own:
                return False
        return True


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
            and _looks_up(edge)
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


def _looks_up(block: Block) -> bool:
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


def with_examples(block: Block, places: Places, counts: Shape) -> Block:
    """A block of a sum over examples as that of each of them: their number is put back.

    Args:
        block: by a value that has the examples on some axes.
        places: where it has them.
        counts: how many there are.
    """
    shape = block.wrt_shape
    axes = [place.axis for place in places]
    plain = all(
        place.below == 1 and shape[place.axis] == count
        for place, count in zip(places, counts, strict=True)
    )
    if plain and len(set(axes)) == len(axes):
        return _named_by(block, axes, counts)
    reshaped, digits = _split(shape, places, counts, block.dtype)
    return star(_named_by(star(block, reshaped), digits, counts), reshaped.T)


def _named_by(block: Block, axes: Sequence[int], counts: Shape) -> Block:
    """A block with further output axes in front that agree with some of its input axes."""
    terms: list[Term] = []
    for term in block.terms:
        hard = [axis for axis in axes if not term.wrt[axis].is_plain(block.wrt_shape[axis])]
        if hard:
            term = as_dense_axes(term, hard, block.wrt_shape, block.dtype)
        terms.append(replace(term, out=(*(term.wrt[axis] for axis in axes), *term.out)))
    return rebuilt((*counts, *block.out_shape), block.wrt_shape, block.dtype, terms)


def _split(shape: Shape, places: Places, counts: Shape, dtype: Any) -> tuple[Block, list[int]]:
    """The block of an array by its reshaped self, in which each example has an axis of its own.

    Args:
        shape: of the array.
        places: where it has the examples.
        counts: how many there are.
        dtype: of the block.

    Returns:
        The block, which holds no numbers, and the axes of the examples in the reshaped array.
    """
    wrt: list[Label] = []
    out: list[Index] = []
    found: dict[int, int] = {}
    for axis, size in enumerate(shape):
        own = sorted(
            (place.below, number) for number, place in enumerate(places) if place.axis == axis
        )
        strides: list[tuple[Label, int]] = []
        reached = 1
        for below, number in own:
            if below > reached:
                strides.append((Label(below // reached), reached))
            strides.append((Label(counts[number]), below))
            found[number] = len(wrt) + len(strides) - 1
            reached = below * counts[number]
        if size > reached or not strides:
            strides.append((Label(size // reached), reached))
        wrt += [label for label, _ in strides]
        out.append(Index(0, collect([pair for pair in strides if pair[0].size != 1])))
    sizes = tuple(label.size for label in wrt)
    term = Term((), tuple(out), tuple(map(Index.of, wrt)))
    axes = [found[number] for number in range(len(places))]
    return Block(shape, sizes, dtype, [term]), axes
