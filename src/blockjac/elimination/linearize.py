"""A graph evaluated: its values, what its derivative needs of them, and its elemental Jacobians."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.extend import core

from blockjac.algebra.cost import is_planning
from blockjac.algebra.losses import at_equation, is_following
from blockjac.algebra.nonzeros import pattern_over, without_zeros
from blockjac.algebra.replay import note, played, type_of
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.eliminate import Edges, Vertex
from blockjac.elimination.shared_trig import Waves, is_wave
from blockjac.graph.graph import Equation, Graph, Literal, Operand
from blockjac.graph.known_zeros import FACTORS
from blockjac.graph.trace import has_linear_rule
from blockjac.operators.operator import Edge, Operator
from blockjac.operators.tied import RepeatedGroup
from blockjac.rules import PASSES, RULES, ZERO, Pass
from blockjac.rules.complex_numbers import complex_rule
from blockjac.rules.fallback import ONE_EQUATION, real_dtype, vertex_shape
from blockjac.rules.in_place import applied
from blockjac.rules.registry import Rule, known, scaling
from blockjac.terms.block import arrays_of, rebuilt


@dataclass
class Point:
    """A graph evaluated.

    Attributes:
        values: what the equations computed, by number of the value.
        residuals: what each equation that is a pass keeps for its derivative.
        whole: whether all values are there, or only those that a way back needs.
        partials: derivatives that were computed with the values, by their equations.
        waves: the store that its sines and cosines are in; None if there is none.
    """

    values: list[Any]
    residuals: dict[Equation, Any] = field(default_factory=dict)
    whole: bool = True
    partials: dict[Equation, Any] = field(default_factory=dict)
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
    for value, array in graph.known.items():
        values[value] = array
    point = Point(values, waves=waves)
    passes = set(useful_passes(graph, useful)) if useful else frozenset()
    for equation in graph.equations:
        if known and _is_known(equation, known) and equation not in passes:
            continue
        if graph.known and _is_known(equation, graph.known):
            continue
        operands = [read(operand, values) for operand in equation.operands]
        with at_equation(equation):
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


OWN_RULE = frozenset({"custom_jvp_call"})
"""Functions with a forward rule; of those that are differentiated, what is left of them in a graph
is not known to be linear."""


def holds(graph: Graph, useful: Set[int], names: Set[str]) -> bool:
    """Whether one of these is differentiated, in loops and branches too."""
    return any(
        _is_one(equation.primitive.name, equation.params, names)
        for equation in useful_equations(graph, useful)
    )


def _is_one(name: str, params: dict[str, Any], names: Set[str]) -> bool:
    """Whether an equation is one of these, or holds one; a linear rule of its own is none."""
    if name in names:
        return name not in OWN_RULE or not has_linear_rule(params)
    return any(
        _is_one(inner.primitive.name, inner.params, names)
        for jaxpr in core.jaxprs_in_params(params)
        for inner in jaxpr.eqns
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


def elemental(graph: Graph, point: Point, useful: Set[int], in_place: bool = False) -> Edges:
    """The elemental Jacobians of all useful equations as edges.

    Args:
        graph: the traced function.
        point: where it was evaluated.
        useful: the vertices that are differentiated.
        in_place: whether writes into arrays and reads from them come as operators, to be applied.
    """
    edges = Edges(whole=holds(graph, useful, OWN_RULE))
    values = point.values
    names = {id(values[value]): short_name(name) for value, name in graph.names.items()}
    for equation in useful_equations(graph, useful):
        heads = [value if value in useful else None for value in equation.results]
        tails = tails_of(equation, useful)
        inputs = [operand_array(operand, values) for operand in equation.operands]
        outs = [values[value] for value in equation.results]
        active = [tail is not None for tail in tails]
        with at_equation(equation):
            if point.waves is not None and is_wave(equation, graph):
                rows: list[list[Any]] = [[point.waves.edge(equation, inputs[0])]]
            elif equation in point.partials:
                rows = [[scaling(outs[0].shape, inputs[0], point.partials[equation])]]
            else:
                rows = _rows(equation, inputs, outs, active, point.residuals.get(equation))
                rows = applied(equation, inputs, rows) if in_place else rows
            if graph.zeros and equation.primitive.name in FACTORS:
                rows = [_without_zeros(equation, rows[0], graph)]
            if not point.whole:
                _backwards_only(rows)
            rows = _without_repeated(rows, tails)
            edges.equations.update(dict.fromkeys(equation.results, equation))
            for head, row in zip(heads, rows, strict=True):
                for tail, edge in zip(tails, row, strict=True):
                    if head is not None and tail is not None and edge is not None:
                        if isinstance(edge, Operator):
                            edge.group.equation = equation
                        edges.add(tail, head, _named(edge, names))
    return edges


def _without_zeros(equation: Equation, row: list[Any], graph: Graph) -> list[Any]:
    """The blocks of a product without the places where the other operand is known to be zero."""
    made = list(row)
    for place, other in enumerate(reversed(equation.operands)):
        block = row[place]
        may = graph.zeros.get(other.value) if isinstance(other, Operand) else None
        if may is not None and isinstance(block, Operator):
            block.group.without_zeros(place, may)
        if may is None or not isinstance(block, Block) or len(block.terms) != 1:
            continue
        factors = block.terms[0].factors
        pattern = pattern_over(may, factors[0]) if len(factors) == 1 else None
        if pattern is not None:
            made[place] = without_zeros(block, 0, pattern)
    return made


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


def _named(edge: Edge, names: dict[int, str]) -> Edge:
    """The edge with the factors that are arguments of the function called by their names."""
    if isinstance(edge, Operator) or not any(id(array) in names for array in arrays_of(edge)):
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


def operand_array(operand: Operand | Literal, values: Sequence[Any]) -> Any:
    """An operand as rules see it: an array, of NumPy where it is known while tracing."""
    if isinstance(operand, Literal):
        return operand.array
    value = values[operand.value]
    is_place = isinstance(value, np.ndarray) and value.dtype.kind in "iub"
    return value if is_place else compat.jax_array(value)


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
        rows = rule_edges(equation, inputs, outs, active)
        if rows is not None:
            return rows
    arrays = [compat.jax_array(value) for value in inputs]
    return pass_of(equation).edges(equation, arrays, outs, residuals, active)


def rule_edges(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any], active: Sequence[bool]
) -> list[list[Any]] | None:
    """By the primitive's rule; None where it leaves the equation to JAX."""
    involved = [*outs, *(value for value, wanted in zip(inputs, active, strict=True) if wanted)]
    name = equation.primitive.name
    if any(getattr(value.dtype, "kind", "") == "c" for value in involved):
        return complex_rule(name, outs, inputs, equation.params, active)
    rule, params = RULES[name], equation.params
    if is_following() or is_planning():
        return rule.apply(outs, inputs, params, active)
    return _replayed(rule, outs, inputs, params, active)


