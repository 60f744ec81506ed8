"""What a program inside of an equation, such as a loop's body, may know about the operands.

A constant of the function is an operand there. If the body uses it as an index, or multiplies by a
value that has its zeros, the structure of the body's Jacobian depends on it. What is known about
each such operand is attached to the equation, as `Equation.told`.
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
"""The position of the first operand that says where a primitive reads or writes."""

ONE_INDEX = frozenset(name for name in FIRST_INDEX if not name.startswith("dynamic"))
"""Primitives with a single index array."""

WITH_PROGRAMS = RECOMPUTED | {"scan", "while", "cond"}
"""Primitives whose programs may depend on what is known about their operands."""

WITH_RULES = frozenset({"custom_vjp_call"})
"""Primitives whose rules are programs, which have constants of their own."""


@dataclass(frozen=True)
class Inside:
    """A program inside an equation.

    Attributes:
        jaxpr: the program, open.
        first: the position of the operand that becomes its first input.
        fixed: how many inputs are operands, the same in every run.
        carried: how many inputs after these are results of the previous run.
        counts: whether the number of runs is known, so that carried values may be known in each.
    """

    jaxpr: Any
    first: int
    fixed: int
    carried: int
    counts: bool = False


def programs(name: str, params: Mapping[str, Any], count: int) -> list[Inside]:
    """The programs inside an equation that are differentiated by their own elimination.

    Args:
        name: the name of the primitive.
        params: the parameters of the equation.
        count: the number of its operands.
    """
    if name == "scan":
        consts, carry = compat.scan_counts(dict(params))
        return [Inside(compat.open_jaxpr(params["jaxpr"]), 0, consts, carry, counts=True)]
    if name == "while":
        first, consts = params["cond_nconsts"], params["body_nconsts"]
        carried = count - first - consts
        return [Inside(compat.open_jaxpr(params["body_jaxpr"]), first, consts, carried)]
    if name == "cond":
        branches = map(compat.open_jaxpr, params["branches"])
        return [Inside(branch, 1, count - 1, 0) for branch in branches]
    called = _called(params)
    return [] if called is None else [Inside(called, 0, count, 0)]


def _called(params: Mapping[str, Any]) -> Any:
    """The program that a call runs; None if the equation is not a call."""
    names = [name for name in ("jaxpr", "call_jaxpr", "call") if compat.is_jaxpr(params.get(name))]
    return compat.open_jaxpr(params[names[0]]) if names else None


def has_inside(equation: Equation) -> bool:
    """Whether an equation is differentiated, and has programs inside that may know its operands."""
    return equation.primitive.name in WITH_PROGRAMS | WITH_RULES and any(
        isinstance(operand, Operand) and operand.vertex is not None for operand in equation.operands
    )


@dataclass(frozen=True)
class Deciding:
    """Which inputs of a program, or operands, the structure of a Jacobian depends on.

    Attributes:
        numbers: those whose numbers matter, as indices and masks do.
        zeros: those whose zeros matter, because what is computed from them multiplies tangents.
    """

    numbers: Sequence[bool]
    zeros: Sequence[bool]


def read_inside(equation: Equation) -> Deciding:
    """Which operands of an equation the structure of the programs inside may depend on."""
    name, count = equation.primitive.name, len(equation.operands)
    if name not in WITH_PROGRAMS:
        return Deciding([False] * count, [False] * count)
    return _deciding_operands(name, equation.params, [True] * count)


def _deciding_operands(name: str, params: Mapping[str, Any], may: Sequence[bool]) -> Deciding:
    """Which operands decide for any of the programs inside of an equation.

    Args:
        name: the name of the primitive.
        params: the parameters of the equation.
        may: which operands may be known.
    """
    numbers, zeros = [False] * len(may), [False] * len(may)
    for inside in programs(name, params, len(may)):
        inputs = may_be_known(inside, may[inside.first :])
        decides = _deciding_runs(inside, inputs)
        for position, may_input in enumerate(inputs):
            numbers[inside.first + position] |= decides.numbers[position] and may_input
            zeros[inside.first + position] |= decides.zeros[position] and may_input
    return Deciding(numbers, zeros)


def may_be_known(inside: Inside, known_inputs: Sequence[bool]) -> list[bool]:
    """Which inputs of a program may be known in every run.

    Args:
        inside: the program.
        known_inputs: which inputs may be known in the first run.
    """
    may = list(known_inputs)
    carried = range(inside.fixed, inside.fixed + inside.carried)
    for position in carried:
        may[position] &= inside.counts and is_index(inside.jaxpr.invars[position].aval)
    while True:
        known = decided(inside.jaxpr, may)
        outs = inside.jaxpr.outvars[: inside.carried]
        lost = [
            position
            for position, out in zip(carried, outs, strict=True)
            if may[position] and compat.is_variable(out) and out not in known
        ]
        if not lost:
            return may
        for position in lost:
            may[position] = False


def _deciding_runs(inside: Inside, may: Sequence[bool]) -> Deciding:
    """Which inputs of a program decide in any of its runs."""
    deciding_results: set[int] = set()
    while True:
        outs = [out for n, out in enumerate(inside.jaxpr.outvars) if n in deciding_results]
        decides = deciding(inside.jaxpr, may, outs)
        carried = {
            position
            for position in range(inside.carried)
            if decides.numbers[inside.fixed + position] and may[inside.fixed + position]
        }
        if carried <= deciding_results:
            return decides
        deciding_results |= carried


def decided(jaxpr: Any, known_inputs: Sequence[bool]) -> set[Any]:
    """The variables that are known if these inputs are."""
    known = set(jaxpr.constvars)
    known.update(_chosen(jaxpr.invars, known_inputs))
    for equation in jaxpr.eqns:
        if not equation.effects and known.issuperset(_variables(equation.invars)):
            known.update(equation.outvars)
    return known


def deciding(jaxpr: Any, known_inputs: Sequence[bool], wanted: Sequence[Any] = ()) -> Deciding:
    """Which inputs of a program the structure of its Jacobian depends on, if they are known.

    Args:
        jaxpr: the program, open.
        known_inputs: which inputs may be known.
        wanted: results whose numbers matter outside of the program.
    """
    known = decided(jaxpr, known_inputs)
    numbers = set(_variables(wanted))
    zeros: set[Any] = set()
    for equation in reversed(jaxpr.eqns):
        name, params, operands = equation.primitive.name, equation.params, equation.invars
        numbers.update(_variables(place_operands(name, operands)))
        numbers.update(_variables(mask_operands(name, params, operands)))
        if name in FACTORS:
            zeros.update(_variables(operands))
        decides = _deciding_operands(name, params, [True] * len(operands))
        numbers.update(_variables(_chosen(operands, decides.numbers)))
        zeros.update(_variables(_chosen(operands, decides.zeros)))
        is_call = _called(params) is not None
        if is_call or not numbers.isdisjoint(equation.outvars):
            is_known = known.issuperset(equation.outvars)
            numbers.update(_variables(operands) if is_known else ())
        if (is_call or name in ZERO_RULES) and not zeros.isdisjoint(equation.outvars):
            zeros.update(_variables(operands))
    return Deciding(
        [variable in numbers and variable in known for variable in jaxpr.invars],
        [variable in zeros for variable in jaxpr.invars],
    )


def _chosen(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    return [value for value, is_chosen in zip(values, chosen, strict=True) if is_chosen]


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return list(filter(compat.is_variable, atoms))


def is_index(aval: Any) -> bool:
    """Whether a value holds integers or booleans."""
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
    """What is known about each operand of an equation.

    Args:
        equation: an equation with programs inside.
        decides: which of its operands these depend on.
        known: the known arrays, by value.
        patterns: where values may be nonzero, by value.
    """
    facts = []
    for operand, numbers, zeros in zip(
        equation.operands, decides.numbers, decides.zeros, strict=True
    ):
        is_literal = isinstance(operand, Literal)
        array = operand.array if is_literal else known.get(operand.value)
        may = None if is_literal else patterns.get(operand.value)
        fact = Known(array if numbers else None, may if zeros else None)
        facts.append(None if fact.numbers is None and fact.may is None else fact)
    return tuple(facts)


def of_slices(known: Known | None) -> Known | None:
    """What is known about each slice of an operand along its first axis."""
    if known is None or known.may is None or not len(known.may):
        return None
    may = np.asarray(known.may.any(axis=0))
    return None if may.all() else Known(may=may)
