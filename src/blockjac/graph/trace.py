"""From a JAX function to a flat graph.

The function is traced by `jax.make_jaxpr`; calls (`jit`, `closed_call`) are inlined,
renaming per call, and functions with a derivative rule of their own (`custom_jvp`) are replaced by
their rule: where `jax.jvp` of that one equation is linear in the tangents, as is proved from its
primitives, it is inlined beside the values and differentiated like everything else.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from blockjac.base import compat
from blockjac.base.tracing import tracing
from blockjac.errors import NoDerivativeError
from blockjac.graph.expand import expanded, ordinary_branch, replaced
from blockjac.graph.graph import Equation, Graph, Literal, Operand
from blockjac.graph.linearity import OWN_RULES, is_linear
from blockjac.graph.primitives import CALLS

CALLS_WITH_RULES = frozenset({"composite", "custom_vmap_call"})
"""Such primitives with a lowering or batching rule, kept where nothing is differentiated."""


def trace(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    differentiated: Sequence[int],
    keywords: Mapping[str, Any] | None = None,
) -> Graph:
    """Trace a function to a graph.

    Args:
        function: returns a list of arrays.
        arguments: positional arguments: trees of arrays or shapes (`jax.ShapeDtypeStruct`).
        differentiated: which of the leaves of the arguments, then of the keywords, to differentiate
            by; leaves that are neither float nor complex are left out.
        keywords: keyword arguments: trees as well.

    Returns:
        The graph; its inputs are the leaves in order, named as in the function's signature.
    """
    with tracing():
        closed = jax.make_jaxpr(function)(*arguments, **(keywords or {}))
    jaxpr = compat.open_jaxpr(closed)
    graph = Graph()
    graph.inputs = tuple(graph.new_value(variable.aval) for variable in jaxpr.invars)
    graph.constants = tuple(graph.new_value(variable.aval) for variable in jaxpr.constvars)
    graph.captured = list(compat.constants(closed))
    graph.names = dict(zip(graph.inputs, compat.argument_names(closed), strict=False))
    _check_sizes(graph)
    inputs = [graph.inputs[place] for place in differentiated]
    graph.independents = tuple(value for value in inputs if is_inexact(graph.avals[value]))
    known = set(graph.independents)
    operands = [Operand(value, value if value in known else None) for value in graph.inputs]
    constants = [Operand(value, None) for value in graph.constants]
    graph.outputs = tuple(Inliner(graph).inline(jaxpr, constants, operands))
    return graph


def graph_of(
    closed: Any,
    differentiated: Sequence[bool],
    by_value: bool = False,
    calls: Set[str] = frozenset(),
) -> Graph:
    """The graph of a jaxpr inside an equation: a loop's body, a branch.

    Args:
        closed: the jaxpr, closed.
        differentiated: for each of its inputs whether it is differentiated; those that are neither
            float nor complex are left out.
        by_value: whether functions with a rule of their own are differentiated as what they
            compute, as in the program of a rule.
        calls: names of primitives that are taken for calls as well.
    """
    jaxpr = compat.open_jaxpr(closed)
    graph = Graph()
    graph.inputs = tuple(graph.new_value(variable.aval) for variable in jaxpr.invars)
    graph.independents = tuple(
        value
        for value, wanted in zip(graph.inputs, differentiated, strict=True)
        if wanted and is_inexact(graph.avals[value])
    )
    known = set(graph.independents)
    operands = [Operand(value, value if value in known else None) for value in graph.inputs]
    graph.outputs = tuple(Inliner(graph, by_value, calls).inline_closed(closed, operands))
    return graph


def named_as(fun: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the name, signature and place of another, as JAX's messages read them."""
    name = getattr(fun, "__name__", type(fun).__name__)
    function.__name__ = name
    function.__qualname__ = getattr(fun, "__qualname__", name)
    function.__wrapped__ = fun  # pyright: ignore[reportFunctionMemberAccess]
    return function


