"""Blocks as linear operators of lineax; imported only when one is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.entries import Grid, check_no_batch, is_static, pieces, shape_of
from blockjac.base.trees import mapped
from blockjac.errors import MissingExtraError
from blockjac.sparsity.bands import offsets, on_diagonal
from blockjac.sparsity.pattern import EXACT_PLACES, pattern
from blockjac.terms.block import Block
from blockjac.terms.matrix_interface import MatrixInterface

try:
    import equinox
    import lineax
except ImportError as error:
    raise MissingExtraError(
        "as_linear_operator gives an operator of lineax, which is not installed: "
        "pip install lineax; to_scipy_operator needs nothing more"
    ) from error


class BlockLinearOperator(lineax.AbstractLinearOperator):
    """A Block, or a BlockMatrix, as a linear operator between tensors or trees of them.

    Attributes:
        block: the linear map.
        tags: what is promised of it beyond its structure.
    """

    block: Any
    tags: frozenset[Any] = equinox.field(static=True)

    def mv(self, vector: Any) -> Any:
        """The product with a tensor of the input's shape, or a tree of them."""
        return self.block.matvec(vector)

    def as_matrix(self) -> jax.Array:
        """The dense matrix, outputs and inputs flattened."""
        dense = self.block.dense()
        return jnp.reshape(dense, self.block.matrix_shape)

    def transpose(self) -> BlockLinearOperator:
        """The transpose, with the tags that it keeps."""
        return BlockLinearOperator(
            self.block.T, cast("frozenset[Any]", lineax.transpose_tags(self.tags))
        )

    def in_structure(self) -> Any:
        """Shapes and dtypes of the input."""
        return _structure(self.block, "wrt")

    def out_structure(self) -> Any:
        """Shapes and dtypes of the output."""
        return _structure(self.block, "out")


def operator_of(block: MatrixInterface, tags: Any) -> BlockLinearOperator:
    """The operator of a block; see `Block.as_linear_operator`."""
    check_no_batch(block, "a linear operator")
    several = isinstance(tags, Iterable) and not isinstance(tags, str)
    tag_items = cast("Iterable[Any]", tags if several else (tags,))
    return BlockLinearOperator(block, frozenset(tag_items))


def _structure(block: Any, side: str) -> Any:
    if isinstance(block, Block):
        return jax.ShapeDtypeStruct(getattr(block, f"{side}_shape"), block.dtype)
    shapes = getattr(block, f"{side}_shapes")
    leaves = [jax.ShapeDtypeStruct(shape, block.dtype) for shape in shapes]
    return jax.tree.unflatten(getattr(block, f"{side}_tree"), leaves)


def _reaches(operator: BlockLinearOperator, below: int, above: int) -> bool:
    """Whether no entry lies further than this many diagonals below and above the main one."""
    if not operator.block.is_multiplied:
        return False
    grid = operator.block.grid
    rows, columns = shape_of(grid)
    if rows != columns:
        return False
    diagonals = offsets(grid)
    if diagonals is not None:
        return all(-below <= offset <= above for offset in diagonals)
    return _is_listed(grid) and _is_within(pattern(grid).bandwidth, below, above)


def _is_within(bandwidth: tuple[int, int], below: int, above: int) -> bool:
    return bandwidth[0] <= below and bandwidth[1] <= above


def _is_listed(grid: Grid) -> bool:
    """Whether places that are not on diagonals are known, and few enough to look at."""
    grid_pieces = pieces(grid)
    return (
        any(index.lookup is not None for piece in grid_pieces for index in piece.term.indices)
        and is_static(grid)
        and sum(piece.count for piece in grid_pieces) <= EXACT_PLACES
    )


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
    """Whether a tag says so, or the matrix is square and diagonal."""
    tags = {
        lineax.symmetric_tag,
        lineax.diagonal_tag,
        lineax.positive_semidefinite_tag,
        lineax.negative_semidefinite_tag,
    }
    alike = operator.in_structure() == operator.out_structure()  # lineax asks it of a symmetric one
    return bool(tags & operator.tags) or (alike and _reaches(operator, 0, 0))


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
    return _diagonals(operator, (0,))[0]


@lineax.tridiagonal.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> tuple[jax.Array, jax.Array, jax.Array]:
    main, lower, upper = _diagonals(operator, (0, -1, 1))
    return main, lower, upper


def _diagonals(operator: BlockLinearOperator, wanted: tuple[int, ...]) -> list[jax.Array]:
    """Diagonals of the matrix, from the structure where it has diagonals alone."""
    block = operator.block
    if offsets(block.grid) is not None:
        return [on_diagonal(block.grid, offset) for offset in wanted]
    if wanted == (0,) and _is_square(block):
        return [jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(block.diagonal())])]
    dense = operator.as_matrix()
    return [jnp.diagonal(dense, offset=offset) for offset in wanted]


def _is_square(block: Any) -> bool:
    """Whether outputs and inputs have the same shapes one by one."""
    if isinstance(block, Block):
        return block.out_shape == block.wrt_shape
    return block.out_shapes == block.wrt_shapes


@lineax.linearise.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> BlockLinearOperator:
    return operator


@lineax.materialise.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> Any:
    """Dense blocks in lineax's own operator, but a diagonal stays one."""
    block = operator.block
    if isinstance(block, Block):
        one_axis = len(block.out_shape) == len(block.wrt_shape) == 1
        if one_axis and lineax.is_diagonal(operator):
            return lineax.DiagonalLinearOperator(lineax.diagonal(operator))
        return lineax.PyTreeLinearOperator(block.dense(), operator.out_structure(), operator.tags)
    rows = [[entry.dense() for entry in row] for row in block.grid]
    trees = [jax.tree.unflatten(block.wrt_tree, row) for row in rows]
    dense = jax.tree.unflatten(block.out_tree, trees)
    return lineax.PyTreeLinearOperator(dense, operator.out_structure(), operator.tags)


@lineax.conj.register(BlockLinearOperator)
def _(operator: BlockLinearOperator) -> BlockLinearOperator:
    def conjugate(leaf: Any) -> Any:
        return jnp.conj(leaf) if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else leaf

    return BlockLinearOperator(mapped(conjugate, operator.block), operator.tags)
