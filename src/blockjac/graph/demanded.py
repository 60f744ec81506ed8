"""What some values of a graph are computed from, and the values computed without anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.graph.graph import Atom, Equation, Graph, Operand, values_of


def demanded(
    graph: Graph, values: Iterable[int], through: Callable[[Equation], bool] = lambda _: True
) -> set[int]:
    """The values that some values of a graph are computed from, themselves included.

    Args:
        graph: the graph.
        values: the numbers of the values.
        through: which equations to look behind; all of them by default.
    """
    needed = set(values)
    for equation in reversed(graph.equations):
        if not needed.isdisjoint(equation.results) and through(equation):
            needed.update(values_of(equation.operands))
    return needed


def computed(
    graph: Graph,
    wanted: Sequence[Atom],
    available: Mapping[int, Any],
    cleared: Mapping[int, Any] = MappingProxyType({}),
    added: Mapping[int, Any] = MappingProxyType({}),
) -> list[Any]:
    """Compute some values of a graph.

    Args:
        graph: the graph, whose equations are evaluated as far as needed.
        wanted: the values to compute.
        available: the arrays that are known already, by value.
        cleared: masks of entries that are zero whatever the equations give, by value.
        added: arrays to add to what the equations give, by value.
    """
    values = {**dict(zip(graph.constants, graph.captured, strict=True)), **available}
    needed = {value for value in values_of(wanted) if value not in values}
    equations = []
    for equation in reversed(graph.equations):
        if not needed.isdisjoint(equation.results):
            equations.append(equation)
            needed.update(value for value in values_of(equation.operands) if value not in values)

    def read(atom: Atom) -> Any:
        return values[atom.value] if isinstance(atom, Operand) else jnp.asarray(atom.array)

    for equation in reversed(equations):
        operands = [read(atom) for atom in equation.operands]
        with compat.as_if_at(equation.source):
            results = compat.bind(equation.primitive, operands, equation.params)
        for value, result in zip(equation.results, results, strict=True):
            if value in added:
                result = result + added[value]
            mask = cleared.get(value)
            values[value] = result if mask is None else jnp.where(mask, 0, result)
    return [read(atom) for atom in wanted]
