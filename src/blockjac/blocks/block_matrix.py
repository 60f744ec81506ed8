"""BlockMatrix: a grid of blocks, the Jacobian of several tensors by several variables."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.dense import check_size
from blockjac.algebra.star import star
from blockjac.algebra.sums import add
from blockjac.base.arrays import Shape
from blockjac.blocks import block_diagonal, tree_vectors
from blockjac.errors import BlockShapeError, BlockTypeError
from blockjac.terms.block import Block, leaves
from blockjac.terms.matrix_interface import MatrixInterface

Rows = tuple[tuple[Block, ...], ...]


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
        self.out_shapes: tuple[Shape, ...] = tuple(out_shapes)
        self.wrt_shapes: tuple[Shape, ...] = tuple(wrt_shapes)
        self.rows: Rows = tuple(
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
        """The same, as a Block has it."""
        return self.shape

    @property
    def grid(self) -> list[list[Block]]:
        """The rows as lists."""
        return [list(row) for row in self.rows]

    def flat_matvec(self, vector: Any) -> jax.Array:
        """The product with one flat vector of all inputs, flat."""
        return tree_vectors.flat(
            self.matvec(tree_vectors.tree(vector, self.wrt_shapes, self.wrt_tree))
        )

    def flat_vecmat(self, vector: Any) -> jax.Array:
        """The product of one flat vector of all outputs with this, flat."""
        return self.T.flat_matvec(vector)

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored; an array that several blocks share counts once."""
        arrays = {id(array): array for row in self.rows for one in row for array, _ in leaves(one)}
        return sum(
            math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays.values()
        )

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
        rows = [jax.tree.unflatten(self.wrt_tree, row) for row in self.rows]
        return jax.tree.unflatten(self.out_tree, rows)

    @property
    def T(self) -> BlockMatrix:
        """The transpose."""
        if self.is_mirrored:
            return self
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
        columns = list(zip(*right.rows, strict=True))
        rows = [
            [functools.reduce(add, map(star, row, column)) for column in columns]
            for row in left.rows
        ]
        return BlockMatrix(rows, left.out_tree, right.wrt_tree)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        return max((block.batch_shape for row in self.rows for block in row), key=len)

    def matvec(self, tangent: Any) -> Any:
        """Apply to a tree of tangents like the inputs; gives a tree like the outputs.

        Raises:
            BlockShapeError: if the tree or a shape differs.
        """
        if self.batch_shape:
            return self._over_batch(type(self).matvec, tangent, self.wrt_shapes)
        tree_vectors.check(tangent, self.wrt_tree, self.wrt_shapes, "matvec")
        return self._applied(tangent)

    def _applied(self, tangent: Any) -> Any:
        """`matvec` of a tree that fits, of one matrix."""
        parts = jax.tree.leaves(tangent)
        results = [functools.reduce(jnp.add, map(Block.matvec, row, parts)) for row in self.rows]
        return jax.tree.unflatten(self.out_tree, results)

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """One matrix of `shape`, with every tensor flattened in row-major order.

        Raises:
            DenseTooLargeError: over the size limit.
        """
        if self.batch_shape:
            return jax.vmap(lambda matrix: matrix.dense(max_bytes))(self)

        check_size(
            self.shape,
            self.dtype,
            max_bytes,
            "the dense block matrix",
            "use .matvec, which needs no dense matrix",
        )
        return _written(self.rows)

    def diagonal(self) -> Any:
        """The diagonal entries as a tree like the inputs.

        Raises:
            BlockShapeError: if output and input shapes differ.
        """
        self._check_square("the diagonal")
        if self.batch_shape:
            return jax.vmap(type(self).diagonal)(self)
        return jax.tree.unflatten(self.wrt_tree, self._diagonals())

    def _diagonals(self) -> list[jax.Array]:
        """The diagonal of each block on the diagonal, of one square matrix."""
        return [row[place].diagonal() for place, row in enumerate(self.rows)]

    def solve(self, right: Any, damping: Any = 0.0) -> Any:
        """Solve `(self + damping * I) x = right` for a tree like the inputs.

        Variables that no block joins are solved apart, and an axis that every block keeps by a
        delta numbers small systems that are solved as a batch: a diagonal matrix takes divisions, a
        population of independent models one system each. Other matrices are written out, but what
        is kept in factors uses them (see `GaussNewton` and `KroneckerFactored`). A singular matrix
        without damping gives inf or nan, as `jax.numpy.linalg.solve` does.

        Args:
            right: a tree like the outputs.
            damping: added to the diagonal, not negative; a number or an array of shape ().

        Raises:
            BlockShapeError: if the matrix is not square, or the tree does not fit.
            InvalidOptionError: for a damping that is no number, or below 0.
            DenseTooLargeError: if the matrices of the systems do not fit.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> energy = lambda t: jnp.sum(jnp.cosh(t["a"])) + jnp.sum(t["b"] ** 2)
            >>> hessian = blockjac.block_hessian(energy)({"a": jnp.zeros(2), "b": jnp.ones(1)})
            >>> hessian.solve({"a": jnp.ones(2), "b": jnp.ones(1)})
            {'a': Array([1., 1.], dtype=float32), 'b': Array([0.5], dtype=float32)}
        """
        self._check_square("solve")
        tree_vectors.check_damping(damping)
        if self.batch_shape:
            one = functools.partial(type(self).solve, damping=damping)
            return self._over_batch(one, right, self.out_shapes)
        tree_vectors.check(right, self.out_tree, self.out_shapes, "solve")
        return self._solved(right, damping)

    def _solved(self, right: Any, damping: Any) -> Any:
        """`solve` for a tree that fits, of one square matrix."""
        parts = block_diagonal.solved(self.rows, jax.tree.leaves(right), damping)
        return jax.tree.unflatten(self.wrt_tree, parts)

    def _check_square(self, name: str) -> None:
        if self.out_shapes != self.wrt_shapes:
            raise BlockShapeError(
                f"{name} needs a square matrix, of equal output and input shapes, but found "
                f"{self.out_shapes} and {self.wrt_shapes}"
            )

    def _over_batch(self, method: Callable[..., Any], given: Any, shapes: Sequence[Shape]) -> Any:
        """A method for each matrix of a batch, with a tree of its own or one for all of them."""
        batched = tree_vectors.shapes_of(given) == tuple(
            (*self.batch_shape, *one) for one in shapes
        )
        return jax.vmap(method, in_axes=(0, 0 if batched else None))(self, given)

    def __repr__(self) -> str:
        lines = [", ".join(block.structure for block in row) for row in self.rows]
        return "BlockMatrix(\n  [" + "]\n  [".join(lines) + "])"


