"""BlockMatrix: a grid of blocks, the Jacobian of several tensors by several variables."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks.as_matrix import AsMatrix
from blockjac.blocks.block import Block, as_array
from blockjac.blocks.star import add, star
from blockjac.errors import BlockShapeError, BlockTypeError


class BlockMatrix(AsMatrix):
    """A grid of blocks by output tensor (rows) and input tensor (columns).

    Args:
        rows: lists of Blocks of equal length; None stands for the zero block. Every row needs one
            block and so does every column, which tells the shapes.
        out_tree: the tree of the outputs, for `tree()`; a tuple when not given.
        wrt_tree: the tree of the inputs likewise.

    Raises:
        BlockShapeError: if the rows differ in length, or a block does not fit its row or column.
        BlockTypeError: if an entry is neither a Block nor None.

    Example:
        >>> from blockjac import Block, BlockMatrix
        >>> swap = BlockMatrix([[None, Block.identity((2,))], [Block.identity((3,)), None]])
        >>> swap.out_shapes, swap.wrt_shapes
        (((2,), (3,)), ((3,), (2,)))
        >>> (swap @ swap.T)[0, 0].structure
        "δ[i,i']"
    """

    def __init__(
        self, rows: Sequence[Sequence[Block | None]], out_tree: Any = None, wrt_tree: Any = None
    ) -> None:
        given = [_blocks(row, place) for place, row in enumerate(rows)]
        if not given or any(len(row) != len(given[0]) for row in given) or not given[0]:
            raise BlockShapeError(
                "a BlockMatrix needs rows of one length, at least 1, but found rows of "
                f"{[len(row) for row in given]} blocks"
            )
        out_shapes = [
            _shape_of(row, "out_shape", f"row {place}") for place, row in enumerate(given)
        ]
        wrt_shapes = [
            _shape_of([row[place] for row in given], "wrt_shape", f"column {place}")
            for place in range(len(given[0]))
        ]
        dtype = jnp.result_type(
            *(block.dtype for row in given for block in row if block is not None)
        )
        self.out_shapes: tuple[tuple[int, ...], ...] = tuple(out_shapes)
        self.wrt_shapes: tuple[tuple[int, ...], ...] = tuple(wrt_shapes)
        self.rows: tuple[tuple[Block, ...], ...] = tuple(
            tuple(
                block if block is not None else Block.zeros(out_shape, wrt_shape, dtype)
                for block, wrt_shape in zip(row, wrt_shapes, strict=True)
            )
            for row, out_shape in zip(given, out_shapes, strict=True)
        )
        self.dtype = np.dtype(dtype)
        self.out_tree = (
            out_tree if out_tree is not None else jax.tree.structure((0,) * len(self.out_shapes))
        )
        self.wrt_tree = (
            wrt_tree if wrt_tree is not None else jax.tree.structure((0,) * len(self.wrt_shapes))
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the flattened matrix."""
        return sum(map(math.prod, self.out_shapes)), sum(map(math.prod, self.wrt_shapes))

    @property
    def grid(self) -> list[list[Block]]:
        """The rows as lists."""
        return [list(row) for row in self.rows]

    def flat_matvec(self, vector: Any) -> jax.Array:
        """The product with one flat vector of all inputs, flat."""
        parts = self.matvec(_unflattened(vector, self.wrt_shapes, self.wrt_tree))
        return jnp.concatenate([jnp.ravel(part) for part in jax.tree.leaves(parts)])

    def flat_vecmat(self, vector: Any) -> jax.Array:
        """The product of one flat vector of all outputs with this, flat."""
        return self.T.flat_matvec(vector)

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return sum(block.nbytes for row in self.rows for block in row)

    @property
    def nnz(self) -> int:
        """The number of places where the structure has an entry; see `Block.nnz`."""
        return sum(block.nnz for row in self.rows for block in row)

    def __getitem__(self, key: Any) -> Any:
        """`matrix[i, j]` is a Block; `matrix[i]` the tree of row i's blocks."""
        places = key if isinstance(key, tuple) else (key,)
        if len(places) > 2 or not all(isinstance(place, int | np.integer) for place in places):
            raise BlockTypeError(
                "a BlockMatrix is indexed by output and input, matrix[i, j] or matrix[i] with "
                f"ints, but found {key!r}; for several blocks take them one by one"
            )
        if isinstance(key, tuple):
            return functools.reduce(operator.getitem, places, self.rows)
        return jax.tree.unflatten(self.wrt_tree, self.rows[key])

    def tree(self) -> Any:
        """The output tree with the input tree of its blocks in each leaf, as `block_jacobian`'s."""
        return jax.tree.unflatten(self.out_tree, [self[place] for place in range(len(self.rows))])

    @property
    def T(self) -> BlockMatrix:
        """The transpose."""
        return BlockMatrix(
            [[block.T for block in column] for column in zip(*self.rows, strict=True)],
            self.wrt_tree,
            self.out_tree,
        )

    def __matmul__(self, other: Any) -> BlockMatrix:
        return BlockMatrix.contract(self, other)

    def __rmatmul__(self, other: Any) -> BlockMatrix:
        return BlockMatrix.contract(other, self)

    # numpy must leave `array @ matrix` to __rmatmul__
    __array_ufunc__ = None

    @staticmethod
    def contract(left: Any, right: Any) -> BlockMatrix:
        """The product of two block matrices: `star` in place of multiplication.

        Raises:
            BlockShapeError: if the shapes in between differ, or an argument is no BlockMatrix.
        """
        if not isinstance(left, BlockMatrix) or not isinstance(right, BlockMatrix):
            raise BlockShapeError(
                f"a BlockMatrix contracts with a BlockMatrix, but found {type(left).__name__} and "
                f"{type(right).__name__}; "
                "use .matvec, or .T.matvec from the left, for a tree of arrays, and "
                "BlockMatrix([[block]]) for one block"
            )
        if left.wrt_shapes != right.out_shapes:
            raise BlockShapeError(
                f"star needs the left columns {left.wrt_shapes} to be the right rows "
                f"{right.out_shapes}"
            )
        rows = []
        for row in left.rows:
            blocks = []
            for place in range(len(right.wrt_shapes)):
                total: Block | None = None
                for one, other in zip(row, (line[place] for line in right.rows), strict=True):
                    product = star(one, other)
                    total = product if total is None else add(total, product)
                blocks.append(total)
            rows.append(blocks)
        return BlockMatrix(rows, left.out_tree, right.wrt_tree)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        shapes = [block.batch_shape for row in self.rows for block in row]
        return max(shapes, key=len)

    def matvec(self, tangent: Any) -> Any:
        """Apply to a tree of tangents like the inputs; gives a tree like the outputs.

        Raises:
            BlockShapeError: if the tree or a shape differs.
        """
        leaves, tree = jax.tree.flatten(tangent)
        shapes = tuple(tuple(as_array(leaf).shape) for leaf in leaves)
        batch = self.batch_shape
        if batch:
            batched = shapes == tuple((*batch, *shape) for shape in self.wrt_shapes)
            return jax.vmap(BlockMatrix.matvec, in_axes=(0, 0 if batched else None))(self, tangent)
        if tree != self.wrt_tree or shapes != self.wrt_shapes:
            raise BlockShapeError(
                f"matvec needs a tree {self.wrt_tree} of shapes {self.wrt_shapes}, but found "
                f"{tree} of shapes {shapes}"
            )
        results = []
        for row in self.rows:
            parts = [block.matvec(leaf) for block, leaf in zip(row, leaves, strict=True)]
            results.append(sum(parts[1:], parts[0]))
        return jax.tree.unflatten(self.out_tree, results)

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """One matrix of `shape`, with every tensor flattened in row-major order.

        Raises:
            DenseTooLargeError: over the size limit.
        """
        from blockjac.blocks.dense import check_size

        if self.batch_shape:
            return jax.vmap(lambda matrix: matrix.dense(max_bytes))(self)

        check_size(
            self.shape,
            self.dtype,
            max_bytes,
            "the dense block matrix",
            "use .matvec, which needs no dense matrix",
        )
        rows = []
        for row, out_shape in zip(self.rows, self.out_shapes, strict=True):
            height = math.prod(out_shape)
            parts = [jnp.reshape(block.dense(), (height, -1 if block.size else 0)) for block in row]
            rows.append(jnp.concatenate(parts, axis=1))
        return jnp.concatenate(rows, axis=0)

    def diagonal(self) -> Any:
        """The diagonal entries as a tree like the inputs.

        Raises:
            BlockShapeError: if output and input shapes differ.
        """
        if self.out_shapes != self.wrt_shapes:
            raise BlockShapeError(
                f"the diagonal needs equal output and input shapes, but found {self.out_shapes} "
                f"and {self.wrt_shapes}"
            )
        if self.batch_shape:
            return jax.vmap(BlockMatrix.diagonal)(self)
        return jax.tree.unflatten(
            self.wrt_tree, [self.rows[place][place].diagonal() for place in range(len(self.rows))]
        )

    def solve(self, right: Any, damping: float = 0.0) -> Any:
        """Solve `(self + damping * I) x = right` for a tree like the inputs, densely.

        Args:
            right: a tree like the outputs.
            damping: added to the diagonal, not negative.

        Raises:
            BlockShapeError: if the matrix is not square, or the tree does not fit.
        """
        if self.out_shapes != self.wrt_shapes:
            raise BlockShapeError(
                f"solve needs a square matrix, but found {self.out_shapes} by {self.wrt_shapes}"
            )
        leaves = jax.tree.leaves(right)
        shapes = tuple(tuple(as_array(leaf).shape) for leaf in leaves)
        if self.batch_shape:
            batched = shapes == tuple((*self.batch_shape, *shape) for shape in self.out_shapes)
            one = functools.partial(BlockMatrix.solve, damping=damping)
            return jax.vmap(one, in_axes=(0, 0 if batched else None))(self, right)
        self.check_tree(right, "solve")
        flat = jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
        matrix = self.dense() + damping * jnp.eye(self.shape[0], dtype=self.dtype)
        solution = jnp.linalg.solve(matrix, flat)
        return _unflattened(solution, self.wrt_shapes, self.wrt_tree)

    def check_tree(self, right: Any, name: str) -> None:
        """Raise unless a tree is like the outputs.

        Args:
            right: the tree.
            name: of the method, for the message.

        Raises:
            BlockShapeError: if the tree or a shape differs.
        """
        leaves, tree = jax.tree.flatten(right)
        shapes = tuple(tuple(as_array(leaf).shape) for leaf in leaves)
        if tree != self.out_tree or shapes != self.out_shapes:
            raise BlockShapeError(
                f"{name} needs a tree {self.out_tree} of shapes {self.out_shapes}, but found "
                f"{tree} of shapes {shapes}"
            )

    def __repr__(self) -> str:
        lines = [", ".join(block.structure for block in row) for row in self.rows]
        return "BlockMatrix(\n  [" + "]\n  [".join(lines) + "])"


