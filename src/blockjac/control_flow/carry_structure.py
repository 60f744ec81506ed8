"""The structure that a block keeps while a loop carries it, or branches share it.

A loop's carry has one shape for all steps, so a carried block is one array: dense but for those
Kronecker deltas between an output and an input axis, or between digits of them, that survive every
step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Abstract, Cost
from blockjac.algebra.mixed_radix import (
    Digit,
    Pair,
    Pairs,
    block_pairs,
    digits_of,
    meet,
    numbers,
    places,
)
from blockjac.algebra.nonzeros import LARGEST, entry_places, only_at
from blockjac.algebra.star import star
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.operators.operator import Blocks
from blockjac.terms.block import rebuilt

T = TypeVar("T")

Pattern = np.ndarray
"""Where an array may be nonzero; boolean, of its shape."""

Digits = tuple[tuple[Digit, ...], ...]
"""For each axis its digits, most significant first."""


@dataclass(frozen=True)
class CarryStructure:
    """The shapes of a block, and the digits of an output and an input axis that are one delta.

    The array of such a block has an axis for each digit of the output axes, and then one for each
    digit of the input axes outside all deltas.
    """

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    pairs: Pairs

    @cached_property
    def shape(self) -> Shape:
        """The shape of the array of such a block."""
        out = (digit.size for digits in self._out_digits for digit in digits)
        wrt = (digit.size for digits in self._wrt_digits for digit in digits if digit.pair is None)
        return (*out, *wrt)

    @property
    def numel(self) -> int:
        """How many numbers such a block stores."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many entries such a block has, zeros included."""
        return math.prod(self.out_shape) * math.prod(self.wrt_shape)

    def zeros(self) -> Any:
        """The array of the zero block."""
        return jnp.zeros(self.shape, self.dtype)

    def array(self, block: Block | None) -> Any:
        """The array of a block that has at least these deltas.

        Raises:
            ValueError: if one of the deltas is missing.
        """
        if block is None or not block.terms:
            return backend().array(self.shape, self.dtype, self.zeros)
        if meet(self.pairs, block_pairs(block)) != self.pairs:
            raise ValueError(f"a block of structure {block.structure} lacks a delta of {self}")
        block = _in_digits(block, self._out_digits, self._wrt_digits)
        wrt = [digit for digits in self._wrt_digits for digit in digits]
        kept = [axis for axis, digit in enumerate(wrt) if digit.pair is None]
        terms = [replace(term, wrt=tuple(term.wrt[axis] for axis in kept)) for term in block.terms]
        wrt_shape = tuple(wrt[axis].size for axis in kept)
        array = rebuilt(block.out_shape, wrt_shape, block.dtype, terms).dense()
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def abstract(self, *length: int) -> Abstract:
        """The array as a plan sees it, or that of several blocks stacked."""
        return Abstract((*length, *self.shape), self.dtype)

    def places(self, block: Block | None) -> Pattern | None:
        """Where the array of a block of these shapes may be nonzero; None if that is not known."""
        if self.numel > LARGEST:
            return None
        pattern = np.zeros(self.shape, bool)
        for term in () if block is None else block.terms:
            entries = entry_places(term, self.out_shape + self.wrt_shape)
            if entries is None:
                return None
            pattern[self._coordinates(entries)] = True
        return pattern

    def _coordinates(self, entries: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """The positions of entries on each axis of the array, from their positions in the block."""
        coordinates = []
        for axis, (positions, digits) in enumerate(
            zip(entries, self._out_digits + self._wrt_digits, strict=True)
        ):
            weight = math.prod(digit.size for digit in digits)
            for digit in digits:
                weight //= digit.size
                if axis < len(self.out_shape) or digit.pair is None:
                    coordinates.append(positions // weight % digit.size)
        return tuple(coordinates)

    def block(self, array: Any, may: Pattern | None = None) -> Block:
        """The block of an array of this shape, which may be nonzero only where `may` says."""
        out, wrt, labels = self._labels()
        term = Term((Factor(array, tuple(labels)),), tuple(out), tuple(wrt))
        block = Block(self.out_shape, self.wrt_shape, self.dtype, [term])
        return block if may is None else _at_places(block, labels, may)

    def stacked(
        self,
        array: Any,
        length: int,
        axis: int | None,
        partner: int | None = None,
        *,
        may: Pattern | None = None,
    ) -> Block:
        """The block of arrays stacked along a leading axis.

        Args:
            array: of shape `(length, *self.shape)`.
            length: the size of the leading axis.
            axis: which input axis it becomes; None for none.
            partner: which output axis it becomes; None for none.
            may: where the array of a step may be nonzero, if that is known.
        """
        out, wrt, labels = self._labels()
        step = Label(length)
        factor = Factor(array, (step, *labels))
        term = Term(
            (factor,),
            inserted(out, partner, Index.of(step)),
            inserted(wrt, axis, Index.of(step)),
        )
        out_shape = inserted(self.out_shape, partner, length)
        block = Block(out_shape, inserted(self.wrt_shape, axis, length), self.dtype, [term])
        return block if may is None else _at_places(block, labels, may)

    @cached_property
    def _out_digits(self) -> Digits:
        return tuple(
            tuple(digits_of(size, ((p.out_weight, p) for p in self.pairs if p.out_axis == axis)))
            for axis, size in enumerate(self.out_shape)
        )

    @cached_property
    def _wrt_digits(self) -> Digits:
        return tuple(
            tuple(digits_of(size, ((p.wrt_weight, p) for p in self.pairs if p.wrt_axis == axis)))
            for axis, size in enumerate(self.wrt_shape)
        )

    def _labels(self) -> tuple[list[Index], list[Index], list[Label]]:
        """Indices of the output axes, of the input axes, and labels of the array's axes."""
        out = [[Label(digit.size) for digit in digits] for digits in self._out_digits]
        partner: dict[Pair | None, Label] = {
            digit.pair: label
            for digits, labels in zip(self._out_digits, out, strict=True)
            for digit, label in zip(digits, labels, strict=True)
            if digit.pair is not None
        }
        wrt = [
            [partner.get(digit.pair) or Label(digit.size) for digit in digits]
            for digits in self._wrt_digits
        ]
        kept = [
            label
            for digits, labels in zip(self._wrt_digits, wrt, strict=True)
            for digit, label in zip(digits, labels, strict=True)
            if digit.pair is None
        ]
        flat = [label for labels in out for label in labels]
        return [*numbers(out)], [*numbers(wrt)], [*flat, *kept]


def inserted(values: Sequence[T], axis: int | None, value: T) -> tuple[T, ...]:
    """The values of a block's axes, with one of a new axis; None for no new axis."""
    return tuple(values) if axis is None else (*values[:axis], value, *values[axis:])


def _at_places(block: Block, labels: Sequence[Label], may: Pattern) -> Block:
    """A block of one term, only where it may be nonzero."""
    kept = tuple(label for label in labels if label.size != 1)
    if not may.any():
        return rebuilt(block.out_shape, block.wrt_shape, block.dtype, [])
    return only_at(block, Factor(may.reshape(arrays.sizes(kept)), kept))


def _in_digits(block: Block, out: Digits, wrt: Digits) -> Block:
    """The block with an axis for each digit."""
    if any(len(digits) > 1 for digits in out):
        block = star(_reshape(out, block.out_shape, block.dtype), block)
    if any(len(digits) > 1 for digits in wrt):
        block = star(block, _reshape(wrt, block.wrt_shape, block.dtype).T)
    return block


def _reshape(axes: Digits, shape: Shape, dtype: Any) -> Block:
    """From axes to their digits."""
    labels = [[Label(digit.size) for digit in digits] for digits in axes]
    flat = [label for axis_labels in labels for label in axis_labels]
    term = Term((), tuple(map(Index.of, flat)), numbers(labels))
    return Block([label.size for label in flat], shape, dtype, [term])


Forms = Sequence[CarryStructure | None]
"""The structures of several blocks; None for zero."""


def carry_structure_of(block: Block | None) -> CarryStructure | None:
    """The form of a block; None for zero, which has any structure."""
    if block is None or not block.terms:
        return None
    return CarryStructure(block.out_shape, block.wrt_shape, block.dtype, block_pairs(block))


def blocks_of(
    forms: Forms, arrays: Sequence[Any], patterns: Sequence[Pattern | None] | None = None
) -> list[Block | None]:
    """The blocks of arrays, which may be nonzero only where the patterns say."""
    return [
        form and form.block(array, may)
        for form, array, may in zip(forms, arrays, patterns or [None] * len(forms), strict=True)
    ]


def arrays_of(forms: Forms, blocks: Blocks) -> list[Any]:
    """The arrays of blocks of these forms."""
    return [form and form.array(block) for form, block in zip(forms, blocks, strict=True)]


def abstract_arrays(forms: Forms, *length: int) -> list[Abstract | None]:
    """The arrays of blocks of these forms as a plan sees them, or of stacked blocks."""
    return [form and form.abstract(*length) for form in forms]


def joined(forms: Iterable[CarryStructure | None]) -> CarryStructure | None:
    """The structure that all forms have: the deltas that all share."""
    shared: CarryStructure | None = None
    for form in forms:
        if shared is None:
            shared = form
        elif form is not None:
            shared = replace(shared, pairs=meet(shared.pairs, form.pairs))
    return shared


def written_cost(forms: Forms, blocks: Blocks) -> Cost:
    """What it costs to write blocks as the arrays of their forms."""
    with planning() as cost:
        for form, block in zip(forms, blocks, strict=True):
            if form is not None and block is not None:
                form.array(block)
    return cost


def may_lose(block: Block) -> bool:
    """Whether outputs and inputs of a block share labels that are not deltas of its form."""
    kept = places(block_pairs(block))
    return any(
        arrays.numel(tuple(shared)) > kept
        for term in block.terms
        for shared in [_labels_of(term.out) & _labels_of(term.wrt)]
    )


def _labels_of(indices: Sequence[Index]) -> set[Label]:
    return {label for index in indices for label in index.labels}
