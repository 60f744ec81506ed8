"""The structure of a Block in a word."""

from __future__ import annotations

from blockjac.explanations.page.blocks import EdgeBlock
from blockjac.terms.block import Block, delta_pairs

WORDS = {
    "zero": "no entry",
    "identity": "the identity",
    "copies": "deltas and sums alone: nothing is stored",
    "diagonal": "a diagonal",
    "δ·dense": "deltas times a smaller array",
    "dense": "an array over all axes",
    "sparse": "entries at places of their own",
    "map": "a map that is applied, written out",
    "not written": "a map that is applied and is too large to write out",
}
"""What the words mean."""


def kind_of(own: EdgeBlock) -> str:
    """The structure of an edge, one of `WORDS`."""
    if own.block is None:
        return "not written"
    if own.is_dense:
        return "map"
    return _of_block(own.block)


def _of_block(block: Block) -> str:
    """The structure of a Block."""
    if block.is_zero:
        return "zero"
    deltas = delta_pairs(block)
    wide = sum(size != 1 for size in block.shape)
    is_plain = all(
        index.is_plain(size)
        for term in block.terms
        for index, size in zip(term.indices, block.shape, strict=True)
    )
    if not any(term.factors for term in block.terms) and is_plain:
        is_one = len(block.terms) == 1 and block.terms[0].coefficient == 1
        return "identity" if is_one and 2 * len(deltas) == wide else "copies"
    if wide and 2 * len(deltas) == wide:
        return "diagonal"
    if deltas and is_plain:
        return "δ·dense"
    return "dense" if is_plain else "sparse"
