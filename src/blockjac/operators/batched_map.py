"""Blocks through a linear map that is applied and not written down.

The map takes an array to several arrays. Some axes have names: where an axis of what goes in and
one of what comes out have the same name, the map acts on each of their values apart, as a batched
Cholesky factorization does on each matrix. There a block keeps the label that it has; on the other
axes, the *core*, it is made dense, and what then still varies is vmapped. An axis is *uniform* if
the map does the same on each of its values: there a block that is constant goes through once.
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

"""A name or None for each axis of an array."""


def through(block: Block, linear: LinearMap) -> list[Block]:
    """`block star linear` for a map of one input: a block for each output.

    Args:
        block: with input axes that are those of what goes into the map.
        linear: a map from one array to several.
    """
    terms: list[list[Term]] = [[] for _ in linear.made.shapes]
    for term in block.terms:
        for place, made in enumerate(_term_through(term, block, linear)):
            if made is not None:
                terms[place].append(made)
    return [
        summed(block.out_shape, shape, np.dtype(dtype), parts)
        for shape, dtype, parts in zip(linear.made.shapes, linear.made.dtypes, terms, strict=True)
    ]


def _term_through(term: Term, block: Block, linear: LinearMap) -> list[Term | None]:
    """One term: a pass for the outputs alike in which labels they keep."""
    kept = _keepable(term, block.wrt_shape, linear.given.names[0])
    constant = _constant(term, term.factors, linear, kept)
    alive = [axis for axis in kept if axis in constant or _is_alive(term, axis, kept)]
    passes: dict[tuple[int, ...], list[int]] = {}
    for place in range(len(linear.made.shapes)):
        lacking = tuple(axis for axis in alive if _partner(linear, axis, place) is None)
        passes.setdefault(lacking, []).append(place)
    answers: list[Term | None] = [None] * len(linear.made.shapes)
    for lacking, places in passes.items():
        own = [axis for axis in kept if axis not in lacking]
        living = {_label(term, axis) for axis in alive if axis not in lacking}
        made = _pass(term, block, linear.only([0], places), own, living)
        for place, one in zip(places, made, strict=True):
            answers[place] = tidy(one, block.out_shape, linear.made.shapes[place])
    return answers


def _partner(linear: LinearMap, axis: int, place: int) -> int | None:
    """The axis of an output with the name that an axis of the input has."""
    return linear.made.axis(place, linear.given.names[0][axis], linear.given.shapes[0][axis])


def _constant(
    term: Term, factors: Sequence[Factor], linear: LinearMap, kept: Sequence[int]
) -> list[int]:
    """The kept axes that are uniform and along which none of the factors varies."""
    (names,), (shape,) = linear.given.names, linear.given.shapes
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
    found = []
    for axis, (index, size, name) in enumerate(zip(term.wrt, shape, names, strict=True)):
        if name is None or index.single is None or not index.within(size):
            continue
        label = index.single[0]
        plain = index.is_plain(size) or any(label in other.labels for other in term.out)
        if plain and sum(label in other.labels for other in term.wrt) == 1:
            found.append(axis)
    return found


def _is_alive(term: Term, axis: int, kept: Sequence[int]) -> bool:
    """Whether the label of a kept axis stands on an output axis, or in a factor left outside."""
    label = _label(term, axis)
    if any(label in index.labels for index in term.out):
        return True
    living = {_label(term, other) for other in kept}
    targets = {one for index in term.wrt for one in index.labels}
    return any(
        label in factor.labels and _stays_outside(factor, targets, living)
        for factor in term.factors
    )


def _stays_outside(factor: Factor, targets: set[Label], living: set[Label]) -> bool:
    """Whether a factor need not go through the map: it varies along no axis that the map mixes.

    A factor of numbers over labels that go through anyway is multiplied in, for one array less.
    """
    met = targets & set(factor.labels)
    if not met:
        return True
    return met <= living and (arrays.is_mask(factor) or len(met) < len(factor.labels))


def _pass(
    term: Term, block: Block, linear: LinearMap, kept: Sequence[int], living: set[Label]
) -> list[Term]:
    """One term through the map, its labels kept on the given axes and made dense on the others."""
    core = [axis for axis in range(len(term.wrt)) if axis not in kept]
    written = as_dense_axes(term, core, block.wrt_shape, block.dtype) if core else term
    targets = [label for index in written.wrt for label in index.labels]
    outside = [one for one in written.factors if _stays_outside(one, set(targets), living)]
    inside = [one for one in written.factors if one not in outside]
    batch = [label for label in arrays.union(inside) if label not in targets]
    single = _constant(written, inside, linear, kept)
    linear = linear.on_one_value([linear.given.names[0][axis] for axis in single])
    met = [Index() if axis in single else index for axis, index in enumerate(written.wrt)]
    values = _spread(inside, batch, met, linear.given)
    results = run(linear, [values], arrays.sizes(batch))
    made = []
    for place, (array, shape) in enumerate(zip(results, linear.made.shapes, strict=True)):
        places = [Label(size) for size in shape]
        wrt = list(map(Index.of, places))
        factor = Factor(array, (*batch, *places))
        for axis in kept:
            partner = _partner(linear, axis, place)
            if partner is not None:
                wrt[partner] = index = written.wrt[axis]
                if axis in single:
                    continue
                label, stride = index.strides[0]
                factor = arrays.restrict(factor, places[partner], label, index.offset, stride)
        made.append(Term((*outside, factor), written.out, tuple(wrt), written.coefficient))
    return made


def _spread(
    factors: Sequence[Factor], batch: Sequence[Label], wrt: Sequence[Index], given: Side
) -> Any:
    """The product of factors with the batch axes first and then every axis of the map's input."""
    (shape,), (dtype,) = given.shapes, given.dtypes
    full = (*arrays.sizes(batch), *shape)
    backend().check_fits([Label(size) for size in full], dtype)

    def emit() -> Any:
        labels = [*batch, *(label for index in wrt for label in index.labels)]
        own = (index.labels[0].size if index.labels else 1 for index in wrt)
        value = arrays.product(list(factors)) if factors else Factor(jnp.ones((), dtype), ())
        array = jnp.broadcast_to(arrays.aligned(value, labels), arrays.sizes(labels))
        array = jnp.reshape(array, (*arrays.sizes(batch), *own)).astype(dtype)
        for axis, (index, size) in enumerate(zip(wrt, shape, strict=True), len(batch)):
            if not index.is_plain(size):
                array = _placed(array, axis, index, size)
        return array

    return backend().array(full, dtype, emit, **work_of(math.prod(full), dtype))


def _placed(array: Any, axis: int, index: Index, size: int) -> Any:
    """The entries along one axis moved to the places of an affine index, 0 elsewhere."""
    label, stride = index.strides[0]
    first = index.offset if stride > 0 else index.offset + stride * (label.size - 1)
    if stride < 0:
        array = lax.rev(array, (axis,))
    reach = abs(stride) * (label.size - 1)
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (first, size - 1 - first - reach, abs(stride) - 1)
    return lax.pad(array, jnp.zeros((), array.dtype), padding)
