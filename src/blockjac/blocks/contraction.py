"""`star`, the contraction of the chain rule, for blocks, block matrices and arrays."""

from __future__ import annotations

from typing import Any

from blockjac.algebra import star as contraction
from blockjac.blocks.block_matrix import BlockMatrix


def star(left: Any, right: Any) -> Any:
    """The standard contraction: `(left star right)[i, j] = sum_k left[i, k] right[k, j]`.

    The sum is over *all* axes of the variable in between, so that the chain rule is
    `D(h o f) = D h star D f`.

    Args:
        left: a Block (or BlockMatrix), or an array of shape `right.out_shape`.
        right: a Block (or BlockMatrix), or an array of shape `left.wrt_shape`.

    Returns:
        A Block of shape `left.out_shape + right.wrt_shape`, or an array if an argument is one.

    Raises:
        BlockShapeError: if the shapes of the variable in between differ; names both.

    Source:
        The chain rule for block Jacobians on products of tensor spaces.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block, star
        >>> rotate = Block.from_dense(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), out_ndim=1)
        >>> star(rotate, rotate).dense()
        Array([[-1.,  0.],
               [ 0., -1.]], dtype=float32)
    """
    if isinstance(left, BlockMatrix) or isinstance(right, BlockMatrix):
        return BlockMatrix.contract(left, right)
    return contraction.star(left, right)
