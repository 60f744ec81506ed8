"""Matrix products with any number of batch, free, and contracted axes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block, Factor, Label, Term
from blockjac.rules.building import labels_of, made, plain
from blockjac.rules.registry import rule


@rule("dot_general")
def dot_general(
    out: Any, lhs: Any, rhs: Any, *, dimension_numbers: Any, **_: Any
) -> tuple[Block, Block]:
    """`out[b, i, j] = sum_k lhs[b, i, k] rhs[b, k, j]`: each block holds the other operand.

        d out[b, i, j] / d lhs[b', i', k'] = δ[b, b'] δ[i, i'] rhs[b, k', j]
        d out[b, i, j] / d rhs[b', k', j'] = δ[b, b'] δ[j, j'] lhs[b, i, k']

    `dimension_numbers` says which axes are contracted (k) and which are batch axes (b).
    """
    (left_inner, right_inner), (left_batch, right_batch) = dimension_numbers
    left, right = labels_of(lhs.shape), labels_of(rhs.shape)
    left_shared, right_shared = (*left_inner, *left_batch), (*right_inner, *right_batch)
    for left_axis, right_axis in zip(left_shared, right_shared, strict=True):
        right[right_axis] = left[left_axis]
    batch = [left[axis] for axis in left_batch]
    left_free = [label for axis, label in enumerate(left) if axis not in left_shared]
    right_free = [label for axis, label in enumerate(right) if axis not in right_shared]
    indices = plain([*batch, *left_free, *right_free])
    blocks = []
    for operand, labels, factor in (
        (lhs, left, _factor(rhs, right)),
        (rhs, right, _factor(lhs, left)),
    ):
        term = Term((factor,), indices, plain(labels))
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
    return blocks[0], blocks[1]


def _factor(array: Any, labels: list[Label]) -> Factor:
    """The array as a factor, without its axes of size 1."""
    carried = tuple(label for label in labels if label.size != 1)
    if len(carried) != len(labels):
        array = jnp.reshape(array, tuple(label.size for label in carried))
    return Factor(array, carried)
