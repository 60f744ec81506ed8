"""From a graph and an order to blocks: the only loop over vertices.

The edges of the graph are elemental Jacobians. Eliminating a vertex contracts each edge that leaves
it with each edge that enters it, and adds the product to the edge that bypasses it: the chain rule.
When only inputs and outputs are left, the edges between them are the answer. Any order is correct;
reverse order is backpropagation, forward order is forward mode.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac import compat
from blockjac.blocks import Block, add
from blockjac.blocks.block import rebuilt
from blockjac.blocks.operators import Edge, Operator, OperatorGroup, compose, written
from blockjac.blocks.repeated import RepeatedGroup
from blockjac.graph import Equation, Graph, Literal, Operand
from blockjac.rules import PASSES, RULES, ZERO, Pass
from blockjac.rules.complex_numbers import complex_rule
from blockjac.rules.fallback import ONE_EQUATION, real_dtype, vertex_shape
from blockjac.waves import Waves, is_wave

Vertex = Any
"""A number of a graph's vertex, or `("out", k)` for the k-th result."""


@dataclass
class Edges:
    """The computational graph while vertices are eliminated.

    Attributes:
        leaving: edges by tail, then by head.
        entering: the same edges by head, then by tail.
        same: pairs of a vertex and a result that is this vertex; their edge is the identity.
        skipped: pairs of an input and a result whose Jacobian is not asked for.
    """

    leaving: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    entering: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    same: set[tuple[Vertex, Vertex]] = field(default_factory=set)
    skipped: Set[tuple[Vertex, Vertex]] = frozenset()

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge; parallel edges add up."""
        if (isinstance(edge, Block) and edge.is_zero) or (tail, head) in self.skipped:
            return
        present = self.leaving.get(tail, {}).get(head)
        if present is not None:
            edge = add(written(present), written(edge))
            self.same.discard((tail, head))
        self.leaving.setdefault(tail, {})[head] = edge
        self.entering.setdefault(head, {})[tail] = edge

    def pass_by(self, vertex: Vertex) -> None:
        """Eliminate a vertex: an edge past it for each pair of edges that meet there."""
        products = [
            (tail, head, self.product(tail, vertex, head))
            for head in self.leaving.get(vertex, {})
            for tail in self.entering.get(vertex, {})
            if (tail, head) not in self.skipped
        ]
        self.remove(vertex)
        for tail, head, edge in products:
            self.add(tail, head, edge)

    def remove(self, vertex: Vertex) -> tuple[dict[Vertex, Edge], dict[Vertex, Edge]]:
        """Take a vertex out; returns the edges that entered and left it."""
        entering, leaving = self.entering.pop(vertex, {}), self.leaving.pop(vertex, {})
        for tail in entering:
            self.leaving[tail].pop(vertex, None)
        for head in leaving:
            self.entering[head].pop(vertex, None)
        return entering, leaving

    def copy(self) -> Edges:
        """A copy that can be eliminated apart."""
        return Edges(
            {vertex: dict(edges) for vertex, edges in self.leaving.items()},
            {vertex: dict(edges) for vertex, edges in self.entering.items()},
            set(self.same),
            self.skipped,
        )

    def product(self, tail: Vertex, vertex: Vertex, head: Vertex) -> Block:
        """What leads from tail to head by way of one vertex: the two edges contracted."""
        left, right = self.leaving[vertex][head], self.entering[vertex][tail]
        if (vertex, head) in self.same and isinstance(right, Block):
            return right
        return compose(left, right)


@dataclass
class Point:
    """A graph evaluated.

    Attributes:
        values: what the equations computed, by number of the value.
        residuals: what each equation that is a pass keeps for its derivative.
        whole: whether all values are there, or only those that a way back needs.
        waves: the store that its sines and cosines are in; None if there is none.
    """

    values: list[Any]
    residuals: dict[Equation, Any] = field(default_factory=dict)
    whole: bool = True
    waves: Waves | None = None


def evaluate(
    graph: Graph,
    arguments: Sequence[Any],
    captured: Sequence[Any],
    useful: Set[int] = frozenset(),
    known: Mapping[int, Any] | None = None,
    waves: Waves | None = None,
) -> Point:
    """The values of all equations, and the residuals of those passes that are differentiated.

    Args:
        graph: the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        useful: the vertices that a derivative will be asked of.
        known: values that need not be computed, by number.
        waves: a store for sines and cosines.
    """
    values: list[Any] = [None] * len(graph.avals)
    for value, array in (known or {}).items():
        values[value] = array
    for value, array in zip(
        (*graph.inputs, *graph.constants), (*arguments, *captured), strict=True
    ):
        values[value] = array
    point = Point(values, waves=waves)
    passes = set(useful_passes(graph, useful)) if useful else frozenset()
    for equation in graph.equations:
        if known and _is_known(equation, known) and equation not in passes:
            continue
        operands = [read(operand, values) for operand in equation.operands]
        if equation in passes:
            active = [vertex is not None for vertex in tails_of(equation, useful)]
            results, point.residuals[equation] = pass_of(equation).evaluate(
                equation, [compat.jax_array(operand) for operand in operands], active
            )
        elif waves is not None and is_wave(equation, graph):
            results = [waves.value(equation, operands[0])]
        else:
            results = compat.bind(equation.primitive, operands, equation.params)
        for value, result in zip(equation.results, results, strict=True):
            values[value] = result
    return point


def _is_known(equation: Equation, known: Mapping[int, Any]) -> bool:
    return bool(equation.results) and all(value in known for value in equation.results)


def useful_passes(graph: Graph, useful: Set[int]) -> Iterator[Equation]:
    """The useful equations that have no rule and are passed through as operators."""
    for equation in useful_equations(graph, useful):
        if equation.primitive.name not in RULES:
            yield equation


def pass_of(equation: Equation) -> Pass:
    """How an equation without a rule is differentiated."""
    return PASSES.get(equation.primitive.name, ONE_EQUATION)


def is_reversible(graph: Graph, useful: Set[int]) -> bool:
    """Whether every equation on the way can be pulled back."""
    return all(
        pass_of(equation).reversible(
            equation, [tail is not None for tail in tails_of(equation, useful)]
        )
        for equation in useful_passes(graph, useful)
    )


def tails_of(equation: Equation, useful: Set[int]) -> list[int | None]:
    """The vertices of an equation's operands; None where it is not differentiated."""
    return [
        op.vertex if isinstance(op, Operand) and op.vertex in useful else None
        for op in equation.operands
    ]


