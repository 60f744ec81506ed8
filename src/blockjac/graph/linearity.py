"""Whether a program is linear in some of its inputs, proved from its primitives alone.

A derivative rule written by a user is a program from tangents to tangents (`custom_jvp`) or from
cotangents to cotangents (`custom_vjp`), and nothing forces it to be linear: it may clip, or iterate
until a residual is small. Structure can be taken from such a program only if it is linear, because
then its derivative is the same at all points. Each value gets a `Kind`, starting from the inputs.
Loops are followed to a fixed point, and everything decided by a condition that depends on a tangent
is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.primitives import CALLS, OWN_RULES, named


class Kind(Enum):
    """How a value depends on the inputs in question."""

    ZERO = "always zero"
    CONSTANT = "does not depend on them"
    LINEAR = "linear in all of them together, and zero if they are"
    UNKNOWN = "anything else"


Kinds = list[Kind]

LINEAR = named("linear", "all")
"""Primitives that are linear in all their float and complex operands together."""

BILINEAR = named("linear", "each")
"""Primitives that are linear in each of their two float operands."""

IN_THE_FIRST = named("linear", "first")
"""Primitives that are linear in the first of their float operands."""

IN_THE_LAST = named("linear", "last")
"""Primitives that are linear in the last of their float operands, a right-hand side."""


RECOMPUTED = frozenset({"remat2", "remat", "checkpoint"})
"""Primitives that compute what their jaxpr computes, and are not inlined."""


def is_linear(closed: Any, chosen: Sequence[bool], first: int = 0) -> bool:
    """Whether the float and complex results of a jaxpr are linear in some of its inputs.

    Args:
        closed: the jaxpr, closed.
        chosen: whether each input is one of them; the others may be anything.
        first: the position of the first result that matters.

    Returns:
        True if it is proved; False if it is not linear, or if that is unknown.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> rule = jax.make_jaxpr(lambda x, t: (jnp.cos(x) * t, jnp.clip(t, -1.0, 1.0)))(1.0, 1.0)
        >>> is_linear(rule, [False, True])
        False
        >>> is_linear(jax.make_jaxpr(lambda x, t: jnp.cos(x) * t)(1.0, 1.0), [False, True])
        True
    """
    inputs = [Kind.LINEAR if is_chosen else Kind.CONSTANT for is_chosen in chosen]
    kinds = kinds_of(closed, inputs, top=True)
    results = compat.open_jaxpr(closed).outvars
    return all(
        kind in (Kind.LINEAR, Kind.ZERO)
        for kind, result in zip(kinds[first:], results[first:], strict=True)
        if is_inexact(result.aval)
    )


def is_linear_in(primitive: Any, params: dict[str, Any], avals: Sequence[Any], chosen: Any) -> bool:
    """Whether the results of a primitive are linear in some of its operands together.

    Args:
        primitive: the JAX primitive.
        params: its parameters.
        avals: the types of its operands.
        chosen: whether each operand is one of them.
    """
    if primitive.name not in LOOPS:
        kinds = [
            Kind.LINEAR if is_chosen else Kind.CONSTANT
            for is_chosen, aval in zip(chosen, avals, strict=True)
            if is_inexact(aval) or is_chosen
        ]
        return _of_primitive(primitive.name, params, kinds) is Kind.LINEAR

    def results_of(*operands: Any) -> list[Any]:
        return compat.bind(primitive, operands, params)

    return is_linear(jax.make_jaxpr(results_of)(*map(compat.struct, avals)), chosen)


def kinds_of(closed: Any, inputs: Kinds, top: bool = False) -> Kinds:
    """The kinds of a jaxpr's results.

    Args:
        closed: the jaxpr, closed.
        inputs: the kinds of its inputs.
        top: whether the jaxpr is going to be inlined, so that what functions with a rule of their
            own compute is differentiated. Inside of loops their rule is used, and they are unknown.
    """
    jaxpr = compat.open_jaxpr(closed)
    known = dict(zip(jaxpr.invars, inputs, strict=True))
    for variable, array in zip(jaxpr.constvars, compat.constants(closed), strict=True):
        known[variable] = _kind_of_constant(array)

    def kind(atom: Any) -> Kind:
        if hasattr(atom, "val"):
            return _kind_of_constant(atom.val)
        return known.get(atom, Kind.CONSTANT)

    for equation in jaxpr.eqns:
        results = _results(equation, [kind(atom) for atom in equation.invars], top)
        for variable, result in zip(equation.outvars, results, strict=True):
            depends = result in (Kind.LINEAR, Kind.UNKNOWN)
            known[variable] = Kind.UNKNOWN if depends and not is_inexact(variable.aval) else result
    return [kind(atom) for atom in jaxpr.outvars]


def _results(equation: Any, kinds: Kinds, top: bool) -> Kinds:
    """The kinds of an equation's results."""
    name, count = equation.primitive.name, len(equation.outvars)
    if Kind.UNKNOWN in kinds:
        return [Kind.UNKNOWN] * count
    if name in CALLS or (name in OWN_RULES and (top or Kind.LINEAR not in kinds)):
        return kinds_of(compat.called(equation.params), kinds, top)
    if name in RECOMPUTED:
        return kinds_of(compat.called(equation.params), kinds)
    if Kind.LINEAR in kinds and name in LOOPS:
        return LOOPS[name](equation, kinds)
    operands = [
        kind
        for kind, atom in zip(kinds, equation.invars, strict=True)
        if is_inexact(atom.aval) or name == "convert_element_type"  # of the integer 0, say
    ]
    return [_of_primitive(name, equation.params, operands)] * count


