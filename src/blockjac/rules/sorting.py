"""Primitives that order the entries along an axis: a lookup of the order, and no stored zeros."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.blocks import Block, Index, Lookup, Term
from blockjac.rules.building import labels_of, plain
from blockjac.rules.registry import rule


@rule("sort", multiple_results=True)
def sort(
    outs: Any, *operands: Any, dimension: int, is_stable: bool, num_keys: int, **_: Any
) -> tuple[tuple[Block | None, ...], ...]:
    """`out[l] = x[order[l]]` along `dimension`: every operand is permuted as the keys are.

        d out[l] / d x[l'] = δ[order[l], l']

    The first `num_keys` operands are the keys. The other axes are deltas.
    """
    shape = outs[0].shape
    numbers = lax.broadcasted_iota(jnp.int32, shape, dimension)
    order = lax.sort(
        (*operands, numbers), dimension=dimension, is_stable=is_stable, num_keys=num_keys
    )[-1]
    return tuple(
        tuple(
            _permuted(out, operand, dimension, order) if position == result else None
            for position, operand in enumerate(operands)
        )
        for result, out in enumerate(outs)
    )


@rule("top_k", multiple_results=True)
def top_k(outs: Any, operand: Any, *, axis: int = -1, **_: Any) -> Any:
    """`out[l] = x[order[l]]` along `axis`, with the order that the primitive itself returns."""
    values, order = outs
    return (_permuted(values, operand, axis % len(operand.shape), order),), (None,)


@rule("approx_top_k", multiple_results=True)
def approx_top_k(outs: Any, operand: Any, *, reduction_dimension: int, **_: Any) -> Any:
    """`out[l] = x[order[l]]` along `reduction_dimension`: the rule of `top_k` holds."""
    return top_k(outs, operand, axis=reduction_dimension)


def _permuted(out: Any, operand: Any, axis: int, order: Any) -> Block:
    """`δ[order[l], l']` along an axis, and deltas on all others.

    Args:
        out: the result.
        operand: the operand that the result is read from.
        axis: the axis along which entries move.
        order: the position in the operand of each entry of the result.
    """
    labels = labels_of(out.shape)
    size = operand.shape[axis]
    carried = tuple(label for label in labels if label.size != 1)
    positions = jnp.reshape(order, tuple(label.size for label in carried)).astype(jnp.int32)
    wrt = list(plain(labels))
    if size != 1:
        wrt[axis] = Index(0, (), Lookup(positions, carried, (0, size - 1)))
    term = Term((), plain(labels), tuple(wrt))
    return Block(out.shape, operand.shape, operand.dtype, [term])
