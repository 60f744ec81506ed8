"""A `while` loop has a known length if its condition depends only on known counters."""

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
    """A function of a `while` loop's operands that runs it as a scan; None for an unknown length.

    Args:
        equation: the loop.
        numbers: its operands, if they are known; None for the others.
    """
    length = _length(equation, numbers)
    if length is None:
        return None
    params = equation.params
    first = params["cond_nconsts"]
    start = first + params["body_nconsts"]

    def run(*operands: Any) -> Sequence[Any]:
        """The results of the loop; a loop without steps returns its initial carry."""
        consts, init = operands[first:start], list(operands[start:])

        def step(state: Sequence[Any], _: None) -> tuple[Sequence[Any], None]:
            return compat.evaluated(params["body_jaxpr"], [*consts, *state]), None

        return lax.scan(step, init, None, length=length)[0] if length else init

    return run


def _length(equation: Equation, numbers: Sequence[np.ndarray | None]) -> int | None:
    """How many steps a loop takes; None if that is only known when it runs."""
    params = equation.params
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]
    first, consts = params["cond_nconsts"], params["body_nconsts"]
    carry = len(equation.operands) - first - consts
    inside = Inside(compat.open_jaxpr(body), 0, consts, carry, counts=True)
    is_known = [number is not None for number in numbers]
    may = may_be_known(inside, is_known[first:])[consts:]
    opened = compat.open_jaxpr(condition)
    (goes_on,) = opened.outvars
    if goes_on.aval.shape or not compat.is_variable(goes_on):
        return None  # under `jax.vmap` each example has its own number of steps
    if goes_on not in decided(opened, [*is_known[:first], *may]):
        return None
    counters = [position for position in range(carry) if may[position]]
    test = _Program(condition, numbers[:first], counters)
    step = _Program(body, numbers[first : first + consts], counters)

    def next_state(state: Any) -> Any:
        return state[0] + 1, step.results(state[1], counters)

    with jax.ensure_compile_time_eval():
        init = [jnp.asarray(numbers[first + consts + position]) for position in counters]
        return int(
            lax.while_loop(lambda state: test.results(state[1], [0])[0], next_state, (0, init))[0]
        )


class _Program:
    """The condition or the body of a loop, as a function of the counters alone.

    Attributes:
        graph: the program.
        known: its constants that are known, by value.
        counters: its inputs that are counters.
    """

    def __init__(
        self, closed: Any, consts: Sequence[np.ndarray | None], counters: Sequence[int]
    ) -> None:
        self.graph = graph_of(closed, [False] * len(compat.open_jaxpr(closed).invars))
        inputs = self.graph.inputs
        pairs = zip(inputs[: len(consts)], consts, strict=True)
        self.known = {value: number for value, number in pairs if number is not None}
        self.counters = [inputs[len(consts) + position] for position in counters]

    def results(self, counts: Sequence[Any], positions: Sequence[int]) -> list[Any]:
        """Some of the results, computed from the counters."""
        known = {**self.known, **dict(zip(self.counters, counts, strict=True))}
        return computed(self.graph, [self.graph.outputs[n] for n in positions], known)
