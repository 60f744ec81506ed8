"""Primitives that move entries by static index maps, such as reshape: no block stores a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from blockjac.blocks import Block, Index, Label, Term
from blockjac.rules.registry import labels_of, made, plain, rule
from blockjac.terms.index import collect
from blockjac.terms.known_indices import digit


@rule("reshape")
def reshape(
    out: Any, operand: Any, *_: Any, dimensions: Sequence[int] | None = None, **__: Any
) -> tuple[Block]:
    """In a group of axes of equal product, one side is a mixed-radix number of the other.

    Where the boundaries of a group do not divide each other, as in (2, 3) -> (3, 2), both sides are
    lookups of the digits of one flat label. `dimensions` is the order in which axes are read.
    """
    if 0 in out.shape or 0 in operand.shape:
        return (Block.zeros(out.shape, operand.shape, operand.dtype),)
    out_indices: list[Index] = []
    wrt_indices: list[Index] = []
    read = tuple(range(operand.ndim)) if dimensions is None else tuple(dimensions)
    for out_sizes, wrt_sizes in _groups(out.shape, [operand.shape[axis] for axis in read]):
        digits = _refinement(out_sizes, wrt_sizes)
        if digits is None:
            flat = Label(math.prod(out_sizes))
            out_indices += _digits_of(flat, out_sizes)
            wrt_indices += _digits_of(flat, wrt_sizes)
            continue
        labels = [Label(size) for size in digits]
        out_indices += _numbers(out_sizes, labels)
        wrt_indices += _numbers(wrt_sizes, labels)
    return (
        made(
            out.shape,
            operand.shape,
            operand.dtype,
            Term(
                (),
                tuple(out_indices),
                tuple(wrt_indices[read.index(axis)] for axis in range(operand.ndim)),
            ),
        ),
    )


def _groups(one: Sequence[int], other: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of both shapes with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(one) or j < len(other):
        left, right = [], []
        left_size = right_size = 1
        if i < len(one):
            left, left_size, i = [one[i]], one[i], i + 1
        if j < len(other):
            right, right_size, j = [other[j]], other[j], j + 1
        while left_size != right_size:
            if left_size < right_size:
                left.append(one[i])
                left_size, i = left_size * one[i], i + 1
            else:
                right.append(other[j])
                right_size, j = right_size * other[j], j + 1
        groups.append((left, right))
    return groups


def _refinement(one: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """Digit sizes, most significant first, of whose runs both lists are products, or None."""
    weights = sorted({*_weights(one), *_weights(other)})
    if any(larger % smaller for smaller, larger in pairwise(weights)):
        return None
    return [larger // smaller for smaller, larger in pairwise(weights)][::-1]


def _weights(sizes: Sequence[int]) -> list[int]:
    return [math.prod(sizes[place:]) for place in range(len(sizes) + 1)]


def _numbers(sizes: Sequence[int], digits: Sequence[Label]) -> list[Index]:
    """An index for each axis of the group: the mixed-radix number of its run of digits."""
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
    """`out[l] = x[start + stride l]`."""
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
    """`out[l] = x[size - 1 - l]` along the reversed axes."""
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
    """`out[low + (1 + interior) l] = x[l]`; what leaves the result is dropped, the rest is padding.

    d out / d value is 1 everywhere minus 1 where an entry of x lies.
    """
    labels = [Label(size) for size in operand.shape]
    places = tuple(
        Index.of(label, 1 + interior, low)
        for label, (low, _, interior) in zip(labels, padding_config, strict=True)
    )
    inside = Block(
        out.shape, operand.shape, operand.dtype, [Term((), places, tuple(map(Index.of, labels)))]
    )
    everywhere = Term((), tuple(Index.of(Label(size)) for size in out.shape), ())
    covered = Block(out.shape, (), operand.dtype, [Term((), places, (), -1)])
    filling = Block(out.shape, (), value.dtype, [everywhere, *covered.terms])
    return inside, filling


@rule("concatenate")
def concatenate(out: Any, *operands: Any, dimension: int, **_: Any) -> tuple[Block, ...]:
    """Each part is a shift along the axis."""
    blocks, start = [], 0
    for operand in operands:
        labels = [Label(size) for size in operand.shape]
        places = tuple(
            Index.of(label, 1, start) if axis == dimension else Index.of(label)
            for axis, label in enumerate(labels)
        )
        term = Term((), places, tuple(map(Index.of, labels)))
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
        start += operand.shape[dimension]
    return tuple(blocks)


@rule("split", multiple_results=True)
def split(
    outs: Any, operand: Any, *, sizes: Sequence[int], axis: int, **_: Any
) -> tuple[tuple[Block], ...]:
    """Each part is a slice."""
    blocks, start = [], 0
    for out, size in zip(outs, sizes, strict=True):
        labels = labels_of(out.shape)
        wrt = tuple(
            Index.of(label, 1, start) if place == axis else Index.of(label)
            for place, label in enumerate(labels)
        )
        term = Term((), plain(labels), wrt)
        blocks.append((made(out.shape, operand.shape, operand.dtype, term),))
        start += size
    return tuple(blocks)


@rule("tile")
def tile(out: Any, operand: Any, **_: Any) -> tuple[Block]:
    """`out[size r + l] = x[l]`: a mixed-radix number whose first digit is not in x."""
    labels = labels_of(operand.shape)
    places = tuple(
        Index(
            0, collect([(Label(whole // label.size if label.size else 0), label.size), (label, 1)])
        )
        for label, whole in zip(labels, out.shape, strict=True)
    )
    return (made(out.shape, operand.shape, operand.dtype, Term((), places, plain(labels))),)


@rule("stack")
def stack(out: Any, *operands: Any, axis: int, **_: Any) -> tuple[Block, ...]:
    """Each part lies at one place of the new axis."""
    blocks = []
    for place, operand in enumerate(operands):
        wrt = plain(labels_of(operand.shape))
        term = Term((), (*wrt[:axis], Index(place), *wrt[axis:]), wrt)
        blocks.append(made(out.shape, operand.shape, operand.dtype, term))
    return tuple(blocks)


@rule("unstack", multiple_results=True)
def unstack(outs: Any, operand: Any, *, axis: int, **_: Any) -> tuple[tuple[Block], ...]:
    """Each part is one place of an axis, which disappears."""
    blocks = []
    for place, result in enumerate(outs):
        out = plain(labels_of(result.shape))
        term = Term((), out, (*out[:axis], Index(place), *out[axis:]))
        blocks.append((made(result.shape, operand.shape, operand.dtype, term),))
    return tuple(blocks)


@rule("optimization_barrier", "device_put", multiple_results=True)
def copies(outs: Any, *operands: Any, **_: Any) -> tuple[tuple[Block | None, ...], ...]:
    """Each result is its own operand."""
    return tuple(
        tuple(
            Block.identity(operand.shape, operand.dtype) if place == result else None
            for place, operand in enumerate(operands)
        )
        for result in range(len(outs))
    )
