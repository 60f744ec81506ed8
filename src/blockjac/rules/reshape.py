"""Primitives that move entries by static index maps, such as reshape: blocks store no numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from blockjac.blocks import Block, Index, Label, Term
from blockjac.rules.building import labels_of, made, plain
from blockjac.rules.registry import rule
from blockjac.terms.index import collect
from blockjac.terms.known_indices import digit


@rule("reshape")
def reshape(
    out: Any, operand: Any, *_: Any, dimensions: Sequence[int] | None = None, **__: Any
) -> tuple[Block]:
    """`d out[i] / d x[i'] = δ[flat(i), flat(i')]`, where `flat` numbers the entries in order.

    Both shapes are cut into groups of axes with equal products. Within a group, an axis of one side
    is a mixed-radix number of digits that are axes of the other: `(6,) -> (2, 3)` reads x at
    `3 i + j`. Where no such digits exist, as in `(2, 3) -> (3, 2)`, both sides look up their digits
    of one flat label. `dimensions` is the order in which the operand's axes are read.
    """
    if 0 in out.shape or 0 in operand.shape:
        return (Block.zeros(out.shape, operand.shape, operand.dtype),)
    out_indices: list[Index] = []
    wrt_indices: list[Index] = []
    reading_order = tuple(range(operand.ndim)) if dimensions is None else tuple(dimensions)
    for out_sizes, wrt_sizes in _groups(out.shape, [operand.shape[axis] for axis in reading_order]):
        digits = _refinement(out_sizes, wrt_sizes)
        if digits is None:
            flat = Label(math.prod(out_sizes))
            out_indices += _digits_of(flat, out_sizes)
            wrt_indices += _digits_of(flat, wrt_sizes)
            continue
        labels = [Label(size) for size in digits]
        out_indices += _numbers(out_sizes, labels)
        wrt_indices += _numbers(wrt_sizes, labels)
    wrt = tuple(wrt_indices[reading_order.index(axis)] for axis in range(operand.ndim))
    return (made(out.shape, operand.shape, operand.dtype, Term((), tuple(out_indices), wrt)),)


def _groups(
    out_shape: Sequence[int], wrt_shape: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of both shapes with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(out_shape) or j < len(wrt_shape):
        out_sizes, wrt_sizes = [], []
        out_product = wrt_product = 1
        if i < len(out_shape):
            out_sizes, out_product, i = [out_shape[i]], out_shape[i], i + 1
        if j < len(wrt_shape):
            wrt_sizes, wrt_product, j = [wrt_shape[j]], wrt_shape[j], j + 1
        while out_product != wrt_product:
            if out_product < wrt_product:
                out_sizes.append(out_shape[i])
                out_product, i = out_product * out_shape[i], i + 1
            else:
                wrt_sizes.append(wrt_shape[j])
                wrt_product, j = wrt_product * wrt_shape[j], j + 1
        groups.append((out_sizes, wrt_sizes))
    return groups


def _refinement(out_sizes: Sequence[int], wrt_sizes: Sequence[int]) -> list[int] | None:
    """Sizes of digits, most significant first, such that every axis is a run of them, or None."""
    weights = sorted({*_weights(out_sizes), *_weights(wrt_sizes)})
    if any(larger % smaller for smaller, larger in pairwise(weights)):
        return None
    return [larger // smaller for smaller, larger in pairwise(weights)][::-1]


def _weights(sizes: Sequence[int]) -> list[int]:
    """The strides of contiguous axes of these sizes, after the total size."""
    return [math.prod(sizes[axis:]) for axis in range(len(sizes) + 1)]


def _numbers(sizes: Sequence[int], digits: Sequence[Label]) -> list[Index]:
    """An index for each axis of a group: the mixed-radix number of its run of digits."""
    indices = []
    remaining = list(digits)
    for size in sizes:
        run, product = [], 1
        while product < size:
            label = remaining.pop(0)
            run.append(label)
            product *= label.size
        strides, weight = [], 1
        for label in reversed(run):
            strides.append((label, weight))
            weight *= label.size
        indices.append(Index(0, collect(reversed(strides))))
    return indices


def _digits_of(flat: Label, sizes: Sequence[int]) -> list[Index]:
    """An index for each axis: its digit of a flat label, as a constant lookup."""
    return [
        digit(flat, weight, size) for size, weight in zip(sizes, _weights(sizes)[1:], strict=True)
    ]


@rule("slice")
def slice_(
    out: Any, operand: Any, *, start_indices: Sequence[int], strides: Sequence[int] | None, **_: Any
) -> tuple[Block]:
    """`out[l] = x[start + stride l]`, by `start_indices` and `strides`.

    d out[l] / d x[l'] = δ[start + stride l, l']
    """
    labels = [Label(size) for size in out.shape]
    steps = strides or (1,) * len(labels)
    wrt = tuple(
        Index.of(label, step, start)
        for label, step, start in zip(labels, steps, start_indices, strict=True)
    )
    return (
        made(out.shape, operand.shape, operand.dtype, Term((), tuple(map(Index.of, labels)), wrt)),
    )


@rule("rev")
def rev(out: Any, operand: Any, *, dimensions: Sequence[int], **_: Any) -> tuple[Block]:
    """`out[l] = x[size - 1 - l]` along the axes `dimensions`.

    d out[l] / d x[l'] = δ[size - 1 - l, l']
    """
    labels = [Label(size) for size in out.shape]
    wrt = tuple(
        Index.of(label, -1, label.size - 1) if axis in dimensions else Index.of(label)
        for axis, label in enumerate(labels)
    )
    return (
        made(out.shape, operand.shape, operand.dtype, Term((), tuple(map(Index.of, labels)), wrt)),
    )


@rule("pad")
def pad(
    out: Any, operand: Any, value: Any, *, padding_config: Sequence[tuple[int, int, int]], **_: Any
) -> tuple[Block, Block]:
    """`out[low + (1 + interior) l] = x[l]`, by `padding_config`; all other entries are `value`.

        d out[i] / d x[l'] = δ[i, low + (1 + interior) l']
        d out[i] / d value = 1 - sum_l δ[i, low + (1 + interior) l]

    Entries of x that a negative padding moves off the result are dropped.
    """
    labels = [Label(size) for size in operand.shape]
    out_indices = tuple(
        Index.of(label, 1 + interior, low)
        for label, (low, _, interior) in zip(labels, padding_config, strict=True)
    )
    inside = Block(
        out.shape,
        operand.shape,
        operand.dtype,
        [Term((), out_indices, tuple(map(Index.of, labels)))],
    )
    everywhere = Term((), tuple(Index.of(Label(size)) for size in out.shape), ())
    covered = Block(out.shape, (), operand.dtype, [Term((), out_indices, (), -1)])
    filling = Block(out.shape, (), value.dtype, [everywhere, *covered.terms])
    return inside, filling


@rule("concatenate")
def concatenate(out: Any, *operands: Any, dimension: int, **_: Any) -> tuple[Block, ...]:
    """`out[start_k + l] = operands[k][l]` along the axis `dimension`.

    d out[i] / d operands[k][l'] = δ[i, start_k + l']
    """
    blocks, start = [], 0
    for operand in operands:
        labels = [Label(size) for size in operand.shape]
        out_indices = tuple(
            Index.of(label, 1, start) if axis == dimension else Index.of(label)
            for axis, label in enumerate(labels)
        )
        term = Term((), out_indices, tuple(map(Index.of, labels)))
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
        start += operand.shape[dimension]
    return tuple(blocks)


@rule("split", multiple_results=True)
def split(
    outs: Any, operand: Any, *, sizes: Sequence[int], axis: int, **_: Any
) -> tuple[tuple[Block], ...]:
    """`outs[k][l] = x[start_k + l]` along `axis`, with starts from `sizes`.

    d outs[k][l] / d x[l'] = δ[start_k + l, l']
    """
    blocks, start = [], 0
    for out, size in zip(outs, sizes, strict=True):
        labels = labels_of(out.shape)
        wrt = tuple(
            Index.of(label, 1, start) if number == axis else Index.of(label)
            for number, label in enumerate(labels)
        )
        term = Term((), plain(labels), wrt)
        blocks.append((made(out.shape, operand.shape, operand.dtype, term),))
        start += size
    return tuple(blocks)


@rule("tile")
def tile(out: Any, operand: Any, **_: Any) -> tuple[Block]:
    """`out[size r + l] = x[l]` for every repeat r.

    d out[size r + l] / d x[l'] = δ[l, l']
    """
    labels = labels_of(operand.shape)
    out_indices = tuple(
        Index(
            0, collect([(Label(whole // label.size if label.size else 0), label.size), (label, 1)])
        )
        for label, whole in zip(labels, out.shape, strict=True)
    )
    return (made(out.shape, operand.shape, operand.dtype, Term((), out_indices, plain(labels))),)


@rule("stack")
def stack(out: Any, *operands: Any, axis: int, **_: Any) -> tuple[Block, ...]:
    """`out[k, i] = operands[k][i]`, with k on the new `axis`.

    d out[k, i] / d operands[n][i'] = δ[k, n] δ[i, i']
    """
    blocks = []
    for position, operand in enumerate(operands):
        wrt = plain(labels_of(operand.shape))
        term = Term((), (*wrt[:axis], Index(position), *wrt[axis:]), wrt)
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
    return tuple(blocks)


@rule("unstack", multiple_results=True)
def unstack(outs: Any, operand: Any, *, axis: int, **_: Any) -> tuple[tuple[Block], ...]:
    """`outs[k][i] = x[k, i]`, with k on `axis`.

    d outs[n][i] / d x[k', i'] = δ[n, k'] δ[i, i']
    """
    blocks = []
    for position, result in enumerate(outs):
        out = plain(labels_of(result.shape))
        term = Term((), out, (*out[:axis], Index(position), *out[axis:]))
        blocks.append((made(result.shape, operand.shape, operand.dtype, term),))
    return tuple(blocks)


@rule("optimization_barrier", "device_put", multiple_results=True)
def copies(outs: Any, *operands: Any, **_: Any) -> tuple[tuple[Block | None, ...], ...]:
    """`d outs[k][i] / d operands[n][i'] = δ[k, n] δ[i, i']`: each result copies one operand."""
    return tuple(
        tuple(
            Block.identity(operand.shape, operand.dtype) if position == result else None
            for position, operand in enumerate(operands)
        )
        for result in range(len(outs))
    )