def _unflattened(vector: Any, shapes: Sequence[tuple[int, ...]], tree: Any) -> Any:
    """A tree of tensors from one flat vector."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    parts = [
        jnp.reshape(part, shape)
        for part, shape in zip(jnp.split(vector, ends[:-1]), shapes, strict=True)
    ]
    return jax.tree.unflatten(tree, parts)


def _blocks(row: Any, place: int) -> list[Block | None]:
    """A row's blocks, or an error that tells what else it holds."""
    entries = list(row) if isinstance(row, Iterable) else [row]
    for entry in entries:
        if not isinstance(entry, Block | None):
            raise BlockTypeError(
                f"row {place} of a BlockMatrix needs a list of Blocks and None, but holds "
                f"{type(entry).__name__}; Block.from_dense(array, out_ndim) makes a Block of an "
                "array"
            )
    return entries


def _shape_of(blocks: Sequence[Block | None], which: str, where: str) -> tuple[int, ...]:
    shapes = {getattr(block, which) for block in blocks if block is not None}
    if len(shapes) != 1:
        found = "no block" if not shapes else f"blocks of {which} {sorted(shapes)}"
        raise BlockShapeError(
            f"{where} of a BlockMatrix needs blocks of one {which}, but found {found}"
        )
    return shapes.pop()


def _flatten(matrix: BlockMatrix) -> tuple[list[Any], Any]:
    blocks = [block for row in matrix.rows for block in row]
    return blocks, (
        matrix.out_shapes,
        matrix.wrt_shapes,
        matrix.dtype,
        matrix.out_tree,
        matrix.wrt_tree,
    )


def _unflatten(static: Any, blocks: Sequence[Any]) -> BlockMatrix:
    matrix = object.__new__(BlockMatrix)
    matrix.out_shapes, matrix.wrt_shapes, matrix.dtype, matrix.out_tree, matrix.wrt_tree = static
    width = len(matrix.wrt_shapes)
    matrix.rows = tuple(
        tuple(blocks[start : start + width]) for start in range(0, len(blocks), width)
    )
    return matrix


jax.tree_util.register_pytree_node(BlockMatrix, _flatten, _unflatten)
