"""The equations of a function that are not linear: those that a Laplacian has terms of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.evaluate import operand_array
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.graph.graph import Equation, Literal, Operand
from blockjac.graph.linearity import is_linear_in
from blockjac.planning.directions import has_one_way
from blockjac.second_order.at_point import AtPoint
from blockjac.second_order.coefficients import of_own_rule, of_rule
from blockjac.second_order.curvature import Curving
from blockjac.second_order.directions import Swept


def is_pushed_again(active: ActiveGraph) -> bool:
    """Whether a function can be pushed forwards again and again, its own derivative rules too."""
    return not has_one_way(active) and all(own.is_kept for own in active.graph.own_rules)


def varying_equations(linear: LinearizedGraph) -> list[AtPoint]:
    """The equations of a function whose derivative varies, at its point.

    Args:
        linear: the function, traced for second derivatives.
    """
    graph, active = linear.graph, linear.active
    inlined = {equation for own in graph.own_rules for equation in own.equations}
    found: list[AtPoint] = []
    for equation in active.equations:
        if equation not in inlined:
            varying = _of_equation(linear, equation)
            if varying is not None:
                found.append(varying)
    for own in graph.own_rules:
        tails, heads = _vertices(linear, own.operands), _vertices(linear, own.results)
        if not any(head is not None for head in heads):
            continue
        operands, results = _values(linear, own.operands), _values(linear, own.results)
        moves = [tail is not None for tail in tails]
        coefficients = of_own_rule(own, operands, results, moves)
        if coefficients is not None and coefficients.varying_all:
            found.append(Curving(operands, results, tails, heads, coefficients))
    return found


def _of_equation(linear: LinearizedGraph, equation: Equation) -> AtPoint | None:
    """An equation with what it needs at its point; None if its derivative does not vary."""
    active, graph = linear.active, linear.graph
    tails, moves = active.tails(equation), active.mask(equation)
    primitive, params = equation.primitive, equation.params
    avals = [graph.aval(operand) for operand in equation.operands]
    if is_linear_in(primitive, params, avals, moves):
        return None
    heads = [value if value in active.vertices else None for value in equation.results]
    operands = _values(linear, equation.operands)
    results = [linear.point.values[value] for value in equation.results]
    coefficients = of_rule(primitive, params, operands, results, moves)
    if coefficients is None:
        return Swept(operands, results, tails, heads, equation)
    if not coefficients.varying_all:
        return None
    return Curving(operands, results, tails, heads, coefficients)


def _vertices(linear: LinearizedGraph, atoms: Sequence[Operand | Literal]) -> list[Vertex | None]:
    """The active vertices of operands; None for others."""
    vertices = [atom.vertex if isinstance(atom, Operand) else None for atom in atoms]
    return [vertex if vertex in linear.active.vertices else None for vertex in vertices]


def _values(linear: LinearizedGraph, atoms: Sequence[Operand | Literal]) -> list[Any]:
    """The values of operands, constants as NumPy arrays."""
    return [operand_array(atom, linear.point.values) for atom in atoms]
