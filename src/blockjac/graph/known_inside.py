"""What a program inside an equation may know of the equation's operands: a loop's body, a branch.

A constant of the function is an operand there. Where the body reads at places that it decides, or
multiplies by what has its zeros, the structure of the body's Jacobian may look at it: it is *told*
of each such operand what is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.graph import Equation, Known, Literal, Operand
from blockjac.graph.known_zeros import FACTORS
from blockjac.graph.linearity import RECOMPUTED
from blockjac.graph.zero_rules import RULES as ZERO_RULES

FIRST_INDEX: Mapping[str, int] = {
    "gather": 1,
    "scatter": 1,
    "scatter-add": 1,
    "scatter-sub": 1,
    "scatter-mul": 1,
    "scatter-min": 1,
    "scatter-max": 1,
    "dynamic_slice": 1,
    "dynamic_update_slice": 2,
}
"""From which operand on a primitive's operands say where it reads or writes."""

ONE_INDEX = frozenset(name for name in FIRST_INDEX if not name.startswith("dynamic"))
"""Primitives of which one operand alone is an index array."""

WITH_PROGRAMS = RECOMPUTED | {"scan", "while", "cond"}
"""Primitives whose programs are told what is known of their operands."""

WITH_RULES = frozenset({"custom_vjp_call"})
"""Primitives whose rules make programs, which have constants of their own."""


@dataclass(frozen=True)
class Inside:
    """A program inside an equation.

    Attributes:
        jaxpr: open.
        first: which operand of the equation its first input is.
        fixed: how many inputs are operands as they are.
        carried: how many inputs come after these, which are what the last run gave.
        counts: whether the runs are counted, so that what is carried may be known at each.
    """

    jaxpr: Any
    first: int
    fixed: int
    carried: int
    counts: bool = False


def programs(name: str, params: Mapping[str, Any], count: int) -> list[Inside]:
    """The programs inside an equation that are differentiated by their own elimination.

    Args:
        name: of the primitive.
        params: of the equation.
        count: of its operands.
    """
    if name == "scan":
        consts, carry = compat.scan_counts(dict(params))
        return [Inside(compat.open_jaxpr(params["jaxpr"]), 0, consts, carry, counts=True)]
    if name == "while":
        first, consts = params["cond_nconsts"], params["body_nconsts"]
        carried = count - first - consts
        return [Inside(compat.open_jaxpr(params["body_jaxpr"]), first, consts, carried)]
    if name == "cond":
        return [Inside(compat.open_jaxpr(one), 1, count - 1, 0) for one in params["branches"]]
    called = _called(params)
    return [] if called is None else [Inside(called, 0, count, 0)]


def _called(params: Mapping[str, Any]) -> Any:
    """The program that a call runs; None of an equation that is none."""
    names = [name for name in ("jaxpr", "call_jaxpr", "call") if compat.is_jaxpr(params.get(name))]
    return compat.open_jaxpr(params[names[0]]) if names else None


def has_inside(equation: Equation) -> bool:
    """Whether an equation is differentiated that has programs inside which are told of operands."""
    return equation.primitive.name in WITH_PROGRAMS | WITH_RULES and any(
        isinstance(operand, Operand) and operand.vertex is not None for operand in equation.operands
    )


@dataclass(frozen=True)
class Deciding:
    """Which inputs of a program, or operands, decide on the structure of a Jacobian.

    Attributes:
        numbers: those whose numbers do, as places and masks.
        zeros: those whose zeros do, since tangents are multiplied by what is made of them.
    """

    numbers: Sequence[bool]
    zeros: Sequence[bool]


def read_inside(equation: Equation) -> Deciding:
    """Which operands of an equation the structure inside of it may depend on."""
    name, count = equation.primitive.name, len(equation.operands)
    if name not in WITH_PROGRAMS:
        return Deciding([False] * count, [False] * count)
    return _deciding_operands(name, equation.params, [True] * count)


def _deciding_operands(name: str, params: Mapping[str, Any], given: Sequence[bool]) -> Deciding:
    """The same by the programs inside.

    Args:
        name: of the primitive.
        params: of the equation.
        given: which operands may be known.
    """
    numbers, zeros = [False] * len(given), [False] * len(given)
    for inside in programs(name, params, len(given)):
        own = may_be_known(inside, given[inside.first :])
        found = _deciding_runs(inside, own)
        for place, may in enumerate(own):
            numbers[inside.first + place] |= found.numbers[place] and may
            zeros[inside.first + place] |= found.zeros[place] and may
    return Deciding(numbers, zeros)


