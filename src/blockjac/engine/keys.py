"""Keys of compiled programs: everything of a graph that its program depends on, hashable."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

import jax
import numpy as np

from blockjac.base import compat
from blockjac.graph.graph import Equation, Graph, Known, Literal, Operand, OwnRule
from blockjac.graph.primitives import OWN_RULES


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
        tuple(_own_rule_key(own, graph) for own in graph.own_rules),
    )


def _aval_key(aval: Any) -> Any:
    shape = getattr(aval, "shape", None)
    return (shape, str(getattr(aval, "dtype", aval)), getattr(aval, "weak_type", False))


def _operand_key(operand: Operand | Literal) -> Any:
    if isinstance(operand, Operand):
        return (operand.value, operand.vertex)
    return ("literal", _frozen(operand.value), _aval_key(operand.aval))


def _equation_key(equation: Equation, graph: Graph) -> Any:
    """The key of one equation: primitive, operands, results and parameters."""
    params = _frozen(equation.params)
    if equation.primitive.name in OWN_RULES and not _is_active(equation):
        # A rule is not part of a program that does not differentiate the function.
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
        [struct for struct, own in zip(shapes, moves, strict=True) if own == wanted]
        for wanted in (False, True)
    )

    def function_of(still: list[Any]) -> Callable[..., list[Any]]:
        """The equation as a function of the operands that are differentiated."""

        def results_of(*parts: Any) -> list[Any]:
            remaining = {True: iter(parts), False: iter(still)}
            operands = [next(remaining[moves_here]) for moves_here in moves]
            return compat.bind(equation.primitive, operands, equation.params)

        return results_of

    def forwards(still: list[Any], moving: list[Any]) -> Any:
        return jax.jvp(function_of(still), tuple(moving), tuple(moving))

    def backwards(still: list[Any], moving: list[Any]) -> Any:
        """The results and the pullback of cotangents like the results."""
        vjp = cast("Callable[..., tuple[Any, Callable[..., Any]]]", jax.vjp)
        results, pull = vjp(function_of(still), *moving)
        return results, pull(
            [
                jax.numpy.zeros(result.shape, jax.dtypes.float0) if not _smooth(result) else result
                for result in results
            ]
        )

    programs = []
    for way in (forwards, backwards):  # forward rules need not be linear, others are seen backwards
        try:
            traced = jax.make_jaxpr(way)(still, moving)
        except Exception:  # JAX cannot differentiate it this way
            continue
        frozen = _without_rules(_frozen(traced))
        if not _has_function(frozen):
            programs.append((way.__name__, frozen))
    # Without any it is distinguished by the function objects themselves.
    return ("derivative", tuple(moves), *programs) if programs else None


def _is_active(equation: Equation) -> bool:
    return any(isinstance(op, Operand) and op.vertex is not None for op in equation.operands)


RULE_PARAMETERS = {"jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd"}
"""Where custom_jvp and custom_vjp equations hold their rules."""


def _without_rules(key: Any) -> Any:
    """The key of a derivative's program without the rules for a further derivative."""
    if not isinstance(key, tuple):
        return key
    parts = cast("tuple[Any, ...]", key)
    if len(parts) == 2 and isinstance(parts[0], str) and parts[0] in RULE_PARAMETERS:
        return (parts[0], None)
    return tuple(map(_without_rules, parts))


def _own_rule_key(own: OwnRule, graph: Graph) -> Any:
    """For a function with its own rule that is differentiated twice: its second derivative too."""
    called = compat.called(own.params)
    if called not in _second_derivatives:
        _second_derivatives[called] = _second_derivative(own, graph)
    operands, results = (tuple(map(_operand_key, atoms)) for atoms in (own.operands, own.results))
    return operands, results, own.is_kept, _second_derivatives[called]


_second_derivatives: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The keys of second derivatives, by the jaxpr of the function."""


def _second_derivative(own: OwnRule, graph: Graph) -> Any:
    """The program of a function's derivative along its operands, twice."""
    shapes = [compat.struct(graph.aval(operand)) for operand in own.operands]
    smooth = [number for number, shape in enumerate(shapes) if _smooth(shape)]

    def twice(*operands: Any) -> Any:
        """The derivative of the derivative, both along the operands themselves."""

        def results_of(*parts: Any) -> Any:
            full = list(operands)
            for number, part in zip(smooth, parts, strict=True):
                full[number] = part
            return compat.bind(own.primitive, full, own.params)

        def along(*parts: Any) -> Any:
            return jax.jvp(results_of, parts, point)

        point = tuple(operands[number] for number in smooth)
        return jax.jvp(along, point, point)

    return _without_rules(_frozen(jax.make_jaxpr(twice)(*shapes)))


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
        return any(map(_has_function, cast("tuple[Any, ...]", key)))
    return isinstance(key, _Same) and _is_function(key.value)


def _is_function(value: Any) -> bool:
    """Whether a parameter is Python code (JAX wraps some): equal programs come with fresh ones."""
    return isinstance(value, FunctionType | MethodType | partial) or hasattr(value, "call_wrapped")


def _frozen(value: Any) -> Any:
    """A hashable stand-in for a parameter: equal only for parameters that mean the same."""
    if compat.is_jaxpr(value):
        return _jaxpr_key(value)
    name = type(value).__name__
    if isinstance(value, dict):
        parts = cast("dict[Any, Any]", value)
        return tuple((key, _frozen(parts[key])) for key in sorted(parts, key=str))
    if isinstance(value, tuple | list):
        return (name, *map(_frozen, cast("Sequence[Any]", value)))
    if isinstance(value, compat.Tracer):
        return _Same(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(cast("np.ndarray", value))
        return ("array", array.shape, str(array.dtype), array.tobytes())
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, bool | int | str | bytes | complex | type(None) | np.dtype | type):
        return (name, cast("Any", value))
    if type(value).__eq__ is object.__eq__ or _is_function(value):
        return _Same(value)
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return (name, value)


def _jaxpr_key(closed: Any) -> Any:
    """The key of a program inside an equation, with variables numbered by first occurrence."""
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
