"""Equations that are passed in one direction only, or from end to end."""

from __future__ import annotations

from typing import Any

from jax.extend import core

from blockjac.base import compat
from blockjac.elimination.active_graph import OWN_RULE, ActiveGraph, operator_rule_of
from blockjac.errors import DifferentiationTypeError, NoWayBackError
from blockjac.graph.custom_jvp import has_linear_rule
from blockjac.rules.collectives import COLLECTIVES
from blockjac.rules.fallback import REVERSE_ONLY


def has_one_way(active: ActiveGraph) -> bool:
    """Whether no order may contract what is in the middle: all go backwards, or forwards."""
    return goes_backwards(active) or active.holds(OWN_RULE)


def goes_forwards(active: ActiveGraph) -> bool:
    """Whether every order but "reverse" goes forwards: a user's rule sees whole tangents."""
    return active.holds(OWN_RULE) and not goes_backwards(active)


def goes_backwards(active: ActiveGraph) -> bool:
    """Whether "auto" and "greedy" go backwards whatever that costs."""
    return active.holds(REVERSE_ONLY | COLLECTIVES)


def check_forwards(active: ActiveGraph) -> None:
    """Raise where a function has a derivative backwards only.

    Raises:
        DifferentiationTypeError: in the words of JAX.
    """
    if active.holds(REVERSE_ONLY):
        raise DifferentiationTypeError(
            "can't apply forward-mode autodiff (jvp) to a custom_vjp function. "
            "Differentiate in reverse: blockjac.vjp, blockjac.grad, or another order"
        )


def is_forward(active: ActiveGraph) -> bool:
    """Whether every equation on the way can be pushed forward."""
    return not active.holds(REVERSE_ONLY)


def check_backwards(active: ActiveGraph) -> None:
    """Raise where a function has a derivative forwards only.

    Raises:
        NoWayBackError: in the words of JAX.
    """
    if not active.is_reversible:
        rule = _rule_in_the_way(active)
        if rule is not None:
            raise NoWayBackError(
                f"Reverse-mode differentiation does not work for {rule}: its custom_jvp rule is "
                "not known to be linear in the tangents (it may loop until a residual is small, "
                "clip them, or branch on them), and JAX cannot transpose it. Differentiate "
                "forwards: blockjac.jvp, or blockjac.jacobian with order='auto' or 'forward'; or "
                "declare a solver in the rule by jax.lax.custom_linear_solve"
            )
        raise NoWayBackError(
            "Reverse-mode differentiation does not work for lax.while_loop or lax.fori_loop with "
            "dynamic start/stop values. Try using lax.scan, or using fori_loop with static "
            "start/stop; or differentiate forwards: blockjac.jvp, or blockjac.jacobian"
        )


def _rule_in_the_way(active: ActiveGraph) -> str | None:
    """The first function whose own rule has no way back; None if it is a loop that has none."""
    for equation in active.passes:
        if operator_rule_of(equation).reversible(equation, active.mask(equation)):
            continue
        rule = _first_rule(equation.primitive.name, equation.params)
        if rule is not None:
            used = compat.at_place(equation.source)
            return f"{rule.split(' at ')[0]}{used}" if used else rule
    return None


def _first_rule(name: str, params: dict[str, Any]) -> str | None:
    """Name and line of the function, if an equation is one whose rule is not linear, or holds one.

    A loop without a way back of its own is none.
    """
    if name == "while":
        return None
    if name in OWN_RULE and not has_linear_rule(params):
        return compat.function_source(compat.called(params)) or "a function"
    for jaxpr in core.jaxprs_in_params(params):
        for inner in compat.open_jaxpr(jaxpr).eqns:
            rule = _first_rule(inner.primitive.name, inner.params)
            if rule is not None:
                return rule
    return None
