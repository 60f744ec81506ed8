"""Sums, extrema and products over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.building import labels_of, made, plain
from blockjac.rules.registry import rule


def _reduction(
    operand: Any, axes: Sequence[int]
) -> tuple[list[Label], tuple[Index, ...], tuple[Index, ...]]:
    """The operand's labels, the result's indices without the reduced axes, and the operand's."""
    labels = labels_of(operand.shape)
    wrt = plain(labels)
    return labels, tuple(index for axis, index in enumerate(wrt) if axis not in axes), wrt


def _over(array: Any, labels: Sequence[Label]) -> Factor:
    """The array as a factor over the labels, without its axes of size 1."""
    carried = tuple(label for label in labels if label.size != 1)
    return Factor(jnp.reshape(array, tuple(label.size for label in carried)), carried)


@rule("reduce_sum")
def reduce_sum(out: Any, operand: Any, *, axes: Sequence[int], **_: Any) -> tuple[Block]:
    """`d out[i] / d x[i', k'] = δ[i, i']`, where k runs over `axes`."""
    indices, wrt = _reduction(operand, axes)[1:]
    return (made(out.shape, operand.shape, operand.dtype, Term((), indices, wrt)),)


@rule("reduce_max", "reduce_min")
def reduce_extremum(out: Any, operand: Any, *, axes: Sequence[int], **_: Any) -> tuple[Block]:
    """`out[i]` is the extremum of `x[i, k]` over `axes`; ties share equally, as in JAX.

        d out[i] / d x[i', k'] = δ[i, i'] [x[i, k'] == out[i]] / count[i]

    where `count[i]` says how many entries attain the extremum. A nan gives nan for all of them.
    """
    labels, indices, wrt = _reduction(operand, axes)
    attained = (operand == jnp.expand_dims(out, tuple(axes))) | jnp.isnan(
        jnp.expand_dims(out, tuple(axes))
    )
    count = jnp.sum(attained, axis=tuple(axes), dtype=operand.dtype)
    chosen = _over(attained, labels)
    weight = _over(
        jnp.where(jnp.isnan(out), jnp.nan, 1 / count),  # it varies with nothing
        [label for axis, label in enumerate(labels) if axis not in axes],
    )
    return (made(out.shape, operand.shape, operand.dtype, Term((chosen, weight), indices, wrt)),)


@rule("reduce_prod")
def reduce_prod(out: Any, operand: Any, *, axes: Sequence[int], **_: Any) -> tuple[Block]:
    """`out[i] = prod_k x[i, k]`, where k runs over `axes`.

        d out[i] / d x[i', k'] = δ[i, i'] (product of x[i, k] over all k but k')

    without a division, as x may be 0.
    """
    if operand.size == 0:
        return (Block.zeros(out.shape, operand.shape, operand.dtype),)
    labels, indices, wrt = _reduction(operand, axes)
    products = _over(_products_of_others(operand, tuple(axes)), labels)
    return (made(out.shape, operand.shape, operand.dtype, Term((products,), indices, wrt)),)


def _products_of_others(array: Any, axes: tuple[int, ...]) -> Any:
    """For each entry the product of those before it times that of those after it."""
    last = tuple(range(array.ndim - len(axes), array.ndim))
    moved = jnp.moveaxis(array, axes, last)
    rest = moved.shape[: array.ndim - len(axes)]
    flat = jnp.reshape(moved, (*rest, math.prod(moved.shape[len(rest) :])))
    unit = jnp.ones((*rest, 1), array.dtype)
    shifted_down = jnp.concatenate([unit, flat[..., :-1]], -1)
    shifted_up = jnp.concatenate([flat[..., 1:], unit], -1)
    before = lax.associative_scan(lax.mul, shifted_down, axis=len(rest))
    after = lax.associative_scan(lax.mul, shifted_up, reverse=True, axis=len(rest))
    return jnp.moveaxis(jnp.reshape(before * after, moved.shape), last, axes)
