"""Several terms written as one, dense but for the deltas that all of them share."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from blockjac.algebra import arrays
from blockjac.algebra.axis_layout import Axis
from blockjac.algebra.materialize import materialize
from blockjac.algebra.nonzeros import joint_mask
from blockjac.algebra.pieces import joined, joint_axis
from blockjac.algebra.placed import parted
from blockjac.algebra.tidy import tidy_factor
from blockjac.base.tracing import is_in_a_step
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def in_one(block: Block, deltas: Sequence[tuple[int, int]], masked: bool = False) -> Term:
    """All terms of a block as one: with the deltas that all of them share, dense along other axes.

    Args:
        block: a block with at least one term.
        deltas: pairs of an output and an input axis whose delta is kept.
        masked: whether to add a mask of the places, if these are known.
    """
    rank = len(block.out_shape)
    target = [Label(size) for size in block.shape]
    for i, j in deltas:
        target[rank + j] = target[i]
    kept = [axis for i, j in deltas for axis in (i, rank + j)]
    axis = joint_axis(block.terms, block.shape, kept)
    if axis is None:
        whole, few = parted(block.terms, target)
        order = _layout(block)
        dense = [_over(term, kept, target, order, block) for term in whole]
        total = functools.reduce(arrays.add, dense)
        for _, places in few:
            total = places.added(total, block.dtype)
        total = tidy_factor(total)
    else:
        total = joined(block.terms, axis, target, block.shape, block.dtype)
    indices = [Index.of(label) for label in target]
    mask = joint_mask(block.terms, target) if masked else None
    factors = (total,) if mask is None else (total, mask)
    return Term(factors, tuple(indices[:rank]), tuple(indices[rank:]))


def _layout(block: Block) -> list[int]:
    """The axes in the order to write them; in the step of a loop the order of the largest factor.

    That factor then needs no transpose at any step. Elsewhere the block is mostly the answer, whose
    own order it would have to be transposed to.
    """
    factors = [(factor, term) for term in block.terms for factor in term.factors]
    if not factors or not is_in_a_step():
        return list(range(len(block.shape)))
    largest, term = max(factors, key=lambda pair: pair[0].numel)
    position = {label: number for number, label in enumerate(largest.labels)}

    def rank(axis: int) -> tuple[int, int]:
        positions = [position[label] for label in term.indices[axis].labels if label in position]
        return (min(positions, default=-1), axis)

    return sorted(range(len(block.shape)), key=rank)


def _over(
    term: Term, kept: Sequence[int], target: Sequence[Label], order: Sequence[int], block: Block
) -> Factor:
    """A term's entries over the target labels: with deltas along the kept axes, dense otherwise.

    Args:
        term: a term of the block.
        kept: the axes of the deltas.
        target: a label for each axis.
        order: the axes in the order of the result.
        block: the block of the term.
    """
    mapping = {term.indices[axis].labels[0]: target[axis] for axis in kept}
    axes = [
        Axis(term.indices[axis], block.shape[axis], target[axis])
        for axis in order
        if axis not in kept
    ]
    factor = materialize(term.factors, axes, list(mapping), block.dtype, term.coefficient)
    return Factor(factor.array, tuple(mapping.get(label, label) for label in factor.labels))