def read(operand: Operand | Literal, values: Sequence[Any]) -> Any:
    """The value of an operand."""
    return operand.value if isinstance(operand, Literal) else values[operand.value]


def useful_vertices(graph: Graph, outputs: Iterable[Operand | Literal]) -> set[int]:
    """Vertices that depend on the differentiated inputs and that an output depends on."""
    reached = set(graph.active)
    dependence: list[tuple[Equation, list[int]]] = []
    for equation in graph.equations:
        tails = [
            op.vertex
            for op in equation.operands
            if isinstance(op, Operand) and op.vertex in reached
        ]
        if tails and equation.primitive.name not in ZERO:
            reached.update(equation.results)
            dependence.append((equation, [tail for tail in tails if tail is not None]))
    needed = {op.vertex for op in outputs if isinstance(op, Operand) and op.vertex is not None}
    for equation, tails in reversed(dependence):
        if needed & set(equation.results):
            needed.update(tails)
    return reached & needed


def useful_equations(graph: Graph, useful: Set[int]) -> Iterator[Equation]:
    """The equations with an elemental Jacobian: from a useful vertex to a useful vertex."""
    for equation in graph.equations:
        if any(value in useful for value in equation.results) and any(
            isinstance(op, Operand) and op.vertex in useful for op in equation.operands
        ):
            yield equation


