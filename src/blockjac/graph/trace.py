"""From a JAX function to a flat graph.

The function is traced by `jax.make_jaxpr`, and its calls and derivative rules are inlined (see
`blockjac.graph.inline`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.base.tracing import tracing
from blockjac.errors import NoDerivativeError
from blockjac.graph.graph import Equation, Graph, Operand
from blockjac.graph.inline import Inliner
from blockjac.graph.linearity import RECOMPUTED, is_inexact
from blockjac.graph.primitives import CALLS


def trace(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    differentiated: Sequence[int],
    keywords: Mapping[str, Any] | None = None,
    second: bool = False,
    keeps_calls: bool = False,
) -> Graph:
    """Trace a function to a graph.

    Args:
        function: returns a list of arrays.
        arguments: positional arguments, trees of arrays or shapes (`jax.ShapeDtypeStruct`).
        differentiated: numbers of the leaves to differentiate with respect to, counted through the
            arguments and then the keywords; leaves that are neither float nor complex are ignored.
        keywords: keyword arguments, trees as well.
        second: whether the graph is for second derivatives: it then notes functions with a rule of
            their own, and what is computed again on the way back is inlined, since nothing goes
            back.
        keeps_calls: whether calls stay equations; a call that is the whole function stays only if
            it is a step, or linear algebra that has a formula.

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
    inputs = [graph.inputs[leaf] for leaf in differentiated]
    graph.independents = tuple(value for value in inputs if is_inexact(graph.avals[value]))
    operands = _input_operands(graph)
    constants = [Operand(value, None) for value in graph.constants]
    calls = RECOMPUTED if second else frozenset[str]()
    inliner = Inliner(graph, calls=calls, notes_rules=second, keeps_calls=keeps_calls)
    graph.outputs = tuple(inliner.inline(jaxpr, constants, operands))
    while keeps_calls and len(graph.equations) == 1 and _is_unnamed_call(graph.equations[0]):
        (call,) = graph.equations
        graph.equations.clear()
        opened = inliner.inline_closed(compat.called(call.params), call.operands)
        results = dict(zip(call.results, opened, strict=True))
        graph.outputs = tuple(
            results.get(output.value, output) if isinstance(output, Operand) else output
            for output in graph.outputs
        )
    return graph


STEP = "blockjac step "
"""What the names of calls begin with that a user has named as steps."""


LINEAR_ALGEBRA = frozenset({"inv", "solve", "slogdet", "det", "cholesky"})
"""Functions of `jax.numpy.linalg` that explanations have a formula for."""


def linear_algebra(equation: Equation) -> str:
    """Which of `LINEAR_ALGEBRA` an equation calls; empty for any other.

    What JAX derives from a function, such as its transpose, has the function's name: the program is
    compared with that of the function itself.
    """
    if equation.primitive.name not in CALLS:
        return ""
    closed = compat.called(equation.params)
    file, _, name = compat.origin(closed).rpartition(":")
    if not file.endswith("/numpy/linalg.py") or name not in LINEAR_ALGEBRA:
        return ""
    structs = [compat.struct(variable.aval) for variable in compat.open_jaxpr(closed).invars]
    if len(structs) != (2 if name == "solve" else 1):
        return ""
    call, *others = compat.open_jaxpr(jax.make_jaxpr(getattr(jnp.linalg, name))(*structs)).eqns
    is_same = not others and _program_text(compat.called(call.params)) == _program_text(closed)
    return name if is_same else ""


def _program_text(closed: Any) -> str:
    """A program as it is printed, without the addresses of its functions."""
    return re.sub(r"0x[0-9a-f]+", "", str(closed))


def _is_unnamed_call(equation: Equation) -> bool:
    """Whether an equation is a call that has neither a name of the user's nor a formula."""
    is_step = str(equation.params.get("name", "")).startswith(STEP)
    return equation.primitive.name in CALLS and not is_step and not linear_algebra(equation)


def graph_of(
    closed: Any,
    differentiated: Sequence[bool],
    by_value: bool | Set[str] = False,
    calls: Set[str] = frozenset(),
) -> Graph:
    """The graph of a jaxpr inside an equation, such as a loop's body or a branch.

    Args:
        closed: the jaxpr, closed.
        differentiated: whether each of its inputs is differentiated; those that are neither float
            nor complex are ignored.
        by_value: whether to differentiate what functions with a derivative rule of their own
            compute, as inside of a rule; or the names of the primitives of which to do so.
        calls: names of further primitives to inline as calls.
    """
    jaxpr = compat.open_jaxpr(closed)
    graph = Graph()
    graph.inputs = tuple(graph.new_value(variable.aval) for variable in jaxpr.invars)
    graph.independents = tuple(
        value
        for value, is_independent in zip(graph.inputs, differentiated, strict=True)
        if is_independent and is_inexact(graph.avals[value])
    )
    graph.outputs = tuple(
        Inliner(graph, by_value, calls).inline_closed(closed, _input_operands(graph))
    )
    return graph


def _input_operands(graph: Graph) -> list[Operand]:
    """The inputs of a graph as operands, of which the independents are vertices."""
    independents = set(graph.independents)
    return [Operand(value, value if value in independents else None) for value in graph.inputs]


def named_as(fun: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the name, signature and source line of `fun`, for the messages of JAX."""
    name = getattr(fun, "__name__", type(fun).__name__)
    function.__name__ = name
    function.__qualname__ = getattr(fun, "__qualname__", name)
    function.__wrapped__ = fun  # pyright: ignore[reportFunctionMemberAccess]
    return function


def _check_sizes(graph: Graph) -> None:
    """Raise for the symbolic dimensions of `jax.export`, since structure depends on sizes."""
    for value in graph.inputs:
        shape = getattr(graph.avals[value], "shape", ())
        if not all(isinstance(size, int) for size in shape):
            raise NoDerivativeError(
                f"{graph.names.get(value, 'an argument')} has the symbolic shape "
                f"({', '.join(map(str, shape))}), but the structure of a Jacobian depends on "
                "sizes, which must be numbers: export one program for each size"
            )
