"""Several blocks sent through a linear map of several inputs in one pass."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.in_one import in_one
from blockjac.operators.linear_map import LinearMap, Names, run, work_of
from blockjac.terms.block import Block, delta_pairs
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def through_jointly(blocks: Sequence[Block], linear: LinearMap) -> list[Block]:
    """`sum_k block_k star linear_k` for a map of several inputs: a block for each output.

    Dense but for the deltas of named axes that all blocks have, so that one pass does for all.

    Args:
        blocks: one for each input of the map, all of the same `out_shape`.
        linear: the map.
    """
    shared = _shared_deltas(blocks, linear.given.names)
    passes: dict[tuple[tuple[int, Hashable], ...], list[int]] = {}
    for place in range(len(linear.made.shapes)):
        own = tuple(
            (i, name)
            for i, name in shared
            if linear.made.axis(place, name, blocks[0].out_shape[i]) is not None
        )
        passes.setdefault(own, []).append(place)
    answers: dict[int, Block] = {}
    every = range(len(blocks))
    for deltas, places in passes.items():
        made = _joint_pass(blocks, linear.only(every, places), deltas)
        answers.update(zip(places, made, strict=True))
    return [answers[place] for place in range(len(linear.made.shapes))]


def _shared_deltas(blocks: Sequence[Block], names: Sequence[Names]) -> list[tuple[int, Hashable]]:
    """Output axes that are a delta of the same named axis in all blocks, with its name."""
    found = [
        {i: own[j] for i, j in delta_pairs(block) if own[j] is not None}
        for block, own in zip(blocks, names, strict=True)
    ]
    return [
        (i, name) for i, name in found[0].items() if all(each.get(i) == name for each in found[1:])
    ]


def _joint_pass(
    blocks: Sequence[Block], linear: LinearMap, deltas: Sequence[tuple[int, Hashable]]
) -> list[Block]:
    out_shape = blocks[0].out_shape
    out = [Label(size) for size in out_shape]
    axis_of = {name: i for i, name in deltas}
    factors, targets = [], []
    for place, block in enumerate(blocks):
        names = linear.given.names[place]
        pairs = [(axis_of[name], j) for j, name in enumerate(names) if name in axis_of]
        term = in_one(block, pairs)
        mapping = {
            index.labels[0]: label
            for index, label in zip(term.out, out, strict=True)
            if index.labels
        }
        own = [mapping.get(_of(index), _of(index)) for index in term.wrt]
        (factor,) = term.factors
        labels = tuple(mapping.get(label, label) for label in factor.labels)
        factors.append(Factor(factor.array, labels))
        targets.append(own)
    met = {out[i] for i, _ in deltas}
    carried = {label for factor in factors for label in factor.labels}
    batch = [label for label in out if label in carried and label not in met]
    values = [
        _aligned(factor, [*batch, *own], dtype)
        for factor, own, dtype in zip(factors, targets, linear.given.dtypes, strict=True)
    ]
    results = run(linear, values, arrays.sizes(batch))
    answers = []
    for place, (array, shape) in enumerate(zip(results, linear.made.shapes, strict=True)):
        wrt = [
            out[axis_of[name]] if name in axis_of else Label(size)
            for name, size in zip(linear.made.names[place], shape, strict=True)
        ]
        term = Term(
            (Factor(array, (*batch, *wrt)),),
            tuple(map(Index.of, out)),
            tuple(map(Index.of, wrt)),
        )
        answers.append(Block(out_shape, shape, linear.made.dtypes[place], (term,)))
    return answers


def _of(index: Index) -> Label:
    """The label of a plain index; one of size 1 where it has none."""
    return index.labels[0] if index.labels else Label(1)


def _aligned(factor: Factor, labels: Sequence[Label], dtype: Any) -> Any:
    """The factor broadcast to all the labels, in their order."""
    backend().check_fits(labels, dtype)
    shape = arrays.sizes(labels)
    return backend().array(
        shape,
        dtype,
        lambda: jnp.broadcast_to(arrays.aligned(factor, labels), shape).astype(dtype),
        **work_of(arrays.numel(labels), dtype),
    )
