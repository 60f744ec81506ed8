"""Appending the equations of a jaxpr to a graph, with its calls inlined.

Calls (`jit`, `closed_call`) are replaced by what they call, renaming variables for each call.
Functions with a forward derivative rule of their own (`custom_jvp`) are replaced by their rule: if
`jax.jvp` of the equation is linear in the tangents, as proved from its primitives, it is inlined
beside the values and differentiated like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.errors import NoDerivativeError
from blockjac.graph.custom_jvp import calls_itself, values_and_tangents
from blockjac.graph.expand import expanded, ordinary_branch, replaced
from blockjac.graph.graph import Atom, Equation, Graph, Literal, Operand, OwnRule
from blockjac.graph.linearity import is_inexact, is_linear
from blockjac.graph.primitives import CALLS, OWN_RULES

CALLS_WITH_RULES = frozenset({"composite", "custom_vmap_call"})
"""Calls with a lowering or batching rule, inlined only if they are differentiated."""


class Inliner:
    """Appends the equations of jaxprs to a graph."""

    def __init__(
        self,
        graph: Graph,
        by_value: bool | Set[str] = False,
        calls: Set[str] = frozenset(),
        notes_rules: bool = False,
        keeps_calls: bool = False,
    ) -> None:
        """Append to a graph.

        Args:
            graph: the graph to append to.
            by_value: whether to differentiate what functions with a derivative rule of their own
                compute, instead of using the rule; or the names of the primitives of which to do
                so. This holds inside of a rule, which JAX runs without differentiating it.
            calls: names of further primitives to inline as calls.
            notes_rules: whether to note the functions with a rule of their own in the graph.
            keeps_calls: whether calls stay equations, as an explanation shows them.
        """
        self.notes_rules, self.keeps_calls = notes_rules, keeps_calls
        self.graph = graph
        self.calls = CALLS | calls
        self.by_value = OWN_RULES if by_value is True else by_value or frozenset()

    def inline(
        self, jaxpr: Any, constants: Sequence[Atom], arguments: Sequence[Atom]
    ) -> list[Atom]:
        """Append a jaxpr's equations, renaming variables; returns the operands of its results."""
        environment: dict[Any, Atom] = {}
        environment.update(zip(jaxpr.constvars, constants, strict=True))
        environment.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Atom:
            return Literal(atom.val, atom.aval) if hasattr(atom, "val") else environment[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            environment.update(
                zip(equation.outvars, self._results(equation, operands), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def inline_closed(self, closed: Any, operands: Sequence[Atom]) -> list[Atom]:
        """Inline a closed jaxpr; its constants become captured arrays of the graph."""
        jaxpr = compat.open_jaxpr(closed)
        captured = []
        for variable, array in zip(jaxpr.constvars, compat.constants(closed), strict=True):
            value = self.graph.new_value(variable.aval)
            self.graph.constants += (value,)
            self.graph.captured.append(array)
            captured.append(Operand(value, None))
        return self.inline(jaxpr, captured, operands)

    def _results(self, equation: Any, operands: list[Atom]) -> Sequence[Atom]:
        """Append an equation, or what it is replaced by; returns the operands of its results."""
        name = equation.primitive.name
        active = [_vertex(operand) is not None for operand in operands]
        if self.keeps_calls:
            return self._append(equation, operands, any(active))
        if any(active):
            replacement = self._replacement(equation, active)
            if replacement is not None:
                closed, first = replacement
                return self.inline_closed(closed, operands[first:])
            if name == "custom_jvp_call":
                return self._with_own_rule(equation, operands)
            if name == "custom_vjp_call":
                operands = self._separated(operands)
        elif name in self.calls:  # functions with rules stay: a further derivative may need these
            return self.inline_closed(compat.called(equation.params), operands)
        return self._append(equation, operands, any(active))

    def _replacement(self, equation: Any, active: Sequence[bool]) -> tuple[Any, int] | None:
        """What a differentiated equation is replaced by.

        Args:
            equation: the equation.
            active: which of its operands are differentiated.

        Returns:
            A closed jaxpr, and the number of the first operand that it takes; None if the equation
            stays.
        """
        name = equation.primitive.name
        if name == "cond":
            branch = ordinary_branch(equation.params)
            if branch is not None:
                return branch, 1
        if (name in CALLS or name == "custom_jvp_call") and not self.by_value:
            by_another_rule = replaced(equation)
            if by_another_rule is not None:
                return by_another_rule, 0
        if name in self.calls | CALLS_WITH_RULES:
            return compat.called(equation.params), 0
        _check_differentiable(equation)
        in_other_primitives = expanded(equation, active)
        if in_other_primitives is not None:
            return in_other_primitives, 0
        if name in self.by_value:
            return compat.called(equation.params), 0
        return None

    def _separated(self, operands: Sequence[Atom]) -> list[Atom]:
        """Give each operand a vertex of its own, since a backward rule need not be linear."""
        separated: list[Atom] = []
        for operand in operands:
            if isinstance(operand, Operand) and operand.vertex is not None and operand in separated:
                operand = self._append_copy(operand)
            separated.append(operand)
        return separated

    def _append(self, equation: Any, operands: list[Atom], active: bool) -> list[Atom]:
        """Append an equation as it is; float and complex results of an active one are vertices."""
        results = tuple(self.graph.new_value(variable.aval) for variable in equation.outvars)
        self.graph.equations.append(
            Equation(
                equation.primitive, tuple(operands), results, equation.params, equation.source_info
            )
        )
        return [
            Operand(value, value if active and is_inexact(self.graph.avals[value]) else None)
            for value in results
        ]

    def _with_own_rule(self, equation: Any, operands: list[Atom]) -> list[Atom]:
        """Inline a custom_jvp function's values, and its rule on the vertices if that is linear.

        The derivative of a linear program is the same everywhere, so it can be taken at 0. A rule
        that is not known to be linear stays an equation, and receives whole tangents.
        """
        active = [n for n, operand in enumerate(operands) if _vertex(operand) is not None]
        avals = [variable.aval for variable in equation.invars]
        inexact = [n for n, variable in enumerate(equation.outvars) if is_inexact(variable.aval)]
        closed = values_and_tangents(equation.primitive, equation.params, avals, active, inexact)
        count = len(equation.outvars)
        are_tangents = [False] * len(avals) + [True] * len(active)
        if not is_linear(closed, are_tangents, first=count):
            return self._append(equation, self._separated(operands), active=True)
        values = [
            Operand(atom.value, None) if isinstance(atom, Operand) else atom for atom in operands
        ]
        start = len(self.graph.equations)
        tangents = [Operand(self.zero(avals[n], values[n]), _vertex(operands[n])) for n in active]
        self.by_value = OWN_RULES
        inlined = self.inline_closed(closed, [*values, *tangents])
        self.by_value = frozenset()
        results = inlined[:count]
        for position, rate in zip(inexact, inlined[count:], strict=True):
            vertex = _vertex(rate)
            if vertex is None:
                continue
            result = results[position]
            # The rule may claim a slope even where the function is constant.
            value = self._constant(result) if isinstance(result, Literal) else result.value
            results[position] = Operand(value, vertex)
        if self.notes_rules:
            is_kept = calls_itself(closed, equation.params, inexact)
            return self._noted(equation, operands, results, self.graph.equations[start:], is_kept)
        return results

    def _noted(
        self,
        equation: Any,
        operands: Sequence[Atom],
        results: Sequence[Atom],
        equations: Sequence[Equation],
        is_kept: bool,
    ) -> list[Atom]:
        """Note a function with its own rule in the graph; its results get vertices of their own."""
        own: list[Atom] = [
            self._append_copy(result) if _vertex(result) is not None else result
            for result in results
        ]
        call = equation.primitive, equation.params
        noted = OwnRule(*call, tuple(operands), tuple(own), tuple(equations), is_kept)
        self.graph.own_rules += (noted,)
        return own

    def _append_copy(self, operand: Atom) -> Operand:
        """A copy of a value, which is a vertex of its own."""
        value = self.graph.new_value(self.graph.aval(operand))
        self.graph.equations.append(Equation(jax.lax.copy_p, (operand,), (value,), {}))
        return Operand(value, value)

    def zero(self, aval: Any, operand: Atom) -> int:
        """A value of zeros, where the linear part of a rule is evaluated and never used."""
        if compat.is_placed(aval):  # it must be placed as the operand is
            like = jax.make_jaxpr(lambda array: [jax.lax.full_like(array, 0)])
            (zeros,) = self.inline_closed(like(compat.struct(aval)), [operand])
            if isinstance(zeros, Operand):
                return zeros.value
        return self._constant(Literal(np.zeros(aval.shape, aval.dtype), aval))

    def _constant(self, literal: Literal) -> int:
        """A value equal to a literal; an array literal has to be one of zeros."""
        value = self.graph.new_value(literal.aval)
        if getattr(literal.value, "shape", ()):
            # Zeros are broadcast, so that no array of this size is ever captured.
            dtype = literal.aval.dtype
            scalar = Literal(np.zeros((), dtype), jax.typeof(jnp.zeros((), dtype)))
            shape = tuple(literal.aval.shape)
            params = {"shape": shape, "broadcast_dimensions": (), "sharding": None}
            equation = Equation(jax.lax.broadcast_in_dim_p, (scalar,), (value,), params)
        else:
            equation = Equation(jax.lax.copy_p, (literal,), (value,), {})
        self.graph.equations.append(equation)
        return value


def _vertex(operand: Atom) -> int | None:
    return operand.vertex if isinstance(operand, Operand) else None


def _check_differentiable(equation: Any) -> None:
    """Raise if a differentiated value meets a mutable array, since a write has no result."""
    variables = (*equation.invars, *equation.outvars)
    if any(hasattr(variable.aval, "inner_aval") for variable in variables):
        raise NoDerivativeError(
            f"a differentiated value meets a mutable array (jax.new_ref) in "
            f"{equation.primitive.name!r}{compat.at_place(equation.source_info)}: blockjac "
            "differentiates no writes; compute a new array instead, x = x.at[i].set(v), "
            "or carry it through jax.lax.scan"
        )