def elemental(graph: Graph, point: Point, useful: Set[int]) -> Edges:
    """The elemental Jacobians of all useful equations as edges."""
    edges = Edges()
    values = point.values
    names = {id(values[value]): short_name(name) for value, name in graph.names.items()}
    for equation in useful_equations(graph, useful):
        heads = [value if value in useful else None for value in equation.results]
        tails = tails_of(equation, useful)
        inputs = [_array(operand, values) for operand in equation.operands]
        outs = [values[value] for value in equation.results]
        active = [tail is not None for tail in tails]
        if point.waves is not None and is_wave(equation, graph):
            rows: list[list[Any]] = [[point.waves.edge(equation, inputs[0])]]
        else:
            rows = _rows(equation, inputs, outs, active, point.residuals.get(equation))
        if not point.whole:
            _backwards_only(rows)
        rows = _without_repeated(rows, tails)
        for head, row in zip(heads, rows, strict=True):
            for tail, edge in zip(tails, row, strict=True):
                if head is not None and tail is not None and edge is not None:
                    edges.add(tail, head, _named(edge, names))
    return edges


def _without_repeated(rows: list[list[Any]], tails: Sequence[Vertex | None]) -> list[list[Any]]:
    """Operators by variable, where one is several operands: their columns are added up."""
    columns: dict[Vertex, list[int]] = {}
    for place, tail in enumerate(tails):
        if tail is not None and any(isinstance(row[place], Operator) for row in rows):
            columns.setdefault(tail, []).append(place)
    if all(len(places) == 1 for places in columns.values()):
        return rows
    groups = {id(edge.group): edge.group for row in rows for edge in row if _is_operator(edge)}
    if len(groups) != 1:  # apart already: their blocks are added up
        return rows
    found = [[row[places[0]] for places in columns.values()] for row in rows]
    members = [
        [next(row[place] for row in rows if _is_operator(row[place])).column for place in places]
        for places in columns.values()
    ]
    merged = RepeatedGroup(next(iter(groups.values())), members).edges()
    made: list[list[Any]] = [[None] * len(tails) for _ in rows]
    for row, edges in zip(made, found, strict=True):
        for column, (places, edge) in enumerate(zip(columns.values(), edges, strict=True)):
            if edge is not None:
                row[places[0]] = merged[edge.row][column]
    return made


def _is_operator(edge: Any) -> bool:
    return isinstance(edge, Operator)


def _backwards_only(rows: Sequence[Sequence[Any]]) -> None:
    """Take the pushforwards from operators whose operands are not known."""
    for row in rows:
        for edge in row:
            if isinstance(edge, Operator) and edge.group.pull is not None:
                edge.group.push = None


def kept_of(
    graph: Graph, point: Point, useful: Set[int], needed: Sequence[int] | None = None
) -> list[Any]:
    """What of a point `point_from` needs: the fewest values, then the residuals of the passes.

    Args:
        graph: the traced function.
        point: where it was evaluated.
        useful: the vertices that are differentiated.
        needed: `needed_values(graph, useful)`, which traces the rules, if they are known.
    """
    needed = needed_values(graph, useful) if needed is None else needed
    kept = [point.values[value] for value in needed]
    return [*kept, *(point.residuals[equation] for equation in useful_passes(graph, useful))]


def point_from(
    graph: Graph, kept: Sequence[Any], useful: Set[int], needed: Sequence[int] | None = None
) -> Point:
    """A point to take elemental Jacobians at, from `kept_of`; zeros stand for all other values."""
    needed = needed_values(graph, useful) if needed is None else needed
    given = iter(kept)
    values: list[Any] = [None] * len(graph.avals)
    for value in needed:
        values[value] = next(given)
    residuals = dict(zip(useful_passes(graph, useful), given, strict=True))
    for equation in useful_equations(graph, useful):
        operands = [op.value for op in equation.operands if isinstance(op, Operand)]
        for value in (*operands, *equation.results):
            if values[value] is None:
                values[value] = _stand_in(graph.avals[value])
    return Point(values, residuals, whole=False)


def _stand_in(aval: Any) -> Any:
    dtype = getattr(aval, "dtype", None)
    if dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool)):
        return compat.zeros(aval)
    return aval


