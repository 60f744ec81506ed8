"""The interface that Block and BlockMatrix share: matrices that other libraries can use."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import jax
import numpy as np

from blockjac.base.caches import Cache
from blockjac.base.trees import flattened, leaves_with_path
from blockjac.terms.operations import operations
from blockjac.terms.system_interface import SystemInterface


class MatrixInterface(SystemInterface):
    """A linear map as one matrix: outputs down the rows, inputs across the columns.

    Each output and input tensor is flattened in row-major order, as by `jax.numpy.ravel`; the
    leaves of a tree follow one another in order, as in `jax.flatten_util.ravel_pytree`.
    """

    __slots__ = ()

    dtype: Any

    @property
    @abc.abstractmethod
    def grid(self) -> Any:
        """The blocks as a list of rows: one row per output, one column per input."""

    @property
    @abc.abstractmethod
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes that an outer `vmap` has put in front of every array; usually ()."""

    @abc.abstractmethod
    def flat_matvec(self, vector: Any) -> Any:
        """The product with a flat vector of all inputs."""

    @abc.abstractmethod
    def flat_vecmat(self, vector: Any) -> Any:
        """The product of a flat vector of all outputs with the matrix."""

    @abc.abstractmethod
    def diagonal(self) -> Any:
        """The entries on the diagonal, as a tree like the inputs."""

    @abc.abstractmethod
    def dense(self, max_bytes: int | None = None) -> Any:
        """All entries as one array."""

    def todense(self) -> jax.Array:
        """All entries as one array: `dense()`, under the name that sparse arrays of JAX have."""
        return self.dense()

    def toarray(self) -> np.ndarray:
        """All entries as one array of NumPy, as sparse arrays of scipy have it.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.array([1.0, 2.0])).toarray()
            array([[1., 0.],
                   [0., 2.]], dtype=float32)
        """
        return np.asarray(self.dense())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The dense array that NumPy gets from `np.asarray`.

        Raises:
            ValueError: if `copy` is False, because the entries have to be computed.
            DenseTooLargeError: if the array exceeds the size limit.
        """
        if copy is False:
            raise ValueError("a block is written out as an array: copy=False cannot be granted")
        return np.asarray(self.dense(), dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        """Refuse an index: most entries are not stored.

        Raises:
            TypeError: always; it says what to use.
        """
        raise TypeError(
            f"a {type(self).__name__} takes no index, because most of its entries are not stored: "
            "index the array that block.dense() writes out, or the matrix of block.to_scipy()"
        )

    @property
    def is_multiplied(self) -> bool:
        """Whether the blocks exist already, unlike those of a product that is kept in factors."""
        return True

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        rows = self.grid
        return (
            sum(math.prod(row[0].out_shape) for row in rows),
            sum(math.prod(block.wrt_shape) for block in rows[0]),
        )

    def pattern(self) -> Any:
        """The sparsity pattern: the positions where the structure has an entry, without values.

        Returns:
            A `Pattern`.

        Raises:
            BlockTypeError: under `jit`, if positions are known only when the program runs; and for
                a batch of blocks whose positions differ.
            DenseTooLargeError: if the list of positions exceeds the size limit.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.ones(3)).pattern()
            Pattern(shape=(3, 3), nnz=3)
        """
        return operations().pattern(self.grid)

    def spy(self, ax: Any = None) -> Any:
        """Draw where the entries are, rows downwards; `print(block.pattern())` draws with text.

        Between the blocks of a `BlockMatrix` there are lines, and its leaves are named.

        Args:
            ax: the matplotlib axes to draw into; by default those of a new figure.

        Returns:
            The new figure, of which pyplot knows nothing: notebooks show it, and
            `block.spy().savefig("pattern.png")` keeps it. The axes where `ax` is given.

        Raises:
            MissingExtraError: without matplotlib (`pip install 'blockjac[app]'`).
        """
        rows = self.grid
        outputs = [math.prod(row[0].out_shape) for row in rows]
        inputs = [math.prod(block.wrt_shape) for block in rows[0]]
        trees = getattr(self, "out_tree", None), getattr(self, "wrt_tree", None)
        leaves = (_named(tree, sizes) for tree, sizes in zip(trees, (outputs, inputs), strict=True))
        return self.pattern().spy(ax, tuple(leaves))

    def _repr_html_(self) -> str:
        """What notebooks show: shapes, structure, what is stored, and where the entries are."""
        if self.batch_shape or not self.is_multiplied:
            return f"<pre>{escape(repr(self))}</pre>"
        return operations().notebook(self.grid, type(self).__name__)

    def to_scipy(self, format: str = "csr") -> Any:
        """The matrix as a sparse array of SciPy; not under `jit`.

        Terms that overlap are added. An entry that happens to be 0 at this point is stored, so
        that the pattern is the same at every point; `.eliminate_zeros()` drops it. Indices have 32
        bits if these suffice, and 64 otherwise.

        Args:
            format: "csr", "csc", "coo", or "dia" if the entries lie on few diagonals.

        Raises:
            BlockTypeError: for another format, for a batch of blocks, and while JAX traces.
            BlockShapeError: for "dia" if whole diagonals would hold far more than the entries.
            DenseTooLargeError: if the entries, or the row or column pointers of the format, exceed
                the size limit.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> block = blockjac.block_jacobian(lambda x: x[1:] * x[:-1])(jnp.arange(1.0, 4.0))
            >>> block.to_scipy().toarray()
            array([[2., 1., 0.],
                   [0., 3., 2.]], dtype=float32)
        """
        return operations().to_scipy(self.grid, format)

    def to_bcoo(self) -> Any:
        """The matrix as a `jax.experimental.sparse.BCOO`; also under `jit`.

        Its shape is `(outputs, inputs)`, so that indices of 32 bits, the only ones that JAX has
        without x64, allow for up to 2**31 - 1 rows and columns. Entries that happen to be 0 at
        this point are stored. Indices that the program computes (those of a gather) may lie
        outside of the matrix, which JAX's sparse arrays treat as padding.

        Raises:
            BlockShapeError: for more rows or columns than that, without x64.
            BlockTypeError: for a batch of blocks.
            DenseTooLargeError: if the indices of the entries exceed the size limit.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.array([1.0, 2.0])).to_bcoo().indices.tolist()
            [[0, 0], [1, 1]]
        """
        return operations().to_bcoo(self.grid)

    def to_bcsr(self) -> Any:
        """The matrix as a `jax.experimental.sparse.BCSR`; otherwise like `to_bcoo`."""
        return operations().to_bcsr(self.grid)

    def to_scipy_operator(self) -> Any:
        """The matrix as a `scipy.sparse.linalg.LinearOperator` that keeps the structure.

        Vectors are multiplied in the dtype of the block. No list of positions is made.

        Raises:
            BlockTypeError: for a batch of blocks, and while JAX traces.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.array([1.0, 2.0])).to_scipy_operator() @ [1.0, 1.0]
            array([1., 2.], dtype=float32)
        """
        leaves, tree = flattened(self)  # once, not for each vector
        return operations().to_scipy_operator(
            self,
            partial(_product_of("flat_matvec", tree), leaves),
            partial(_product_of("flat_vecmat", tree), leaves),
        )

    def as_linear_operator(self, tags: Any = ()) -> Any:
        """A `lineax.AbstractLinearOperator` that knows the structure.

        The structure says whether it is diagonal, tridiagonal or triangular, so that
        `lineax.linear_solve` picks a suitable solver. Say by a tag what the structure does not
        show, such as positive definiteness.

        Args:
            tags: lineax's tags, such as `lineax.positive_semidefinite_tag`.

        Raises:
            BlockTypeError: for a batch of blocks.
            MissingExtraError: without lineax (`pip install lineax`).
        """
        return operations().as_linear_operator(self, tags)


_products: Cache[Callable[..., Any]] = Cache("products with vectors", 128)


def _named(tree: Any, sizes: list[int]) -> list[tuple[str, int]]:
    """The leaves of one side of a grid, by name and size; the only leaf of a Block has no name."""
    if tree is None:
        return [("", size) for size in sizes]
    paths = leaves_with_path(jax.tree.unflatten(tree, sizes))
    return [(jax.tree_util.keystr(path), size) for path, size in paths]


def _product_of(method: str, tree: Any) -> Callable[..., Any]:
    """The compiled product of a matrix, given by its leaves, with a flat vector."""

    def product(leaves: Any, vector: Any) -> Any:
        return getattr(jax.tree.unflatten(tree, leaves), method)(vector)

    return _products.made((method, tree), lambda: jax.jit(product))
