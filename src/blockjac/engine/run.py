"""Running a graph: inline where the caller is tracing already, else compiled once and found again.

An un-jitted call traces every time, so that closures are always fresh; the compiled program is then
found by the traced program itself: its equations, shapes and literals. Captured arrays are
arguments, so that a fresh lambda of the same text does not compile again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import jax
import numpy as np
from jax.extend import core

from blockjac.algebra.losses import recording
from blockjac.base import compat
from blockjac.base.caches import Cache
from blockjac.batching import with_batched_steps
from blockjac.engine.computations import Values
from blockjac.errors import Loss
from blockjac.graph.graph import Equation, Graph, Known, Literal, Operand
from blockjac.graph.known_places import with_known_places
from blockjac.graph.loop_fusion import with_fused_loops
from blockjac.graph.open_numbers import with_open_numbers
from blockjac.graph.primitives import OWN_RULES
from blockjac.graph.trace import trace
from blockjac.rules.registry import edition

PROGRAM_BYTES, EQUATION_BYTES = 1_600_000, 9_000
"""About what a compiled program takes, and each equation of its function.

Measured on a CPU by the growth of the process: 1.56, 1.79 and 2.58 MiB for 3, 30 and 120 equations.
"""

_programs: Cache[Callable[..., Any]] = Cache("programs", 512, max_bytes=2**29)

_met: Cache[bool] = Cache("programs but for their numbers", 4096)

Computation = Callable[[Graph, Sequence[Any], Sequence[Any], Sequence[Any]], Any]
"""Emits a computation from a graph, its arguments, its captured and extra arrays; hashable.

It may have `keeps_structure`: whether the answer's structure may depend on constants of the
program; and `takes_any_numbers`: whether the answer is arrays alone, so that Python numbers of the
program may be open. Both are taken to be false where they are missing.
"""


def run(
    computation: Computation, graph: Graph, arguments: Sequence[Any], extra: Sequence[Any] = ()
) -> Any:
    """Run `computation(graph, arguments, captured, extra)`, compiled unless a trace is under way.

    Args:
        computation: what is asked of the graph.
        graph: the traced function.
        arguments: values of the graph's inputs.
        extra: further arrays, such as cotangents.

    Returns:
        What the computation returns.
    """
    if getattr(computation, "keeps_structure", False):
        graph = structured(graph)
    captured = graph.captured
    if compat.is_traced((arguments, captured, extra)):
        return emission(computation, graph)(arguments, captured, extra)
    shapes = tuple(
        (tuple(np.shape(array)), str(getattr(array, "dtype", type(array)))) for array in extra
    )
    # jax.jit itself tells apart the settings that it depends on, such as x64 and matmul precision.
    further = (computation, edition(), shapes)
    key = (further, graph_key(graph))
    if getattr(computation, "takes_any_numbers", False):
        if graph.numbers_are_open is None and key in _programs:
            graph.numbers_are_open = False
        if graph.numbers_are_open is not False:
            opened, numbers = with_open_numbers(graph)
            open_key = (further, graph_key(opened))
            if graph.numbers_are_open is None:
                graph.numbers_are_open = bool(numbers) and open_key in _met
                _met.put(open_key, True)
            if graph.numbers_are_open:
                graph, key, captured = opened, open_key, [*captured, *numbers]
    program = _programs.made(key, partial(_compiled, computation, graph), _program_bytes(graph))
    return program(list(arguments), list(captured), list(extra))


def _compiled(computation: Computation, graph: Graph) -> Callable[..., Any]:
    """The program of a graph; it outlives a call, whose captured arrays must not be kept."""
    return jax.jit(emission(computation, replace(graph, captured=[])))


def _program_bytes(graph: Graph) -> int:
    return PROGRAM_BYTES + EQUATION_BYTES * len(graph.equations)


_losses: Cache[tuple[Loss, ...]] = Cache("losses of structure", 512)


def structured(graph: Graph) -> Graph:
    """A graph for an answer that keeps its structure: with all that is known of its places."""
    return with_known_places(with_batched_steps(graph))


def losses(computation: Computation, graph: Graph, arguments: Sequence[Any]) -> tuple[Loss, ...]:
    """Where the answer to a computation loses structure; nothing is computed.

    Args:
        computation: what is asked of the graph, of no extra arrays.
        graph: the traced function.
        arguments: values of the graph's inputs.
    """
    if getattr(computation, "keeps_structure", False):
        graph = structured(graph)
    captured = graph.captured

    def found() -> tuple[Loss, ...]:
        with recording() as record:
            jax.eval_shape(
                lambda *given: emission(computation, graph)(*given, ()), list(arguments), captured
            )
        return record.losses

    if compat.is_traced((arguments, captured)):
        return found()
    return _losses.made((computation, edition(), _places_key(graph)), found)


def _places_key(graph: Graph) -> Any:
    """The key of a graph's program, and the lines that its losses are told by."""
    lines = tuple(
        "" if equation.source is None else compat.place(equation.source)
        for equation in graph.equations
    )
    return graph_key(graph), lines


