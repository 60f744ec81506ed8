"""Blocks with their axes in other places, or with further axes."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.terms.block import Block, rebuilt
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def rearranged(block: Block, out: Sequence[int], wrt: Sequence[int]) -> Block:
    """The block with its axes in other places.

    Args:
        block: a block.
        out: the axes that become output axes, numbered as those of `block.shape`.
        wrt: those that become input axes.

    Examples:
        >>> rearranged(Block.zeros((2, 3), (4,)), [0], [2, 1]).shape
        (2, 4, 3)
    """
    terms = [
        Term(
            term.factors,
            tuple(term.indices[axis] for axis in out),
            tuple(term.indices[axis] for axis in wrt),
            term.coefficient,
        )
        for term in block.terms
    ]
    shape = block.shape
    out_shape, wrt_shape = (tuple(shape[axis] for axis in side) for side in (out, wrt))
    return rebuilt(out_shape, wrt_shape, block.dtype, terms)


def beside(block: Block, sizes: Sequence[int]) -> Block:
    """The block of further axes in front that pass as they are, and then those of a block."""
    if not sizes:
        return block
    terms: list[Term] = []
    for term in block.terms:
        passing = tuple(Index.of(Label(size)) for size in sizes)
        out, wrt = (*passing, *term.out), (*passing, *term.wrt)
        terms.append(Term(term.factors, out, wrt, term.coefficient))
    shapes = (*sizes, *block.out_shape), (*sizes, *block.wrt_shape)
    return Block(*shapes, block.dtype, terms)
