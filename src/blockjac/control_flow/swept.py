"""Blocks as the arrays that a loop carries, sums and stacks, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks
from blockjac.control_flow.carry_structure import (
    CarryStructure,
    Pattern,
    carry_structure_of,
)
from blockjac.control_flow.followed import FormsOfShares, Seen
from blockjac.control_flow.shares import Shares, Stack, Swept


def forms_of(forms: Sequence[CarryStructure | None], shares: Shares) -> FormsOfShares:
    """The structures of all that the steps give, from those that are carried."""
    return FormsOfShares(
        forms, *(list(map(carry_structure_of, own)) for own in (shares.summed, shares.slices))
    )


def swept(
    forms: FormsOfShares, carried: Sequence[Any], totals: Sequence[Any], stacked: Any, seen: Seen
) -> Swept:
    """The blocks of the arrays that a loop gives."""
    return Swept(
        blocks_of(forms.carry, carried, seen.carry),
        blocks_of(forms.summed, totals, seen.summed),
        _stacks(forms.slices, stacked, seen.slices),
    )


def _stacks(
    forms: Sequence[CarryStructure | None], arrays: Sequence[Any], seen: Sequence[Pattern | None]
) -> list[Stack | None]:
    """What stacks the blocks of all steps, of forms whose arrays are stacked."""
    return [
        None if form is None else partial(form.stacked, array, may=may)
        for form, array, may in zip(forms, arrays, seen, strict=True)
    ]


def any_given(blocks: Blocks) -> bool:
    """Whether one of the blocks is not zero."""
    return any(block is not None for block in blocks)


def blocks_of(
    forms: Sequence[CarryStructure | None],
    arrays: Sequence[Any],
    seen: Sequence[Pattern | None] | None = None,
) -> list[Block | None]:
    """The blocks of arrays that a loop carries."""
    return [
        None if form is None else form.block(array, may)
        for form, array, may in zip(forms, arrays, seen or [None] * len(forms), strict=True)
    ]


def arrays_of(forms: Sequence[CarryStructure | None], blocks: Blocks) -> list[Any]:
    """The arrays of blocks, in the structures that a loop carries."""
    return [
        None if form is None else form.array(block)
        for form, block in zip(forms, blocks, strict=True)
    ]


def step_axis(aval: Any) -> int:
    """Where the steps' axis is in a vertex of slices: after the parts of a complex number."""
    return 1 if jnp.issubdtype(aval.dtype, jnp.complexfloating) else 0
