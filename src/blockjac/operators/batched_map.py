"""Blocks through a linear map that is applied and not written down.

The map takes an array to several arrays. Some axes have names: where an axis of what goes in and
one of what comes out have the same name, the map acts on each of their values apart, as a batched
Cholesky factorization does on each matrix. There a block keeps the label that it has; on the other
axes, the *core*, it is made dense, and what then still varies is vmapped. An axis is *uniform* if
the map does the same on each of its values: there a block that is constant goes through once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Abstract, Cost
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.in_one import in_one
from blockjac.algebra.sums import summed
from blockjac.algebra.tidy import tidy
from blockjac.base import compat
from blockjac.base.arrays import Shape
from blockjac.terms.block import Block, delta_pairs
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

Arrays = Sequence[Any]
Names = tuple[Hashable, ...]
"""A name or None for each axis of an array."""

WORK = 8
"""Scalar operations that a plan counts an entry of a map's input and output, applied once."""


@dataclass(frozen=True, eq=False)
class Side:
    """What goes into a map, or comes out of it.

    Attributes:
        shapes: of its arrays.
        dtypes: of its arrays.
        names: of the axes of its arrays; None for an axis that the map mixes.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    names: tuple[Names, ...]

    def only(self, places: Sequence[int]) -> Side:
        """Some of the arrays."""
        return Side(
            tuple(self.shapes[place] for place in places),
            tuple(self.dtypes[place] for place in places),
            tuple(self.names[place] for place in places),
        )

    def axis(self, place: int, name: Hashable, size: int) -> int | None:
        """The axis of an array that has a name and a size; None if there is none."""
        for axis, own in enumerate(self.names[place]):
            if own is not None and own == name and self.shapes[place][axis] == size:
                return axis
        return None

    def core(self, place: int, other: Side, partner: int) -> int:
        """The number of entries of an array apart from the axes that an array of `other` shares."""
        return math.prod(
            size
            for name, size in zip(self.names[place], self.shapes[place], strict=True)
            if other.axis(partner, name, size) is None
        )

    def resized(self, sizes: Mapping[Hashable, int]) -> Side:
        """The same arrays with other sizes of axes by their names."""
        return replace(
            self,
            shapes=tuple(
                tuple(sizes.get(name, size) for name, size in zip(names, shape, strict=True))
                for names, shape in zip(self.names, self.shapes, strict=True)
            ),
        )

    @property
    def entries(self) -> int:
        """The number of entries of all arrays."""
        return sum(map(math.prod, self.shapes))


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map from arrays to arrays.

    Attributes:
        apply: from arrays of the shapes of `given` to arrays of those of `made`.
        given: what goes in.
        made: what comes out.
        uniform: names of axes along which the map does the same everywhere; it takes any number of
            values there.
        takes_none: whether `apply` takes None for what is zero.
    """

    apply: Callable[[Arrays], Arrays]
    given: Side
    made: Side
    uniform: frozenset[Hashable] = frozenset()
    takes_none: bool = False

    def only(self, inputs: Sequence[int], outputs: Sequence[int]) -> LinearMap:
        """From some of the inputs, with zeros for the others, to some of the outputs."""
        chosen = dict(enumerate(inputs))
        every, absent = self.given, [k for k in range(len(self.given.shapes)) if k not in inputs]

        def apply(parts: Arrays) -> Arrays:
            full = {chosen[number]: part for number, part in enumerate(parts)}
            sizes = {
                name: size
                for place, part in full.items()
                if part is not None
                for name, size in zip(every.names[place], part.shape, strict=True)
                if name in self.uniform
            }
            zeros = every.resized(sizes)
            for place in absent:
                full[place] = (
                    None if self.takes_none else jnp.zeros(zeros.shapes[place], zeros.dtypes[place])
                )
            results = self.apply([full[place] for place in sorted(full)])
            return [results[place] for place in outputs]

        return replace(
            self, apply=apply, given=self.given.only(inputs), made=self.made.only(outputs)
        )

    def on_one_value(self, names: Sequence[Hashable]) -> LinearMap:
        """The same map on one value of some uniform axes."""
        sizes = dict.fromkeys(names, 1)
        return replace(self, given=self.given.resized(sizes), made=self.made.resized(sizes))


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

    return backend().array(full, dtype, emit, **_work(math.prod(full), dtype))


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
        **_work(arrays.numel(labels), dtype),
    )


def run(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """Apply a map over leading batch axes that all values have."""
    results = [
        ((*batch, *shape), dtype)
        for shape, dtype in zip(linear.made.shapes, linear.made.dtypes, strict=True)
    ]
    for shape, dtype in results:
        backend().check_fits([Label(size) for size in shape], dtype)

    def once() -> Cost:
        entries = linear.given.entries + linear.made.entries
        work = _work(math.prod(batch) * entries * WORK, linear.made.dtypes[0])
        return Cost(operator_operations=work["operations"], bytes=work["moved"])

    return backend().runs(
        once,
        1,
        lambda: _applied(linear, values, batch),
        lambda: [Abstract(*one) for one in results],
    )


def _applied(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """What a map gives over leading batch axes, of which it knows nothing."""
    function: Callable[..., Arrays] = lambda *parts: list(linear.apply(list(parts)))  # noqa: E731
    if len(batch) < 2 or any(compat.is_placed(jax.typeof(value)) for value in values):
        for _ in batch:  # axes that lie on several devices stay as they are
            function = jax.vmap(function)
        return function(*values)
    # One axis for all of the batch: each axis of its own would be moved past the map's own axes.
    depth, count = len(batch), math.prod(batch)
    flat = [jnp.reshape(value, (count, *value.shape[depth:])) for value in values]
    results = jax.vmap(function)(*flat)
    return [jnp.reshape(one, (*batch, *one.shape[1:])) for one in results]


def _work(operations: int, dtype: Any) -> dict[str, int]:
    """What operations of a map take, with the bytes that come with them."""
    moved = operations * np.dtype(dtype).itemsize // WORK
    return {"operations": operations, "moved": moved}