def emission(computation: Computation, graph: Graph) -> Callable[..., Any]:
    """What emits a computation: a function of arguments, captured and extra arrays."""
    return with_fused_loops(partial(computation, graph), graph)


def matmul_precision(graph: Graph) -> str | None:
    """The highest precision that a product of the graph asks for; None if none does.

    Products of the derivative are computed in it, as JAX computes them in that of their equation.
    """
    found = [one for equation in graph.equations for one in _precisions(equation.params)]
    return max(found, key=lambda one: one.value).name.lower() if found else None


def _precisions(params: dict[str, Any]) -> Iterator[jax.lax.Precision]:
    given = params.get("precision")
    for one in given if isinstance(given, tuple) else (given,):
        if isinstance(one, jax.lax.Precision) and one is not jax.lax.Precision.DEFAULT:
            yield one
    for inner in core.jaxprs_in_params(params):
        for equation in inner.eqns:
            yield from _precisions(equation.params)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that traces at every call, and compiles only what it has not compiled before.

    Unlike `jax.jit`, which recognises the function object, this recognises what the function does:
    a fresh closure of the same text is found again, one over other values is never taken for it.

    Args:
        function: of trees of arrays, giving a tree of arrays.

    Returns:
        The function of the same arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> print(compiled(lambda x, y: {"sum": x + y})(jnp.ones(2), 1.0))
        {'sum': Array([2., 2.], dtype=float32)}
    """

    def call(*arguments: Any) -> Any:
        trees: list[Any] = []

        def flat(*parts: Any) -> list[Any]:
            leaves, tree = jax.tree.flatten(function(*parts))
            trees.append(tree)
            return leaves

        graph = trace(flat, arguments, ())
        results, _ = run(Values(0), graph, jax.tree.leaves(arguments))
        return jax.tree.unflatten(trees[-1], results)

    return call


def graph_key(graph: Graph) -> Any:
    """Everything of a graph that its compiled program depends on, hashable."""
    return (
        tuple(map(_aval_key, graph.avals)),
        graph.inputs,
        graph.constants,
        graph.independents,
        tuple(graph.names.items()),  # a block's formula shows them
        tuple(_equation_key(equation, graph) for equation in graph.equations),
        tuple(map(_operand_key, graph.outputs)),
        tuple((value, _frozen(array)) for value, array in sorted(graph.known.items())),
        tuple((value, np.packbits(may).tobytes()) for value, may in sorted(graph.zeros.items())),
    )


def _aval_key(aval: Any) -> Any:
    shape = getattr(aval, "shape", None)
    return (shape, str(getattr(aval, "dtype", aval)), getattr(aval, "weak_type", False))


def _operand_key(operand: Operand | Literal) -> Any:
    if isinstance(operand, Operand):
        return (operand.value, operand.vertex)
    return ("literal", _frozen(operand.value), _aval_key(operand.aval))


def _equation_key(equation: Equation, graph: Graph) -> Any:
    params = _frozen(equation.params)
    if equation.primitive.name in OWN_RULES and not _is_active(equation):
        # A rule is no part of a program that does not differentiate the function.
        params = _without_rules(params)
    elif _has_function(params):
        params = _derivative_key(equation, graph) or params
    return (
        equation.primitive.name,
        tuple(map(_operand_key, equation.operands)),
        equation.results,
        params,
        equation.told and tuple(map(_known_key, equation.told)),
    )


def _known_key(known: Known | None) -> Any:
    """What a program inside an equation may depend on, small: an array may have many entries."""
    if known is None:
        return None
    return tuple(
        None
        if array is None
        else (array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).digest())
        for array in (known.numbers, known.may)
    )


def _derivative_key(equation: Equation, graph: Graph) -> Any:
    """For an equation that carries Python functions: the program of its values and derivative."""
    moves = [isinstance(op, Operand) and op.vertex is not None for op in equation.operands]
    shapes = [compat.struct(graph.aval(operand)) for operand in equation.operands]
    still, moving = (
        [one for one, own in zip(shapes, moves, strict=True) if own == wanted]
        for wanted in (False, True)
    )

    def function_of(still: list[Any]) -> Callable[..., list[Any]]:
        def results_of(*parts: Any) -> list[Any]:
            given = {True: iter(parts), False: iter(still)}
            operands = [next(given[moves_here]) for moves_here in moves]
            return compat.bind(equation.primitive, operands, equation.params)

        return results_of

    def forwards(still: list[Any], moving: list[Any]) -> Any:
        return jax.jvp(function_of(still), tuple(moving), tuple(moving))

    def backwards(still: list[Any], moving: list[Any]) -> Any:
        results, pull = jax.vjp(function_of(still), *moving)
        return results, pull(
            [
                jax.numpy.zeros(result.shape, jax.dtypes.float0) if not _smooth(result) else result
                for result in results
            ]
        )

    found = []
    for way in (forwards, backwards):  # forward rules need not be linear, others are seen backwards
        try:
            traced = jax.make_jaxpr(way)(still, moving)
        except Exception:  # JAX cannot differentiate it this way
            continue
        frozen = _without_rules(_frozen(traced))
        if not _has_function(frozen):
            found.append((way.__name__, frozen))
    # Without any it is told apart by the function objects themselves.
    return ("derivative", tuple(moves), *found) if found else None


def _is_active(equation: Equation) -> bool:
    return any(isinstance(op, Operand) and op.vertex is not None for op in equation.operands)


RULE_PARAMETERS = {"jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd"}
"""Where custom_jvp and custom_vjp equations hold their rules."""


def _without_rules(key: Any) -> Any:
    """The key of a derivative's program without the rules for a further derivative."""
    if not isinstance(key, tuple):
        return key
    if len(key) == 2 and isinstance(key[0], str) and key[0] in RULE_PARAMETERS:
        return (key[0], None)
    return tuple(map(_without_rules, key))


