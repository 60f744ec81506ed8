"""Which diagonals of its matrix a block has, where every term lies on one; and their entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.blocks.block import Block, Term
from blockjac.blocks.entries import pieces, places, values
from blockjac.blocks.index import Index


def offsets(block: Block) -> list[int] | None:
    """For each term the diagonal that it lies on, column minus row; None if one lies on several.

    Both axes sets are flattened in row-major order. A term lies on one diagonal if its flat row and
    its flat column grow alike with every label.
    """
    found = []
    for term in block.terms:
        row, column = _flat(term.out, block.out_shape), _flat(term.wrt, block.wrt_shape)
        if row is None or column is None or row[1] != column[1]:
            return None
        found.append(column[0] - row[0])
    return found


def _flat(indices: Sequence[Index], sizes: Sequence[int]) -> tuple[int, dict[Any, int]] | None:
    """The constant and the step of each label in the flat place; None with a lookup."""
    total, steps, weight = 0, {}, 1
    for index, size in zip(reversed(indices), reversed(sizes), strict=True):
        if index.lookup is not None or not index.within(size):
            return None
        total += weight * index.offset
        for label, stride in index.strides:
            steps[label] = steps.get(label, 0) + weight * stride
        weight *= size
    return total, {label: step for label, step in steps.items() if step}


def on_diagonal(block: Block, offset: int) -> Any:
    """The entries on one diagonal of the block's matrix, as `jnp.diagonal(matrix, offset)`.

    Args:
        block: one whose `offsets` are known.
        offset: column minus row.
    """
    rows, columns = math.prod(block.out_shape), math.prod(block.wrt_shape)
    length = max(0, min(rows, columns - offset) - max(0, -offset))
    result = jnp.zeros((length,), block.dtype)
    for term, own in zip(block.terms, offsets(block) or (), strict=True):
        if own != offset:
            continue
        alone = _of(block, term)
        (piece,) = pieces([[alone]])
        along = places(piece, jnp, jnp.int32).rows - max(0, -offset)
        result = result.at[along].add(values([[alone]]))
    return result


def _of(block: Block, term: Term) -> Block:
    return Block(block.out_shape, block.wrt_shape, block.dtype, (term,))
