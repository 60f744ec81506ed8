"""The elemental Jacobians of an evaluated graph: one rule, or one operator, per equation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from blockjac.algebra.backend import backend
from blockjac.algebra.losses import at_equation, is_following
from blockjac.algebra.nonzeros import pattern_over, without_zeros
from blockjac.algebra.replay import note, played
from blockjac.algebra.scores import type_of
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.active_graph import OWN_RULE, ActiveGraph, operator_rule_of
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.evaluate import Point, operand_array
from blockjac.graph.graph import Equation, Graph, Operand
from blockjac.graph.known_zeros import FACTORS
from blockjac.operators.operator import Edge, Operator, OperatorGroup
from blockjac.operators.tied import RepeatedGroup
from blockjac.rules import RULES
from blockjac.rules.building import known, scaling
from blockjac.rules.complex_numbers import complex_rule
from blockjac.rules.in_place import applied
from blockjac.rules.registry import Rule
from blockjac.terms.block import arrays_of, rebuilt


def elemental(active: ActiveGraph, point: Point, in_place: bool = False) -> EliminationGraph:
    """Build the elemental Jacobians of all active equations as edges.

    Args:
        active: the active part of a graph.
        point: the graph evaluated.
        in_place: whether writes into arrays and reads from them become operators.
    """
    graph, values = active.graph, point.values
    edges = EliminationGraph(whole=active.holds(OWN_RULE))
    names = {id(values[value]): short_name(name) for value, name in graph.names.items()}
    for equation in active.equations:
        heads = [value if value in active.vertices else None for value in equation.results]
        tails = active.tails(equation)
        inputs = [operand_array(operand, values) for operand in equation.operands]
        outs = [values[value] for value in equation.results]
        with at_equation(equation):
            if point.trig is not None and equation in point.trig.equations:
                rows: list[list[Any]] = [[point.trig.edge(equation, inputs[0])]]
            elif equation in point.partials:
                rows = [[scaling(outs[0].shape, inputs[0], point.partials[equation])]]
            else:
                rows = _rows(
                    equation, inputs, outs, active.mask(equation), point.residuals.get(equation)
                )
                rows = applied(equation, inputs, rows) if in_place else rows
            if graph.zeros and equation.primitive.name in FACTORS:
                rows = [_without_zeros(equation, rows[0], graph)]
            rows = _at(equation, rows, backwards_only=not point.whole)
            rows = _without_repeated(rows, tails)
            edges.equations.update(dict.fromkeys(equation.results, equation))
            for head, row in zip(heads, rows, strict=True):
                for tail, edge in zip(tails, row, strict=True):
                    if head is not None and tail is not None and edge is not None:
                        edges.add(tail, head, _named(edge, names))
    return edges


def _without_zeros(equation: Equation, row: list[Any], graph: Graph) -> list[Any]:
    """The blocks of a product without the entries where the other operand is known to be zero."""
    reduced = list(row)
    for position, multiplier in enumerate(reversed(equation.operands)):
        block = row[position]
        nonzero = graph.zeros.get(multiplier.value) if isinstance(multiplier, Operand) else None
        if nonzero is not None and isinstance(block, Operator):
            operator = block.group.without_zeros(position, nonzero)
            reduced[position] = replace(block, group=operator)
        if nonzero is None or not isinstance(block, Block) or len(block.terms) != 1:
            continue
        factors = block.terms[0].factors
        pattern = pattern_over(nonzero, factors[0]) if len(factors) == 1 else None
        if pattern is not None:
            reduced[position] = without_zeros(block, 0, pattern)
    return reduced


def _without_repeated(rows: list[list[Any]], tails: Sequence[Vertex | None]) -> list[list[Any]]:
    """Merge the operators of operands that are the same variable: their columns are added."""
    positions_of: dict[Vertex, list[int]] = {}
    for position, tail in enumerate(tails):
        if tail is not None and any(isinstance(row[position], Operator) for row in rows):
            positions_of.setdefault(tail, []).append(position)
    operands = list(positions_of.values())
    if all(len(positions) == 1 for positions in operands):
        return rows
    groups = {id(edge.group): edge.group for row in rows for edge in row if _is_operator(edge)}
    if len(groups) != 1:  # separate operators, whose blocks are added as edges
        return rows
    members = [
        [next(row[n] for row in rows if _is_operator(row[n])).column for n in positions]
        for positions in operands
    ]
    edges = RepeatedGroup(next(iter(groups.values())), members).edges()
    merged: list[list[Any]] = [[None] * len(tails) for _ in rows]
    for row, merged_row in zip(rows, merged, strict=True):
        for column, (first, *_) in enumerate(operands):
            if row[first] is not None:
                merged_row[first] = edges[row[first].row][column]
    return merged


def _is_operator(edge: Any) -> bool:
    return isinstance(edge, Operator)


def _at(equation: Equation, rows: Sequence[Sequence[Any]], backwards_only: bool) -> list[list[Any]]:
    """The edges with their operators told which equation they are of.

    Args:
        equation: that equation.
        rows: its edges, by result and operand.
        backwards_only: whether operands are not known any more, which only a pullback can do
            without.
    """
    groups: dict[OperatorGroup, OperatorGroup] = {}
    for group in {edge.group: None for row in rows for edge in row if _is_operator(edge)}:
        only_pulled = backwards_only and group.can_pull
        groups[group] = group.changed(equation=equation, is_backwards_only=only_pulled)
    return [
        [replace(edge, group=groups[edge.group]) if _is_operator(edge) else edge for edge in row]
        for row in rows
    ]


def _named(edge: Edge, names: dict[int, str]) -> Edge:
    """The edge with names on those factors that are arguments of the function."""
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


def _rows(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    active: Sequence[bool],
    residuals: Any,
) -> list[list[Any]]:
    """The elemental Jacobians of one equation, by result and then by operand."""
    name = equation.primitive.name
    if name in RULES:
        rows = rule_edges(equation, inputs, outs, active)
        if rows is not None:
            return rows
    arrays = [compat.jax_array(value) for value in inputs]
    return operator_rule_of(equation).edges(equation, arrays, outs, residuals, active)


def rule_edges(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any], active: Sequence[bool]
) -> list[list[Any]] | None:
    """Apply the primitive's rule; None if it leaves the equation to JAX."""
    involved = [*outs, *(value for value, varies in zip(inputs, active, strict=True) if varies)]
    name = equation.primitive.name
    if any(getattr(value.dtype, "kind", "") == "c" for value in involved):
        return complex_rule(name, outs, inputs, equation.params, active)
    rule, params = RULES[name], equation.params
    replayed = rule.apply if is_following() else partial(_replayed, rule)
    return backend().select(replayed, rule.apply)(outs, inputs, params, active)


