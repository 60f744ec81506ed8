"""Some values of a graph computed from others, without anything that they do not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.graph.graph import Atom, Graph, Operand, values_of


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
