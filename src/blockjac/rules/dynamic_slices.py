"""Slices whose start is an operand: reading and overwriting one window of an array."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.blocks import Block, Term
from blockjac.rules.building import labels_of, plain
from blockjac.rules.lookups import clipped, masked_identity, shifted
from blockjac.rules.registry import rule


@rule("dynamic_slice")
def dynamic_slice(out: Any, operand: Any, *starts: Any, **_: Any) -> tuple[Block | None, ...]:
    """`out[l] = x[start + l]`, with the start clipped so that the slice lies inside.

        d out[l] / d x[l'] = δ[start + l, l']

    The starts are operands, integers without a derivative.
    """
    labels = labels_of(out.shape)
    term = Term((), plain(labels), shifted(labels, starts, operand.shape))
    return (Block(out.shape, operand.shape, operand.dtype, [term]), *(None for _ in starts))


@rule("dynamic_update_slice")
def dynamic_update_slice(
    out: Any, operand: Any, update: Any, *starts: Any, **_: Any
) -> tuple[Block | None, ...]:
    """`out[start + l] = update[l]`; all other entries are those of the operand.

    d out[i] / d x[i'] = δ[i, i'] where the update does not reach i
    d out[i] / d update[l'] = δ[i, start + l']
    """
    labels = labels_of(update.shape)
    term = Term((), shifted(labels, starts, out.shape), plain(labels))
    written = Block(out.shape, update.shape, update.dtype, [term])
    # Clipped here, because `lax.dynamic_update_slice` counts a negative start from the end.
    lasts = [size - width for size, width in zip(out.shape, update.shape, strict=True)]
    inside = [clipped(start, last) for start, last in zip(starts, lasts, strict=True)]
    constant = all(isinstance(start, int | np.ndarray | np.generic) for start in starts)
    with jax.ensure_compile_time_eval() if constant else contextlib.nullcontext():
        untouched = lax.dynamic_update_slice(
            jnp.ones(out.shape, bool), jnp.zeros(update.shape, bool), inside
        )
    untouched = np.asarray(untouched) if constant else untouched
    return (masked_identity(untouched, operand), written, *(None for _ in starts))
