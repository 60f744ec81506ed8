"""The part of a graph that is differentiated: all between its independents and some results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jax.extend import core

from blockjac.graph.graph import Equation, Graph, Literal, Operand
from blockjac.graph.trace import has_linear_rule
from blockjac.rules import OPERATOR_RULES, RULES, ZERO, OperatorRule
from blockjac.rules.fallback import BY_JAX

OWN_RULE = frozenset({"custom_jvp_call"})
"""Functions with a forward rule; of those that are differentiated, what is left of them in a graph
is not known to be linear."""


@dataclass(frozen=True, eq=False)
class ActiveGraph:
    """What of a graph takes part in a derivative, each fact worked out once.

    Attributes:
        graph: the traced function.
        outputs: those of its results that are differentiated, the dependents.
        vertices: the active ones, which depend on an independent and which a dependent depends on.

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
        """What lies between the independents of a graph and some of its results."""
        return ActiveGraph(graph, outputs, _active_vertices(graph, outputs))

    def on(self, graph: Graph) -> ActiveGraph:
        """The same part of a graph of the same equations, of which more or less is known."""
        return self if graph is self.graph else replace(self, graph=graph)

    @cached_property
    def equations(self) -> list[Equation]:
        """The equations with an elemental Jacobian: from an active vertex to an active vertex."""
        return [
            equation
            for equation in self.graph.equations
            if any(value in self.vertices for value in equation.results)
            and any(tail is not None for tail in self.tails(equation))
        ]

    @cached_property
    def passes(self) -> list[Equation]:
        """Those that have no rule, and are passed through as operators."""
        return [one for one in self.equations if one.primitive.name not in RULES]

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
        return all(operator_rule_of(one).reversible(one, self.mask(one)) for one in self.passes)

    def tails(self, equation: Equation) -> list[int | None]:
        """The vertices of an equation's operands; None where it is not differentiated."""
        return [
            operand.vertex
            if isinstance(operand, Operand) and operand.vertex in self.vertices
            else None
            for operand in equation.operands
        ]

    def mask(self, equation: Equation) -> list[bool]:
        """Which operands of an equation it is differentiated by."""
        return [tail is not None for tail in self.tails(equation)]

    def is_active(self, output: Operand | Literal) -> bool:
        """Whether a result depends on an independent."""
        return isinstance(output, Operand) and output.vertex in self.vertices

    def holds(self, names: Set[str]) -> bool:
        """Whether one of these primitives is differentiated, in loops and branches too."""
        return any(_is_one(one.primitive.name, one.params, names) for one in self.equations)


def operator_rule_of(equation: Equation) -> OperatorRule:
    """How an equation without a rule is differentiated."""
    return OPERATOR_RULES.get(equation.primitive.name, BY_JAX)


def _is_one(name: str, params: dict[str, Any], names: Set[str]) -> bool:
    """Whether an equation is one of these, or holds one; a linear rule of its own is none."""
    if name in names:
        return name not in OWN_RULE or not has_linear_rule(params)
    return any(
        _is_one(inner.primitive.name, inner.params, names)
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
