"""What of an evaluated graph is kept for a derivative that is taken later: its residuals.

A way back that runs in another program, or in another loop, than the values did needs of these what
the elemental Jacobians are made of. Which values that are is found by tracing the rules. An
equation that is a pass says itself what it keeps.
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
from blockjac.graph.peak_memory import ALIASES, CHEAP, MOVING
from blockjac.operators.operator import Operator
from blockjac.rules import RULES
from blockjac.rules.registry import Residuals


def residuals_of(
    active: ActiveGraph,
    point: Point,
    needed: Sequence[int] | None = None,
    early: Sequence[Equation] = (),
) -> list[Any]:
    """What of a point `restored_point` needs: values, derivatives, what operators need.

    Args:
        active: what is differentiated of a graph.
        point: where it was evaluated.
        needed: the fewest values, if they are known: `needed_values(active)`, which traces the
            rules.
        early: equations of one operand whose derivatives are kept.
    """
    needed = needed_values(active) if needed is None else needed
    kept = [point.values[value] for value in needed]
    partials = [_partial(equation, point.values) for equation in early]
    back = [Residuals.back_of(point.residuals[equation]) for equation in active.passes]
    return [*kept, *partials, *back]


def _partial(equation: Equation, values: Sequence[Any]) -> Any:
    """The derivative of an equation that scales each entry, as an array of the result's shape."""
    (operand,), (result,) = equation.operands, equation.results
    out = values[result]
    rows = rule_edges(equation, [operand_array(operand, values)], [out], [True])
    assert rows is not None
    (array,) = jax.tree.leaves(rows[0][0])
    return jnp.reshape(array, out.shape)


def around_passes(active: ActiveGraph) -> list[int]:
    """The operands and results of passes, which their way forwards may need."""
    found: dict[int, None] = {}
    for equation in active.passes:
        operands = values_of(equation.operands)
        found.update(dict.fromkeys((*operands, *equation.results)))
    return list(found)


def restored_point(
    active: ActiveGraph,
    kept: Sequence[Any],
    needed: Sequence[int] | None = None,
    early: Sequence[Equation] = (),
) -> Point:
    """A point to linearize at, from `residuals_of`; zeros stand for all other values."""
    needed = needed_values(active) if needed is None else needed
    given, graph = iter(kept), active.graph
    values: list[Any] = [None] * len(graph.avals)
    for value in needed:
        values[value] = next(given)
    partials = {equation: next(given) for equation in early}
    residuals = dict(zip(active.passes, given, strict=True))
    for equation in active.equations:
        operands = values_of(equation.operands)
        for value in (*operands, *equation.results):
            if values[value] is None:
                values[value] = _stand_in(graph.avals[value])
    return Point(values, residuals, whole=False, partials=partials)


def _stand_in(aval: Any) -> Any:
    dtype = getattr(aval, "dtype", None)
    if dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.dtype(bool)):
        return compat.zeros(aval)
    return aval


FEW_OPERATIONS = ALIASES | MOVING | CHEAP | {"div", "rsqrt", "sqrt"}
"""Primitives that take no more than a few operations per entry."""


@dataclass(frozen=True)
class Needs:
    """What the elemental Jacobian of an equation is made of.

    Attributes:
        values: numbers of the values that it reads.
        partial: whether it is one array, a derivative by the equation's one operand, which is
            costly to compute and made of the operand alone.
    """

    values: frozenset[int]
    partial: bool = False


def needs_of(active: ActiveGraph) -> dict[Equation, Needs]:
    """What the elemental Jacobians are made of, found by tracing the rules; passes have none."""
    graph = active.graph
    equations = [one for one in active.equations if one.primitive.name in RULES]
    candidates: dict[int, None] = {}
    for equation in equations:
        candidates.update(dict.fromkeys((*values_of(equation.operands), *equation.results)))
    made: list[tuple[int | None, bool]] = []

    def leaves(arrays: Sequence[Any]) -> list[Any]:
        values: list[Any] = [None] * len(graph.avals)
        for value, array in zip(candidates, arrays, strict=True):
            values[value] = array
        found: list[Any] = []
        for equation in equations:
            inputs = [operand_array(operand, values) for operand in equation.operands]
            outs = [values[one] for one in equation.results]
            rows = rule_edges(equation, inputs, outs, active.mask(equation))
            if rows is None:
                made.append((None, False))
                continue
            edges = [edge for row in rows for edge in row]
            held = [edge.group.held if isinstance(edge, Operator) else edge for edge in edges]
            own = jax.tree.leaves(held)
            made.append((len(own), len(own) == len(inputs) == 1 and _is_scaling(edges[0])))
            found.extend(own)
        return found

    shapes = [compat.struct(graph.avals[value]) for value in candidates]
    read = iter(compat.dependence(jax.make_jaxpr(leaves)(shapes), FEW_OPERATIONS))
    numbers = list(candidates)
    needs = {}
    for equation, (count, is_scaling) in zip(equations, made, strict=True):
        if count is None:
            needs[equation] = Needs(frozenset(values_of(equation.operands)))
            continue
        own = [next(read) for _ in range(count)]
        values = frozenset(numbers[place] for one in own for place in one.inputs)
        of_operand = is_scaling and values == {*values_of(equation.operands)}
        needs[equation] = Needs(values, of_operand and own[0].is_costly)
    return needs


def needed_values(active: ActiveGraph) -> list[int]:
    """The values that the rules make elemental Jacobians of."""
    return values_needed_for(needs_of(active), ())


def values_needed_for(needs: Mapping[Equation, Needs], early: Sequence[Equation]) -> list[int]:
    """The values that elemental Jacobians are made of, in their order in the program.

    Args:
        needs: what each is made of.
        early: equations whose derivative is kept itself.
    """
    apart = set(early)
    rest = [own.values for equation, own in needs.items() if equation not in apart]
    return sorted(frozenset[int]().union(*rest))


def early_partials(needs: Mapping[Equation, Needs], fixed: Set[int]) -> list[Equation]:
    """Equations whose derivative is kept in place of their operand, computed with the values.

    The derivative of a sine takes as long as the sine. Where its operand would be kept for nothing
    else, the derivative is as large, and the compiler makes both of them in one pass.

    Args:
        needs: what the elemental Jacobians of a program are made of.
        fixed: values that are there later in any case.
    """
    candidates = [one for one, own in needs.items() if own.partial and not own.values & fixed]
    others = set(values_needed_for(needs, candidates)) if candidates else set()
    return [one for one in candidates if not needs[one].values & others]


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
