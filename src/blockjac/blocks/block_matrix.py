"""BlockMatrix: a grid of blocks, the Jacobian of several tensors by several variables."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.dense import check_size
from blockjac.algebra.star import star
from blockjac.algebra.sums import add
from blockjac.base.arrays import Shape
from blockjac.blocks import tree_vectors
from blockjac.blocks.factorization import solve
from blockjac.blocks.grids import Rows, checked_rows, mirrored, tuple_tree, written
from blockjac.blocks.system_checks import Assume
from blockjac.blocks.tree_vectors import over_batch
from blockjac.errors import BlockShapeError, BlockTypeError
from blockjac.terms.block import Block, leaves
from blockjac.terms.matrix_interface import MatrixInterface
from blockjac.terms.structure import bytes_of


class BlockMatrix(MatrixInterface):
    """A grid of blocks by output tensor (rows) and input tensor (columns).

    Args:
        rows: lists of Blocks of equal length; None stands for the zero block. Every row needs one
            block and so does every column, which tells the shapes.
        out_tree: the tree of the outputs, for `tree()`; a tuple when not given.
        wrt_tree: the tree of the inputs likewise.

    Raises:
        BlockShapeError: if the rows differ in length, or a block does not fit its row or column.
        BlockTypeError: if an entry is neither a Block nor None.

    Examples:
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
        self.rows: Rows = checked_rows(rows)
        self.out_shapes: tuple[Shape, ...] = tuple(row[0].out_shape for row in self.rows)
        self.wrt_shapes: tuple[Shape, ...] = tuple(block.wrt_shape for block in self.rows[0])
        self.dtype = np.dtype(jnp.result_type(*(block.dtype for row in self.rows for block in row)))
        self.out_tree = tuple_tree(len(self.out_shapes)) if out_tree is None else out_tree
        self.wrt_tree = tuple_tree(len(self.wrt_shapes)) if wrt_tree is None else wrt_tree
        self.is_mirrored = False

    @staticmethod
    def symmetric(upper: Sequence[Sequence[Block]], tree: Any = None) -> BlockMatrix:
        """A symmetric grid from its upper half: each block below shares the arrays of its mirror.

        Args:
            upper: of each row the blocks from the diagonal on.
            tree: of the outputs, which are the inputs.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block, BlockMatrix
            >>> side = Block.from_dense(jnp.ones((2, 3)), 1)
            >>> grid = BlockMatrix.symmetric([[Block.zeros(2, 2), side], [Block.zeros(3, 3)]])
            >>> grid[1, 0].shape, side.nbytes, grid.nbytes
            ((3, 2), 24, 24)
        """
        matrix = BlockMatrix(mirrored(upper), tree, tree)
        matrix.is_mirrored = True
        return matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the flattened matrix."""
        return sum(map(math.prod, self.out_shapes)), sum(map(math.prod, self.wrt_shapes))

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The same, under the name that a Block has for it."""
        return self.shape

    @property
    def grid(self) -> list[list[Block]]:
        """The blocks as a list of rows."""
        return [list(row) for row in self.rows]

    def flat_matvec(self, vector: Any) -> jax.Array:
        """The product with one flat vector of all inputs, flat."""
        tangent = tree_vectors.tree(vector, self.wrt_shapes, self.wrt_tree)
        return tree_vectors.flat(self.matvec(tangent))

    def flat_vecmat(self, vector: Any) -> jax.Array:
        """The product of one flat vector of all outputs with this, flat."""
        return self.T.flat_matvec(vector)

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored; an array that several blocks share counts once."""
        pairs = [pair for row in self.rows for block in row for pair in leaves(block)]
        return bytes_of({id(array): array for array, _ in pairs}.values())

    @property
    def nnz(self) -> int:
        """The number of places where the structure has an entry; see `Block.nnz`."""
        return sum(block.nnz for row in self.rows for block in row)

    def __getitem__(self, key: Any) -> Any:
        """`matrix[i, j]` is a Block; `matrix[i]` the tree of row i's blocks."""
        numbers = cast("tuple[Any, ...]", key) if isinstance(key, tuple) else (key,)
        if len(numbers) > 2 or not all(isinstance(number, int | np.integer) for number in numbers):
            raise BlockTypeError(
                "a BlockMatrix is indexed by output and input, matrix[i, j] or matrix[i] with "
                f"ints, but found {key!r}; for several blocks take them one by one"
            )
        if isinstance(key, tuple):
            return functools.reduce(operator.getitem, numbers, self.rows)
        return jax.tree.unflatten(self.wrt_tree, self.rows[int(key)])

    def tree(self) -> Any:
        """The output tree with the input tree of its blocks in each leaf, as `block_jacobian`'s."""
        rows = [jax.tree.unflatten(self.wrt_tree, row) for row in self.rows]
        return jax.tree.unflatten(self.out_tree, rows)

    @property
    def T(self) -> BlockMatrix:
        """The transpose."""
        if self.is_mirrored:
            return self
        rows = [[block.T for block in column] for column in zip(*self.rows, strict=True)]
        return BlockMatrix(rows, self.wrt_tree, self.out_tree)

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
                f"{type(right).__name__}; use .matvec, or .T.matvec from the left, for a tree of "
                "arrays, and BlockMatrix([[block]]) for one block"
            )
        if left.wrt_shapes != right.out_shapes:
            shapes = f"the left columns {left.wrt_shapes} to be the right rows {right.out_shapes}"
            raise BlockShapeError(f"star needs {shapes}")
        columns = list(zip(*right.rows, strict=True))
        rows = [
            [functools.reduce(add, map(star, row, column)) for column in columns]
            for row in left.rows
        ]
        return BlockMatrix(rows, left.out_tree, right.wrt_tree)

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        return max((block.batch_shape for row in self.rows for block in row), key=len)

    def matvec(self, tangent: Any) -> Any:
        """Apply to a tree of tangents like the inputs; gives a tree like the outputs.

        Raises:
            BlockShapeError: if the tree or a shape differs.
        """
        if self.batch_shape:
            return over_batch(type(self).matvec, self, tangent, self.wrt_shapes)
        tree_vectors.check(tangent, self.wrt_tree, self.wrt_shapes, "matvec")
        return self._applied(tangent)

    def _applied(self, tangent: Any) -> Any:
        """`matvec` of a tree that fits, of one matrix."""
        products = (map(Block.matvec, row, jax.tree.leaves(tangent)) for row in self.rows)
        results = [functools.reduce(jnp.add, row) for row in products]
        return jax.tree.unflatten(self.out_tree, results)

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """One matrix of `shape`, with every tensor flattened in row-major order.

        Raises:
            DenseTooLargeError: over the size limit.
        """
        if self.batch_shape:
            dense = functools.partial(type(self).dense, max_bytes=max_bytes)
            return over_batch(dense, self)
        instead = "use .matvec, which needs no dense matrix"
        check_size(self.shape, self.dtype, max_bytes, "the dense block matrix", instead)
        return cast("jax.Array", written(self.rows))

    def diagonal(self) -> Any:
        """The diagonal entries as a tree like the inputs.

        Raises:
            BlockShapeError: if output and input shapes differ.
        """
        self._check_square("the diagonal")
        if self.batch_shape:
            return over_batch(type(self).diagonal, self)
        return jax.tree.unflatten(self.wrt_tree, self._diagonals())

    def _diagonals(self) -> list[jax.Array]:
        """The diagonal of each block on the diagonal, of one square matrix."""
        return [row[position].diagonal() for position, row in enumerate(self.rows)]

    def solve(
        self,
        right: Any,
        damping: Any = 0.0,
        *,
        assume: Assume = "gen",
        require_structure: bool = False,
        check: bool = False,
    ) -> Any:
        """Solve `(self + damping * I) x = right` for a tree like the inputs.

        The way is chosen from the structure, as `blockjac.factorize` lists it; matrices that are
        kept in factors add ways of their own (see `GaussNewton` and `KroneckerFactored`). Singular
        matrices give inf or nan, as in `jax.numpy.linalg.solve`, unless they are checked.

        Args:
            right: a tree like the outputs.
            damping: as in `blockjac.solve`, like all other options.
            assume: likewise.
            require_structure: likewise.
            check: likewise.

        Raises:
            BlockShapeError: if the matrix is not square, or the tree does not fit.
            ValueError: as `blockjac.solve`, of the same types.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> energy = lambda t: jnp.sum(jnp.cosh(t["a"])) + jnp.sum(t["b"] ** 2)
            >>> hessian = blockjac.block_hessian(energy)({"a": jnp.zeros(2), "b": jnp.ones(1)})
            >>> hessian.solve({"a": jnp.ones(2), "b": jnp.ones(1)})
            {'a': Array([1., 1.], dtype=float32), 'b': Array([0.5], dtype=float32)}
        """
        options: dict[str, Any] = {"assume": assume, "require_structure": require_structure}
        of_one = functools.partial(solve, damping=damping, check=check, **options)
        if self.batch_shape:
            return over_batch(of_one, self, right, self.out_shapes)
        return of_one(self, right)

    def _check_square(self, name: str) -> None:
        shapes = self.out_shapes, self.wrt_shapes
        if shapes[0] != shapes[1]:
            needed = f"{name} needs a square matrix, of equal output and input shapes"
            raise BlockShapeError(f"{needed}, but found {shapes[0]} and {shapes[1]}")

    def __repr__(self) -> str:
        lines = [", ".join(block.structure for block in row) for row in self.rows]
        return "BlockMatrix(\n  [" + "]\n  [".join(lines) + "])"


