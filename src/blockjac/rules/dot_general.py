"""Matrix products of any kind."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.registry import made, rule


@rule("dot_general")
def dot_general(
    out: Any, lhs: Any, rhs: Any, *, dimension_numbers: Any, **_: Any
) -> tuple[Block, Block]:
    """Each block is the other operand; the axes that it lacks are Kronecker deltas.

    `out[b, i, j] = sum_k lhs[b, i, k] rhs[b, k, j]`, so that with primes on the input's axes

        d out / d lhs = δ[b, b'] δ[i, i'] rhs[b, k', j]
        d out / d rhs = δ[b, b'] δ[j, j'] lhs[b, i, k']
    """
    (left_inner, right_inner), (left_batch, right_batch) = dimension_numbers
    left = [Label(size) for size in lhs.shape]
    right = [Label(size) for size in rhs.shape]
    for mine, theirs in zip((*left_inner, *left_batch), (*right_inner, *right_batch), strict=True):
        right[theirs] = left[mine]
    left_free = [label for axis, label in enumerate(left) if axis not in (*left_inner, *left_batch)]
    right_free = [
        label for axis, label in enumerate(right) if axis not in (*right_inner, *right_batch)
    ]
    indices = tuple(map(Index.of, [*(left[axis] for axis in left_batch), *left_free, *right_free]))
    blocks = []
    for operand, labels, other, other_labels in ((lhs, left, rhs, right), (rhs, right, lhs, left)):
        term = Term((_factor(other, other_labels),), indices, tuple(map(Index.of, labels)))
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
    return blocks[0], blocks[1]


def _factor(array: Any, labels: list[Label]) -> Factor:
    carried = tuple(label for label in labels if label.size != 1)
    if len(carried) != len(labels):
        array = jnp.reshape(array, tuple(label.size for label in carried))
    return Factor(array, carried)
