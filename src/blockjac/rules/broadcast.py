"""Primitives that repeat, move or choose whole axes: broadcast, transpose, squeeze, select."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.blocks import Block, Factor, Index, Term
from blockjac.rules.building import known, labels_of, made, plain
from blockjac.rules.registry import rule


@rule("broadcast_in_dim")
def broadcast_in_dim(
    out: Any, operand: Any, *_: Any, broadcast_dimensions: Sequence[int], **__: Any
) -> tuple[Block]:
    """`out[i, j] = x[i]`, where i lies on the axes `broadcast_dimensions` of the result.

        d out[i, j] / d x[i'] = δ[i, i']

    Axes of x of size 1 are repeated along their axis of the result, and have no delta.
    """
    labels = labels_of(out.shape)
    wrt = tuple(
        Index.of(labels[axis]) if size == out.shape[axis] else Index()
        for axis, size in zip(broadcast_dimensions, operand.shape, strict=True)
    )
    return (made(out.shape, operand.shape, operand.dtype, Term((), plain(labels), wrt)),)


@rule("transpose")
def transpose(out: Any, operand: Any, *, permutation: Sequence[int], **_: Any) -> tuple[Block]:
    """`out[i_p] = x[i]`, where `p` is the `permutation`: the same labels in another order.

    d out[i_p] / d x[i'] = δ[i, i']
    """
    wrt = plain(labels_of(operand.shape))
    term = Term((), tuple(wrt[axis] for axis in permutation), wrt)
    return (made(out.shape, operand.shape, operand.dtype, term),)


@rule("squeeze")
def squeeze(out: Any, operand: Any, *, dimensions: Sequence[int], **_: Any) -> tuple[Block]:
    """`d out[i] / d x[i', 0] = δ[i, i']`: the axes `dimensions`, of size 1, are dropped."""
    wrt = plain(labels_of(operand.shape))
    indices = tuple(index for axis, index in enumerate(wrt) if axis not in dimensions)
    return (made(out.shape, operand.shape, operand.dtype, Term((), indices, wrt)),)


@rule("select_n")
def select_n(out: Any, selector: Any, *cases: Any, **_: Any) -> tuple[Block | None, ...]:
    """`out[i] = cases[selector[i]][i]`: each case is masked by where it is chosen.

    d out[i] / d cases[k][i'] = δ[i, i'] [selector[i] == k]
    """
    labels = labels_of(out.shape)
    indices = plain(labels)
    carried = tuple(label for label in labels if label.size != 1) if selector.ndim else ()
    blocks: list[Block | None] = [None]
    for number, case in enumerate(cases):
        mask = _where_chosen(selector, number)
        if not known(mask):
            mask = mask.reshape(tuple(label.size for label in carried))
        term = Term((Factor(mask, carried),), indices, indices)
        blocks.append(made(out.shape, case.shape, case.dtype, term))
    return tuple(blocks)


def _where_chosen(selector: Any, number: int) -> Any:
    """The mask of the entries for which `selector` chooses the case of this number."""
    if selector.dtype == np.dtype(bool):
        return selector if number else ~selector
    return selector == number
