"""Contract or add two blocks: over batches, and once for each kind of pair."""

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
    function: Callable[[Any, Any], Any], block: Block, operand: Any, rank: int = 0
) -> Any:
    """Apply a function over the batch axes that an outer `vmap` has left on the arguments.

    Args:
        function: a function of a block and a second block or array.
        block: the block.
        operand: a block, or an array of `rank` axes after its batch axes.
        rank: the rank of the array.
    """
    depth = len(block.batch_shape)
    is_block = isinstance(operand, Block)
    operand_depth = len(operand.batch_shape) if is_block else operand.ndim - rank
    for level in range(1, max(depth, operand_depth) + 1):
        function = jax.vmap(
            function, in_axes=(0 if depth >= level else None, 0 if operand_depth >= level else None)
        )
    return function(block, operand)


def worked_out_once(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """The result of a sum or product, which is worked out only for the first pair of a kind."""
    if is_following():  # losses are noted at each pair
        return operation(left, right)
    return backend().select(replayed, memoized)(operation, left, right)
