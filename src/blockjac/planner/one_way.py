"""Equations that are passed in one direction only, or from end to end."""

from __future__ import annotations

from typing import Any

from jax.extend import core

from blockjac.errors import DifferentiationTypeError, NoWayBackError
from blockjac.evaluation import is_reversible, useful_equations
from blockjac.graph import Graph
from blockjac.rules.collectives import COLLECTIVES
from blockjac.rules.fallback import REVERSE_ONLY


def has_one_way(graph: Graph, useful: set[int]) -> bool:
    """Whether "auto" and "greedy" go backwards: no order may contract what is in the middle."""
    return _holds(graph, useful, REVERSE_ONLY | COLLECTIVES)


def check_forwards(graph: Graph, useful: set[int]) -> None:
    """Raise where a function has a derivative backwards only.

    Raises:
        DifferentiationTypeError: in the words of JAX.
    """
    if _holds(graph, useful, REVERSE_ONLY):
        raise DifferentiationTypeError(
            "can't apply forward-mode autodiff (jvp) to a custom_vjp function. "
            "Differentiate in reverse: blockjac.vjp, blockjac.grad, or another order"
        )


def is_forward(graph: Graph, useful: set[int]) -> bool:
    """Whether every equation on the way can be pushed forward."""
    return not _holds(graph, useful, REVERSE_ONLY)


def check_backwards(graph: Graph, useful: set[int]) -> None:
    """Raise where a function has a derivative forwards only.

    Raises:
        NoWayBackError: in the words of JAX.
    """
    if not is_reversible(graph, useful):
        raise NoWayBackError(
            "Reverse-mode differentiation does not work for lax.while_loop or lax.fori_loop with "
            "dynamic start/stop values. Try using lax.scan, or using fori_loop with static "
            "start/stop; or differentiate forwards: blockjac.jvp, or blockjac.jacobian"
        )


def _holds(graph: Graph, useful: set[int], names: set[str]) -> bool:
    return any(
        _is_one(equation.primitive.name, equation.params, names)
        for equation in useful_equations(graph, useful)
    )


def _is_one(name: str, params: dict[str, Any], names: set[str]) -> bool:
    """Whether an equation is one of these, or holds one."""
    if name in names:
        return True
    return any(
        _is_one(inner.primitive.name, inner.params, names)
        for jaxpr in core.jaxprs_in_params(params)
        for inner in jaxpr.eqns
    )
