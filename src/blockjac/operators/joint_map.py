"""Several blocks sent through a linear map of several inputs in one pass."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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

    Dense but for the deltas of named axes that all blocks have, so one pass serves all of them.

    Args:
        blocks: one for each input of the map, all of the same `out_shape`.
        linear: the map.
    """
    shared = _shared_deltas(blocks, linear.inputs.names)
    passes: dict[tuple[tuple[Hashable, int], ...], list[int]] = {}
    for number in range(len(linear.outputs.shapes)):
        kept = tuple(
            (name, axis)
            for name, axis in shared
            if linear.outputs.axis(number, name, blocks[0].out_shape[axis]) is not None
        )
        passes.setdefault(kept, []).append(number)
    results: dict[int, Block] = {}
    every = range(len(blocks))
    for deltas, numbers in passes.items():
        passed = _joint_pass(blocks, linear.only(every, numbers), dict(deltas))
        results.update(zip(numbers, passed, strict=True))
    return [results[number] for number in range(len(linear.outputs.shapes))]


def _shared_deltas(blocks: Sequence[Block], names: Sequence[Names]) -> list[tuple[Hashable, int]]:
    """Names of axes that are a delta with the same output axis in all blocks, with that axis."""
    first, *rest = [
        {i: axis_names[j] for i, j in delta_pairs(block) if axis_names[j] is not None}
        for block, axis_names in zip(blocks, names, strict=True)
    ]
    return [(name, i) for i, name in first.items() if all(deltas.get(i) == name for deltas in rest)]


def _joint_pass(
    blocks: Sequence[Block], linear: LinearMap, axis_of: Mapping[Hashable, int]
) -> list[Block]:
    """All blocks through a map; an axis with a name in `axis_of` is a delta with an output axis."""
    out_shape = blocks[0].out_shape
    out = [Label(size) for size in out_shape]
    factors, targets = [], []
    for block, names in zip(blocks, linear.inputs.names, strict=True):
        pairs = [(axis_of[name], j) for j, name in enumerate(names) if name in axis_of]
        term = in_one(block, pairs)
        mapping = {
            index.labels[0]: label
            for index, label in zip(term.out, out, strict=True)
            if index.labels
        }
        targets.append([mapping.get(_of(index), _of(index)) for index in term.wrt])
        (factor,) = term.factors
        labels = tuple(mapping.get(label, label) for label in factor.labels)
        factors.append(Factor(factor.array, labels))
    deltas = {out[axis] for axis in axis_of.values()}
    varying = {label for factor in factors for label in factor.labels}
    batch = [label for label in out if label in varying and label not in deltas]
    values = [
        _aligned(factor, [*batch, *labels], dtype)
        for factor, labels, dtype in zip(factors, targets, linear.inputs.dtypes, strict=True)
    ]
    results = run(linear, values, arrays.sizes(batch))
    passed = []
    for number, (array, shape) in enumerate(zip(results, linear.outputs.shapes, strict=True)):
        wrt = [
            out[axis_of[name]] if name in axis_of else Label(size)
            for name, size in zip(linear.outputs.names[number], shape, strict=True)
        ]
        factor = Factor(array, (*batch, *wrt))
        term = Term((factor,), tuple(map(Index.of, out)), tuple(map(Index.of, wrt)))
        passed.append(Block(out_shape, shape, linear.outputs.dtypes[number], (term,)))
    return passed


def _of(index: Index) -> Label:
    """The label of a plain index; a new one of size 1 if it has no label."""
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
