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

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.in_one import in_one
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.graph.graph import Equation
from blockjac.operators.operator import OperatorGroup, cheapest, present
from blockjac.rules.reads_and_writes import (
    GatherRead,
    Read,
    ScatterWrite,
    SliceRead,
    SliceWrite,
    Write,
)
from blockjac.terms.block import delta_pairs

OPERAND, UPDATE = 0, 1
"""The columns of the group."""

Pairs = Sequence[tuple[int, int]]


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
        nonzero = present(cotangents)
        if not nonzero:
            return [None, None]
        return cheapest(lambda: self._pulled(nonzero[0]), lambda: self.pull_by_blocks(nonzero))

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """The same write into the tangents."""
        nonzero = present(tangents)
        if OPERAND not in nonzero:
            return self.push_by_blocks(nonzero) if nonzero else [None]
        return cheapest(
            lambda: [self._pushed(nonzero[OPERAND], nonzero.get(UPDATE))],
            lambda: self.push_by_blocks(nonzero),
        )

    def _pulled(self, cotangent: Block) -> list[Block | None]:
        """Cotangents of the array and of the update, from that of the result."""
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
        """The tangent of the result, from those of the array and of the update."""
        write = self.write
        if update is None and write.adds:
            return operand
        into, of = operand.T, None if update is None else update.T
        shared = delta_pairs(into)
        if of is not None:
            update_pairs = set(delta_pairs(of))
            shared = [(i, j) for i, j in shared if (i, write.partner.get(j)) in update_pairs]
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
        nonzero = present(tangents)
        if not nonzero:
            return [None]
        return cheapest(lambda: [self._pushed(nonzero[0])], lambda: self.push_by_blocks(nonzero))

    def _pushed(self, tangent: Block) -> Block:
        """The entries that are read off a tangent."""
        turned, shape = tangent.T, tuple(self.out_shapes[0])
        pairs = [(i, j) for i, j in delta_pairs(turned) if j in self.read.partner]
        pairs = list({i: (i, j) for i, j in pairs}.values())
        carried = _Carried(turned.out_shape, pairs)
        entries = carried.applied(self.read.get, carried.array(turned, pairs), shape)
        own = [(i, self.read.partner[j]) for i, j in pairs]
        return carried.block(entries, own, shape, tangent.dtype).T


class _Carried:
    """The axes that blocks carry through a write, alike in front of each array.

    Attributes:
        out: a label for each output axis of the blocks.
        batch: those of them that are not a delta with an axis of the array.
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
        own = [names.get(label, label) for label in map(_label, term.wrt)]
        labels = [*self.batch, *own]
        named = Factor(factor.array, tuple(names.get(label, label) for label in factor.labels))
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
    """A scatter whose positions differ: the user says so, or it has a single one."""
    is_single = math.prod(inputs[1].shape[:-1]) == 1
    if equation.params["update_jaxpr"] is not None or not (
        is_single or equation.params["unique_indices"]
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
        ((block, *other_edges),) = rows
        if not isinstance(block, Block) or not block.terms:
            return rows
        group = ReadGroup(name, READS[name](equation, inputs), block)
        return [[group.edges()[0][0], *other_edges]]
    if name not in WRITES:
        return rows
    (row,) = rows
    position = PLACES.get(name, 2)
    blocks = row[0], row[position]
    if not all(isinstance(block, Block) and block.terms for block in blocks):
        return rows
    write = WRITES[name](equation, inputs)
    if write is None:
        return rows
    (edges,) = WriteGroup(name, write, blocks).edges()
    new_row = list(row)
    new_row[0], new_row[position] = edges
    return [new_row]
