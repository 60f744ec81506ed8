"""Blocks as linear operators of lineax; imported only when one is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks.as_matrix import AsMatrix
from blockjac.blocks.bands import offsets, on_diagonal
from blockjac.blocks.block import Block
from blockjac.errors import MissingExtraError

try:
    import equinox
    import lineax
except ImportError as error:
    raise MissingExtraError(
        "as_linear_operator gives an operator of lineax, which is not installed: "
        "pip install 'blockjac[interop]'; to_scipy_operator needs nothing more"
    ) from error


class BlockLinearOperator(lineax.AbstractLinearOperator):
    """A Block, or a BlockMatrix, as a linear operator between tensors or trees of them.

    Attributes:
        block: the linear map.
        tags: what is promised of it beyond its structure.
    """

    block: Any
    tags: frozenset[object] = equinox.field(static=True)

    def mv(self, vector: Any) -> Any:
        """The product with a tensor of the input's shape, or a tree of them."""
        return self.block.matvec(vector)

    def as_matrix(self) -> jax.Array:
        """The dense matrix, outputs and inputs flattened."""
        dense = self.block.dense()
        return jnp.reshape(dense, self.block.matrix_shape)

    def transpose(self) -> BlockLinearOperator:
        """The transpose, with the tags that it keeps."""
        return BlockLinearOperator(self.block.T, lineax.transpose_tags(self.tags))

    def in_structure(self) -> Any:
        """Shapes and dtypes of the input."""
        return _structure(self.block, "wrt")

    def out_structure(self) -> Any:
        """Shapes and dtypes of the output."""
        return _structure(self.block, "out")


def operator_of(block: AsMatrix, tags: Any) -> BlockLinearOperator:
    """The operator of a block; see `Block.as_linear_operator`."""
    several = isinstance(tags, Iterable) and not isinstance(tags, str)
    return BlockLinearOperator(block, frozenset(tags if several else (tags,)))


def _structure(block: Any, side: str) -> Any:
    if isinstance(block, Block):
        return jax.ShapeDtypeStruct(getattr(block, f"{side}_shape"), block.dtype)
    shapes = getattr(block, f"{side}_shapes")
    leaves = [jax.ShapeDtypeStruct(shape, block.dtype) for shape in shapes]
    return jax.tree.unflatten(getattr(block, f"{side}_tree"), leaves)


def _offsets(operator: BlockLinearOperator) -> list[int] | None:
    """The diagonals that the structure has; None if it has more than a few."""
    matrix = operator.block
    rows, columns = matrix.matrix_shape
    if rows != columns or not matrix.is_multiplied:
        return None
    found: list[int] = []
    grid = matrix.grid
    for place, row in enumerate(grid):
        for other, block in enumerate(row):
            own = offsets(block)
            if own is None or (own and (place != other or _is_skew(grid))):
                return None
            found += own
    return found


def _is_skew(grid: Any) -> bool:
    """Whether the blocks of a diagonal place are not square, so that theirs is not the whole's."""
    return any(row[i].out_shape != row[i].wrt_shape for i, row in enumerate(grid))


def _reaches(operator: BlockLinearOperator, below: int, above: int) -> bool:
    """Whether no entry lies further than so many diagonals below and above the main one."""
    found = _offsets(operator)
    return found is not None and all(-below <= offset <= above for offset in found)


FAR = 2**62


@lineax.is_diagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    return lineax.diagonal_tag in operator.tags or _reaches(operator, 0, 0)


@lineax.is_tridiagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    tags = {lineax.tridiagonal_tag, lineax.diagonal_tag}
    return bool(tags & operator.tags) or _reaches(operator, 1, 1)


@lineax.is_lower_triangular.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    tags = {lineax.lower_triangular_tag, lineax.diagonal_tag}
    return bool(tags & operator.tags) or _reaches(operator, FAR, 0)


@lineax.is_upper_triangular.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    tags = {lineax.upper_triangular_tag, lineax.diagonal_tag}
    return bool(tags & operator.tags) or _reaches(operator, 0, FAR)


@lineax.is_symmetric.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    tags = {
        lineax.symmetric_tag,
        lineax.diagonal_tag,
        lineax.positive_semidefinite_tag,
        lineax.negative_semidefinite_tag,
    }
    return bool(tags & operator.tags) or _reaches(operator, 0, 0)


@lineax.has_unit_diagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    return lineax.unit_diagonal_tag in operator.tags


@lineax.is_positive_semidefinite.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    return lineax.positive_semidefinite_tag in operator.tags


@lineax.is_negative_semidefinite.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> bool:
    return lineax.negative_semidefinite_tag in operator.tags


@lineax.diagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> jax.Array:
    leaves = jax.tree.leaves(operator.block.diagonal())
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


@lineax.tridiagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> tuple[jax.Array, jax.Array, jax.Array]:
    blocks = [row[place] for place, row in enumerate(operator.block.grid)]
    if len(blocks) == 1 and _reaches(operator, 1, 1):
        return tuple(on_diagonal(blocks[0], offset) for offset in (0, -1, 1))
    dense = operator.as_matrix()
    return tuple(jnp.diagonal(dense, offset=offset) for offset in (0, -1, 1))


@lineax.linearise.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> BlockLinearOperator:
    return operator


@lineax.materialise.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> Any:
    """Dense blocks in lineax's own operator, but a diagonal stays one."""
    block = operator.block
    if isinstance(block, Block):
        if len(block.wrt_shape) == 1 and lineax.is_diagonal(operator):
            return lineax.DiagonalLinearOperator(block.diagonal())
        return lineax.PyTreeLinearOperator(block.dense(), operator.out_structure(), operator.tags)
    rows = [[one.dense() for one in row] for row in block.grid]
    trees = [jax.tree.unflatten(block.wrt_tree, row) for row in rows]
    dense = jax.tree.unflatten(block.out_tree, trees)
    return lineax.PyTreeLinearOperator(dense, operator.out_structure(), operator.tags)


@lineax.conj.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> BlockLinearOperator:
    conjugate = jax.tree.map(
        lambda leaf: jnp.conj(leaf) if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else leaf,
        operator.block,
    )
    return BlockLinearOperator(conjugate, operator.tags)
