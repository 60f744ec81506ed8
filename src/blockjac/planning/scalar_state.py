"""The elimination of a graph of scalars, whose edges are bits."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.planning.elimination_state import State, numbered_vertices


class Scalars:
    """The game of a graph of scalars, where every product of two edges costs one; bits are edges.

    Args:
        edges: the graph; every edge is a block of one number.
        vertices: those that a planner may eliminate, in the order of their numbers.
    """

    def __init__(self, edges: EliminationGraph, vertices: Sequence[Vertex]) -> None:
        numbers = numbered_vertices(edges, vertices)
        leaving, entering = [0] * len(numbers), [0] * len(numbers)
        self.same = [0] * len(numbers)
        for tail, heads in edges.leaving.items():
            for head in heads:
                leaving[numbers[tail]] |= 1 << numbers[head]
                entering[numbers[head]] |= 1 << numbers[tail]
        for tail, head in edges.same:
            if head in edges.leaving.get(tail, {}):
                self.same[numbers[tail]] |= 1 << numbers[head]
        self.start: State = (leaving, entering)

    @staticmethod
    def fits(edges: EliminationGraph) -> bool:
        """Whether every edge of the graph is one number, and all of its Jacobian is asked for."""
        return not edges.skipped and all(
            isinstance(edge, Block) and not edge.shape
            for heads in edges.leaving.values()
            for edge in heads.values()
        )

    def move(self, state: State, vertex: int) -> tuple[State, float]:
        """Eliminate a vertex."""
        leaving, entering = state[0].copy(), state[1].copy()
        heads, tails = leaving[vertex], entering[vertex]
        leaving[vertex] = entering[vertex] = 0
        own = 1 << vertex
        rest = tails
        while rest:
            tail = (rest & -rest).bit_length() - 1
            rest &= rest - 1
            leaving[tail] = (leaving[tail] | heads) ^ own
        rest = heads
        while rest:
            head = (rest & -rest).bit_length() - 1
            rest &= rest - 1
            entering[head] = (entering[head] | tails) ^ own
        return (leaving, entering), tails.bit_count() * (heads & ~self.same[vertex]).bit_count()

    def around(self, state: State, vertex: int) -> list[int]:
        """The vertices that have an edge with this one."""
        bits = state[0][vertex] | state[1][vertex]
        return [neighbor for neighbor in range(bits.bit_length()) if bits >> neighbor & 1]

    def price_of(self, state: State, vertex: int) -> float:
        """What it costs to eliminate a vertex."""
        heads, tails = state[0][vertex], state[1][vertex]
        return tails.bit_count() * (heads & ~self.same[vertex]).bit_count()
