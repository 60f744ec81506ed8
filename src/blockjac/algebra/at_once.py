"""What is asked of a Block outside `jit`: one compiled program, found again by the structure.

Operation by operation, a product with a vector takes a millisecond of Python each time, which a
solver of scipy pays at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.base.caches import Cache
from blockjac.base.compat import Tracer
from blockjac.terms.block import Block, flat_parts, unflatten

_programs: Cache[Callable[..., Any]] = Cache("programs of blocks", 256)


def at_once(function: Callable[..., Any], block: Block, *given: Any, **static: Any) -> Any:
    """`function(block, *given, **static)`, compiled as one unless a trace or a plan is under way.

    Arrays of NumPy in a block are constants, which its structure may depend on: such a block is
    worked on as it is.

    Args:
        function: of a block and arrays, giving an array; always the same object.
        block: the block.
        given: arrays.
        static: further arguments, hashable.
    """
    arrays, structure = flat_parts(block)
    used = (*arrays, *given)  # of a block without any, a trace may be under way
    at_hand = bool(used) and all(map(_is_at_hand, used)) and all(map(_is_of_jax, arrays))
    if not backend().select(at_hand, False):
        return function(block, *given, **static)

    def made() -> Callable[..., Any]:
        return jax.jit(
            lambda leaves, *parts: function(unflatten(structure, leaves), *parts, **static)
        )

    key = (function, structure, tuple(static.items()))
    return _programs.made(key, made)(arrays, *given)


def _is_at_hand(array: Any) -> bool:
    return isinstance(array, jax.Array | np.ndarray) and not isinstance(array, Tracer)


def _is_of_jax(array: Any) -> bool:
    return isinstance(array, jax.Array)
