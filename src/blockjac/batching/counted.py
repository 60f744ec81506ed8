"""A `while` whose condition looks at nothing but its counters is a loop of a known length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base import compat
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Equation
from blockjac.graph.known_inside import Inside, decided, may_be_known
from blockjac.graph.trace import graph_of


def as_scan(
    equation: Equation, numbers: Sequence[np.ndarray | None]
) -> Callable[..., Sequence[Any]] | None:
    """The function of its operands that runs a `while` as a scan; None where its length is unknown.

    Args:
        equation: the loop.
        numbers: of its operands those that are known.
    """
    length = _length(equation, numbers)
    if length is None:
        return None
    params = equation.params
    first = params["cond_nconsts"]
    start = first + params["body_nconsts"]

    def run(*operands: Any) -> Sequence[Any]:
        consts, init = operands[first:start], list(operands[start:])

        def step(state: Sequence[Any], _: None) -> tuple[Sequence[Any], None]:
            return compat.evaluated(params["body_jaxpr"], [*consts, *state]), None

        return lax.scan(step, init, None, length=length)[0] if length else init

    return run


def _length(equation: Equation, numbers: Sequence[np.ndarray | None]) -> int | None:
    """How many steps a loop takes; None where that is known when it runs."""
    params = equation.params
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]
    first, consts = params["cond_nconsts"], params["body_nconsts"]
    carry = len(equation.operands) - first - consts
    inside = Inside(compat.open_jaxpr(body), 0, consts, carry, counts=True)
    is_known = [one is not None for one in numbers]
    may = may_be_known(inside, is_known[first:])[consts:]
    opened = compat.open_jaxpr(condition)
    (holding,) = opened.outvars
    if holding.aval.shape or not compat.is_variable(holding):
        return None  # under `jax.vmap` each example has a number of steps of its own
    if holding not in decided(opened, [*is_known[:first], *may]):
        return None
    counters = [place for place in range(carry) if may[place]]
    test = _Program(condition, numbers[:first], counters)
    step = _Program(body, numbers[first : first + consts], counters)

    def next_state(state: Any) -> Any:
        return state[0] + 1, step.results(state[1], counters)

    with jax.ensure_compile_time_eval():
        init = [jnp.asarray(numbers[first + consts + place]) for place in counters]
        return int(
            lax.while_loop(lambda state: test.results(state[1], [0])[0], next_state, (0, init))[0]
        )


class _Program:
    """One of the programs of a loop, as far as its counters decide it."""

    def __init__(
        self, closed: Any, consts: Sequence[np.ndarray | None], counters: Sequence[int]
    ) -> None:
        self.graph = graph_of(closed, [False] * len(compat.open_jaxpr(closed).invars))
        inputs = self.graph.inputs
        given = zip(inputs[: len(consts)], consts, strict=True)
        self.known = {value: own for value, own in given if own is not None}
        self.counters = [inputs[len(consts) + place] for place in counters]

    def results(self, counts: Sequence[Any], places: Sequence[int]) -> list[Any]:
        """Some of the results, from the counters."""
        given = {**self.known, **dict(zip(self.counters, counts, strict=True))}
        return computed(self.graph, [self.graph.outputs[place] for place in places], given)
