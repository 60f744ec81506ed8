"""A block cut along the axis that a loop runs over: one block per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Abstract
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.star import star
from blockjac.blocks import Block, Factor, Term
from blockjac.control_flow.carry_structure import inserted
from blockjac.terms.block import delta_pairs, rebuilt
from blockjac.terms.index import Index, Label


@dataclass(frozen=True)
class Slices:
    """A block along one input axis.

    Attributes:
        block: the original block.
        whole: the same block; in each of its terms the axis is a label of factors alone.
        axis: the input axis.
        partner: an output axis that is one delta with it in every term, and is cut as well; or
            None.
        arrays: those of the factors that have the axis, with the axis first.
    """

    block: Block
    whole: Block
    axis: int
    partner: int | None
    arrays: list[Any]

    def step(self, slices: Sequence[Any]) -> Block:
        """The block of one step, from that step's slice of each of the `arrays`."""
        arrays = iter(slices)
        terms = []
        for term in self.whole.terms:
            label = _label(term, self.axis)
            factors = []
            for factor in term.factors:
                labels = tuple(kept for kept in factor.labels if kept is not label)
                is_cut = labels != factor.labels
                factors.append(Factor(next(arrays), labels, factor.name) if is_cut else factor)
            wrt, out = _dropped(term.wrt, self.axis), _dropped(term.out, self.partner)
            terms.append(replace(term, factors=tuple(factors), wrt=wrt, out=out))
        out_shape = _dropped(self.whole.out_shape, self.partner)
        wrt_shape = _dropped(self.whole.wrt_shape, self.axis)
        return rebuilt(out_shape, wrt_shape, self.whole.dtype, terms)

    def at(self, number: int) -> Block:
        """The block of the step of a number, in the structure that it has just there."""
        if self.partner is not None:
            return self.step([_entry(array, number) for array in self.arrays])
        shape = _dropped(self.block.wrt_shape, self.axis)
        rest = tuple(Index.of(Label(size)) for size in shape)
        chosen = Term((), inserted(rest, self.axis, Index(number)), rest)
        return star(self.block, Block(self.block.wrt_shape, shape, self.block.dtype, [chosen]))

    def any_step(self) -> Block:
        """The block of a step as a plan sees it."""
        return self.step([Abstract(tuple(a.shape[1:]), a.dtype) for a in self.arrays])


def sliced(block: Block, axis: int, partner: int | None = None) -> Slices:
    """Cut a block along an input axis; a delta of that axis is written out, unless it is cut too.

    Args:
        block: the block.
        axis: the input axis.
        partner: an output axis that is one delta with it in every term, to be cut as well.
    """
    terms = list(block.terms)
    if partner is None:
        terms = [_separate(term, axis, block) for term in terms]
    arrays = [
        _leading(factor, label)
        for term in terms
        for label in [_label(term, axis)]
        for factor in term.factors
        if label in factor.labels
    ]
    whole = rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)
    return Slices(block, whole, axis, partner, arrays)


def cut_all(
    blocks: Sequence[Block | None], axes: Sequence[int], partner: int | None = None
) -> list[Slices | None]:
    """Each block cut along its axis; None for zero."""
    return [
        None if block is None else sliced(block, axis, partner)
        for block, axis in zip(blocks, axes, strict=True)
    ]


def aligned_axis(blocks: Sequence[Block | None], axes: Sequence[int]) -> int | None:
    """The output axis that is one delta with the input axis in every block; None if not shared."""
    shared = [
        {i for i, j in delta_pairs(block) if j == axis}
        for block, axis in zip(blocks, axes, strict=True)
        if block is not None
    ]
    return min(set.intersection(*shared), default=None) if shared else None


def _separate(term: Term, axis: int, block: Block) -> Term:
    """The term with the axis' label in no other index, and in no lookup."""
    size, index = block.wrt_shape[axis], term.wrt[axis]
    if size == 1 and index == Index():
        return term
    rest = (*term.out, *_dropped(term.wrt, axis))
    if index.is_plain(size) and not any(index.labels[0] in other.labels for other in rest):
        return term
    return as_dense_axes(term, [axis], block.wrt_shape, block.dtype)


def _label(term: Term, axis: int) -> Label | None:
    labels = term.wrt[axis].labels
    return labels[0] if labels else None


def _dropped(values: Sequence[Any], axis: int | None) -> tuple[Any, ...]:
    """The values of a block's axes without one of them; None for no axis."""
    return tuple(values) if axis is None else (*values[:axis], *values[axis + 1 :])


def _entry(array: Any, number: int) -> Any:
    """The entry of a number along the first axis."""
    return backend().array(
        array.shape[1:], array.dtype, lambda: lax.index_in_dim(array, number, keepdims=False)
    )


def _leading(factor: Factor, label: Label | None) -> Any:
    array, axis = factor.array, factor.labels.index(label)
    shape = (array.shape[axis], *_dropped(array.shape, axis))
    return backend().array(shape, array.dtype, lambda: jnp.moveaxis(array, axis, 0))