def needed_values(graph: Graph, useful: Set[int]) -> list[int]:
    """The values that the rules make elemental Jacobians of, found by tracing the rules."""
    equations = [one for one in useful_equations(graph, useful) if one.primitive.name in RULES]
    candidates: dict[int, None] = {}
    for equation in equations:
        operands = [op.value for op in equation.operands if isinstance(op, Operand)]
        candidates.update(dict.fromkeys((*operands, *equation.results)))
    whole: set[int] = set()

    def leaves(arrays: Sequence[Any]) -> list[Any]:
        values: list[Any] = [None] * len(graph.avals)
        for value, array in zip(candidates, arrays, strict=True):
            values[value] = array
        found: list[Any] = []
        for equation in equations:
            inputs = [_array(operand, values) for operand in equation.operands]
            active = [tail is not None for tail in tails_of(equation, useful)]
            rows = _rule(equation, inputs, [values[one] for one in equation.results], active)
            if rows is None:
                whole.update(op.value for op in equation.operands if isinstance(op, Operand))
                continue
            edges = [edge for row in rows for edge in row]
            held = [edge.group.held if isinstance(edge, Operator) else edge for edge in edges]
            found.extend(jax.tree.leaves(held))
        return found

    shapes = [compat.struct(graph.avals[value]) for value in candidates]
    used = compat.used_inputs(jax.make_jaxpr(leaves)(shapes))
    return [
        value for value, wanted in zip(candidates, used, strict=True) if wanted or value in whole
    ]


def _named(edge: Edge, names: dict[int, str]) -> Edge:
    """The edge with the factors that are arguments of the function called by their names."""
    if isinstance(edge, Operator) or not any(
        id(factor.array) in names for term in edge.terms for factor in term.factors
    ):
        return edge
    terms = [
        replace(
            term,
            factors=tuple(
                replace(factor, name=names.get(id(factor.array), factor.name))
                for factor in term.factors
            ),
        )
        for term in edge.terms
    ]
    return rebuilt(edge.out_shape, edge.wrt_shape, edge.dtype, terms)


def short_name(path: str) -> str:
    """The name of an argument as formulas show it: `W1` for `params['W1']`, `x` for `x`."""
    parts = re.findall(r"\w+", path)
    own = parts[1:] if len(parts) > 1 and not parts[1].isdigit() else parts
    return ".".join(own)


def _array(operand: Operand | Literal, values: Sequence[Any]) -> Any:
    value = read(operand, values)
    if (
        isinstance(operand, Literal)
        and not operand.aval.shape
        and jnp.issubdtype(operand.aval.dtype, jnp.floating)
    ):
        return StaticScalar(value, operand.aval.dtype)
    return value if hasattr(value, "dtype") else jnp.asarray(value)


class StaticScalar(float):
    """A float literal: a Python number to derivatives, with the shape and dtype of its array."""

    shape: tuple[int, ...] = ()
    ndim = 0

    def __new__(cls, value: Any, dtype: Any) -> StaticScalar:
        """The number, with the dtype of its array."""
        made = super().__new__(cls, value)
        made.dtype = dtype
        return made

    dtype: Any


def _rows(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    active: Sequence[bool],
    residuals: Any,
) -> list[list[Any]]:
    """The elemental Jacobians of one equation, by result and operand."""
    name = equation.primitive.name
    if name in RULES:
        rows = _rule(equation, inputs, outs, active)
        if rows is not None:
            return rows
    arrays = [jnp.asarray(float(v), v.dtype) if isinstance(v, StaticScalar) else v for v in inputs]
    return pass_of(equation).edges(equation, arrays, outs, residuals, active)


def _rule(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any], active: Sequence[bool]
) -> list[list[Any]] | None:
    """By the primitive's rule; None where it leaves the equation to JAX."""
    involved = [*outs, *(value for value, wanted in zip(inputs, active, strict=True) if wanted)]
    name = equation.primitive.name
    if any(jnp.issubdtype(value.dtype, jnp.complexfloating) for value in involved):
        return complex_rule(name, outs, inputs, equation.params, active)
    return RULES[name].apply(outs, inputs, equation.params, active)