def _smooth(value: Any) -> bool:
    return bool(jax.numpy.issubdtype(value.dtype, jax.numpy.inexact))


class _Same:
    """A value compared by identity, kept alive so that the identity stays its own."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _has_function(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(map(_has_function, key))
    return isinstance(key, _Same) and _is_function(key.value)


def _is_function(value: Any) -> bool:
    """Whether a parameter is Python code (JAX wraps some): equal programs come with fresh ones."""
    return isinstance(value, FunctionType | MethodType | partial) or hasattr(value, "call_wrapped")


def _frozen(value: Any) -> Any:
    """A hashable stand-in for a parameter: equal only for parameters that mean the same."""
    if compat.is_jaxpr(value):
        return _jaxpr_key(value)
    if isinstance(value, dict):
        return tuple(
            (key, _frozen(part))
            for key, part in sorted(value.items(), key=lambda item: str(item[0]))
        )
    if isinstance(value, tuple | list):
        return (type(value).__name__, *map(_frozen, value))
    if isinstance(value, compat.Tracer):
        return _Same(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        return ("array", array.shape, str(array.dtype), array.tobytes())
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, bool | int | str | bytes | complex | type(None) | np.dtype | type):
        return (type(value).__name__, value)
    if type(value).__eq__ is object.__eq__ or _is_function(value):
        return _Same(value)
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return (type(value).__name__, value)


def _jaxpr_key(closed: Any) -> Any:
    jaxpr = compat.open_jaxpr(closed)
    numbers: dict[Any, int] = {}

    def number(variable: Any) -> Any:
        if hasattr(variable, "val"):
            return ("literal", _frozen(variable.val), _aval_key(variable.aval))
        if variable not in numbers:
            numbers[variable] = len(numbers)
        return (numbers[variable], _aval_key(variable.aval))

    head = (tuple(map(number, jaxpr.invars)), tuple(map(number, jaxpr.constvars)))
    body = tuple(
        (
            equation.primitive.name,
            tuple(map(number, equation.invars)),
            tuple(map(number, equation.outvars)),
            _frozen(equation.params),
        )
        for equation in jaxpr.eqns
    )
    return (
        "jaxpr",
        head,
        body,
        tuple(map(number, jaxpr.outvars)),
        tuple(map(_frozen, compat.constants(closed))),
    )
