"""Elimination as a game of numbers: a state is what edges are left, a move eliminates a vertex.

Planners try thousands of orders, so that here an edge is the number of its structure, and what two
structures contract or add up to is looked up. What is forgotten is which products share an array
that was computed on the way (arguments of the function and local derivatives are distinguished);
the price of the order that is taken is worked out again, exactly, by the elimination itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blockjac.algebra.backend import current_cost
from blockjac.algebra.cost import Abstract, Cost
from blockjac.algebra.dense import dense
from blockjac.algebra.plan_cache import AbstractBlock, BlockSignature, signature_of
from blockjac.blocks import Block, add, star
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.operators.operator import Operator

SAME = 0
"""The identity between a vertex and a result that is this vertex; to pass it is free."""

OPAQUE = 1
"""An operator; whatever meets one is passed last."""

ZERO = 2
"""No edge."""

NO_LIMIT = 2**62
"""Bytes: a plan writes nothing, whatever the size."""

State = tuple[list[Any], list[Any]]
"""Edges by tail, and tails by head; lists and what they hold are never changed."""


class Elimination(Protocol):
    """What a planner plays: vertices are numbered `0 .. size - 1`."""

    start: State

    def move(self, state: State, vertex: int) -> tuple[State, float]:
        """Eliminate a vertex; returns what is left, and the price."""
        ...


@dataclass(frozen=True, eq=False)
class Answer:
    """What two structures contract or add up to.

    Attributes:
        kind: of the result; None for no edge.
        arrays: for each of its arrays its place among those of the two, or None, and its mark then.
        price: of the operation.
    """

    kind: BlockSignature | None
    arrays: tuple[tuple[int | None, int], ...]
    price: float


class Pairs:
    """Structures by number, and what two of them contract or add up to, with the price.

    Must be used inside `planning()`.

    Args:
        price: of a cost, the number that is to be small; linear.
    """

    def __init__(self, price: Callable[[Cost], float]) -> None:
        self.price = price
        self._kinds: list[tuple[BlockSignature, tuple[int, ...]] | None] = [None, None, None]
        self._numbers: dict[tuple[BlockSignature, tuple[int, ...]], int] = {}
        self._marks: dict[int, int] = {}
        self._arrays: list[Any] = [None]
        self._products: dict[tuple[int, int], tuple[int, float]] = {}
        self._sums: dict[tuple[int, int], tuple[int, float]] = {}
        self._answers: dict[Any, Answer] = {}
        self._writings: dict[Any, float] = {}

    def number(self, edge: Any) -> int:
        """The number of an edge of the graph, whose arrays are known from now on."""
        if isinstance(edge, Operator):
            return OPAQUE
        for array in signature_of(edge)[1]:
            if id(array) not in self._marks:
                self._marks[id(array)] = len(self._arrays)
                self._arrays.append(array)
        return self._number_of(edge)

    def _number_of(self, block: Block) -> int:
        if block.is_zero:
            return ZERO
        kind, arrays = signature_of(block)
        marks = tuple([self._marks.get(id(array), 0) for array in arrays])
        return self._entered((kind, marks))

    def _entered(self, key: tuple[BlockSignature, tuple[int, ...]]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._kinds)
            self._kinds.append(key)
        return self._numbers[key]

    def _block(self, number: int) -> Block:
        """A block of this structure: known arrays are themselves, others are new."""
        signature = self._kinds[number]
        if signature is None:
            raise ValueError("neither an operator nor the identity of a result has a structure")
        kind, marks = signature
        return AbstractBlock(
            kind,
            [
                self._arrays[mark] if mark else Abstract(shape, dtype)
                for mark, shape, dtype in zip(marks, kind.shapes, kind.dtypes, strict=True)
            ],
        )

    def product(self, left: int, right: int) -> tuple[int, float]:
        """`left star right`, and its price."""
        if left == SAME:
            return right, 0.0
        if ZERO in (left, right):
            return ZERO, 0.0
        if OPAQUE in (left, right):
            return OPAQUE, 0.0
        key = (left, right)
        if key not in self._products:
            self._products[key] = self._priced(star, left, right)
        return self._products[key]

    def sum(self, first: int, second: int) -> tuple[int, float]:
        """The sum of two parallel edges, and its price."""
        if ZERO in (first, second):
            return max(first, second) if first == second == ZERO else first + second - ZERO, 0.0
        if OPAQUE in (first, second) or SAME in (first, second):
            return OPAQUE, 0.0
        key = (first, second)
        if key not in self._sums:
            self._sums[key] = self._priced(add, first, second)
        return self._sums[key]

    def writing(self, number: int) -> float:
        """The price of an edge written out dense."""
        signature = self._kinds[number]
        if signature is None:
            return 0.0
        kind, marks = signature
        key = kind, _pattern(marks)
        if key not in self._writings:
            before = self.price(current_cost())
            dense(self._block(number), max_bytes=NO_LIMIT)
            self._writings[key] = self.price(current_cost()) - before
        return self._writings[key]

    def _priced(
        self, operation: Callable[[Block, Block], Block], left_edge: int, right_edge: int
    ) -> tuple[int, float]:
        """What an operation gives; worked out once of edges that differ in their arrays alone.

        Arrays without a mark are computed on the way, and each is its own.
        """
        left_signature, right_signature = self._kinds[left_edge], self._kinds[right_edge]
        if left_signature is None or right_signature is None:
            raise ValueError("neither an operator nor the identity of a result has a structure")
        marks = (*left_signature[1], *right_signature[1])
        key = operation, left_signature[0], right_signature[0], _pattern(marks)
        cost = current_cost()
        if key in self._answers:
            cost.spend(1)
        else:
            before = self.price(cost)
            left, right = self._block(left_edge), self._block(right_edge)
            result = operation(left, right)
            self._answers[key] = self._answer(result, left, right, self.price(cost) - before)
        answer = self._answers[key]
        if answer.kind is None:
            return ZERO, answer.price
        own = tuple(
            [mark if position is None else marks[position] for position, mark in answer.arrays]
        )
        return self._entered((answer.kind, own)), answer.price

    def _answer(self, result: Block, left: Block, right: Block, price: float) -> Answer:
        """The structure of a result; each of its arrays is traced back to the operands."""
        if result.is_zero:
            return Answer(None, (), price)
        operand_arrays = [*signature_of(left)[1], *signature_of(right)[1]]
        position_of = {
            id(array): position for position, array in reversed(list(enumerate(operand_arrays)))
        }
        kind, arrays = signature_of(result)
        sources = [(position_of.get(id(array)), self._marks.get(id(array), 0)) for array in arrays]
        return Answer(kind, tuple(sources), price)


def _pattern(marks: Sequence[int]) -> tuple[int, ...]:
    """Which of the marks are equal; arrays without one are computed on the way, each its own."""
    number: dict[int, int] = {}
    return tuple(
        [
            number.setdefault(mark or -position - 1, len(number))
            for position, mark in enumerate(marks)
        ]
    )


class Structured:
    """The game of a graph whose edges are of any structure.

    Args:
        edges: the graph.
        vertices: those that a planner may eliminate, in the order of their numbers.
        pairs: what edges contract to; shared between games of the same prices.
    """

    def __init__(self, edges: EliminationGraph, vertices: Sequence[Vertex], pairs: Pairs) -> None:
        self.pairs = pairs
        numbers = numbered_vertices(edges, vertices)
        leaving: list[dict[int, int]] = [{} for _ in numbers]
        entering: list[tuple[int, ...]] = [() for _ in numbers]
        for tail, heads in edges.leaving.items():
            for head, edge in heads.items():
                same = (tail, head) in edges.same
                leaving[numbers[tail]][numbers[head]] = SAME if same else pairs.number(edge)
                entering[numbers[head]] += (numbers[tail],)
        self.start: State = (leaving, entering)
        self.skipped = {(numbers[tail], numbers[head]) for tail, head in edges.skipped}

    def move(self, state: State, vertex: int) -> tuple[State, float]:
        """Eliminate a vertex."""
        leaving, entering = list(state[0]), list(state[1])
        heads, tails = leaving[vertex], entering[vertex]
        leaving[vertex], entering[vertex] = {}, ()
        price = 0.0
        reached: dict[int, set[int]] = {head: set() for head in heads}
        for tail in tails:
            own = dict(leaving[tail])
            right = own.pop(vertex)
            for head, left in heads.items():
                if (tail, head) in self.skipped:
                    continue
                edge, paid = self.pairs.product(left, right)
                price += paid
                if head in own:
                    edge, paid = self.pairs.sum(own[head], edge)
                    price += paid
                elif edge != ZERO:
                    reached[head].add(tail)
                if edge != ZERO:
                    own[head] = edge
            leaving[tail] = own
        for head, new in reached.items():
            kept = [tail for tail in entering[head] if tail != vertex]
            entering[head] = (*kept, *sorted(new))
        return (leaving, entering), price

    def around(self, state: State, vertex: int) -> list[int]:
        """The vertices that have an edge with this one."""
        return [*state[0][vertex], *state[1][vertex]]

    def price_of(self, state: State, vertex: int) -> float:
        """What it costs to eliminate a vertex, sums left aside."""
        product = self.pairs.product
        return sum(
            product(left, state[0][tail][vertex])[1]
            for head, left in state[0][vertex].items()
            for tail in state[1][vertex]
            if (tail, head) not in self.skipped
        )


def numbered_vertices(edges: EliminationGraph, vertices: Sequence[Vertex]) -> dict[Vertex, int]:
    """Numbers of all vertices, those that may be eliminated first."""
    graph_vertices: Iterable[Vertex] = (
        vertex for heads in (edges.leaving, edges.entering) for vertex in heads
    )
    graph_vertices = [*graph_vertices, *(vertex for pair in edges.skipped for vertex in pair)]
    return {
        vertex: number for number, vertex in enumerate(dict.fromkeys([*vertices, *graph_vertices]))
    }