def eliminate(
    edges: Edges,
    order: Sequence[Vertex],
    after: Callable[[Sequence[Vertex]], None] | None = None,
    before: Callable[[Vertex], None] | None = None,
) -> Edges:
    """Eliminate vertices in the given order; the edges that remain are the answer.

    Args:
        edges: the graph; it is used up.
        order: the vertices.
        after: called after each, with all that were eliminated together.
        before: called before each.
    """
    pending = dict.fromkeys(order)
    waiting: set[Vertex] = set()
    while pending:
        vertex = next(iter(pending))
        last = _last_operand(edges, vertex, pending, waiting)
        if last is not None:
            waiting.add(vertex)
            pending = _moved_after(last, vertex, pending)
            continue
        if before is not None:
            before(vertex)
        together = _eliminate_next(edges, vertex, pending)
        for done in together:
            pending.pop(done, None)
        if after is not None:
            after(together)
    return edges


def _moved_after(last: Vertex, vertex: Vertex, pending: Iterable[Vertex]) -> dict[Vertex, None]:
    """The first vertex put behind another."""
    order = [one for one in pending if one != vertex]
    order.insert(order.index(last) + 1, vertex)
    return dict.fromkeys(order)


def _last_operand(
    edges: Edges, vertex: Vertex, pending: Iterable[Vertex], waiting: Container[Vertex]
) -> Vertex | None:
    """The last of those operands that an operator at this vertex is still to be reached through.

    An operator that is passed forwards takes all operands along at once: the vertex has to wait
    for it. None if there is nothing to wait for.
    """
    groups = _groups(edges.leaving.get(vertex, {}))
    if not groups:
        return None
    operands = {tail for group in groups for tail in Passage(edges, group, vertex).columns}
    operands.discard(vertex)
    others = [one for one in pending if one in operands and one not in waiting]
    return others[-1] if others else None


def _eliminate_next(edges: Edges, vertex: Vertex, pending: Container[Vertex]) -> list[Vertex]:
    """Eliminate a vertex, or all results of an operator together; returns which."""
    arriving = _groups(edges.entering.get(vertex, {}))
    if arriving:
        passage = Passage(edges, arriving[0], vertex)
        if passage.is_pulled(pending):
            passage.pull()
            return list(passage.rows)
        if passage.is_pushed(pending):
            passage.push(pending)
    for group in _groups(edges.leaving.get(vertex, {})):
        Passage(edges, group, vertex).push(pending)
    edges.pass_by(vertex)
    return [vertex]


def _groups(edges: Mapping[Vertex, Edge]) -> list[OperatorGroup]:
    """The operators among edges, each equation once."""
    groups = {id(edge.group): edge.group for edge in edges.values() if isinstance(edge, Operator)}
    return list(groups.values())


