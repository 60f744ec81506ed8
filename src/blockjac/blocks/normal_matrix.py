"""Normal matrices `J' W J`, block by block, one of each pair of mirror images."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from blockjac.algebra.star import star
from blockjac.algebra.sums import add
from blockjac.blocks.block_matrix import BlockMatrix
from blockjac.blocks.listed_reads import squares, with_whole_rows
from blockjac.terms.block import Block


def normal_matrix(jacobian: BlockMatrix, weights: Sequence[Block] | None = None) -> BlockMatrix:
    """`J' W J` of a Jacobian, a symmetric `BlockMatrix` over its inputs.

    Args:
        jacobian: J.
        weights: of each output its block of W, symmetric; None for the identity.
    """
    left = [tuple(map(with_whole_rows, column)) for column in zip(*jacobian.rows, strict=True)]
    right = left if weights is None else [tuple(map(star, weights, column)) for column in left]
    upper = [
        [
            functools.reduce(add, map(_product, left_column, right_column))
            for right_column in right[index:]
        ]
        for index, left_column in enumerate(left)
    ]
    return BlockMatrix.symmetric(upper, jacobian.wrt_tree)


def _product(left: Block, right: Block) -> Block:
    """`left' right`."""
    summed = squares(left, right)
    return star(left.T, right) if summed is None else summed
