"""The structure that a block keeps while a loop carries it, or branches share it.

A loop's carry has one shape for all steps, so a carried block is one array: dense but for those
Kronecker deltas between an output and an input axis that survive every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.blocks.block import delta_pairs, rebuilt
from blockjac.blocks.cost import Abstract, is_planning

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """The shapes of a block, and the pairs of an output and an input axis that are one delta."""

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    pairs: frozenset[tuple[int, int]]

    @property
    def kept(self) -> tuple[int, ...]:
        """The input axes that the array of such a block has."""
        paired = {j for _, j in self.pairs}
        return tuple(j for j in range(len(self.wrt_shape)) if j not in paired)

    @property
    def shape(self) -> Shape:
        """The shape of the array of such a block: output axes, then the input axes kept."""
        return (*self.out_shape, *(self.wrt_shape[j] for j in self.kept))

    def zeros(self) -> Any:
        """The array of the zero block."""
        return jnp.zeros(self.shape, self.dtype)

    def array(self, block: Block | None) -> Any:
        """The array of a block that has at least these deltas.

        Raises:
            ValueError: if one of the deltas is missing.
        """
        if block is None or not block.terms:
            return Abstract(self.shape, self.dtype) if is_planning() else self.zeros()
        if not self.pairs <= set(delta_pairs(block)):
            raise ValueError(f"a block of structure {block.structure} lacks a delta of {self}")
        terms = [replace(term, wrt=tuple(term.wrt[j] for j in self.kept)) for term in block.terms]
        wrt_shape = tuple(self.wrt_shape[j] for j in self.kept)
        array = rebuilt(block.out_shape, wrt_shape, block.dtype, terms).dense()
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def abstract(self, *length: int) -> Abstract:
        """The array as a plan sees it, or of several blocks stacked."""
        return Abstract((*length, *self.shape), self.dtype)

    def block(self, array: Any) -> Block:
        """The block of an array of this shape."""
        out, wrt, labels = self._labels()
        return Block(self.out_shape, self.wrt_shape, self.dtype, [_term(array, labels, out, wrt)])

    def stacked(
        self, array: Any, length: int, place: int | None, partner: int | None = None
    ) -> Block:
        """The block of arrays stacked along a leading axis.

        Args:
            array: of `(length, *self.shape)`.
            length: of the leading axis.
            place: where among the input axes it goes; None for nowhere.
            partner: where among the output axes; None for nowhere.
        """
        out, wrt, labels = self._labels()
        step = Label(length)
        out_shape, wrt_shape = list(self.out_shape), list(self.wrt_shape)
        if place is not None:
            wrt.insert(place, step)
            wrt_shape.insert(place, length)
        if partner is not None:
            out.insert(partner, step)
            out_shape.insert(partner, length)
        return Block(out_shape, wrt_shape, self.dtype, [_term(array, [step, *labels], out, wrt)])

    def _labels(self) -> tuple[list[Label], list[Label], list[Label]]:
        """Labels of the output axes, of the input axes, and of the array's axes."""
        out = [Label(size) for size in self.out_shape]
        partner = {j: out[i] for i, j in self.pairs}
        wrt = [partner.get(j) or Label(size) for j, size in enumerate(self.wrt_shape)]
        return out, wrt, [*out, *(wrt[j] for j in self.kept)]


def _term(array: Any, labels: list[Label], out: list[Label], wrt: list[Label]) -> Term:
    factor = Factor(array, tuple(labels))
    return Term((factor,), tuple(map(Index.of, out)), tuple(map(Index.of, wrt)))


def form_of(block: Block | None) -> Form | None:
    """The form of a block; None of a zero one, which has any structure."""
    if block is None or not block.terms:
        return None
    return Form(block.out_shape, block.wrt_shape, block.dtype, frozenset(delta_pairs(block)))


def joined(forms: Iterable[Form | None]) -> Form | None:
    """The structure that all of them have: the deltas that all share."""
    shared: Form | None = None
    for form in forms:
        if shared is None:
            shared = form
        elif form is not None:
            shared = replace(shared, pairs=shared.pairs & form.pairs)
    return shared
