"""A function as a flat list of JAX's equations: calls inlined, short loops unrolled."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.base import compat
from blockjac.graph.primitives import CALLS, OWN_RULES, named

MAX_UNROLLED = 3000
"""A loop is unrolled if its steps together have at most this many equations."""

ELEMENTWISE = (named("storage", "cheap", "dear") | {"copy", "select_n"}) - {
    "broadcast_in_dim",
    "iota",
}
"""Primitives whose result has an entry for each entry of their operands, computed from it alone."""


def flat_jaxpr(fun: Callable[..., Any], args: Sequence[Any]) -> Any:
    """The closed jaxpr of a function of arrays, without calls and without short loops.

    Each equation of a function that was called is in a scope with the function's name and a number
    for each call, "softmax#3".

    Args:
        fun: a function of arrays and trees of arrays.
        args: its arguments.
    """
    closed = jax.make_jaxpr(fun)(*args)
    leaves = jax.tree.leaves(tuple(args))
    numbers = itertools.count()

    def run(*inputs: Any) -> list[Any]:
        return _evaluated(compat.open_jaxpr(closed), compat.constants(closed), inputs, numbers)

    return jax.make_jaxpr(run)(*leaves)


def _evaluated(
    jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], numbers: Iterator[int]
) -> list[Any]:
    """Evaluate a jaxpr, equation by equation, with calls and loops written out."""
    environment: dict[Any, Any] = {}
    environment.update(zip(jaxpr.constvars, constants, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return environment[atom] if compat.is_variable(atom) else atom.val

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        is_known = bool(compat.at_place(equation.source_info))  # else it is where the call is
        with compat.as_if_at(equation.source_info) if is_known else contextlib.nullcontext():
            results = _applied(equation.primitive, operands, equation.params, numbers)
        environment.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _applied(
    primitive: Any, operands: list[Any], params: dict[str, Any], numbers: Iterator[int]
) -> list[Any]:
    """The results of one equation."""
    name = primitive.name
    if name == "scan" and _count(params["jaxpr"]) * params["length"] <= MAX_UNROLLED:
        return _unrolled(operands, params, numbers)
    is_call = name in CALLS or name == "checkpoint"
    if is_call or (name in OWN_RULES and not is_elementwise_call(params, operands)):
        inner = compat.called(params)
        with jax.named_scope(f"{_called(params, name)}#{next(numbers)}"):
            return _evaluated(compat.open_jaxpr(inner), compat.constants(inner), operands, numbers)
    return compat.bind(primitive, operands, params)


def _called(params: dict[str, Any], name: str) -> str:
    """What a function is called that an equation calls, in one word."""
    return re.sub(r"\W", "", str(params.get("name", name))) or name


def is_elementwise_call(params: dict[str, Any], operands: Sequence[Any]) -> bool:
    """Whether a function with a rule of its own computes each entry by itself.

    Args:
        params: those of the equation.
        operands: arrays, or types of arrays.
    """
    shapes = {jnp.shape(operand) for operand in operands} - {()}
    return len(shapes) <= 1 and _is_elementwise(compat.called(params))


def _is_elementwise(jaxpr: Any) -> bool:
    return all(
        equation.primitive.name in ELEMENTWISE
        or (equation.primitive.name in CALLS and _is_elementwise(compat.called(equation.params)))
        for equation in compat.open_jaxpr(jaxpr).eqns
    )


def _count(jaxpr: Any) -> int:
    return max(1, len(compat.open_jaxpr(jaxpr).eqns))


def _unrolled(operands: list[Any], params: dict[str, Any], numbers: Iterator[int]) -> list[Any]:
    """The results of a scan, step after step."""
    closed, length = params["jaxpr"], params["length"]
    constant_count, carry_count = compat.scan_counts(params)
    constants = operands[:constant_count]
    carry = operands[constant_count : constant_count + carry_count]
    stacked = operands[constant_count + carry_count :]
    order = range(length - 1, -1, -1) if params["reverse"] else range(length)
    rows: dict[int, list[Any]] = {}
    for step in order:
        slices = [lax.index_in_dim(jnp.asarray(x), step, keepdims=False) for x in stacked]
        jaxpr, captured = compat.open_jaxpr(closed), compat.constants(closed)
        results = _evaluated(jaxpr, captured, [*constants, *carry, *slices], numbers)
        carry, rows[step] = results[:carry_count], results[carry_count:]
    count = len(compat.open_jaxpr(closed).outvars) - carry_count
    avals = [atom.aval for atom in compat.open_jaxpr(closed).outvars[carry_count:]]
    empty = [jnp.zeros((0, *aval.shape), aval.dtype) for aval in avals]
    return [
        *carry,
        *(
            lax.concatenate([jnp.asarray(rows[t][n])[None] for t in range(length)], 0)
            if length
            else empty[n]
            for n in range(count)
        ),
    ]
