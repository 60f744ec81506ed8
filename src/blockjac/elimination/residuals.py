"""Residuals: the values of an evaluated graph that are kept for a later derivative.

A pullback that runs in another program or loop than the evaluation needs the values that the
elemental Jacobians are built from. Tracing the rules tells which values these are. Operator
equations determine their residuals themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import rule_edges
from blockjac.elimination.evaluate import Point, operand_array
from blockjac.graph.graph import Equation, values_of
from blockjac.graph.stored_values import ALIASES, CHEAP, MOVING
from blockjac.operators.operator import Operator
from blockjac.rules import RULES
from blockjac.rules.registry import Residuals


def residuals_of(
    active: ActiveGraph,
    point: Point,
    needed: Sequence[int] | None = None,
    early: Sequence[Equation] = (),
) -> list[Any]:
    """The residuals from which `restored_point` restores a point.

    Args:
        active: the active part of a graph.
        point: the graph evaluated.
        needed: the needed values, if already known from `needed_values(active)`, which traces the
            rules.
        early: equations of one operand whose derivatives are kept instead of the operand.
    """
    needed = needed_values(active) if needed is None else needed
    kept = [point.values[value] for value in needed]
    partials = [_partial(equation, point.values) for equation in early]
    back = [Residuals.back_of(point.residuals[equation]) for equation in active.passes]
    return [*kept, *partials, *back]


def _partial(equation: Equation, values: Sequence[Any]) -> Any:
    """The derivative of an elementwise equation of one operand, in the result's shape."""
    (operand,), (result,) = equation.operands, equation.results
    out = values[result]
    rows = rule_edges(equation, [operand_array(operand, values)], [out], [True])
    assert rows is not None
    (array,) = jax.tree.leaves(rows[0][0])
    return jnp.reshape(array, out.shape)


def around_passes(active: ActiveGraph) -> list[int]:
    """The operands and results of operator equations, which their pushforwards may need."""
    values: dict[int, None] = {}
    for equation in active.passes:
        operands = values_of(equation.operands)
        values.update(dict.fromkeys((*operands, *equation.results)))
    return list(values)


def restored_point(
    active: ActiveGraph,
    kept: Sequence[Any],
    needed: Sequence[int] | None = None,
    early: Sequence[Equation] = (),
) -> Point:
    """Restore a point from the result of `residuals_of`; all other values are zeros."""
    needed = needed_values(active) if needed is None else needed
    residuals, graph = iter(kept), active.graph
    values: list[Any] = [None] * len(graph.avals)
    for value in needed:
        values[value] = next(residuals)
    partials = {equation: next(residuals) for equation in early}
    by_equation = dict(zip(active.passes, residuals, strict=True))
    for equation in active.equations:
        operands = values_of(equation.operands)
        for value in (*operands, *equation.results):
            if values[value] is None:
                values[value] = _stand_in(graph.avals[value])
    return Point(values, by_equation, whole=False, partials=partials)


def _stand_in(aval: Any) -> Any:
    dtype = getattr(aval, "dtype", None)
    if dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool)):
        return compat.zeros(aval)
    return aval


FEW_OPERATIONS = ALIASES | MOVING | CHEAP | {"div", "rsqrt", "sqrt"}
"""Primitives that take only a few operations per entry."""


@dataclass(frozen=True)
class Needs:
    """The values that the elemental Jacobians of an equation are built from.

    Attributes:
        values: numbers of these values.
        partial: whether there is one Jacobian, which scales each entry, depends on the equation's
            only operand, and is costly to compute.
    """

    values: frozenset[int]
    partial: bool = False


def needs_of(active: ActiveGraph) -> dict[Equation, Needs]:
    """The needs of all equations with a rule, found by tracing the rules."""
    graph = active.graph
    equations = [eqn for eqn in active.equations if eqn.primitive.name in RULES]
    candidates: dict[int, None] = {}
    for equation in equations:
        candidates.update(dict.fromkeys((*values_of(equation.operands), *equation.results)))
    counts: list[tuple[int | None, bool]] = []

    def arrays_of_rules(arrays: Sequence[Any]) -> list[Any]:
        """All arrays in the elemental Jacobians; notes in `counts` how many each equation has."""
        values: list[Any] = [None] * len(graph.avals)
        for value, array in zip(candidates, arrays, strict=True):
            values[value] = array
        leaves: list[Any] = []
        for equation in equations:
            inputs = [operand_array(operand, values) for operand in equation.operands]
            outs = [values[value] for value in equation.results]
            rows = rule_edges(equation, inputs, outs, active.mask(equation))
            if rows is None:
                counts.append((None, False))
                continue
            edges = [edge for row in rows for edge in row]
            held = [edge.group.held if isinstance(edge, Operator) else edge for edge in edges]
            own = jax.tree.leaves(held)
            counts.append((len(own), len(own) == len(inputs) == 1 and _is_scaling(edges[0])))
            leaves.extend(own)
        return leaves

    shapes = [compat.struct(graph.avals[value]) for value in candidates]
    closed = jax.make_jaxpr(arrays_of_rules)(shapes)
    dependences = iter(compat.dependence(closed, FEW_OPERATIONS))
    numbers = list(candidates)
    needs = {}
    for equation, (count, is_scaling) in zip(equations, counts, strict=True):
        if count is None:
            needs[equation] = Needs(frozenset(values_of(equation.operands)))
            continue
        own = [next(dependences) for _ in range(count)]
        values = frozenset(numbers[n] for dependence in own for n in dependence.inputs)
        of_operand = is_scaling and values == {*values_of(equation.operands)}
        needs[equation] = Needs(values, of_operand and own[0].is_costly)
    return needs


def needed_values(active: ActiveGraph) -> list[int]:
    """The values that the elemental Jacobians are built from."""
    return values_needed_for(needs_of(active), ())


def values_needed_for(needs: Mapping[Equation, Needs], early: Sequence[Equation]) -> list[int]:
    """The values that elemental Jacobians are built from, in program order.

    Args:
        needs: the needs of each equation.
        early: equations whose derivative itself is kept.
    """
    excluded = set(early)
    rest = [own.values for equation, own in needs.items() if equation not in excluded]
    return sorted(frozenset[int]().union(*rest))


def early_partials(needs: Mapping[Equation, Needs], fixed: Set[int]) -> list[Equation]:
    """Equations whose derivative is computed with the values and kept instead of the operand.

    The derivative of a sine costs as much as the sine. If the operand would be kept for nothing
    else, the derivative takes no more memory, and the compiler computes both in one pass.

    Args:
        needs: the needs of a program's equations.
        fixed: values that will be available later in any case.
    """
    candidates = [
        equation for equation, own in needs.items() if own.partial and not own.values & fixed
    ]
    remaining_values = set(values_needed_for(needs, candidates)) if candidates else set()
    return [equation for equation in candidates if not needs[equation].values & remaining_values]


def _is_scaling(edge: Any) -> bool:
    """Whether an edge scales each entry by a real number of its own."""
    if not isinstance(edge, Block) or edge.out_shape != edge.wrt_shape or len(edge.terms) != 1:
        return False
    (term,), shape = edge.terms, edge.out_shape
    return (
        term.coefficient == 1
        and math.prod(term.factors[0].array.shape) == math.prod(shape)
        and all(size == 1 or term.has_delta(i, i, size) for i, size in enumerate(shape))
    )
