"""Sines and cosines of scalars: computed once, stored, and read by all that need them.

On a CPU the compiler takes a sine for as cheap as a sum, and computes it again in each of the loops
that read it: for a robot arm's Jacobian at thousands of points twelve times two hundred. Where a
whole function is one of scalars (at many points, under `jax.vmap`), its sines and cosines are
therefore written to memory, by a form that the compiler does not see through.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.base.tracing import is_tracing
from blockjac.blocks import Block
from blockjac.graph.graph import Equation, Graph, Operand

TRIG = ("sin", "cos")
"""Primitives whose value and derivative are a sine and a cosine of one operand."""

FEWEST = 4
"""How many of them a function must have."""


class SharedTrig:
    """The stored sines and cosines of a graph, by the value that they are of."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[Any, Any]] = {}

    @staticmethod
    def of(graph: Graph, active: Set[int]) -> SharedTrig | None:
        """A store for this graph; None where it does not pay."""
        if is_tracing() or any(graph.avals[vertex].shape for vertex in active):
            return None
        found = sum(is_trig(equation, graph) for equation in graph.equations)
        return SharedTrig() if found >= FEWEST and jax.default_backend() == "cpu" else None

    def value(self, equation: Equation, array: Any) -> Any:
        """What the equation computes."""
        sine, cosine = self._pair(equation, array)
        return sine if equation.primitive.name == "sin" else cosine

    def edge(self, equation: Equation, array: Any) -> Block:
        """Its derivative."""
        sine, cosine = self._pair(equation, array)
        return Block.from_dense(cosine if equation.primitive.name == "sin" else -sine, 0)

    def _pair(self, equation: Equation, array: Any) -> tuple[Any, Any]:
        (operand,) = equation.operands
        key = operand.value if isinstance(operand, Operand) else -1
        if key not in self._pairs:
            self._pairs[key] = _stored(lax.sin(array), lax.cos(array))
        return self._pairs[key]


def is_trig(equation: Equation, graph: Graph) -> bool:
    """Whether an equation is the sine or cosine of a real scalar that is no literal."""
    if equation.primitive.name not in TRIG or not isinstance(equation.operands[0], Operand):
        return False
    aval = graph.aval(equation.operands[0])
    return aval.shape == () and jnp.issubdtype(aval.dtype, jnp.floating)


def _stored(one: Any, other: Any) -> tuple[Any, Any]:
    """Two arrays, read back from memory: two writes to one buffer are not fused into readers."""
    place = (0,) * (jnp.ndim(one) + 1)
    buffer = jnp.zeros((2, *jnp.shape(one)), one.dtype)
    for number, array in enumerate((one, other)):
        buffer = lax.dynamic_update_slice(buffer, array[None], (number, *place[1:]))
    return buffer[0], buffer[1]
