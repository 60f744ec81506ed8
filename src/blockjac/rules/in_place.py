"""Writes into an array and reads from it, applied: what a loop does to what it carries.

The block of `dynamic_update_slice` or `scatter` is structured: a mask and lookups. That is what a
Jacobian is made of. In the sweep of a loop, though, the carried block is dense where the loop
writes, and each step changes few of its entries: there the write is done to the carried array
itself, which the compiler does in its place, and backwards the entries are read and cleared. A read
is done to the carried tangents by the primitive that read the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.in_one import in_one
from blockjac.base import compat
from blockjac.base.promises import is_forwards
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.graph.graph import Equation
from blockjac.operators.operator import OperatorGroup, cheapest, present
from blockjac.rules.gather_scatter import inverse_numbers, window_sizes
from blockjac.terms.block import delta_pairs

OPERAND, UPDATE = 0, 1
"""The columns of the group."""

Pairs = Sequence[tuple[int, int]]


class Write:
    """One write on arrays with any number of leading axes, on all of which it is the same.

    Attributes:
        shape: of the array that is written into.
        update_shape: of what is written.
        partner: for each axis of the array that the write covers wholly, the axis of the update.
        adds: whether the update is added to what stands there.
        sign: of the update.
    """

    adds = False
    sign = 1

    def __init__(
        self, shape: Sequence[int], update_shape: Sequence[int], partner: Mapping[int, int]
    ) -> None:
        self.shape, self.update_shape = tuple(shape), tuple(update_shape)
        self.partner = dict(partner)

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """The array after the write."""
        raise NotImplementedError

    def read(self, array: Any, leading: int) -> Any:
        """What stands where each entry of the update goes; 0 for one that goes nowhere."""
        raise NotImplementedError


class SliceWrite(Write):
    """A `dynamic_update_slice`."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        shape, update_shape = inputs[0].shape, inputs[1].shape
        whole = (axis for axis, size in enumerate(shape) if update_shape[axis] == size)
        super().__init__(shape, update_shape, {axis: axis for axis in whole})
        self.equation, self.starts = equation, inputs[2:]

    def _starts(self, leading: int) -> list[Any]:
        zeros = [jnp.zeros((), one.dtype) for one in self.starts[:1] for _ in range(leading)]
        return [*zeros, *self.starts]

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """By the primitive itself."""
        if not self.shape:
            return update
        operands = [array, update, *self._starts(leading)]
        return compat.bind(self.equation.primitive, operands, self.equation.params)[0]

    def read(self, array: Any, leading: int) -> Any:
        """By a slice from the same start."""
        if not self.shape:
            return array
        sizes = (*array.shape[:leading], *self.update_shape)
        return lax.dynamic_slice_p.bind(array, *self._starts(leading), slice_sizes=sizes)


class ScatterWrite(Write):
    """A scatter, of places that differ or whose updates are added."""

    def __init__(
        self, equation: Equation, inputs: Sequence[Any], adds: bool = False, sign: int = 1
    ) -> None:
        operand, self.indices, updates = inputs
        self.params = equation.params
        self.numbers = numbers = equation.params["dimension_numbers"]
        self.adds, self.sign = adds, sign
        flat = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        inside = (axis for axis in range(operand.ndim) if axis not in flat)
        self.sizes = window_sizes(operand.shape, updates.shape, numbers)
        super().__init__(
            operand.shape,
            updates.shape,
            {
                axis: place
                for axis, place in zip(inside, numbers.update_window_dims, strict=True)
                if self.sizes[axis] == operand.shape[axis]
                and axis not in numbers.scatter_dims_to_operand_dims
            },
        )

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """By a scatter whose windows run over the leading axes."""
        write = lax.scatter_add if self.adds else lax.scatter
        return write(
            array,
            self.indices,
            update if self.sign == 1 else -update,
            _shifted(self.numbers, leading),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.params["mode"],
        )

    def read(self, array: Any, leading: int) -> Any:
        """By the gather of the same places."""
        found = lax.gather(
            array,
            self.indices,
            inverse_numbers(_shifted(self.numbers, leading)),
            (*array.shape[:leading], *self.sizes),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.params["mode"],
            fill_value=0,
        )
        return found if self.sign == 1 else -found