def _flatten(matrix: BlockMatrix) -> tuple[list[Any], Any]:
    """The blocks, of mirror images the upper one; JAX also rebuilds grids of placeholders."""
    first = range(len(matrix.rows)) if matrix.is_mirrored else [0] * len(matrix.rows)
    blocks = [block for row, start in zip(matrix.rows, first, strict=True) for block in row[start:]]
    shapes, trees = (matrix.out_shapes, matrix.wrt_shapes), (matrix.out_tree, matrix.wrt_tree)
    return blocks, (shapes, trees, matrix.dtype, matrix.is_mirrored)


def _unflatten(static: Any, blocks: Sequence[Any]) -> BlockMatrix:
    """The grid from its blocks; of a mirrored grid, from those on and above the diagonal."""
    matrix = object.__new__(BlockMatrix)
    (matrix.out_shapes, matrix.wrt_shapes), trees, matrix.dtype, matrix.is_mirrored = static
    matrix.out_tree, matrix.wrt_tree = trees
    height, width = len(matrix.out_shapes), len(matrix.wrt_shapes)
    remaining = iter(blocks)
    rows = [
        list(itertools.islice(remaining, width - (row_number if matrix.is_mirrored else 0)))
        for row_number in range(height)
    ]
    matrix.rows = tuple(map(tuple, mirrored(rows) if matrix.is_mirrored else rows))
    return matrix


jax.tree_util.register_pytree_node(BlockMatrix, _flatten, _unflatten)
