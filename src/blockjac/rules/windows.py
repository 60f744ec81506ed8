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
from blockjac.rules.building import labels_of, plain
from blockjac.rules.registry import rule
from blockjac.terms.index import collect


@dataclass(frozen=True)
class _Axis:
    """An axis of a sliding window: place `k` of window `o` reads `x[(s o + d k - p) / b]`.

    Attributes:
        size: of the input along the axis.
        window: how many places a window has.
        stride: `s`, between windows.
        padding: in front of the input, `p`, and behind it.
        base: `b`, the dilation of the input.
        dilation: `d`, the dilation of the window.
    """

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
    """The axes of a sliding window from JAX's parameters, which hold a number for each axis."""
    undilated = (1,) * len(shape)
    return [
        _Axis(*numbers)
        for numbers in zip(
            shape,
            window_dimensions,
            window_strides,
            padding,
            base_dilation or undilated,
            window_dilation or undilated,
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
    """`out[o] = sum_k x[(s o + d k - p) / b]`; fractions and places off the input add nothing.

        d out[o] / d x[i'] = sum_k δ[(s o + d k - p) / b, i']

    Here `s` is `window_strides`, `d` is `window_dilation`, `b` is `base_dilation`, `p` is the
    `padding` in front, and `k` runs over `window_dimensions`.
    """
    axes = _axes(
        operand.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
    )
    labels = labels_of(out.shape)
    wrt = tuple(_input_index(axis, label) for axis, label in zip(axes, labels, strict=True))
    return (Block(out.shape, operand.shape, operand.dtype, [Term((), plain(labels), wrt)]),)


def _input_index(axis: _Axis, label: Label) -> Index:
    """The index `(s o + d k - p) / b`, over the result's label `o` and a new label `k`."""
    inside = Label(axis.window)
    low = axis.padding[0]
    if axis.base == 1:
        return Index(-low, collect([(label, axis.stride), (inside, axis.dilation)]))
    positions = (
        axis.stride * np.arange(label.size)[:, None]
        + axis.dilation * np.arange(inside.size)[None, :]
        - low
    )
    positions = np.where(positions % axis.base == 0, positions // axis.base, axis.size)
    carried = tuple(each for each in (label, inside) if each.size != 1)
    table = jnp.asarray(positions.reshape([each.size for each in carried]), jnp.int32)
    return Index(0, (), Lookup(table, carried, None))


@rule("reduce_window_max")
def reduce_window_max(out: Any, operand: Any, **params: Any) -> Any:
    """`d out[o] / d x[i'] = δ[chosen[o], i']`; of equal greatest entries the first is chosen."""
    return _chosen_block(out, operand, operand, jnp.argmax, -math.inf, params)


@rule("reduce_window_min")
def reduce_window_min(out: Any, operand: Any, **params: Any) -> Any:
    """`d out[o] / d x[i'] = δ[chosen[o], i']`; of equal least entries the first is chosen."""
    return _chosen_block(out, operand, operand, jnp.argmin, math.inf, params)


@rule("select_and_gather_add")
def select_and_gather_add(out: Any, tangents: Any, operand: Any, **params: Any) -> Any:
    """`out[o] = tangents[chosen[o]]`, where windows of the operand choose by `select_prim`."""
    blocks = _chosen_block(out, tangents, operand, *_selection(params), params)
    return blocks if blocks is NotImplemented else (*blocks, None)


@rule("select_and_scatter_add")
def select_and_scatter_add(out: Any, source: Any, operand: Any, **params: Any) -> Any:
    """`out[chosen[o]] += source[o]`, the transpose of `select_and_gather_add`."""
    blocks = _chosen_block(source, operand, operand, *_selection(params), params)
    if blocks is NotImplemented:
        return NotImplemented
    gathered = blocks[0].T
    return Block(out.shape, source.shape, source.dtype, gathered.terms), None


def _selection(params: dict[str, Any]) -> tuple[Any, float]:
    """How `select_prim` chooses an entry of a window, and the value that it never chooses."""
    return (jnp.argmax, -math.inf) if params["select_prim"].name == "ge" else (jnp.argmin, math.inf)


def _chosen_block(
    out: Any, moving: Any, operand: Any, choose: Any, nothing: float, params: dict[str, Any]
) -> Any:
    """`d out[o] / d moving[i'] = δ[chosen[o], i']`: each window chooses one of its places.

    Along an axis whose windows have a single place, such as that of examples or channels, there is
    nothing to choose.

    Args:
        out: the result.
        moving: the operand that is differentiated.
        operand: the operand whose entries are compared; it has the same shape.
        choose: `jnp.argmax` or `jnp.argmin`.
        nothing: the value of places off the operand, which is never chosen.
        params: of the primitive.
    """
    if 0 in out.shape:
        return (Block.zeros(out.shape, moving.shape, moving.dtype),)
    config = {name: params.get(name) for name in _PARAMETERS}
    axes = _axes(operand.shape, **config)  # pyright: ignore[reportArgumentType]
    if math.prod(axis.window for axis in axes) > MAX_WINDOW:
        positions = _searched_places(operand, nothing, config)
    else:
        choice = choose(patches(operand, nothing, **config), axis=0)  # pyright: ignore[reportArgumentType]
        positions = _compared_places(axes, choice)
    labels = labels_of(out.shape)
    carried = tuple(label for label in labels if label.size != 1)
    sizes = tuple(label.size for label in carried)
    wrt = tuple(
        _input_index(axis, label)
        if axis.window == 1
        else Index(0, (), Lookup(jnp.reshape(chosen, sizes), carried, None))
        for axis, label, chosen in zip(axes, labels, positions, strict=True)
    )
    return (Block(out.shape, moving.shape, moving.dtype, [Term((), plain(labels), wrt)]),)


MAX_WINDOW = 128
"""Windows of up to this many places are laid out and compared; larger ones are reduced."""

_PARAMETERS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def _compared_places(axes: Sequence[_Axis], choice: Any) -> list[Any]:
    """On each axis the position that each window chooses, from the number of the chosen place."""
    windows = [axis.window for axis in axes]
    insides = np.unravel_index(np.arange(math.prod(windows)), windows)
    positions = []
    for dimension, (axis, inside) in enumerate(zip(axes, insides, strict=True)):
        start = (
            axis.stride * lax.broadcasted_iota(jnp.int32, choice.shape, dimension) - axis.padding[0]
        )
        position = start + jnp.asarray(axis.dilation * inside, jnp.int32)[choice]
        position = jnp.where(position % axis.base == 0, position // axis.base, axis.size)
        positions.append(jnp.where(position < 0, axis.size, position))
    return positions


def _searched_places(operand: Any, nothing: float, config: dict[str, Any]) -> list[Any]:
    """On each axis the position that each window chooses, by reducing numbered entries."""
    order = lax.lt if nothing > 0 else lax.gt
    count = math.prod(operand.shape)

    def first(left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        better = order(left[0], right[0]) | ((left[0] == right[0]) & (left[1] < right[1]))
        return lax.select(better, left[0], right[0]), lax.select(better, left[1], right[1])

    numbers = jnp.reshape(jnp.arange(count, dtype=jnp.int32), operand.shape)
    start = (jnp.asarray(nothing, operand.dtype), jnp.asarray(count, jnp.int32))
    _, chosen = lax.reduce_window((lax.stop_gradient(operand), numbers), start, first, **config)
    positions = jnp.unravel_index(jnp.minimum(chosen, count - 1), operand.shape)
    return [
        jnp.where(chosen < count, position, size).astype(jnp.int32)
        for position, size in zip(positions, operand.shape, strict=True)
    ]