def _shifted(numbers: Any, leading: int) -> Any:
    """The dimension numbers of the same scatter into an array with more axes before its own."""

    def behind(axes: Sequence[int]) -> tuple[int, ...]:
        return tuple(axis + leading for axis in axes)

    return lax.ScatterDimensionNumbers(
        update_window_dims=(*range(leading), *behind(numbers.update_window_dims)),
        inserted_window_dims=behind(numbers.inserted_window_dims),
        scatter_dims_to_operand_dims=behind(numbers.scatter_dims_to_operand_dims),
        operand_batching_dims=behind(numbers.operand_batching_dims),
        scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )


class WriteGroup(OperatorGroup):
    """A write as an operator: applied to blocks that are dense where it writes, else by its blocks.

    Attributes:
        write: on arrays.
        blocks: by the operand and by the update.
    """

    def __init__(self, name: str, write: Write, blocks: Sequence[Block]) -> None:
        operand, update = blocks
        super().__init__(
            out_shapes=[operand.out_shape],
            wrt_shapes=[operand.wrt_shape, update.wrt_shape],
            dtypes=[operand.dtype, update.dtype],
            out_dtypes=[operand.dtype],
            name=name,
        )
        self.write, self.blocks = write, blocks

    def written(self, row: int, column: int) -> Block:
        """The structured block."""
        return self.blocks[column]

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """Read where it was written, and, where it was set, clear there."""
        given = present(cotangents)
        if not given:
            return [None, None]
        return cheapest(lambda: self._pulled(given[0]), lambda: self.pull_by_blocks(given))

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """The same write into the tangents."""
        given = present(tangents)
        if OPERAND not in given:
            return self.push_by_blocks(given) if given else [None]
        return cheapest(
            lambda: [self._pushed(given[OPERAND], given.get(UPDATE))],
            lambda: self.push_by_blocks(given),
        )

    def _pulled(self, cotangent: Block) -> list[Block | None]:
        write = self.write
        pairs = [(i, j) for i, j in delta_pairs(cotangent) if j in write.partner]
        pairs = list({i: (i, j) for i, j in pairs}.values())
        carried = _Carried(cotangent.out_shape, pairs)
        array = carried.array(cotangent, pairs)
        read = carried.applied(write.read, array, write.update_shape)
        own = [(i, write.partner[j]) for i, j in pairs]
        by_update = carried.block(read, own, write.update_shape, self.dtypes[UPDATE])
        if write.adds:
            return [cotangent, by_update]
        empty = carried.zeros(own, write.update_shape, cotangent.dtype)
        cleared = carried.applied(write.put, array, write.shape, empty)
        return [carried.block(cleared, pairs, write.shape, self.dtypes[OPERAND]), by_update]

    def _pushed(self, operand: Block, update: Block | None) -> Block:
        write = self.write
        if update is None and write.adds:
            return operand
        into, of = operand.T, None if update is None else update.T
        shared = delta_pairs(into)
        if of is not None:
            theirs = set(delta_pairs(of))
            shared = [(i, j) for i, j in shared if (i, write.partner.get(j)) in theirs]
        pairs = list({i: (i, j) for i, j in shared if j in write.partner}.values())
        own = [(i, write.partner[j]) for i, j in pairs]
        carried = _Carried(into.out_shape, pairs)
        array = carried.array(into, pairs)
        if of is None:
            values = carried.zeros(own, write.update_shape, into.dtype)
        else:
            values = carried.array(of, own)
        if values.dtype != array.dtype:
            uncast = values
            values = backend().array(uncast.shape, array.dtype, lambda: uncast.astype(array.dtype))
        written = carried.applied(write.put, array, write.shape, values)
        return carried.block(written, pairs, write.shape, operand.dtype).T


class Read:
    """One read from arrays with any number of leading axes, on all of which it is the same.

    Attributes:
        partner: for each axis of the array that the read covers wholly, the axis of the result.
    """

    def __init__(self, partner: Mapping[int, int]) -> None:
        self.partner = dict(partner)

    def get(self, array: Any, leading: int) -> Any:
        """What is read."""
        raise NotImplementedError


