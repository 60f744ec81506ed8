"""Uses of a loop's constants, such as weights that are shared over time, taken out of the loop.

A step that multiplies by a weight leaves a share of the weight's Jacobian, `q[n,h] x[n,k]`, and the
loop adds up these shares, multiplied out. Here the product of a step is given an input of its own
that is added to it and is zero: the derivative by it is `q`. The loop then only stacks `q` and `x`,
and the weight is used once for all steps, outside:

    for each t:  y[t] = x[t] W        becomes        y = x W,  for each t:  x[t] W* + y[t] - y*[t]

where what has a star is not differentiated, so that the last two cancel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base import compat
from blockjac.graph.graph import Atom, Equation, Graph, Literal, Operand, values_of
from blockjac.graph.inline import Inliner
from blockjac.graph.known_inside import WITH_PROGRAMS
from blockjac.graph.linearity import is_inexact
from blockjac.graph.primitives import CALLS, OWN_RULES
from blockjac.graph.trace import graph_of

NOT_TAKEN = WITH_PROGRAMS | OWN_RULES | CALLS
"""Primitives with programs inside, which stay in the loop."""


@dataclass(frozen=True, eq=False)
class Use:
    """What all steps of a loop compute with its constants by one equation.

    Attributes:
        jaxpr: from the constants and the other operands, stacked, to the stacked results.
        operands: of that program: values of the graph, those of constants with their vertices.
        vertex: what it is differentiated by in the loop; its value there is zero.
        results: the loop's results, behind which it is eliminated.
    """

    jaxpr: Any
    operands: tuple[Atom, ...]
    vertex: int
    results: tuple[int, ...]


def with_uses_outside(
    graph: Graph, active: Set[int], rows: float = math.inf
) -> tuple[Graph, list[Use]]:
    """The graph with uses of active constants taken out of its loops, where that stores less.

    Args:
        graph: the traced function.
        active: its vertices that are differentiated.
        rows: how many numbers are differentiated; infinity to take out whatever can be.
    """
    changed = replace(graph, avals=list(graph.avals), captured=list(graph.captured), equations=[])
    renamed: dict[int, Atom] = {}
    uses: list[Use] = []

    def current(atom: Atom) -> Atom:
        return renamed.get(atom.value, atom) if isinstance(atom, Operand) else atom

    for equation in graph.equations:
        operands = tuple(map(current, equation.operands))
        taken = _taken(equation, graph, active, rows)
        if taken is None:
            changed.equations.append(replace(equation, operands=operands))
            continue
        atoms, found = taken.appended_to(changed, operands)
        renamed.update(zip(equation.results, atoms, strict=True))
        uses += found
    if not uses:
        return graph, []
    changed.outputs = tuple(map(current, graph.outputs))
    changed.independents = (*graph.independents, *(use.vertex for use in uses))
    return changed, uses


def _taken(equation: Equation, graph: Graph, active: Set[int], rows: float) -> _Loop | None:
    """A loop with uses to take out; None if there are none."""
    if equation.primitive.name != "scan" or compat.effects(equation.params["jaxpr"]):
        return None
    consts, carry = compat.scan_counts(equation.params)
    is_active = [
        isinstance(atom, Operand) and atom.vertex is not None and atom.vertex in active
        for atom in equation.operands[:consts]
    ]
    if not any(is_active):
        return None
    loop = _Loop(equation, consts, carry, is_active, rows)
    return loop if loop.uses else None


class _Loop:
    """A scan whose uses of constants are taken out.

    Attributes:
        uses: the equations of its body, each with the operands that differ from step to step.
    """

    def __init__(
        self, equation: Equation, consts: int, carry: int, active: Sequence[bool], rows: float
    ) -> None:
        self.equation, self.consts, self.carry = equation, consts, carry
        jaxpr = equation.params["jaxpr"]
        inputs = compat.open_jaxpr(jaxpr).invars
        self.body = graph_of(jaxpr, [False] * len(inputs), by_value=True)
        # By constant value the active constants that it is computed from.
        fixed: dict[int, frozenset[int]] = dict.fromkeys(self.body.constants, frozenset())
        for value, is_active in zip(self.body.inputs[:consts], active, strict=False):
            fixed[value] = frozenset([value]) if is_active else frozenset()
        self.uses: dict[Equation, list[int]] = {}
        for step in self.body.equations:
            operands = values_of(step.operands)
            weights = frozenset[int]().union(*(fixed.get(value, ()) for value in operands))
            varying = [value for value in dict.fromkeys(operands) if value not in fixed]
            if not varying:
                fixed.update(dict.fromkeys(step.results, weights))
            elif weights and self._is_smaller_outside(step, varying, weights, rows):
                self.uses[step] = varying
        self.fixed = fixed

    def _is_smaller_outside(
        self, step: Equation, varying: Sequence[int], weights: Set[int], rows: float
    ) -> bool:
        """Whether the factors of a step's share are fewer numbers than their product."""
        avals = self.body.avals
        if step.primitive.name in NOT_TAKEN or len(step.results) != 1:
            return False
        (result,) = step.results
        if not is_inexact(avals[result]) or jnp.issubdtype(
            avals[result].dtype, jnp.complexfloating
        ):
            return False
        stacked = sum(math.prod(avals[value].shape) for value in (result, *varying))
        return stacked < rows * sum(math.prod(avals[value].shape) for value in weights)

    def appended_to(
        self, graph: Graph, operands: Sequence[Atom]
    ) -> tuple[Sequence[Atom], list[Use]]:
        """Append the loop to a graph; its results, and its uses."""
        length, consts = self.equation.params["length"], operands[: self.consts]
        inliner = Inliner(graph)
        zeros: list[int] = []
        for step in self.uses:
            aval = self.body.avals[step.results[0]]
            stacked = jax.typeof(
                jax.eval_shape(lambda a=aval: jnp.zeros((length, *a.shape), a.dtype))
            )
            like = Literal(np.zeros((), aval.dtype), aval)
            zeros.append(inliner.zero(stacked, like))
        vertices = [Operand(value, value) for value in zeros]
        entering = [*operands, *vertices, *map(_constant, consts)]
        structs = [compat.struct(graph.aval(atom)) for atom in entering]
        closed = jax.make_jaxpr(self._run)(*structs)
        atoms = inliner.inline_closed(closed, entering)
        own = len(self.equation.results)
        stacks = iter(atoms[own:])
        results = tuple(atom.value for atom in atoms[:own] if isinstance(atom, Operand))
        uses = []
        for (step, varying), zero in zip(self.uses.items(), zeros, strict=True):
            parts = tuple(_constant(next(stacks)) for _ in varying)
            avals = [compat.struct(graph.aval(atom)) for atom in (*consts, *parts)]
            jaxpr = jax.make_jaxpr(lambda *arrays, step=step: self._outside(step, arrays))(*avals)
            uses.append(Use(jaxpr, (*consts, *parts), zero, results))
        return atoms[:own], uses

    def _run(self, *arrays: Any) -> list[Any]:
        """The loop: its results, and the operands of its uses, stacked."""
        count = len(self.equation.operands)
        ends = self.consts, self.consts + self.carry, count, count + len(self.uses)
        consts, init, xs, zeros, copies = (
            list(arrays[start:end]) for start, end in zip((0, *ends), (*ends, None), strict=True)
        )
        params, body = self.equation.params, self.body

        def step(carry: list[Any], slices: Any) -> Any:
            own, shifts = slices
            values = self._values([*consts, *carry, *own], copies, shifts)
            results = [_read(atom, values) for atom in body.outputs]
            stacks = [values[value] for varying in self.uses.values() for value in varying]
            return results[: self.carry], [*results[self.carry :], *stacks]

        final, stacked = lax.scan(
            step,
            init,
            (xs, zeros),
            params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        return [*final, *stacked]

    def _values(
        self, inputs: Sequence[Any], copies: Sequence[Any], shifts: Sequence[Any]
    ) -> dict[int, Any]:
        """All values of a step.

        Args:
            inputs: those of the step.
            copies: the constants again, which are not differentiated, for the uses.
            shifts: what is added to the result of each use.
        """
        values, constants = self._given(inputs), self._from_constants(copies)
        shift_of = dict(zip(self.uses, shifts, strict=True))
        for equation in self.body.equations:
            own = {**values, **constants} if equation in shift_of else values
            operands = [_read(atom, own) for atom in equation.operands]
            with compat.as_if_at(equation.source):
                results = compat.bind(equation.primitive, operands, equation.params)
            if equation in shift_of:
                results = [_shifted(results[0], shift_of[equation])]
            values.update(zip(equation.results, results, strict=True))
        return values

    def _from_constants(self, consts: Sequence[Any]) -> dict[int, Any]:
        """What a step computes from constants alone."""
        values = self._given(consts)
        for equation in self.body.equations:
            if all(value in self.fixed for value in equation.results):
                operands = [_read(atom, values) for atom in equation.operands]
                with compat.as_if_at(equation.source):
                    results = compat.bind(equation.primitive, operands, equation.params)
                values.update(zip(equation.results, results, strict=True))
        return values

    def _given(self, inputs: Sequence[Any]) -> dict[int, Any]:
        values = dict(zip(self.body.constants, self.body.captured, strict=True))
        values.update(zip(self.body.inputs, inputs, strict=False))
        return values

    def _outside(self, use: Equation, arrays: Sequence[Any]) -> list[Any]:
        """The results of one use in all steps, from constants and stacked operands."""
        values = self._from_constants(arrays[: self.consts])

        def of_step(*parts: Any) -> Any:
            own = {**values, **dict(zip(self.uses[use], parts, strict=True))}
            operands = [_read(atom, own) for atom in use.operands]
            with compat.as_if_at(use.source):
                return compat.bind(use.primitive, operands, use.params)[0]

        return [jax.vmap(of_step)(*arrays[self.consts :])]


@jax.custom_jvp
def _shifted(array: Any, shift: Any) -> Any:
    """An array, whose derivative is also that of a shift, which is zero."""
    del shift
    return array


@_shifted.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    return primals[0], tangents[0] + tangents[1]


def _read(atom: Atom, values: dict[int, Any]) -> Any:
    return jnp.asarray(atom.array) if isinstance(atom, Literal) else values[atom.value]


def _constant(atom: Atom) -> Atom:
    """The same value, as a constant of the derivative."""
    return Operand(atom.value, None) if isinstance(atom, Operand) else atom
