"""Where the values of a function have the examples of its results, and blocks that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Index, Label, Term, star
from blockjac.elimination.elimination_graph import Vertex
from blockjac.graph.example_states import SINGLE, Apart, State
from blockjac.graph.examples import Walk, state_of
from blockjac.graph.graph import Atom, Graph
from blockjac.terms.block import rebuilt
from blockjac.terms.index import collect

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
