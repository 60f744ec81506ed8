"""Sums, extrema and products over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.registry import made, rule


def _reduction(operand: Any, axes: Sequence[int]) -> tuple[list[Label], tuple[Index, ...], tuple[Index, ...]]:
    """The labels of the operand, and the indices of a result without the reduced axes."""
    labels = [Label(size) for size in operand.shape]
    wrt = tuple(map(Index.of, labels))
    return labels, tuple(index for axis, index in enumerate(wrt) if axis not in axes), wrt


def _over(array: Any, labels: Sequence[Label]) -> Factor:
    carried = tuple(label for label in labels if label.size != 1)
    return Factor(jnp.reshape(array, tuple(label.size for label in carried)), carried)


@rule("reduce_sum")
def reduce_sum(out: Any, operand: Any, *, axes: Sequence[int], **_: Any) -> tuple[Block]:
    """`d out[i] / d x[i, k] = 1`: no factor."""
    _, kept, wrt = _reduction(operand, axes)
    return (made(out.shape, operand.shape, operand.dtype, Term((), kept, wrt)),)


@rule("reduce_max", "reduce_min")
def reduce_extremum(out: Any, operand: Any, *, axes: Sequence[int], **_: Any) -> tuple[Block]:
    """`[x[i, k] == out[i]] / how many`: entries that tie share the derivative, as in JAX."""
    labels, kept, wrt = _reduction(operand, axes)
    attained = operand == jnp.expand_dims(out, tuple(axes))
    count = jnp.sum(attained, axis=tuple(axes), dtype=operand.dtype)
    shared = 1 / count
    chosen = _over(attained, labels)
    weight = _over(shared, [label for axis, label in enumerate(labels) if axis not in axes])
    return (made(out.shape, operand.shape, operand.dtype, Term((chosen, weight), kept, wrt)),)