class Passage:
    """All edges of one operator in a graph: its equation is passed in one go, either way.

    Attributes:
        columns: vertices of the operands, with their places.
        rows: vertices of the results, with their places.
    """

    def __init__(self, edges: Edges, group: OperatorGroup, vertex: Vertex) -> None:
        """Find them from one of the operands or results."""
        self.edges, self.group = edges, group
        self.columns: dict[Vertex, int] = {}
        self.rows: dict[Vertex, int] = {}
        found = [vertex]
        while found:
            one = found.pop()
            for head, edge in self._own(edges.leaving.get(one, {})):
                if head not in self.rows:
                    self.rows[head] = edge.row
                    found.append(head)
            for tail, edge in self._own(edges.entering.get(one, {})):
                if tail not in self.columns:
                    self.columns[tail] = edge.column
                    found.append(tail)

    def _own(self, edges: Mapping[Vertex, Edge]) -> list[tuple[Vertex, Operator]]:
        return [
            (vertex, edge)
            for vertex, edge in edges.items()
            if isinstance(edge, Operator) and edge.group is self.group
        ]

    def is_pulled(self, pending: Container[Vertex]) -> bool:
        """Whether what leaves the results can be pulled back at once, and costs less that way."""
        if self.group.pull is None or not self._rows_are_last():
            return False
        if self.group.push is None or any(tail in pending for tail in self.columns):
            return True
        heads = {
            head: edge
            for row in self.rows
            for head, edge in self.edges.leaving.get(row, {}).items()
        }
        pulled = sum(math.prod(written(edge).out_shape) for edge in heads.values())
        return pulled <= sum(
            math.prod(edge.wrt_shape)
            for tail in self.columns
            for edge in self.edges.entering.get(tail, {}).values() or [self._edge_from(tail)]
        )

    def is_pushed(self, pending: Container[Vertex]) -> bool:
        """Whether all that enters the operands is known."""
        return self.group.push is not None and not any(tail in pending for tail in self.columns)

    def _edge_from(self, tail: Vertex) -> Operator:
        return self._own(self.edges.leaving[tail])[0][1]

    def _rows_are_last(self) -> bool:
        """Whether only this equation enters the results, and only blocks to others leave them."""
        entering = [edge for row in self.rows for edge in self.edges.entering[row].values()]
        leaving = [
            (head, edge)
            for row in self.rows
            for head, edge in self.edges.leaving.get(row, {}).items()
        ]
        return all(
            isinstance(edge, Operator) and edge.group is self.group for edge in entering
        ) and not any(head in self.rows or isinstance(edge, Operator) for head, edge in leaving)

    def pull(self) -> None:
        """Eliminate the results: one pullback for each vertex that they lead to."""
        tails = {column: tail for tail, column in self.columns.items()}
        heads: dict[Vertex, list[Block | None]] = {}
        for row, place in self.rows.items():
            for head, edge in self.edges.leaving.get(row, {}).items():
                heads.setdefault(head, [None] * len(self.group.out_shapes))[place] = written(edge)
        for row in self.rows:
            self.edges.remove(row)
        for head, cotangents in heads.items():
            for column, answer in enumerate(self.group.pullback(cotangents)):
                if answer is not None and column in tails:
                    self.edges.add(tails[column], head, answer)

    def push(self, pending: Container[Vertex]) -> None:
        """Replace the operator: one pushforward for each vertex that leads to its operands.

        Args:
            pending: what is still to be eliminated: with nothing that leads to it, it does not
                move, where any other operand is a variable itself.
        """
        heads = {place: row for row, place in self.rows.items()}
        sources: dict[Vertex, list[Block | None]] = {}
        for tail, place in self.columns.items():
            entering = self.edges.entering.get(tail, {})
            if not entering and tail not in pending:
                edge = self._edge_from(tail)
                entering = {tail: Block.identity(edge.wrt_shape, self.group.dtypes[place])}
            for source, edge in entering.items():
                tangents = sources.setdefault(source, [None] * len(self.group.wrt_shapes))
                tangents[place] = written(edge)
        for tail in self.columns:
            for row in self.rows:
                self.edges.leaving[tail].pop(row, None)
                self.edges.entering[row].pop(tail, None)
        for source, tangents in sources.items():
            for place, answer in enumerate(self.group.pushforward(tangents)):
                if answer is not None and place in heads:
                    self.edges.add(source, heads[place], answer)


def reverse_order(graph: Graph, useful: set[int]) -> list[Vertex]:
    """Every intermediate vertex, last computed first: backpropagation."""
    return forward_order(graph, useful)[::-1]


def forward_order(graph: Graph, useful: set[int]) -> list[Vertex]:
    """Every intermediate vertex, first computed first: forward mode."""
    inputs = set(graph.active)
    computed = [value for equation in graph.equations for value in equation.results]
    return [value for value in computed if value in useful and value not in inputs]


def identity_edges(
    graph: Graph, edges: Edges, outputs: Sequence[Operand | Literal], useful: set[int]
) -> None:
    """Add the results as vertices of their own, each an identity of the vertex that it is."""
    for place, output in enumerate(outputs):
        if isinstance(output, Operand) and output.vertex in useful:
            aval = graph.avals[output.vertex]
            edges.same.add((output.vertex, ("out", place)))
            edges.add(
                output.vertex,
                ("out", place),
                Block.identity(vertex_shape(aval), real_dtype(aval.dtype)),
            )