def _replayed(
    rule: Rule,
    outs: Sequence[Any],
    inputs: Sequence[Any],
    params: dict[str, Any],
    active: Sequence[bool],
) -> list[list[Any]] | None:
    """The rows of a rule, replayed from an earlier equation with the same key where possible."""
    operands = [*outs, *inputs]
    types = [_number(array) if known(array) else type_of(array) for array in operands]
    key = (rule, tuple(types), tuple(params.items()), tuple(active), len(outs))
    try:
        hash(key)
    except TypeError:  # a parameter without a hash
        return rule.apply(outs, inputs, params, active)
    if None in types or any(map(compat.is_jaxpr, params.values())):
        return rule.apply(outs, inputs, params, active)
    positions = [position for position, array in enumerate(operands) if not known(array)]

    def apply(arrays: Sequence[Any]) -> list[Any] | None:
        """The rule on other arrays of the same types; None if its edges cannot be replayed."""
        full = list(operands)
        for position, array in zip(positions, arrays, strict=True):
            full[position] = array
        return _blocks(rule.apply(full[: len(outs)], full[len(outs) :], params, active))

    arrays = [operands[position] for position in positions]
    edges = played(key, arrays, apply)
    if edges is None:
        rows = rule.apply(outs, inputs, params, active)
        blocks = _blocks(rows)
        if blocks is not None:
            note(key, arrays, blocks)
        return rows
    width = len(inputs)
    return [edges[row * width : (row + 1) * width] for row in range(len(outs))]


def _blocks(rows: list[list[Any]] | None) -> list[Any] | None:
    """All edges of some rows; None if any is an operator, or if no rows are given."""
    edges = [edge for row in rows or () for edge in row]
    return None if rows is None or any(map(_is_operator, edges)) else edges


def _number(value: Any) -> Any:
    """A number that is known while tracing, as part of a key."""
    return value.dtype, value.tobytes()
