"""Sines and cosines, computed once, stored, and shared.

On a CPU the compiler treats a sine as no more expensive than a sum and recomputes it in every loop
that reads it: over two thousand times instead of twelve for the Jacobian of a robot arm, and two
dozen times instead of once for that of the power flows of a grid. Those that many products read are
therefore written to memory in a form that the compiler does not fuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, cast

import jax.numpy as jnp
from jax import lax

from blockjac.base.tracing import is_tracing
from blockjac.blocks import Block
from blockjac.devices import current
from blockjac.graph.graph import Equation, Graph, Operand
from blockjac.rules.building import scaling

TRIG = ("sin", "cos")
"""Primitives whose value and derivative are the sine and cosine of their operand."""

MANY = 2**20
"""More paths are not counted."""

FEWEST = 4
"""The fewest paths from sines and cosines for which storing them pays.

Of scalars the sines and cosines of the whole function are counted: its loops are over the points at
which it is differentiated, and each reads most of them. Of arrays the paths to results from those
of one operand are: about as many loops read them.
"""


class SharedTrig:
    """The stored sines and cosines of a graph, by the number of the operand's value.

    Args:
        equations: those whose results and derivatives are stored.
    """

    def __init__(self, equations: Iterable[Equation]) -> None:
        self.equations = frozenset(equations)
        self._pairs: dict[int, tuple[Any, Any]] = {}

    @staticmethod
    def of(graph: Graph, active: Set[int]) -> SharedTrig | None:
        """A store for this graph; None if it does not pay."""
        if is_tracing() or current().platform != "cpu":
            return None
        candidates = [equation for equation in graph.equations if is_trig(equation, graph)]
        if any(graph.avals[vertex].shape for vertex in active):
            candidates = _read_often(graph, candidates, active)
        elif len(candidates) < FEWEST:
            return None
        return SharedTrig(candidates) if candidates else None

    def value(self, equation: Equation, array: Any) -> Any:
        """The result of the equation."""
        sine, cosine = self._pair(equation, array)
        return sine if equation.primitive.name == "sin" else cosine

    def edge(self, equation: Equation, array: Any) -> Block:
        """The derivative of the equation."""
        sine, cosine = self._pair(equation, array)
        slope = cosine if equation.primitive.name == "sin" else -sine
        return scaling(array.shape, array, slope)

    def _pair(self, equation: Equation, array: Any) -> tuple[Any, Any]:
        (operand,) = equation.operands
        key = operand.value if isinstance(operand, Operand) else -1
        if key not in self._pairs:
            self._pairs[key] = _stored(lax.sin(array), lax.cos(array))
        return self._pairs[key]


def is_trig(equation: Equation, graph: Graph) -> bool:
    """Whether an equation is the sine or cosine of a real variable."""
    if equation.primitive.name not in TRIG or not isinstance(equation.operands[0], Operand):
        return False
    return jnp.issubdtype(graph.aval(equation.operands[0]).dtype, jnp.floating)


def _read_often(graph: Graph, candidates: Sequence[Equation], active: Set[int]) -> list[Equation]:
    """Those of the sines and cosines of active arrays from which many paths lead to results."""
    if not candidates:
        return []
    paths = _paths_to_results(graph, active)
    total: dict[int, int] = {}
    for equation in candidates:
        value = cast("Operand", equation.operands[0]).value
        total[value] = total.get(value, 0) + paths.get(equation.results[0], 0)
    often = {value for value, count in total.items() if count >= FEWEST}
    return [e for e in candidates if cast("Operand", e.operands[0]).value in often]


def _paths_to_results(graph: Graph, active: Set[int]) -> dict[int, int]:
    """How many paths of active equations lead from each value to results."""
    paths: dict[int, int] = {}
    for output in graph.outputs:
        if isinstance(output, Operand):
            paths[output.value] = paths.get(output.value, 0) + 1
    for equation in reversed(graph.equations):
        count = min(MANY, sum(paths.get(result, 0) for result in equation.results))
        for operand in equation.operands:
            if count and isinstance(operand, Operand) and operand.value in active:
                paths[operand.value] = min(MANY, paths.get(operand.value, 0) + count)
    return paths


def _stored(sine: Any, cosine: Any) -> tuple[Any, Any]:
    """Write two arrays to one buffer and read them back, which the compiler does not fuse."""
    start = (0,) * jnp.ndim(sine)
    buffer = jnp.zeros((2, *jnp.shape(sine)), sine.dtype)
    for number, array in enumerate((sine, cosine)):
        buffer = lax.dynamic_update_slice(buffer, array[None], (number, *start))
    return buffer[0], buffer[1]