def _replayed(
    rule: Rule,
    outs: Sequence[Any],
    inputs: Sequence[Any],
    params: dict[str, Any],
    active: Sequence[bool],
) -> list[list[Any]] | None:
    """What a rule gives, by what it gave for equations of this kind before."""
    operands = [*outs, *inputs]
    types = [_number(one) if known(one) else type_of(one) for one in operands]
    key = (rule, tuple(types), tuple(params.items()), tuple(active), len(outs))
    try:
        hash(key)
    except TypeError:  # a parameter that is no plain value
        return rule.apply(outs, inputs, params, active)
    if None in types or any(map(compat.is_jaxpr, params.values())):
        return rule.apply(outs, inputs, params, active)
    places = [place for place, one in enumerate(operands) if not known(one)]

    def again(arrays: Sequence[Any]) -> list[Any] | None:
        full = list(operands)
        for place, array in zip(places, arrays, strict=True):
            full[place] = array
        rows = rule.apply(full[: len(outs)], full[len(outs) :], params, active)
        edges = [edge for row in rows or () for edge in row]
        fit = rows is not None and not any(map(_is_operator, edges))
        return edges if fit else None

    arrays = [operands[place] for place in places]
    edges = played(key, arrays, again)
    if edges is None:
        rows = rule.apply(outs, inputs, params, active)
        made = [edge for row in rows or () for edge in row]
        if rows is not None and not any(map(_is_operator, made)):
            note(key, arrays, made)
        return rows
    width = len(inputs)
    return [edges[row * width : (row + 1) * width] for row in range(len(outs))]


def _number(value: Any) -> Any:
    """A number that is known while tracing, as part of a key."""
    return value.dtype, value.tobytes()


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
