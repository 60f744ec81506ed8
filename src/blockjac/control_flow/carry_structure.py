"""The structure that a block keeps while a loop carries it, or branches share it.

A loop's carry has one shape for all steps, so a carried block is one array: dense but for those
Kronecker deltas between an output and an input axis, or between digits of them, that survive every
step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
from blockjac.terms.block import rebuilt

T = TypeVar("T")

Pattern = np.ndarray
"""Where an array may hold another number than zero; boolean, of its shape."""

Digits = tuple[tuple[Digit, ...], ...]
"""For each axis its digits, most significant first."""


@dataclass(frozen=True)
class CarryStructure:
    """The shapes of a block, and the digits of an output and an input axis that are one delta.

    The array of such a block has an axis for each digit of the output axes, and then one for each
    digit of the input axes that is in no delta.
    """

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    pairs: Pairs

    @cached_property
    def shape(self) -> Shape:
        """The shape of the array of such a block."""
        out = tuple(digit.size for own in self._out_digits for digit in own)
        wrt = (digit.size for own in self._wrt_digits for digit in own if digit.pair is None)
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
        wrt = [digit for own in self._wrt_digits for digit in own]
        kept = [place for place, digit in enumerate(wrt) if digit.pair is None]
        terms = [
            replace(term, wrt=tuple(term.wrt[place] for place in kept)) for term in block.terms
        ]
        wrt_shape = tuple(wrt[place].size for place in kept)
        array = rebuilt(block.out_shape, wrt_shape, block.dtype, terms).dense()
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def abstract(self, *length: int) -> Abstract:
        """The array as a plan sees it, or of several blocks stacked."""
        return Abstract((*length, *self.shape), self.dtype)

    def places(self, block: Block | None) -> Pattern | None:
        """Where the array of a block may hold another number than zero; None if that is not known.

        Args:
            block: of these shapes, in whatever structure.
        """
        found = np.zeros(self.shape, bool)
        if self.numel > LARGEST:
            return None
        for term in () if block is None else block.terms:
            entries = entry_places(term, self.out_shape + self.wrt_shape)
            if entries is None:
                return None
            found[self._coordinates(entries)] = True
        return found

    def _coordinates(self, entries: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """For each axis of the array where entries stand, from their places in the block."""
        coordinates = []
        for axis, (own, parts) in enumerate(
            zip(entries, self._out_digits + self._wrt_digits, strict=True)
        ):
            weight = math.prod(digit.size for digit in parts)
            for digit in parts:
                weight //= digit.size
                if axis < len(self.out_shape) or digit.pair is None:
                    coordinates.append(own // weight % digit.size)
        return tuple(coordinates)

    def block(self, array: Any, may: Pattern | None = None) -> Block:
        """The block of an array of this shape.

        Args:
            array: of this shape.
            may: where it may hold another number than zero, if that is known.
        """
        out, wrt, labels = self._labels()
        block = Block(self.out_shape, self.wrt_shape, self.dtype, [_term(array, labels, out, wrt)])
        return block if may is None else _at_places(block, labels, may)

    def stacked(
        self,
        array: Any,
        length: int,
        place: int | None,
        partner: int | None = None,
        *,
        may: Pattern | None = None,
    ) -> Block:
        """The block of arrays stacked along a leading axis.

        Args:
            array: of `(length, *self.shape)`.
            length: of the leading axis.
            place: where among the input axes it goes; None for nowhere.
            partner: where among the output axes; None for nowhere.
            may: where the array of a step may hold another number than zero, if that is known.
        """
        out, wrt, labels = self._labels()
        step = Label(length)
        out_shape, wrt_shape = list(self.out_shape), list(self.wrt_shape)
        if place is not None:
            wrt.insert(place, Index.of(step))
            wrt_shape.insert(place, length)
        if partner is not None:
            out.insert(partner, Index.of(step))
            out_shape.insert(partner, length)
        block = Block(out_shape, wrt_shape, self.dtype, [_term(array, [step, *labels], out, wrt)])
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
        out = [[Label(digit.size) for digit in own] for own in self._out_digits]
        partner: dict[Pair | None, Label] = {
            digit.pair: label
            for digits, labels in zip(self._out_digits, out, strict=True)
            for digit, label in zip(digits, labels, strict=True)
            if digit.pair is not None
        }
        wrt = [
            [partner.get(digit.pair) or Label(digit.size) for digit in own]
            for own in self._wrt_digits
        ]
        kept = [
            label
            for digits, labels in zip(self._wrt_digits, wrt, strict=True)
            for digit, label in zip(digits, labels, strict=True)
            if digit.pair is None
        ]
        return [*numbers(out)], [*numbers(wrt)], [*(one for own in out for one in own), *kept]


def _at_places(block: Block, labels: Sequence[Label], may: Pattern) -> Block:
    """A block of one term over those places of labels where there may be other numbers than 0."""
    kept = tuple(label for label in labels if label.size != 1)
    if not may.any():
        return rebuilt(block.out_shape, block.wrt_shape, block.dtype, [])
    return only_at(block, Factor(may.reshape(arrays.sizes(kept)), kept))


def _term(array: Any, labels: list[Label], out: list[Index], wrt: list[Index]) -> Term:
    return Term((Factor(array, tuple(labels)),), tuple(out), tuple(wrt))


def _in_digits(block: Block, out: Digits, wrt: Digits) -> Block:
    """The block with an axis for each digit."""
    if any(len(own) > 1 for own in out):
        block = star(_reshape(out, block.out_shape, block.dtype), block)
    if any(len(own) > 1 for own in wrt):
        block = star(block, _reshape(wrt, block.wrt_shape, block.dtype).T)
    return block


def _reshape(digits: Sequence[Sequence[Digit]], shape: Shape, dtype: Any) -> Block:
    """From axes to their digits."""
    labels = [[Label(digit.size) for digit in own] for own in digits]
    flat = [label for own in labels for label in own]
    term = Term((), tuple(map(Index.of, flat)), numbers(labels))
    return Block([label.size for label in flat], shape, dtype, [term])


def carry_structure_of(block: Block | None) -> CarryStructure | None:
    """The form of a block; None of a zero one, which has any structure."""
    if block is None or not block.terms:
        return None
    return CarryStructure(block.out_shape, block.wrt_shape, block.dtype, block_pairs(block))


def joined(forms: Iterable[CarryStructure | None]) -> CarryStructure | None:
    """The structure that all of them have: the deltas that all share."""
    shared: CarryStructure | None = None
    for form in forms:
        if shared is None:
            shared = form
        elif form is not None:
            shared = replace(shared, pairs=meet(shared.pairs, form.pairs))
    return shared


def lasting(
    step: Callable[[Sequence[CarryStructure | None]], T],
    carried: Callable[[T], Sequence[Block | None]],
    start: Sequence[Block | None],
) -> tuple[list[CarryStructure | None], T]:
    """The structures that a loop can carry, from the first step to the last.

    Each step may lose deltas, never find any, so that this ends.

    Args:
        step: what a step gives from blocks of given structures.
        carried: what of it is carried to the next step.
        start: what is carried at the start.

    Returns:
        The structures, and what a step gives from them.
    """
    forms: list[CarryStructure | None] = [carry_structure_of(block) for block in start]
    while True:
        shares = step(forms)
        blocks = carried(shares)
        grown = [joined(pair) for pair in zip(forms, map(carry_structure_of, blocks), strict=True)]
        if grown == forms:
            return forms, shares
        forms = grown


def written_cost(blocks: Iterable[tuple[CarryStructure | None, Block | None]]) -> Cost:
    """What it costs to write blocks as the arrays of their forms."""
    with planning() as cost:
        for form, block in blocks:
            if form is not None and block is not None:
                form.array(block)
    return cost


def may_lose(block: Block) -> bool:
    """Whether a block has labels in common between outputs and inputs that its form lacks."""
    kept = places(block_pairs(block))
    return any(
        arrays.numel(tuple(shared)) > kept
        for term in block.terms
        for shared in [_labels_of(term.out) & _labels_of(term.wrt)]
    )


def _labels_of(indices: Sequence[Index]) -> set[Label]:
    return {label for index in indices for label in index.labels}