@jax.jit
def _written(rows: Rows) -> jax.Array:
    """The blocks as one dense matrix, in one compiled program."""
    parts = [
        [
            jnp.reshape(block.dense(), (math.prod(block.out_shape), math.prod(block.wrt_shape)))
            for block in row
        ]
        for row in rows
    ]
    return jnp.concatenate([jnp.concatenate(row, axis=1) for row in parts], axis=0)


def mirrored(upper: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """All rows of a symmetric grid from its upper half; what is no Block is its own mirror."""
    size = len(upper)

    def entry(row: int, column: int) -> Any:
        if column >= row:
            return upper[row][column - row]
        block = upper[column][row - column]
        return block.T if isinstance(block, Block) else block

    return [[entry(row, column) for column in range(size)] for row in range(size)]


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
    """The blocks, of mirror images the upper one; JAX also rebuilds grids of placeholders."""
    first = range(len(matrix.rows)) if matrix.is_mirrored else [0] * len(matrix.rows)
    blocks = [block for row, start in zip(matrix.rows, first, strict=True) for block in row[start:]]
    return blocks, (
        matrix.out_shapes,
        matrix.wrt_shapes,
        matrix.dtype,
        matrix.out_tree,
        matrix.wrt_tree,
        matrix.is_mirrored,
    )


def _unflatten(static: Any, blocks: Sequence[Any]) -> BlockMatrix:
    matrix = object.__new__(BlockMatrix)
    matrix.out_shapes, matrix.wrt_shapes, matrix.dtype, *others = static
    matrix.out_tree, matrix.wrt_tree, matrix.is_mirrored = others
    height, width = len(matrix.out_shapes), len(matrix.wrt_shapes)
    given = iter(blocks)
    rows = [
        list(itertools.islice(given, width - (place if matrix.is_mirrored else 0)))
        for place in range(height)
    ]
    matrix.rows = tuple(map(tuple, mirrored(rows) if matrix.is_mirrored else rows))
    return matrix


jax.tree_util.register_pytree_node(BlockMatrix, _flatten, _unflatten)
