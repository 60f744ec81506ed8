"""Sines and cosines of scalars, computed once, stored, and shared.

On a CPU the compiler treats a sine as no more expensive than a sum and recomputes it in every loop
that reads it: over two thousand times instead of twelve for the Jacobian of a robot arm. If all
variables of a function are scalars (typically at many points, under `jax.vmap`), its sines and
cosines are therefore written to memory in a form that the compiler does not fuse.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.base.tracing import is_tracing
from blockjac.blocks import Block
from blockjac.devices import current
from blockjac.graph.graph import Equation, Graph, Operand

TRIG = ("sin", "cos")
"""Primitives whose value and derivative are the sine and cosine of their operand."""

FEWEST = 4
"""The fewest sines and cosines for which storing them pays."""


class SharedTrig:
    """The stored sines and cosines of a graph, by the number of the operand's value."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[Any, Any]] = {}

    @staticmethod
    def of(graph: Graph, active: Set[int]) -> SharedTrig | None:
        """A store for this graph; None if it does not pay."""
        if is_tracing() or any(graph.avals[vertex].shape for vertex in active):
            return None
        count = sum(is_trig(equation, graph) for equation in graph.equations)
        return SharedTrig() if count >= FEWEST and current().platform == "cpu" else None

    def value(self, equation: Equation, array: Any) -> Any:
        """The result of the equation."""
        sine, cosine = self._pair(equation, array)
        return sine if equation.primitive.name == "sin" else cosine

    def edge(self, equation: Equation, array: Any) -> Block:
        """The derivative of the equation."""
        sine, cosine = self._pair(equation, array)
        return Block.from_dense(cosine if equation.primitive.name == "sin" else -sine, 0)

    def _pair(self, equation: Equation, array: Any) -> tuple[Any, Any]:
        (operand,) = equation.operands
        key = operand.value if isinstance(operand, Operand) else -1
        if key not in self._pairs:
            self._pairs[key] = _stored(lax.sin(array), lax.cos(array))
        return self._pairs[key]


def is_trig(equation: Equation, graph: Graph) -> bool:
    """Whether an equation is the sine or cosine of a real scalar variable."""
    if equation.primitive.name not in TRIG or not isinstance(equation.operands[0], Operand):
        return False
    aval = graph.aval(equation.operands[0])
    return aval.shape == () and jnp.issubdtype(aval.dtype, jnp.floating)


def _stored(sine: Any, cosine: Any) -> tuple[Any, Any]:
    """Write two arrays to one buffer and read them back, which the compiler does not fuse."""
    start = (0,) * jnp.ndim(sine)
    buffer = jnp.zeros((2, *jnp.shape(sine)), sine.dtype)
    for number, array in enumerate((sine, cosine)):
        buffer = lax.dynamic_update_slice(buffer, array[None], (number, *start))
    return buffer[0], buffer[1]
