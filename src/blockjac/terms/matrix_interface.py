"""What a Block and a BlockMatrix share: they are matrices that other libraries can take."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from blockjac.base.caches import Cache
from blockjac.terms.operations import operations


class MatrixInterface(abc.ABC):
    """A linear map as one matrix: outputs down the rows, inputs across the columns.

    Each output and input tensor is flattened in row-major order, as `jax.numpy.ravel` does; those
    of a tree follow each other in the order of its leaves, as in `jax.flatten_util.ravel_pytree`.
    """

    __slots__ = ()

    dtype: Any

    @property
    @abc.abstractmethod
    def grid(self) -> Any:
        """The blocks by output and input, as lists."""

    @abc.abstractmethod
    def flat_matvec(self, vector: Any) -> Any:
        """The product with one flat vector of all inputs."""

    @abc.abstractmethod
    def flat_vecmat(self, vector: Any) -> Any:
        """The product of one flat vector of all outputs with this."""

    @abc.abstractmethod
    def dense(self, max_bytes: int | None = None) -> Any:
        """The entries written out as one array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The entries written out, where NumPy asks for an array.

        Raises:
            ValueError: if `copy` is False, as the entries have to be written.
            DenseTooLargeError: if they do not fit.
        """
        if copy is False:
            raise ValueError("a block is written out as an array: copy=False cannot be granted")
        return np.asarray(self.dense(), dtype=dtype)

    @property
    def is_multiplied(self) -> bool:
        """Whether the blocks are there already; not those of a product kept in its factors."""
        return True

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        rows = self.grid
        return (
            sum(math.prod(row[0].out_shape) for row in rows),
            sum(math.prod(block.wrt_shape) for block in rows[0]),
        )

    def pattern(self) -> Any:
        """The places where the structure has an entry: a `Pattern`, without the values.

        Raises:
            BlockTypeError: under `jit`, where places are known only when the program runs; and for
                a batch of blocks whose places differ.
            DenseTooLargeError: if the list of places does not fit.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.ones(3)).pattern()
            Pattern(shape=(3, 3), nnz=3)
        """
        return operations().pattern(self.grid)

    def spy(self, ax: Any = None) -> Any:
        """Draw where the entries are, rows downwards; `print(block.pattern())` needs no picture.

        Args:
            ax: the matplotlib axes to draw into; by default those of a new figure.

        Returns:
            The axes; `block.spy().figure.savefig("pattern.png")` keeps the picture.

        Raises:
            MissingExtraError: without matplotlib (`pip install 'blockjac[app]'`).
        """
        return self.pattern().spy(ax)

    def to_scipy(self, format: str = "csr") -> Any:
        """The matrix as a sparse array of scipy; not under `jit`.

        A place of several terms gets their sum. An entry that is 0 at this point is stored as 0, so
        that the places are the same at every point; `.eliminate_zeros()` drops it. Places have 32
        bits where these reach, and 64 otherwise.

        Args:
            format: "csr", "csc", "coo", or "dia" where the entries lie on few diagonals.

        Raises:
            BlockTypeError: for another format, for a batch of blocks, and while JAX traces.
            BlockShapeError: for "dia" where whole diagonals would hold far more than the entries.
            DenseTooLargeError: if entries, or what the format stores a row or column, do not fit.

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

        Its shape is `(outputs, inputs)`: one pair of axes, so that places of 32 bits, the only ones
        that JAX has without x64, number 2**31 - 1 rows and columns (and not entries of the whole).
        Entries that are 0 at this point are stored. Places that are values of the program (of a
        gather) may lie off the matrix where there is no entry, as JAX's sparse arrays have it.

        Raises:
            BlockShapeError: for more rows or columns than that, without x64.
            BlockTypeError: for a batch of blocks.
            DenseTooLargeError: if the places of the entries do not fit.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.array([1.0, 2.0])).to_bcoo().indices.tolist()
            [[0, 0], [1, 1]]
        """
        return operations().to_bcoo(self.grid)

    def to_bcsr(self) -> Any:
        """The matrix as a `jax.experimental.sparse.BCSR`, rows in order; as `to_bcoo` otherwise."""
        return operations().to_bcsr(self.grid)

    def to_scipy_operator(self) -> Any:
        """A `scipy.sparse.linalg.LinearOperator` that multiplies by the structure.

        Vectors are multiplied in the dtype of the block. No list of places is made.

        Raises:
            BlockTypeError: for a batch of blocks, and while JAX traces.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import Block
            >>> Block.diag(jnp.array([1.0, 2.0])).to_scipy_operator() @ [1.0, 1.0]
            array([1., 2.], dtype=float32)
        """
        leaves, tree = jax.tree.flatten(self)  # once, and not for each vector
        return operations().to_scipy_operator(
            self,
            partial(_product_of("flat_matvec", tree), leaves),
            partial(_product_of("flat_vecmat", tree), leaves),
        )

    def as_linear_operator(self, tags: Any = ()) -> Any:
        """A `lineax.AbstractLinearOperator` that knows the structure.

        Whether it is diagonal, tridiagonal or triangular is read off the structure, so that
        `lineax.linear_solve` takes the solver that suits; what the structure cannot tell, such as
        positive definite, is told by a tag.

        Args:
            tags: lineax's tags, such as `lineax.positive_semidefinite_tag`.

        Raises:
            BlockTypeError: for a batch of blocks.
            MissingExtraError: without lineax (`pip install 'blockjac[interop]'`).
        """
        return operations().as_linear_operator(self, tags)


_products: Cache[Callable[..., Any]] = Cache("products with vectors", 128)


def _product_of(method: str, tree: Any) -> Callable[..., Any]:
    """The compiled product with a flat vector, of the leaves of a matrix and the vector."""

    def made() -> Callable[..., Any]:
        return jax.jit(
            lambda leaves, vector: getattr(jax.tree.unflatten(tree, leaves), method)(vector)
        )

    return _products.made((method, tree), made)
