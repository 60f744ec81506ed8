"""From a graph and an order to blocks: the only loop over vertices.

The edges of the graph are elemental Jacobians. Eliminating a vertex contracts each edge that leaves
it with each edge that enters it, and adds the product to the edge that bypasses it: the chain rule.
When only inputs and outputs are left, the edges between them are the answer. Any order is correct;
reverse order is backpropagation, forward order is forward mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp

from blockjac import compat
from blockjac.blocks import Block, add
from blockjac.blocks.block import rebuilt
from blockjac.blocks.operators import Edge, Operator, compose, written
from blockjac.errors import OrderError
from blockjac.graph import Equation, Graph, Literal, Operand
from blockjac.rules import RULES, ZERO
from blockjac.rules.fallback import fallback, real_dtype, vertex_shape

Vertex = Any
"""A number of a graph's vertex, or `("out", k)` for the k-th result."""


@dataclass
class Edges:
    """The computational graph while vertices are eliminated: edges by tail and by head."""

    leaving: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    entering: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge; parallel edges add up."""
        if isinstance(edge, Block) and not edge.terms:
            return
        present = self.leaving.get(tail, {}).get(head)
        if present is not None:
            edge = add(written(present), written(edge))
        self.leaving.setdefault(tail, {})[head] = edge
        self.entering.setdefault(head, {})[tail] = edge

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
        )


def evaluate(graph: Graph, arguments: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
    """The values of all equations, by number."""
    values: list[Any] = [None] * len(graph.avals)
    for value, array in zip(
        (*graph.inputs, *graph.constants), (*arguments, *captured), strict=True
    ):
        values[value] = array
    for equation in graph.equations:
        operands = [read(operand, values) for operand in equation.operands]
        for value, result in zip(
            equation.results,
            compat.bind(equation.primitive, operands, equation.params),
            strict=True,
        ):
            values[value] = result
    return values


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


def useful_equations(graph: Graph, useful: set[int]) -> Iterator[Equation]:
    """The equations with an elemental Jacobian: from a useful vertex to a useful vertex."""
    for equation in graph.equations:
        if any(value in useful for value in equation.results) and any(
            isinstance(op, Operand) and op.vertex in useful for op in equation.operands
        ):
            yield equation


def elemental(graph: Graph, values: Sequence[Any], useful: set[int]) -> Edges:
    """The elemental Jacobians of all useful equations as edges."""
    edges = Edges()
    names = {id(values[value]): short_name(name) for value, name in graph.names.items()}
    for equation in useful_equations(graph, useful):
        heads = [value if value in useful else None for value in equation.results]
        tails = [
            op.vertex if isinstance(op, Operand) and op.vertex in useful else None
            for op in equation.operands
        ]
        inputs = [_array(operand, values) for operand in equation.operands]
        outs = [values[value] for value in equation.results]
        rows = _rule(equation, inputs, outs, [tail is not None for tail in tails])
        for head, row in zip(heads, rows, strict=True):
            for tail, edge in zip(tails, row, strict=True):
                if head is not None and tail is not None and edge is not None:
                    edges.add(tail, head, _named(edge, names))
    return edges


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


def _rule(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any], active: Sequence[bool]
) -> list[list[Any]]:
    name = equation.primitive.name
    involved = [*outs, *(value for value, wanted in zip(inputs, active, strict=True) if wanted)]
    if name in RULES and not any(
        jnp.issubdtype(value.dtype, jnp.complexfloating) for value in involved
    ):
        rows = RULES[name].apply(outs, inputs, equation.params, active)
        if rows is not None:
            return rows
    arrays = [jnp.asarray(float(v), v.dtype) if isinstance(v, StaticScalar) else v for v in inputs]
    return fallback(equation, arrays, outs, active)


def eliminate(edges: Edges, order: Sequence[Vertex]) -> Edges:
    """Eliminate vertices in the given order; the edges that remain are the answer."""
    remaining = set(order)
    for vertex in order:
        if vertex not in remaining:
            continue
        for member in _eliminate_one(edges, vertex):
            remaining.discard(member)
    return edges


def _eliminate_one(edges: Edges, vertex: Vertex) -> list[Vertex]:
    operators = [
        edge for edge in edges.entering.get(vertex, {}).values() if isinstance(edge, Operator)
    ]
    if operators:
        joint = _joint(edges, vertex, operators[0])
        if joint is not None:
            return joint
    entering, leaving = edges.remove(vertex)
    for head, left in leaving.items():
        for tail, right in entering.items():
            edges.add(tail, head, compose(left, right))
    return [vertex]


def _joint(edges: Edges, vertex: Vertex, operator: Operator) -> list[Vertex] | None:
    """Eliminate all results of one operator's equation by one backward pass; None if impossible."""
    group = operator.group
    members: dict[Vertex, int] = {}
    columns: dict[int, Vertex] = {}
    for head, entering in edges.entering.items():
        for tail, edge in entering.items():
            if isinstance(edge, Operator) and edge.group is group:
                members[head] = edge.row
                columns[edge.column] = tail
    if group.pull is None or any(
        isinstance(edge, Operator)
        for head in members
        for edge in edges.leaving.get(head, {}).values()
    ):
        return None
    if any(
        not isinstance(edge, Operator) or edge.group is not group
        for head in members
        for edge in edges.entering[head].values()
    ):
        return None
    heads: dict[Vertex, list[Block | None]] = {}
    for member, row in members.items():
        for head, edge in edges.leaving.get(member, {}).items():
            if head in members:
                return None
            heads.setdefault(head, [None] * len(group.out_shapes))[row] = written(edge)
    for member in members:
        edges.remove(member)
    for head, cotangents in heads.items():
        for column, answer in enumerate(group.pullback(cotangents)):
            if answer is not None and column in columns:
                edges.add(columns[column], head, answer)
    return list(members)


def reverse_order(graph: Graph, useful: set[int]) -> list[Vertex]:
    """Every intermediate vertex, last computed first: backpropagation."""
    return forward_order(graph, useful)[::-1]


def forward_order(graph: Graph, useful: set[int]) -> list[Vertex]:
    """Every intermediate vertex, first computed first: forward mode."""
    inputs = set(graph.active)
    computed = [value for equation in graph.equations for value in equation.results]
    return [value for value in computed if value in useful and value not in inputs]


def check_order(order: Any) -> None:
    """Raise unless the order is one that exists.

    Raises:
        OrderError: names it and what there is.
    """
    if order not in ORDERS:
        raise OrderError(f"order is {order!r}, but must be one of {', '.join(map(repr, ORDERS))}")


ORDERS = ("auto", "reverse", "forward", "greedy")


def identity_edges(
    graph: Graph, edges: Edges, outputs: Sequence[Operand | Literal], useful: set[int]
) -> None:
    """Add the results as vertices of their own, each an identity of the vertex that it is."""
    for place, output in enumerate(outputs):
        if isinstance(output, Operand) and output.vertex in useful:
            aval = graph.avals[output.vertex]
            edges.add(
                output.vertex,
                ("out", place),
                Block.identity(vertex_shape(aval), real_dtype(aval.dtype)),
            )