def _of_primitive(name: str, params: dict[str, Any], kinds: Kinds) -> Kind:
    """The kind of a primitive's results from those of its float and complex operands."""
    if name in LINEAR:
        if name == "gather" and params.get("fill_value"):
            return Kind.CONSTANT if Kind.LINEAR not in kinds else Kind.UNKNOWN
        return _sum(kinds)
    if name in BILINEAR and Kind.ZERO in kinds:
        return Kind.ZERO
    if name in IN_THE_FIRST and kinds[0] is Kind.ZERO:
        return Kind.ZERO
    if Kind.LINEAR not in kinds:
        return Kind.CONSTANT
    active = [position for position, kind in enumerate(kinds) if kind is Kind.LINEAR]
    is_linear_in_it = (
        (name in BILINEAR and len(active) == 1)
        or (name in IN_THE_FIRST and active == [0])
        or (name in IN_THE_LAST and active == [len(kinds) - 1])
    )
    return Kind.LINEAR if is_linear_in_it else Kind.UNKNOWN


def _sum(kinds: Kinds) -> Kind:
    """The kind of a linear combination with fixed coefficients."""
    total = Kind.ZERO if kinds else Kind.CONSTANT
    for kind in kinds:
        total = _either(total, kind)
    return total


def _either(first: Kind, second: Kind) -> Kind:
    """The kind of a value that may be either of two values, or their sum."""
    if first is second or second is Kind.ZERO:
        return first
    return second if first is Kind.ZERO else Kind.UNKNOWN


def _of_scan(equation: Any, kinds: Kinds) -> Kinds:
    """The kinds of a scan's results, at the fixed point of the kinds that it carries."""
    params = equation.params
    constants, carried = compat.scan_counts(params)
    fixed, carry, scanned = (
        kinds[:constants],
        kinds[constants : constants + carried],
        kinds[constants + carried :],
    )
    while True:
        results = kinds_of(params["jaxpr"], [*fixed, *carry, *scanned])
        joined = [_either(a, b) for a, b in zip(carry, results[:carried], strict=True)]
        if joined == carry:
            return [*carry, *results[carried:]]
        carry = joined


def _of_while(equation: Any, kinds: Kinds) -> Kinds:
    """The kinds of a loop's results; unknown if its number of steps depends on what is linear."""
    params = equation.params
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    for_condition, fixed, carry = (
        kinds[:conditions],
        kinds[conditions : conditions + bodies],
        kinds[conditions + bodies :],
    )
    while True:
        results = kinds_of(params["body_jaxpr"], [*fixed, *carry])
        joined = [_either(a, b) for a, b in zip(carry, results, strict=True)]
        if joined == carry:
            break
        carry = joined
    (condition,) = kinds_of(params["cond_jaxpr"], [*for_condition, *carry])
    is_fixed = condition in (Kind.CONSTANT, Kind.ZERO)
    return carry if is_fixed else [Kind.UNKNOWN] * len(carry)


def _of_cond(equation: Any, kinds: Kinds) -> Kinds:
    """The kinds that all branches agree on; the index does not depend on what is linear."""
    branches = [kinds_of(branch, kinds[1:]) for branch in equation.params["branches"]]
    kinds_of_either = branches[0]
    for branch in branches[1:]:
        kinds_of_either = [_either(a, b) for a, b in zip(kinds_of_either, branch, strict=True)]
    return kinds_of_either


def _of_solve(equation: Any, kinds: Kinds) -> Kinds:
    """The kind of a solution, which the user declares to be linear in the right-hand side."""
    matrices = sum(equation.params["const_lengths"])
    is_fixed = Kind.LINEAR not in kinds[:matrices]
    return [_sum(kinds[matrices:]) if is_fixed else Kind.UNKNOWN] * len(equation.outvars)


LOOPS = {
    "scan": _of_scan,
    "while": _of_while,
    "cond": _of_cond,
    "custom_linear_solve": _of_solve,
}
"""For primitives that hold programs, the kinds of results from those of an equation's operands."""


def _kind_of_constant(value: Any) -> Kind:
    if isinstance(value, compat.Tracer) or not jnp.issubdtype(jnp.result_type(value), jnp.number):
        return Kind.CONSTANT
    return Kind.CONSTANT if np.any(np.asarray(value)) else Kind.ZERO


def is_inexact(aval: Any) -> bool:
    """Whether derivatives with respect to such a value exist: floats and complex numbers."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
