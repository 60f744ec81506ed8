"""Running sums, products, extrema, logsumexps: triangular along an axis, deltas in the others."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.blocks import Block, Label, Term
from blockjac.operators.operator import Operator
from blockjac.rules.building import labels_of, made, over, plain
from blockjac.rules.registry import rule
from blockjac.rules.running import MAX_WRITTEN, Combination, Running, RunningSum, precedes


@rule("cumsum")
def cumsum(out: Any, operand: Any, *, axis: int, reverse: bool, **_: Any) -> tuple[Any]:
    """`d out[i] / d x[j] = [j <= i]`: an operator, so that a gradient is again a running sum."""
    if 0 in out.shape or operand.shape[axis] == 1:
        return (Block.identity(operand.shape, operand.dtype),)
    return (Operator(RunningSum(operand.shape, operand.dtype, axis, reverse), 0, 0),)


@rule("cumprod")
def cumprod(out: Any, operand: Any, *, axis: int, reverse: bool, **_: Any) -> Any:
    """`d out[i] / d x[j]` is the product of all up to `i` but `j`, right beside zeros too."""
    size = operand.shape[axis]
    if size > MAX_WRITTEN:
        return _running("cumprod", operand, axis, reverse, _product)
    last = jnp.moveaxis(operand, axis, -1)
    # For each j a row with a one in its place: running products over i, then i before j.
    rows = jnp.where(jnp.eye(size, dtype=bool), 1, last[..., None, :])
    products = lax.associative_scan(lax.mul, rows, reverse=reverse, axis=rows.ndim - 1)
    return (_triangle(out, operand, axis, reverse, jnp.swapaxes(products, -1, -2)),)


@rule("cumlogsumexp")
def cumlogsumexp(out: Any, operand: Any, *, axis: int, reverse: bool, **_: Any) -> Any:
    """`d out[i] / d x[j] = exp(x[j] - out[i])` for `j <= i`."""
    size = operand.shape[axis]
    if size > MAX_WRITTEN:
        return _running("cumlogsumexp", operand, axis, reverse, _logsumexp)
    x, y = jnp.moveaxis(operand, axis, -1), jnp.moveaxis(out, axis, -1)
    within = precedes(size, reverse)
    slopes = jnp.exp(jnp.where(within, x[..., None, :] - y[..., :, None], 0))
    return (_triangle(out, operand, axis, reverse, slopes),)


@rule("cummax")
def cummax(out: Any, operand: Any, *, axis: int, reverse: bool, **_: Any) -> Any:
    """The entry that attains it has the derivative; ties share it pair by pair, as in JAX."""
    del out
    return _running("cummax", operand, axis, reverse, _greatest)


@rule("cummin")
def cummin(out: Any, operand: Any, *, axis: int, reverse: bool, **_: Any) -> Any:
    """As cummax."""
    del out
    return _running("cummin", operand, axis, reverse, _least)


def _triangle(out: Any, operand: Any, axis: int, reverse: bool, values: Any = None) -> Block:
    """The block with entries `values[..., i, j]` (1 if not given) where j takes part in i."""
    labels = labels_of(operand.shape)
    i, j = labels[axis], Label(labels[axis].size)
    factors = [over(precedes(i.size, reverse), [i, j], operand.dtype)]
    if values is not None:
        batch = [label for position, label in enumerate(labels) if position != axis]
        factors.append(over(values, [*batch, i, j], operand.dtype))
    wrt = [*labels]
    wrt[axis] = j
    return made(
        out.shape, operand.shape, operand.dtype, Term(tuple(factors), plain(labels), plain(wrt))
    )


def _product(a: Any, b: Any) -> tuple[Any, Any, Any]:
    return a * b, b, a


def _logsumexp(a: Any, b: Any) -> tuple[Any, Any, Any]:
    total = jnp.logaddexp(a, b)
    return total, jnp.exp(a - total), jnp.exp(b - total)


def _greatest(a: Any, b: Any) -> tuple[Any, Any, Any]:
    return _chosen(a, b, jnp.maximum(a, b))


def _least(a: Any, b: Any) -> tuple[Any, Any, Any]:
    return _chosen(a, b, jnp.minimum(a, b))


def _chosen(a: Any, b: Any, chosen: Any) -> tuple[Any, Any, Any]:
    first, second = (a == chosen).astype(a.dtype), (b == chosen).astype(a.dtype)
    return chosen, first / (1 + second), second / (1 + first)


def _running(name: str, operand: Any, axis: int, reverse: bool, combine: Combination) -> Any:
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        return NotImplemented
    if operand.size == 0 or operand.shape[axis] == 1:
        return (Block.identity(operand.shape, operand.dtype),)
    return (Operator(Running(name, operand, axis, reverse, combine), 0, 0),)