class SliceRead(Read):
    """A `dynamic_slice`."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        operand, *self.starts = inputs
        self.sizes = tuple(equation.params["slice_sizes"])
        whole = (axis for axis, size in enumerate(operand.shape) if self.sizes[axis] == size)
        super().__init__({axis: axis for axis in whole})

    def get(self, array: Any, leading: int) -> Any:
        """By the primitive itself."""
        zeros = [jnp.zeros((), one.dtype) for one in self.starts[:1] for _ in range(leading)]
        sizes = (*array.shape[:leading], *self.sizes)
        return lax.dynamic_slice_p.bind(array, *zeros, *self.starts, slice_sizes=sizes)


class GatherRead(Read):
    """A gather."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        operand, self.indices = inputs
        self.params, self.sizes = equation.params, tuple(equation.params["slice_sizes"])
        self.mode = self.params["mode"]
        if self.mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS and not is_forwards():
            self.mode = lax.GatherScatterMode.FILL_OR_DROP  # as the cotangent falls off the array
        self.numbers = numbers = equation.params["dimension_numbers"]
        flat = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        inside = (axis for axis in range(operand.ndim) if axis not in flat)
        super().__init__(
            {
                axis: place
                for axis, place in zip(inside, numbers.offset_dims, strict=True)
                if self.sizes[axis] == operand.shape[axis] and axis not in numbers.start_index_map
            }
        )

    def get(self, array: Any, leading: int) -> Any:
        """By a gather whose windows run over the leading axes."""
        numbers = self.numbers

        def behind(axes: Sequence[int]) -> tuple[int, ...]:
            return tuple(axis + leading for axis in axes)

        shifted = lax.GatherDimensionNumbers(
            offset_dims=(*range(leading), *behind(numbers.offset_dims)),
            collapsed_slice_dims=behind(numbers.collapsed_slice_dims),
            start_index_map=behind(numbers.start_index_map),
            operand_batching_dims=behind(numbers.operand_batching_dims),
            start_indices_batching_dims=numbers.start_indices_batching_dims,
        )
        return lax.gather(
            array,
            self.indices,
            shifted,
            (*array.shape[:leading], *self.sizes),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.mode,
            fill_value=0,
        )


class ReadGroup(OperatorGroup):
    """A read as an operator: applied to dense tangents, else by its block.

    Backwards it is its block, whose entries are added where they belong.
    """

    def __init__(self, name: str, read: Read, block: Block) -> None:
        super().__init__(
            out_shapes=[block.out_shape],
            wrt_shapes=[block.wrt_shape],
            dtypes=[block.dtype],
            out_dtypes=[block.dtype],
            name=name,
        )
        self.read, self.blocks = read, [block]

    def written(self, row: int, column: int) -> Block:
        """The structured block."""
        return self.blocks[column]

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """By the block."""
        return self.pull_by_blocks(present(cotangents))

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """The same read from the tangents."""
        given = present(tangents)
        if not given:
            return [None]
        return cheapest(lambda: [self._pushed(given[0])], lambda: self.push_by_blocks(given))

    def _pushed(self, tangent: Block) -> Block:
        turned, shape = tangent.T, tuple(self.out_shapes[0])
        pairs = [(i, j) for i, j in delta_pairs(turned) if j in self.read.partner]
        pairs = list({i: (i, j) for i, j in pairs}.values())
        carried = _Carried(turned.out_shape, pairs)
        found = carried.applied(self.read.get, carried.array(turned, pairs), shape)
        own = [(i, self.read.partner[j]) for i, j in pairs]
        return carried.block(found, own, shape, tangent.dtype).T


