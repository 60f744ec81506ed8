"""Whether a program is linear in some of its inputs, proved from its primitives alone.

The derivative rule that a user writes is a program from tangents to tangents (`custom_jvp`) or from
cotangents to cotangents (`custom_vjp`), and nothing forces it to be linear: it may clip, or iterate
until a residual is small. Structure may be taken from such a program only where it is linear, so
that its derivative at one point is its value at all of them. Each value gets a `Kind`, from the
inputs on; loops are followed to a fixed point, and a condition that depends on a tangent makes
everything it decides unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.primitives import CALLS, OWN_RULES, named


class Kind(Enum):
    """What is known of a value as a function of the inputs in question."""

    ZERO = "always zero"
    CONSTANT = "does not depend on them"
    LINEAR = "linear in all of them together, and zero where they are"
    UNKNOWN = "anything else"


Kinds = list[Kind]

LINEAR = named("linear", "all")
"""Primitives that are linear in all their float and complex operands together."""

BILINEAR = named("linear", "each")
"""Primitives that are linear in each of their two float operands."""

IN_THE_FIRST = named("linear", "first")
"""Primitives that are linear in the first of their float operands."""

IN_THE_LAST = named("linear", "last")
"""Primitives that are linear in the last: a right-hand side."""


RECOMPUTED = frozenset({"remat2", "remat", "checkpoint"})
"""Primitives that do what their jaxpr does, and are not."""


def is_linear(closed: Any, chosen: Sequence[bool], first: int = 0) -> bool:
    """Whether the float and complex results of a jaxpr are linear in some of its inputs.

    Args:
        closed: the jaxpr, closed.
        chosen: for each input whether it is one of them; the others may be anything.
        first: the number of the first result that matters.

    Returns:
        True where it is proved; False where it is not so, or not known.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> rule = jax.make_jaxpr(lambda x, t: (jnp.cos(x) * t, jnp.clip(t, -1.0, 1.0)))(1.0, 1.0)
        >>> is_linear(rule, [False, True])
        False
        >>> is_linear(jax.make_jaxpr(lambda x, t: jnp.cos(x) * t)(1.0, 1.0), [False, True])
        True
    """
    kinds = [Kind.LINEAR if wanted else Kind.CONSTANT for wanted in chosen]
    found = kinds_of(closed, kinds, top=True)
    results = compat.open_jaxpr(closed).outvars
    return all(
        kind in (Kind.LINEAR, Kind.ZERO)
        for kind, result in zip(found[first:], results[first:], strict=True)
        if is_inexact(result.aval)
    )


def kinds_of(closed: Any, inputs: Kinds, top: bool = False) -> Kinds:
    """The kinds of a jaxpr's results.

    Args:
        closed: the jaxpr, closed.
        inputs: the kinds of its inputs.
        top: whether it is inlined where it is used, so that functions with a rule of their own are
            differentiated as what they compute. Inside loops they are not, and count as unknown.
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
        found = _results(equation, [kind(atom) for atom in equation.invars], top)
        for variable, one in zip(equation.outvars, found, strict=True):
            depends = one in (Kind.LINEAR, Kind.UNKNOWN)
            known[variable] = Kind.UNKNOWN if depends and not is_inexact(variable.aval) else one
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
    moving = [kind is Kind.LINEAR for kind in kinds]
    fits = (
        (name in BILINEAR and sum(moving) == 1)
        or (name in IN_THE_FIRST and moving == [True, *(False for _ in moving[1:])])
        or (name in IN_THE_LAST and moving == [*(False for _ in moving[1:]), True])
    )
    return Kind.LINEAR if fits else Kind.UNKNOWN


def _sum(kinds: Kinds) -> Kind:
    """The kind of a linear combination with fixed coefficients."""
    found = Kind.ZERO if kinds else Kind.CONSTANT
    for kind in kinds:
        found = _either(found, kind)
    return found


def _either(one: Kind, other: Kind) -> Kind:
    """What is known of a value that may be either of two, or their sum."""
    if one is other or other is Kind.ZERO:
        return one
    return other if one is Kind.ZERO else Kind.UNKNOWN


def _of_scan(equation: Any, kinds: Kinds) -> Kinds:
    """What is carried keeps its kind from step to step, at the fixed point."""
    params = equation.params
    constants, carried = compat.scan_counts(params)
    fixed, carry, scanned = (
        kinds[:constants],
        kinds[constants : constants + carried],
        kinds[constants + carried :],
    )
    while True:
        found = kinds_of(params["jaxpr"], [*fixed, *carry, *scanned])
        joined = [_either(a, b) for a, b in zip(carry, found[:carried], strict=True)]
        if joined == carry:
            return [*carry, *found[carried:]]
        carry = joined


def _of_while(equation: Any, kinds: Kinds) -> Kinds:
    """As a scan; how often it runs must not depend on what is linear."""
    params = equation.params
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    for_condition, fixed, carry = (
        kinds[:conditions],
        kinds[conditions : conditions + bodies],
        kinds[conditions + bodies :],
    )
    while True:
        found = kinds_of(params["body_jaxpr"], [*fixed, *carry])
        joined = [_either(a, b) for a, b in zip(carry, found, strict=True)]
        if joined == carry:
            break
        carry = joined
    (runs,) = kinds_of(params["cond_jaxpr"], [*for_condition, *carry])
    decided = runs in (Kind.CONSTANT, Kind.ZERO)
    return carry if decided else [Kind.UNKNOWN] * len(carry)


def _of_cond(equation: Any, kinds: Kinds) -> Kinds:
    """What every branch gives; the index is known not to depend on what is linear."""
    branches = [kinds_of(branch, kinds[1:]) for branch in equation.params["branches"]]
    found = branches[0]
    for branch in branches[1:]:
        found = [_either(one, other) for one, other in zip(found, branch, strict=True)]
    return found


def _of_solve(equation: Any, kinds: Kinds) -> Kinds:
    """A solution, which its user declares to be linear in the right-hand side."""
    matrices = sum(equation.params["const_lengths"])
    fits = Kind.LINEAR not in kinds[:matrices]
    return [_sum(kinds[matrices:]) if fits else Kind.UNKNOWN] * len(equation.outvars)


LOOPS = {
    "scan": _of_scan,
    "while": _of_while,
    "cond": _of_cond,
    "custom_linear_solve": _of_solve,
}
"""Primitives that hold programs; by name, from an equation and the kinds of its operands."""


def _kind_of_constant(value: Any) -> Kind:
    if isinstance(value, compat.Tracer) or not jnp.issubdtype(jnp.result_type(value), jnp.number):
        return Kind.CONSTANT
    return Kind.CONSTANT if np.any(np.asarray(value)) else Kind.ZERO


def is_inexact(aval: Any) -> bool:
    """Whether derivatives with respect to such a value exist: floats and complex numbers."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
