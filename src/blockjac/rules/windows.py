"""Primitives that slide a window over axes: sums (average pooling) and extrema (max pooling)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.blocks import Block, Index, Label, Lookup, Term
from blockjac.graph.expand import patches
from blockjac.rules.registry import labels_of, plain, rule
from blockjac.terms.index import collect


@dataclass(frozen=True)
class _Axis:
    """One axis of a sliding window: `o` and `k` meet the input at `(s o + d k - p) / b`."""

    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    base: int
    dilation: int


def _axes(
    shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> list[_Axis]:
    ones = (1,) * len(shape)
    return [
        _Axis(*numbers)
        for numbers in zip(
            shape,
            window_dimensions,
            window_strides,
            padding,
            base_dilation or ones,
            window_dilation or ones,
            strict=True,
        )
    ]


@rule("reduce_window_sum")
def reduce_window_sum(
    out: Any,
    operand: Any,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
    **_: Any,
) -> tuple[Block]:
    """`out[o] = sum_k x[s o + d k - p]`: no factor; places outside the input count nothing."""
    axes = _axes(
        operand.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
    )
    labels = labels_of(out.shape)
    wrt = tuple(_met(axis, label) for axis, label in zip(axes, labels, strict=True))
    return (Block(out.shape, operand.shape, operand.dtype, [Term((), plain(labels), wrt)]),)


def _met(axis: _Axis, label: Label) -> Index:
    """The place `(s o + d k - p) / b` of the input, over the result's label and a new one."""
    inside = Label(axis.window)
    low = axis.padding[0]
    if axis.base == 1:
        return Index(-low, collect([(label, axis.stride), (inside, axis.dilation)]))
    places = (
        axis.stride * np.arange(label.size)[:, None]
        + axis.dilation * np.arange(inside.size)[None, :]
        - low
    )
    places = np.where(places % axis.base == 0, places // axis.base, axis.size)
    carried = tuple(one for one in (label, inside) if one.size != 1)
    table = jnp.asarray(places.reshape([one.size for one in carried]), jnp.int32)
    return Index(0, (), Lookup(table, carried, None))


@rule("reduce_window_max")
def reduce_window_max(out: Any, operand: Any, **params: Any) -> Any:
    """The first of the greatest entries of each window has the whole derivative, as in JAX."""
    return _chosen_block(out, operand, operand, jnp.argmax, -math.inf, params)


@rule("reduce_window_min")
def reduce_window_min(out: Any, operand: Any, **params: Any) -> Any:
    """The first of the least entries of each window has the whole derivative, as in JAX."""
    return _chosen_block(out, operand, operand, jnp.argmin, math.inf, params)


@rule("select_and_gather_add")
def select_and_gather_add(out: Any, tangents: Any, operand: Any, **params: Any) -> Any:
    """The derivative of a windowed extremum, linear in its tangents: a lookup."""
    blocks = _chosen_block(out, tangents, operand, *_selection(params), params)
    return blocks if blocks is NotImplemented else (*blocks, None)


@rule("select_and_scatter_add")
def select_and_scatter_add(out: Any, source: Any, operand: Any, **params: Any) -> Any:
    """The transpose of the above: each entry of the source goes where its window chooses."""
    blocks = _chosen_block(source, operand, operand, *_selection(params), params)
    if blocks is NotImplemented:
        return NotImplemented
    gathered = blocks[0].T
    return Block(out.shape, source.shape, source.dtype, gathered.terms), None


def _selection(params: dict[str, Any]) -> tuple[Any, float]:
    return (jnp.argmax, -math.inf) if params["select_prim"].name == "ge" else (jnp.argmin, math.inf)


def _chosen_block(
    out: Any, moving: Any, operand: Any, choose: Any, nothing: float, params: dict[str, Any]
) -> Any:
    """`out[o] = moving[chosen(o)]`, where each window of the operand chooses one of its places.

    On an axis with windows of one place, as examples and channels have, there is no choice.
    """
    if 0 in out.shape:
        return (Block.zeros(out.shape, moving.shape, moving.dtype),)
    config = {name: params.get(name) for name in _PARAMETERS}
    axes = _axes(operand.shape, **config)  # pyright: ignore[reportArgumentType]
    if math.prod(axis.window for axis in axes) > MAX_WINDOW:
        places = _searched_places(operand, nothing, config)
    else:
        choice = choose(patches(operand, nothing, **config), axis=0)  # pyright: ignore[reportArgumentType]
        places = _compared_places(axes, choice)
    labels = labels_of(out.shape)
    carried = tuple(label for label in labels if label.size != 1)
    sizes = tuple(label.size for label in carried)
    wrt = tuple(
        _met(axis, label)
        if axis.window == 1
        else Index(0, (), Lookup(jnp.reshape(one, sizes), carried, None))
        for axis, label, one in zip(axes, labels, places, strict=True)
    )
    return (Block(out.shape, moving.shape, moving.dtype, [Term((), plain(labels), wrt)]),)


MAX_WINDOW = 128
"""Of windows with more places the chosen one is searched for; of others all are compared."""

_PARAMETERS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def _compared_places(axes: Sequence[_Axis], choice: Any) -> list[Any]:
    """Where the entry of each window lies that was chosen by comparing all its places."""
    windows = [axis.window for axis in axes]
    insides = np.unravel_index(np.arange(math.prod(windows)), windows)
    places = []
    for number, (axis, inside) in enumerate(zip(axes, insides, strict=True)):
        start = (
            axis.stride * lax.broadcasted_iota(jnp.int32, choice.shape, number) - axis.padding[0]
        )
        place = start + jnp.asarray(axis.dilation * inside, jnp.int32)[choice]
        place = jnp.where(place % axis.base == 0, place // axis.base, axis.size)
        places.append(jnp.where(place < 0, axis.size, place))
    return places


def _searched_places(operand: Any, nothing: float, config: dict[str, Any]) -> list[Any]:
    """The same in wide windows: entries and their numbers are reduced together."""
    order = lax.lt if nothing > 0 else lax.gt
    count = math.prod(operand.shape)

    def first(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
        better = order(one[0], other[0]) | ((one[0] == other[0]) & (one[1] < other[1]))
        return lax.select(better, one[0], other[0]), lax.select(better, one[1], other[1])

    numbers = jnp.reshape(jnp.arange(count, dtype=jnp.int32), operand.shape)
    start = (jnp.asarray(nothing, operand.dtype), jnp.asarray(count, jnp.int32))
    _, chosen = lax.reduce_window((lax.stop_gradient(operand), numbers), start, first, **config)
    places = jnp.unravel_index(jnp.minimum(chosen, count - 1), operand.shape)
    return [
        jnp.where(chosen < count, place, size).astype(jnp.int32)
        for place, size in zip(places, operand.shape, strict=True)
    ]