class _Carried:
    """The axes that blocks carry through a write, alike in front of each array.

    Attributes:
        out: a label for each output axis of the blocks.
        batch: those of them that are no delta with an axis of the array.
    """

    def __init__(self, out_shape: Sequence[int], pairs: Pairs) -> None:
        self.out_shape = tuple(out_shape)
        self.out = [Label(size) for size in out_shape]
        paired = {i for i, _ in pairs}
        self.batch = [label for i, label in enumerate(self.out) if i not in paired]

    def array(self, block: Block, pairs: Pairs) -> Any:
        """The block written out but for the pairs, with the batch in front."""
        term = in_one(block, pairs)
        (factor,) = term.factors
        names = {
            index.labels[0]: label
            for index, label in zip(term.out, self.out, strict=True)
            if index.labels
        }
        own = [names.get(one, one) for one in map(_label, term.wrt)]
        labels = [*self.batch, *own]
        named = Factor(factor.array, tuple(names.get(one, one) for one in factor.labels))
        shape = arrays.sizes(labels)

        def emit() -> Any:
            aligned = arrays.aligned(named, labels)
            return jnp.broadcast_to(aligned, shape).astype(block.dtype)

        return backend().array(shape, block.dtype, emit)

    def zeros(self, pairs: Pairs, shape: Sequence[int], dtype: Any) -> Any:
        """Zeros in the place of what `array` gives."""
        del pairs
        full = (*arrays.sizes(self.batch), *shape)
        return backend().array(full, dtype, lambda: jnp.zeros(full, dtype))

    def applied(
        self, act: Callable[..., Any], array: Any, shape: Sequence[int], *update: Any
    ) -> Any:
        """A write or a read; a plan counts what it moves, as the compiler does it in its place."""
        result = (*arrays.sizes(self.batch), *shape)
        touched = update[0].shape if update else result
        return backend().array(
            result,
            array.dtype,
            lambda: act(array, *update, len(self.batch)),
            moved=2 * math.prod(touched) * array.dtype.itemsize,
        )

    def block(self, array: Any, pairs: Pairs, shape: Sequence[int], dtype: Any) -> Block:
        """The block of an array with the batch in front."""
        partner = {j: self.out[i] for i, j in pairs}
        wrt = [partner.get(axis) or Label(size) for axis, size in enumerate(shape)]
        factor = Factor(array, (*self.batch, *wrt))
        term = Term((factor,), tuple(map(Index.of, self.out)), tuple(map(Index.of, wrt)))
        return Block(self.out_shape, tuple(shape), dtype, (term,))


def _label(index: Index) -> Label:
    return index.labels[0] if index.labels else Label(1)


def _scatter(equation: Equation, inputs: Sequence[Any]) -> Write | None:
    """A scatter whose places differ, as its user promises or as it has one only."""
    one = math.prod(inputs[1].shape[:-1]) == 1
    if equation.params["update_jaxpr"] is not None or not (
        one or equation.params["unique_indices"]
    ):
        return None
    return ScatterWrite(equation, inputs)


WRITES: Mapping[str, Callable[[Equation, Sequence[Any]], Write | None]] = {
    "dynamic_update_slice": SliceWrite,
    "scatter": _scatter,
    "scatter-add": lambda equation, inputs: ScatterWrite(equation, inputs, adds=True),
    "scatter-sub": lambda equation, inputs: ScatterWrite(equation, inputs, adds=True, sign=-1),
}
"""How a primitive writes; None where it has to be done by its blocks."""

READS: Mapping[str, Callable[[Equation, Sequence[Any]], Read]] = {
    "dynamic_slice": SliceRead,
    "gather": GatherRead,
}
"""How a primitive reads."""

PLACES: Mapping[str, int] = {"dynamic_update_slice": 1}
"""Which operand is what is written, where it is not the third."""


def applied(equation: Equation, inputs: Sequence[Any], rows: list[list[Any]]) -> list[list[Any]]:
    """The edges of an equation, as operators where it writes or reads.

    Args:
        equation: any.
        inputs: values of its operands.
        rows: its edges, as its rule gives them.
    """
    name = equation.primitive.name
    if name in READS:
        ((block, *others),) = rows
        if not isinstance(block, Block) or not block.terms:
            return rows
        group = ReadGroup(name, READS[name](equation, inputs), block)
        return [[group.edges()[0][0], *others]]
    if name not in WRITES:
        return rows
    (row,) = rows
    place = PLACES.get(name, 2)
    blocks = row[0], row[place]
    if not all(isinstance(block, Block) and block.terms for block in blocks):
        return rows
    write = WRITES[name](equation, inputs)
    if write is None:
        return rows
    (edges,) = WriteGroup(name, write, blocks).edges()
    made = list(row)
    made[0], made[place] = edges
    return [made]
