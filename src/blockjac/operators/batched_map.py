"""Blocks through a linear map that is applied and not written down.

The map takes an array to several arrays. Some axes have names: where an axis of the input and one
of an output have the same name, the map acts on each of their values separately, as a batched
Cholesky factorization does on each matrix. There a block keeps its label; on the other axes, the
*core*, it is made dense, and the labels that then still vary are vmapped. An axis is *uniform* if
the map does the same on each of its values: a block that is constant there goes through once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.sums import summed
from blockjac.algebra.tidy import tidy
from blockjac.base.arrays import Shape
from blockjac.operators.linear_map import LinearMap, Names, Side, run, work_of
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def through(block: Block, linear: LinearMap) -> list[Block]:
    """`block star linear` for a map of one input: a block for each output.

    Args:
        block: its input axes are those of the map's input.
        linear: a map from one array to several.
    """
    outputs = linear.outputs
    terms: list[list[Term]] = [[] for _ in outputs.shapes]
    for term in block.terms:
        for parts, passed in zip(terms, _term_through(term, block, linear), strict=True):
            if passed is not None:
                parts.append(passed)
    return [
        summed(block.out_shape, shape, np.dtype(dtype), parts)
        for shape, dtype, parts in zip(outputs.shapes, outputs.dtypes, terms, strict=True)
    ]


def _term_through(term: Term, block: Block, linear: LinearMap) -> list[Term | None]:
    """One term, by a pass for all outputs that keep the same labels."""
    shapes = linear.outputs.shapes
    kept = _keepable(term, block.wrt_shape, linear.inputs.names[0])
    constant = _constant(term, term.factors, linear, kept)
    alive = [axis for axis in kept if axis in constant or _is_alive(term, axis, kept)]
    passes: dict[tuple[int, ...], list[int]] = {}
    for output in range(len(shapes)):
        lacking = tuple(axis for axis in alive if _partner(linear, axis, output) is None)
        passes.setdefault(lacking, []).append(output)
    results: list[Term | None] = [None] * len(shapes)
    for lacking, outputs in passes.items():
        axes = [axis for axis in kept if axis not in lacking]
        living = {_label(term, axis) for axis in alive if axis not in lacking}
        passed = _pass(term, block, linear.only([0], outputs), axes, living)
        for output, result in zip(outputs, passed, strict=True):
            results[output] = tidy(result, block.out_shape, shapes[output])
    return results


def _partner(linear: LinearMap, axis: int, output: int) -> int | None:
    """The axis of an output with the same name and size as an axis of the input."""
    inputs = linear.inputs
    return linear.outputs.axis(output, inputs.names[0][axis], inputs.shapes[0][axis])


def _constant(
    term: Term, factors: Sequence[Factor], linear: LinearMap, kept: Sequence[int]
) -> list[int]:
    """The kept axes that are uniform and along which none of the factors varies."""
    (names,), (shape,) = linear.inputs.names, linear.inputs.shapes
    return [
        axis
        for axis in kept
        if names[axis] in linear.uniform
        and term.wrt[axis].is_plain(shape[axis])
        and not any(_label(term, axis) in factor.labels for factor in factors)
    ]


def _label(term: Term, axis: int) -> Label:
    return term.wrt[axis].strides[0][0]


def _keepable(term: Term, shape: Shape, names: Names) -> list[int]:
    """The named axes on which a term may keep its label: one label, and on no other input axis."""
    axes = []
    for axis, (index, size, name) in enumerate(zip(term.wrt, shape, names, strict=True)):
        if name is None or index.single is None or not index.within(size):
            continue
        label = index.single[0]
        is_free = index.is_plain(size) or any(label in out.labels for out in term.out)
        if is_free and sum(label in wrt.labels for wrt in term.wrt) == 1:
            axes.append(axis)
    return axes


def _is_alive(term: Term, axis: int, kept: Sequence[int]) -> bool:
    """Whether the label of a kept axis is on an output axis, or in a factor left outside."""
    label = _label(term, axis)
    if any(label in index.labels for index in term.out):
        return True
    living = {_label(term, kept_axis) for kept_axis in kept}
    targets = {target for index in term.wrt for target in index.labels}
    return any(
        label in factor.labels and _stays_outside(factor, targets, living)
        for factor in term.factors
    )


def _stays_outside(factor: Factor, targets: set[Label], living: set[Label]) -> bool:
    """Whether a factor need not go through the map: it varies along no axis that the map mixes.

    A factor of numbers over labels that go through anyway is multiplied in, to save an array.
    """
    shared = targets & set(factor.labels)
    if not shared:
        return True
    return shared <= living and (arrays.is_mask(factor) or len(shared) < len(factor.labels))


def _pass(
    term: Term, block: Block, linear: LinearMap, kept: Sequence[int], living: set[Label]
) -> list[Term]:
    """One term through the map: it keeps its labels on some axes and is dense on the others."""
    core = [axis for axis in range(len(term.wrt)) if axis not in kept]
    written = as_dense_axes(term, core, block.wrt_shape, block.dtype) if core else term
    targets = {label for index in written.wrt for label in index.labels}
    outside = [factor for factor in written.factors if _stays_outside(factor, targets, living)]
    inside = [factor for factor in written.factors if factor not in outside]
    batch = [label for label in arrays.union(inside) if label not in targets]
    single = _constant(written, inside, linear, kept)
    linear = linear.on_one_value([linear.inputs.names[0][axis] for axis in single])
    entering = [Index() if axis in single else index for axis, index in enumerate(written.wrt)]
    values = _spread(inside, batch, entering, linear.inputs)
    results = run(linear, [values], arrays.sizes(batch))
    terms = []
    for output, (array, shape) in enumerate(zip(results, linear.outputs.shapes, strict=True)):
        labels = [Label(size) for size in shape]
        wrt = list(map(Index.of, labels))
        factor = Factor(array, (*batch, *labels))
        for axis in kept:
            partner = _partner(linear, axis, output)
            if partner is None:
                continue
            wrt[partner] = index = written.wrt[axis]
            if axis not in single:
                label, stride = index.strides[0]
                factor = arrays.restrict(factor, labels[partner], label, index.offset, stride)
        terms.append(Term((*outside, factor), written.out, tuple(wrt), written.coefficient))
    return terms


def _spread(
    factors: Sequence[Factor], batch: Sequence[Label], wrt: Sequence[Index], side: Side
) -> Any:
    """The product of factors with the batch axes first and then every axis of the map's input."""
    (shape,), (dtype,) = side.shapes, side.dtypes
    full = (*arrays.sizes(batch), *shape)
    backend().check_fits([Label(size) for size in full], dtype)

    def emit() -> Any:
        """The product over the labels, then moved where an index says."""
        labels = [*batch, *(label for index in wrt for label in index.labels)]
        sizes = (index.labels[0].size if index.labels else 1 for index in wrt)
        value = arrays.product(list(factors)) if factors else Factor(jnp.ones((), dtype), ())
        array = jnp.broadcast_to(arrays.aligned(value, labels), arrays.sizes(labels))
        array = jnp.reshape(array, (*arrays.sizes(batch), *sizes)).astype(dtype)
        for axis, (index, size) in enumerate(zip(wrt, shape, strict=True), len(batch)):
            if not index.is_plain(size):
                array = _moved(array, axis, index, size)
        return array

    return backend().array(full, dtype, emit, **work_of(math.prod(full), dtype))


def _moved(array: Any, axis: int, index: Index, size: int) -> Any:
    """The entries along one axis at the positions of an affine index, 0 elsewhere."""
    label, stride = index.strides[0]
    first = index.offset if stride > 0 else index.offset + stride * (label.size - 1)
    if stride < 0:
        array = lax.rev(array, (axis,))
    reach = abs(stride) * (label.size - 1)
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (first, size - 1 - first - reach, abs(stride) - 1)
    return lax.pad(array, jnp.zeros((), array.dtype), padding)
