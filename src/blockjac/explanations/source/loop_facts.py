"""What loops and branches need to know of the programs inside of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from blockjac.base.compat import argument_names, dependence, is_variable, open_jaxpr
from blockjac.graph.expand import ordinary_branch

NONE: frozenset[int] = frozenset()


def settled_branch(params: dict[str, Any], index: Any) -> Any:
    """The branch that runs whatever the data are; None where these decide.

    Args:
        params: of the `cond`.
        index: its first operand's number, if it is known; else None.
    """
    only, branches = ordinary_branch(params), params["branches"]
    if only is not None or index is None:
        return only
    return branches[min(max(int(index), 0), len(branches) - 1)]


def used_carry(body: Any, first: int, needed: Sequence[bool], also: Set[int] = NONE) -> list[bool]:
    """Which carried values a loop has to compute.

    Args:
        body: its jaxpr, whose first results are the new carried values.
        first: how many inputs stand before the carried ones.
        needed: which of all results are used after the loop.
        also: carried values that a test reads.
    """
    parts = [part.inputs for part in dependence(body, frozenset())]
    count = len(open_jaxpr(body).invars)
    used = {number for number, is_needed in enumerate(needed) if is_needed} | set(also)
    pending = list(used)
    while pending:
        for place in parts[pending.pop()]:
            number = place - first
            if 0 <= number < min(len(needed), count) and number not in used:
                used.add(number)
                pending.append(number)
    return [number in used for number in range(len(needed))]


def counts_up(body: Any, number: int, first: int) -> bool:
    """Whether a carried value grows by one in each step, whatever the others do."""
    jaxpr = open_jaxpr(body)
    variable, result = jaxpr.invars[first + number], jaxpr.outvars[number]
    if variable.aval.shape or not np.issubdtype(variable.aval.dtype, np.integer):
        return False
    for equation in jaxpr.eqns:
        if result in equation.outvars and equation.primitive.name == "add":
            left, right = equation.invars
            return left is variable and not is_variable(right) and int(right.val) == 1
    return False


def stays(body: Any, number: int, first: int) -> bool:
    """Whether a carried value is the same in each step."""
    jaxpr = open_jaxpr(body)
    return jaxpr.outvars[number] is jaxpr.invars[first + number]


def input_names(body: Any) -> list[str]:
    """The names of a body's inputs where they are identifiers, else empty ones."""
    count = len(open_jaxpr(body).invars)
    names = [name if name.isidentifier() else "" for name in argument_names(body)]
    return (names + [""] * count)[:count] if len(names) <= count else [""] * count
