"""Calls of a Block's methods outside `jit`: one compiled program for each structure.

Run operation by operation, a product with a vector takes a millisecond of Python each time, which
a SciPy solver would pay at every step.
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


def at_once(function: Callable[..., Any], block: Block, *operands: Any, **static: Any) -> Any:
    """`function(block, *operands, **static)`, compiled unless a trace or a plan is under way.

    NumPy arrays in a block are constants that its structure may depend on: for such a block the
    function is called directly.

    Args:
        function: a function of a block and arrays that returns an array; the same object at each
            call.
        block: the block.
        operands: arrays.
        static: further arguments, hashable.
    """
    arrays, structure = flat_parts(block)
    used = (*arrays, *operands)  # without any array there may still be a trace under way
    at_hand = bool(used) and all(map(_is_at_hand, used)) and all(map(_is_of_jax, arrays))
    if not backend().select(at_hand, False):
        return function(block, *operands, **static)

    def program() -> Callable[..., Any]:
        def call(leaves: list[Any], *parts: Any) -> Any:
            return function(unflatten(structure, leaves), *parts, **static)

        return jax.jit(call)

    key = (function, structure, tuple(static.items()))
    return _programs.made(key, program)(arrays, *operands)


def _is_at_hand(array: Any) -> bool:
    return isinstance(array, jax.Array | np.ndarray) and not isinstance(array, Tracer)


def _is_of_jax(array: Any) -> bool:
    return isinstance(array, jax.Array)