def may_be_known(inside: Inside, given: Sequence[bool]) -> list[bool]:
    """Which inputs of a program may be known in every run.

    Args:
        inside: the program.
        given: which inputs may be known in the first run.
    """
    own = list(given)
    carried = range(inside.fixed, inside.fixed + inside.carried)
    for place in carried:
        own[place] &= inside.counts and is_index(inside.jaxpr.invars[place].aval)
    while True:
        known = decided(inside.jaxpr, own)
        outs = inside.jaxpr.outvars[: inside.carried]
        lost = [
            place
            for place, out in zip(carried, outs, strict=True)
            if own[place] and compat.is_variable(out) and out not in known
        ]
        if not lost:
            return own
        for place in lost:
            own[place] = False


def _deciding_runs(inside: Inside, given: Sequence[bool]) -> Deciding:
    """Which inputs of a program decide in one of its runs."""
    wanted: set[int] = set()
    while True:
        outs = [out for place, out in enumerate(inside.jaxpr.outvars) if place in wanted]
        found = deciding(inside.jaxpr, given, outs)
        grown = {
            place
            for place in range(inside.carried)
            if found.numbers[inside.fixed + place] and given[inside.fixed + place]
        }
        if grown <= wanted:
            return found
        wanted |= grown


def decided(jaxpr: Any, given: Sequence[bool]) -> set[Any]:
    """The variables that are known if some of the inputs are."""
    known = set(jaxpr.constvars)
    known.update(one for one, may in zip(jaxpr.invars, given, strict=True) if may)
    for equation in jaxpr.eqns:
        if not equation.effects and all(one in known for one in _variables(equation.invars)):
            known.update(equation.outvars)
    return known


def deciding(jaxpr: Any, given: Sequence[bool], wanted: Sequence[Any] = ()) -> Deciding:
    """Which inputs of a program decide on the structure of its Jacobian, if they are known.

    Args:
        jaxpr: open.
        given: which inputs may be known.
        wanted: results whose numbers decide, outside of the program.
    """
    known = decided(jaxpr, given)
    numbers = set(_variables(wanted))
    zeros: set[Any] = set()
    for equation in reversed(jaxpr.eqns):
        name, params, operands = equation.primitive.name, equation.params, equation.invars
        numbers.update(_variables(place_operands(name, operands)))
        numbers.update(_variables(mask_operands(name, params, operands)))
        if name in FACTORS:
            zeros.update(_variables(operands))
        found = _deciding_operands(name, params, [True] * len(operands))
        numbers.update(_variables(_chosen(operands, found.numbers)))
        zeros.update(_variables(_chosen(operands, found.zeros)))
        is_call = _called(params) is not None
        if is_call or not numbers.isdisjoint(equation.outvars):
            is_known = all(one in known for one in equation.outvars)
            numbers.update(_variables(operands) if is_known else ())
        if (is_call or name in ZERO_RULES) and not zeros.isdisjoint(equation.outvars):
            zeros.update(_variables(operands))
    return Deciding(
        [one in numbers and one in known for one in jaxpr.invars],
        [one in zeros for one in jaxpr.invars],
    )


def _chosen(values: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    return [value for value, one in zip(values, wanted, strict=True) if one]


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return list(filter(compat.is_variable, atoms))


def is_index(aval: Any) -> bool:
    """Whether a type is one of integers or booleans."""
    return jnp.issubdtype(aval.dtype, jnp.integer) or aval.dtype == np.dtype(bool)


def place_operands(name: str, operands: Sequence[Any]) -> Sequence[Any]:
    """The operands that say where an equation reads or writes."""
    if name not in FIRST_INDEX:
        return ()
    first = FIRST_INDEX[name]
    return operands[first : first + 1 if name in ONE_INDEX else None]


def mask_operands(name: str, params: Mapping[str, Any], operands: Sequence[Any]) -> Sequence[Any]:
    """The operands that say which entries are chosen, or become zeros and ones."""
    if name == "select_n":
        return operands[:1]
    if name == "convert_element_type" and jnp.issubdtype(params["new_dtype"], jnp.inexact):
        return operands[:1]
    return ()


def told(
    equation: Equation,
    decides: Deciding,
    known: Mapping[int, Any],
    patterns: Mapping[int, np.ndarray],
) -> tuple[Known | None, ...]:
    """What is known of each operand of an equation.

    Args:
        equation: with programs inside.
        decides: which of its operands decide there.
        known: values that are known, by number.
        patterns: where values may be other numbers than zero, by number.
    """
    made = []
    for operand, numbers, zeros in zip(
        equation.operands, decides.numbers, decides.zeros, strict=True
    ):
        is_literal = isinstance(operand, Literal)
        array = operand.array if is_literal else known.get(operand.value)
        may = None if is_literal else patterns.get(operand.value)
        one = Known(array if numbers else None, may if zeros else None)
        made.append(None if one.numbers is None and one.may is None else one)
    return tuple(made)


def of_slices(known: Known | None) -> Known | None:
    """What is known of every slice along the first axis of what something is known of."""
    if known is None or known.may is None or not len(known.may):
        return None
    may = np.asarray(known.may.any(axis=0))
    return None if may.all() else Known(may=may)
