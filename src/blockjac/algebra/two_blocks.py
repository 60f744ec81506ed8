"""How two blocks are contracted or added: over batches, and once for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from blockjac.algebra.backend import backend
from blockjac.algebra.losses import is_following
from blockjac.algebra.plan_cache import memoized
from blockjac.algebra.replay import replayed
from blockjac.terms.block import Block


def over_batches(
    function: Callable[[Any, Any], Any], block: Block, other: Any, rank: int = 0
) -> Any:
    """Apply a function over the batch axes that an outer `vmap` has left on the arguments.

    Args:
        function: of one block and one other block or array.
        block: the block.
        other: a block, or an array of `rank` axes without its batch axes.
        rank: as said.
    """
    depth = len(block.batch_shape)
    other_depth = len(other.batch_shape) if isinstance(other, Block) else other.ndim - rank
    for level in range(1, max(depth, other_depth) + 1):
        function = jax.vmap(
            function, in_axes=(0 if depth >= level else None, 0 if other_depth >= level else None)
        )
    return function(block, other)


def worked_out_once(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """A sum or product: of a plan, and of a program, only the first of a kind is worked out."""
    if is_following():  # what is lost is noted at each
        return operation(left, right)
    return backend().select(replayed, memoized)(operation, left, right)
