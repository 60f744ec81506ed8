"""The axes of a block that an operator does not act on, in the coordinates that suit it.

An operator acts on the input axes of a cotangent; the output axes only say which cotangent it is.
Their index map, as after a reshape, a slice or a lookup, is the same before and after:

    cotangent = R star q    ==>    cotangent star J = R star (q star J)

with R a block of ones over the labels of the output indices, so that q has a plain label for each
of its output axes. A delta in a digit of an output axis is then a delta of a whole axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from blockjac.algebra import arrays
from blockjac.algebra.merging import correspondence
from blockjac.algebra.star import star
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.index import Index, Label, radix
from blockjac.terms.term import Term

Blocks = Sequence[Block | None]


@dataclass(frozen=True)
class Part:
    """Cotangents that share an index map of their output axes, separated from it.

    Attributes:
        embedding: the block from the labels of the output indices to the output axes; None if
            these are plain already.
        blocks: the cotangents with an output axis for each of these labels.
    """

    embedding: Block | None
    blocks: Blocks

    def through(self, act: Callable[[Blocks], list[Block | None]]) -> list[Block | None]:
        """The results of a linear map of the input axes, over the output axes again."""
        results = act(self.blocks)
        if self.embedding is None:
            return results
        return [block and star(self.embedding, block) for block in results]


@dataclass(frozen=True)
class _Member:
    """A term of one of the blocks, and its labels by those of the first term of its group."""

    position: int
    term: Term
    labels: Mapping[Label, Label]


def outside_parts(blocks: Blocks, whole: bool = False) -> list[Part]:
    """Blocks as a sum of parts with one index map of the output axes each.

    Args:
        blocks: blocks of the same `out_shape`; None for zero.
        whole: whether to separate only index maps that reach each output position exactly once.
    """
    groups: list[list[_Member]] = []
    for position, block in enumerate(blocks):
        for term in () if block is None else block.terms:
            for group in groups:
                labels = correspondence(term.out, group[0].term.out)
                if labels is not None:
                    group.append(_Member(position, term, labels))
                    break
            else:
                identity = {label: label for label in term.labels}
                groups.append([_Member(position, term, identity)])
    return [_part(blocks, group, whole) for group in groups]


def _part(blocks: Blocks, group: Sequence[_Member], whole: bool) -> Part:
    """The part of terms with one index map, which stays in place if it does not fit."""
    out = group[0].term.out
    (block, *_) = (block for block in blocks if block is not None)
    shape = block.out_shape
    labels = arrays.unique([label for index in out for label in _by_weight(index)])
    plain = all(index.is_plain(size) for index, size in zip(out, shape, strict=True))
    if (plain and len(labels) == sum(size != 1 for size in shape)) or not _fits(
        out, shape, labels, whole
    ):
        return Part(None, _gathered(blocks, group, shape, None))
    sizes = arrays.sizes(labels)
    fresh = Term((), out, tuple(map(Index.of, labels))).relabelled()
    embedding = rebuilt(shape, sizes, block.dtype, [fresh])
    return Part(embedding, _gathered(blocks, group, sizes, labels))


def _by_weight(index: Index) -> Sequence[Label]:
    """The labels of an index, those of the largest strides first."""
    if index.lookup is not None or len(index.strides) < 2:
        return index.labels
    return [label for label, _ in sorted(index.strides, key=lambda pair: -abs(pair[1]))]


def _fits(out: Sequence[Index], shape: Sequence[int], labels: Sequence[Label], whole: bool) -> bool:
    """Whether the labels have no more joint values than the axes; all of them, if `whole`."""
    if arrays.numel(labels) > arrays.numel([Label(size) for size in shape]):
        return False
    if not whole:
        return True
    if sum(len(index.labels) for index in out) != len(labels):
        return False
    return all(
        index.is_plain(size) or (radix(index) is not None and arrays.numel(index.labels) == size)
        for index, size in zip(out, shape, strict=True)
    )


def _gathered(
    blocks: Blocks,
    group: Sequence[_Member],
    shape: Sequence[int],
    labels: Sequence[Label] | None,
) -> list[Block | None]:
    """The terms of a group as blocks again, over these output labels unless they are None."""
    terms: dict[int, list[Term]] = {}
    for member in group:
        term = member.term
        if labels is not None:
            term = replace(term, out=tuple(Index.of(member.labels[label]) for label in labels))
        terms.setdefault(member.position, []).append(term)
    return [
        None
        if block is None or position not in terms
        else rebuilt(tuple(shape), block.wrt_shape, block.dtype, terms[position])
        for position, block in enumerate(blocks)
    ]