class Inliner:
    """Appends the equations of jaxprs to a graph."""

    def __init__(self, graph: Graph, by_value: bool = False, calls: Set[str] = frozenset()) -> None:
        """Append to a graph.

        Args:
            graph: is appended to.
            by_value: whether functions with a rule of their own are differentiated as what they
                compute. A rule's program is: JAX runs it, and differentiates nothing in it.
            calls: names of primitives that are taken for calls as well.
        """
        self.graph = graph
        self.calls = CALLS | calls
        self.by_value = by_value

    def inline(
        self,
        jaxpr: Any,
        constants: Sequence[Operand | Literal],
        arguments: Sequence[Operand | Literal],
    ) -> list[Operand | Literal]:
        """Append a jaxpr's equations, renaming variables; returns the operands of its results."""
        environment: dict[Any, Operand | Literal] = {}
        environment.update(zip(jaxpr.constvars, constants, strict=True))
        environment.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Operand | Literal:
            return Literal(atom.val, atom.aval) if hasattr(atom, "val") else environment[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            environment.update(
                zip(equation.outvars, self._results(equation, operands), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def _results(
        self, equation: Any, operands: list[Operand | Literal]
    ) -> Sequence[Operand | Literal]:
        name = equation.primitive.name
        moving = [
            isinstance(operand, Operand) and operand.vertex is not None for operand in operands
        ]
        active = any(moving)
        if active and name == "cond":
            branch = ordinary_branch(equation.params)
            if branch is not None:
                return self.inline_closed(branch, operands[1:])
        if active and (name in CALLS or name == "custom_jvp_call"):
            by_another_rule = replaced(equation)
            if by_another_rule is not None and not self.by_value:
                return self.inline_closed(by_another_rule, operands)
        if name in self.calls or (active and name in CALLS_WITH_RULES):
            return self.inline_closed(compat.called(equation.params), operands)
        if active:
            _check_differentiable(equation)
            in_others = expanded(equation, moving)
            if in_others is not None:
                return self.inline_closed(in_others, operands)
        # Where it is not differentiated here, its rule still counts for a further derivative.
        if name in OWN_RULES and active and self.by_value:
            return self.inline_closed(compat.called(equation.params), operands)
        if name == "custom_jvp_call" and active:
            return self._with_own_rule(equation, operands)
        if name == "custom_vjp_call" and active:
            operands = self._apart(operands)
        return self._append(equation, operands, active)

    def _apart(self, operands: Sequence[Operand | Literal]) -> list[Operand | Literal]:
        """Each operand a vertex of its own: a backward rule need not be linear."""
        apart: list[Operand | Literal] = []
        for operand in operands:
            if isinstance(operand, Operand) and operand.vertex is not None and operand in apart:
                value = self.graph.new_value(self.graph.avals[operand.value])
                self.graph.equations.append(Equation(_copy(), (operand,), (value,), {}))
                operand = Operand(value, value)
            apart.append(operand)
        return apart

    def inline_closed(
        self, closed: Any, operands: Sequence[Operand | Literal]
    ) -> list[Operand | Literal]:
        """Inline a closed jaxpr; its constants become captured arrays of the graph."""
        jaxpr = compat.open_jaxpr(closed)
        captured = []
        for variable, array in zip(jaxpr.constvars, compat.constants(closed), strict=True):
            value = self.graph.new_value(variable.aval)
            self.graph.constants += (value,)
            self.graph.captured.append(array)
            captured.append(Operand(value, None))
        return self.inline(jaxpr, captured, operands)

    def _append(
        self, equation: Any, operands: list[Operand | Literal], active: bool
    ) -> list[Operand | Literal]:
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

    def _with_own_rule(
        self, equation: Any, operands: list[Operand | Literal]
    ) -> list[Operand | Literal]:
        """Inline a custom_jvp function's values, and its rule on the vertices if that is linear.

        The derivative of a linear program is the same everywhere, so that it may be taken at 0. A
        rule that is not known to be linear stays an equation, and gets whole tangents.
        """
        moving = [
            place
            for place, operand in enumerate(operands)
            if isinstance(operand, Operand) and operand.vertex is not None
        ]
        avals = [variable.aval for variable in equation.invars]
        smooth = [
            place for place, variable in enumerate(equation.outvars) if is_inexact(variable.aval)
        ]

        closed = _values_and_tangents(equation.primitive, equation.params, avals, moving, smooth)
        count = len(equation.outvars)
        if not is_linear(closed, [False] * len(avals) + [True] * len(moving), first=count):
            return self._append(equation, self._apart(operands), active=True)
        still = [Operand(op.value, None) if isinstance(op, Operand) else op for op in operands]
        tangents: list[Operand | Literal] = []
        for place in moving:
            operand = operands[place]
            vertex = operand.vertex if isinstance(operand, Operand) else None
            tangents.append(Operand(self.zero(avals[place], still[place]), vertex))
        self.by_value = True
        inlined = self.inline_closed(closed, [*still, *tangents])
        self.by_value = False
        results = list(inlined[:count])
        for place, rate in zip(smooth, inlined[count:], strict=True):
            result = results[place]
            vertex = rate.vertex if isinstance(rate, Operand) else None
            if vertex is None:
                continue
            if isinstance(
                result, Literal
            ):  # a constant value whose rule claims a slope all the same
                result = Operand(self._constant(result), None)
            results[place] = Operand(result.value, vertex)
        return results

    def zero(self, aval: Any, operand: Operand | Literal) -> int:
        """A value of zeros: where the linear part of a rule is evaluated, and never used."""
        if compat.is_placed(aval):  # it must lie where the operand does
            like = jax.make_jaxpr(lambda array: [jax.lax.full_like(array, 0)])
            (zeros,) = self.inline_closed(like(compat.struct(aval)), [operand])
            if isinstance(zeros, Operand):
                return zeros.value
        return self._constant(Literal(np.zeros(aval.shape, aval.dtype), aval))

    def _constant(self, literal: Literal) -> int:
        value = self.graph.new_value(literal.aval)
        if getattr(literal.value, "shape", ()):
            # Zeros by a broadcast, so that no array of this size is ever captured.
            scalar = Literal(
                np.zeros((), literal.aval.dtype), jax.typeof(jnp.zeros((), literal.aval.dtype))
            )
            params = {
                "shape": tuple(literal.aval.shape),
                "broadcast_dimensions": (),
                "sharding": None,
            }
            self.graph.equations.append(
                Equation(jax.lax.broadcast_in_dim_p, (scalar,), (value,), params)
            )
        else:
            self.graph.equations.append(Equation(_copy(), (literal,), (value,), {}))
        return value


def _values_and_tangents(
    primitive: Any,
    params: dict[str, Any],
    avals: Sequence[Any],
    moving: Sequence[int],
    smooth: Sequence[int],
) -> Any:
    """The jaxpr of a custom_jvp function and its rule.

    Args:
        primitive: that of the call.
        params: its parameters.
        avals: types of the operands.
        moving: which operands have tangents.
        smooth: which results have.

    Returns:
        A closed jaxpr from the operands and then the tangents to the results and their tangents.
    """

    def values_and_tangents(values: list[Any], tangents: list[Any]) -> tuple[list[Any], list[Any]]:
        def moved(*parts: Any) -> list[Any]:
            full = list(values)
            for place, part in zip(moving, parts, strict=True):
                full[place] = part
            return compat.bind(primitive, full, params)

        results, rates = jax.jvp(moved, tuple(values[place] for place in moving), tuple(tangents))
        return list(results), [rates[place] for place in smooth]

    shapes = [compat.struct(aval) for aval in avals]
    return jax.make_jaxpr(values_and_tangents)(shapes, [shapes[place] for place in moving])


def has_linear_rule(params: dict[str, Any]) -> bool:
    """Whether the rule of a custom_jvp function is linear in the tangents of all operands.

    Args:
        params: of its call.
    """
    whole = compat.called(params)
    if whole not in _linear_rules:
        _linear_rules[whole] = _has_linear_rule(params)
    return _linear_rules[whole]


_linear_rules: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""By the jaxpr of the function: a loop's is asked about again and again."""


def _has_linear_rule(params: dict[str, Any]) -> bool:
    called = compat.open_jaxpr(compat.called(params))
    avals = [variable.aval for variable in called.invars]
    moving, smooth = (
        [place for place, variable in enumerate(variables) if is_inexact(variable.aval)]
        for variables in (called.invars, called.outvars)
    )
    closed = _values_and_tangents(core.primitives.custom_jvp_call_p, params, avals, moving, smooth)
    chosen = [False] * len(avals) + [True] * len(moving)
    return is_linear(closed, chosen, first=len(called.outvars))


def _check_sizes(graph: Graph) -> None:
    """Raise for the symbolic dimensions of `jax.export`: structure is decided by sizes."""
    for value in graph.inputs:
        shape = getattr(graph.avals[value], "shape", ())
        if not all(isinstance(size, int) for size in shape):
            raise NoDerivativeError(
                f"{graph.names.get(value, 'an argument')} has the symbolic shape "
                f"({', '.join(map(str, shape))}), but the structure of a Jacobian depends on "
                "sizes, which must be numbers: export one program for each size"
            )


def _check_differentiable(equation: Any) -> None:
    """Raise where a differentiated value meets a mutable array: a write is no result of its own."""
    variables = (*equation.invars, *equation.outvars)
    if any(hasattr(variable.aval, "inner_aval") for variable in variables):
        raise NoDerivativeError(
            f"a differentiated value meets a mutable array (jax.new_ref) in "
            f"{equation.primitive.name!r}{compat.at_place(equation.source_info)}: blockjac "
            "differentiates no writes; compute a new array instead, x = x.at[i].set(v), "
            "or carry it through jax.lax.scan"
        )


def _copy() -> Any:
    return jax.lax.copy_p


def is_inexact(aval: Any) -> bool:
    """Whether derivatives with respect to such a value exist: floats and complex numbers."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
