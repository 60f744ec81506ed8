"""The part of a graph between its independents and those results that are differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jax.extend import core

from blockjac.graph.custom_jvp import has_linear_rule
from blockjac.graph.graph import Equation, Graph, Literal, Operand
from blockjac.rules import OPERATOR_RULES, RULES, ZERO, OperatorRule
from blockjac.rules.fallback import BY_JAX

OWN_RULE = frozenset({"custom_jvp_call"})
"""Calls of functions with a JVP rule of their own; those left in a graph need not be linear."""


@dataclass(frozen=True, eq=False)
class ActiveGraph:
    """The active part of a graph, with derived facts computed once.

    Attributes:
        graph: the traced function.
        outputs: the results that are differentiated, the dependents.
        vertices: the active vertices: they depend on an independent, and a dependent depends on
            them.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac.graph.trace import trace
        >>> graph = trace(lambda x: [jnp.sin(x) * 2, jnp.floor(x)], [jnp.ones(3)], [0])
        >>> active = ActiveGraph.of(graph, graph.outputs)
        >>> [equation.primitive.name for equation in active.equations]
        ['sin', 'mul']
    """

    graph: Graph
    outputs: Sequence[Operand | Literal]
    vertices: Set[int]

    @staticmethod
    def of(graph: Graph, outputs: Sequence[Operand | Literal]) -> ActiveGraph:
        """The active part between the independents of a graph and some of its results."""
        return ActiveGraph(graph, outputs, _active_vertices(graph, outputs))

    def on(self, graph: Graph) -> ActiveGraph:
        """The same part of another graph of the same equations, which differs in what is known."""
        return self if graph is self.graph else replace(self, graph=graph)

    @cached_property
    def equations(self) -> list[Equation]:
        """The equations with an elemental Jacobian: from active vertices to active vertices."""
        return [
            equation
            for equation in self.graph.equations
            if any(value in self.vertices for value in equation.results)
            and any(tail is not None for tail in self.tails(equation))
        ]

    @cached_property
    def passes(self) -> list[Equation]:
        """The equations without a rule, which become operators."""
        return [equation for equation in self.equations if equation.primitive.name not in RULES]

    @cached_property
    def forward_order(self) -> list[int]:
        """Every intermediate vertex, first computed first: forward mode."""
        inputs = set(self.graph.independents)
        computed = [value for equation in self.graph.equations for value in equation.results]
        return [value for value in computed if value in self.vertices and value not in inputs]

    @property
    def reverse_order(self) -> list[int]:
        """Every intermediate vertex, last computed first: backpropagation."""
        return self.forward_order[::-1]

    @cached_property
    def is_reversible(self) -> bool:
        """Whether every equation can be pulled back."""
        return all(operator_rule_of(eqn).reversible(eqn, self.mask(eqn)) for eqn in self.passes)

    def tails(self, equation: Equation) -> list[int | None]:
        """The vertex of each operand of an equation; None for operands that are not active."""
        return [
            operand.vertex
            if isinstance(operand, Operand) and operand.vertex in self.vertices
            else None
            for operand in equation.operands
        ]

    def mask(self, equation: Equation) -> list[bool]:
        """For each operand, whether the equation is differentiated with respect to it."""
        return [tail is not None for tail in self.tails(equation)]

    def is_active(self, output: Operand | Literal) -> bool:
        """Whether a result depends on an independent."""
        return isinstance(output, Operand) and output.vertex in self.vertices

    def holds(self, names: Set[str]) -> bool:
        """Whether one of these primitives is differentiated, in loops and branches too."""
        return any(_contains(eqn.primitive.name, eqn.params, names) for eqn in self.equations)


def operator_rule_of(equation: Equation) -> OperatorRule:
    """How an equation without a rule is differentiated."""
    return OPERATOR_RULES.get(equation.primitive.name, BY_JAX)


def _contains(name: str, params: dict[str, Any], names: Set[str]) -> bool:
    """Whether an equation is or contains one of these primitives; linear rules do not count."""
    if name in names:
        return name not in OWN_RULE or not has_linear_rule(params)
    return any(
        _contains(inner.primitive.name, inner.params, names)
        for jaxpr in core.jaxprs_in_params(params)
        for inner in jaxpr.eqns
    )


def _active_vertices(graph: Graph, outputs: Iterable[Operand | Literal]) -> set[int]:
    """Vertices that depend on an independent and that an output depends on."""
    reached = set(graph.independents)
    dependence: list[tuple[Equation, list[int]]] = []
    for equation in graph.equations:
        tails = [
            op.vertex
            for op in equation.operands
            if isinstance(op, Operand) and op.vertex is not None and op.vertex in reached
        ]
        if tails and equation.primitive.name not in ZERO:
            reached.update(equation.results)
            dependence.append((equation, tails))
    needed = {op.vertex for op in outputs if isinstance(op, Operand) and op.vertex is not None}
    for equation, tails in reversed(dependence):
        if needed & set(equation.results):
            needed.update(tails)
    return reached & needed
