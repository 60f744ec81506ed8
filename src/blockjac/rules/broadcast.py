"""Primitives that repeat, move or choose whole axes: broadcast, transpose, squeeze, select."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.registry import known, made, rule


@rule("broadcast_in_dim")
def broadcast_in_dim(
    out: Any, operand: Any, *_: Any, broadcast_dimensions: Sequence[int], **__: Any
) -> tuple[Block]:
    """`out[i] = operand[i at broadcast_dimensions]`: the other axes are constant."""
    labels = [Label(size) for size in out.shape]
    wrt = tuple(
        Index.of(labels[axis]) if size == out.shape[axis] else Index()
        for axis, size in zip(broadcast_dimensions, operand.shape, strict=True)
    )
    return (
        made(out.shape, operand.shape, operand.dtype, Term((), tuple(map(Index.of, labels)), wrt)),
    )


@rule("transpose")
def transpose(out: Any, operand: Any, *, permutation: Sequence[int], **_: Any) -> tuple[Block]:
    """`out[i_p] = operand[i]`: the same labels in another order."""
    wrt = tuple(Index.of(Label(size)) for size in operand.shape)
    return (
        made(
            out.shape,
            operand.shape,
            operand.dtype,
            Term((), tuple(wrt[axis] for axis in permutation), wrt),
        ),
    )


@rule("squeeze")
def squeeze(out: Any, operand: Any, *, dimensions: Sequence[int], **_: Any) -> tuple[Block]:
    """Axes of size 1 carry no label, so that dropping them changes nothing."""
    wrt = tuple(Index.of(Label(size)) for size in operand.shape)
    kept = tuple(index for axis, index in enumerate(wrt) if axis not in dimensions)
    return (made(out.shape, operand.shape, operand.dtype, Term((), kept, wrt)),)


@rule("select_n")
def select_n(out: Any, which: Any, *cases: Any, **_: Any) -> tuple[Block | None, ...]:
    """`out[i] = cases[which[i]][i]`: each case is masked by where it is chosen."""
    labels = [Label(size) for size in out.shape]
    indices = tuple(map(Index.of, labels))
    carried = tuple(label for label in labels if label.size != 1) if which.ndim else ()
    blocks: list[Block | None] = [None]
    for place, case in enumerate(cases):
        mask = _where_chosen(which, place)
        if not known(mask):
            mask = mask.reshape(tuple(label.size for label in carried))
        blocks.append(
            made(
                out.shape, case.shape, case.dtype, Term((Factor(mask, carried),), indices, indices)
            )
        )
    return tuple(blocks)


def _where_chosen(which: Any, place: int) -> Any:
    if which.dtype == np.dtype(bool):
        return which if place else ~which
    return which == place
