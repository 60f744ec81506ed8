"""Block: a Jacobian kept in the structure that it has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from blockjac.base.arrays import Shape, as_array, as_shape, canonical, default_dtype
from blockjac.errors import BlockShapeError
from blockjac.terms.arithmetic import BlockArithmetic
from blockjac.terms.describe import describe
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.operations import operations
from blockjac.terms.structure import (
    Structure,
    bytes_of,
    labeled_arrays,
    numbered_arrays,
    structure_of_terms,
    terms_of,
)
from blockjac.terms.term import Term


class Block(BlockArithmetic):
    """The Jacobian of one tensor with respect to another, as a sum of structured terms.

    `block[i, j] = d out[i] / d wrt[j]` with multi-indices `i` and `j`: output axes first. What is
    stored is what the structure needs: a Kronecker delta, a shift or a broadcast stores nothing,
    and a matrix product stores its other operand. A Block is a JAX pytree (leaves: the factors,
    then the lookup arrays) and may be returned from `jit`. A block returned from `jax.vmap` has
    the batch axis first in each leaf and represents a batch of blocks (see `batch_shape`); its
    methods put that axis first in their results.

    Attributes:
        out_shape: shape of the differentiated tensor.
        wrt_shape: shape of the variable.
        dtype: dtype of the entries.
        terms: the structured summands; none for the zero block.
        outline: what a plan has recorded of the block, or None.
        form: what `replay` has recorded of it, or None.
        flattened: leaves and structure of a block built from these, whose terms are made on use.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> block = Block.diag(jnp.array([1.0, 2.0, 3.0]))
        >>> block.shape, block.nbytes
        ((3, 3), 12)
        >>> block.structure
        "δ[i,i'] A[i]"
        >>> (block @ block).diagonal()
        Array([1., 4., 9.], dtype=float32)
    """

    __slots__ = ("_terms", "dtype", "flattened", "form", "out_shape", "outline", "wrt_shape")

    def __init__(
        self, out_shape: Sequence[int], wrt_shape: Sequence[int], dtype: Any, terms: Iterable[Term]
    ) -> None:
        self.out_shape: Shape = tuple(out_shape)
        self.wrt_shape: Shape = tuple(wrt_shape)
        self.dtype = canonical(dtype)
        tidied: list[Term | None] = []
        for term in terms:
            if (len(term.out), len(term.wrt)) != (len(self.out_shape), len(self.wrt_shape)):
                raise BlockShapeError(
                    f"a term with {len(term.out)} output and {len(term.wrt)} input indices does "
                    f"not fit a block of {self.out_shape} with respect to {self.wrt_shape}"
                )
            tidied.append(operations().tidy(term, self.out_shape, self.wrt_shape))
        self._terms: tuple[Term, ...] | None = tuple(term for term in tidied if term is not None)
        self.outline: Any = None
        self.form: Any = None
        self.flattened: tuple[list[Any], Structure] | None = None

    @staticmethod
    def zeros(
        out_shape: int | Sequence[int], wrt_shape: int | Sequence[int], dtype: Any = None
    ) -> Block:
        """The zero block, which stores nothing; as in NumPy, a shape `n` is `(n,)`."""
        return Block(as_shape(out_shape), as_shape(wrt_shape), default_dtype(dtype), ())

    @staticmethod
    def identity(shape: int | Sequence[int], dtype: Any = None) -> Block:
        """The identity on tensors of a shape: only deltas; as in NumPy, a shape `n` is `(n,)`.

        Examples:
            >>> from blockjac import Block
            >>> Block.identity((2, 3)).structure
            "δ[i,i'] δ[j,j']"
        """
        shape = as_shape(shape)
        indices = tuple(Index.of(Label(size)) for size in shape)
        return Block(shape, shape, default_dtype(dtype), (Term((), indices, indices),))

    @staticmethod
    def diag(values: Any, name: str = "") -> Block:
        """The block of an elementwise map with these derivatives, of shape `values.shape` twice."""
        values = as_array(values)
        factor, indices = _labeled(values, name)
        term = Term((factor,), indices, indices)
        return Block(values.shape, values.shape, values.dtype, (term,))

    @staticmethod
    def from_dense(array: Any, out_ndim: int, name: str = "") -> Block:
        """A block that stores a dense array whose first `out_ndim` axes belong to the output.

        Raises:
            BlockShapeError: if the array has fewer than `out_ndim` axes.
        """
        array = as_array(array)
        rank = len(array.shape)  # an array of a plan has no ndim
        if not 0 <= out_ndim <= rank:
            raise BlockShapeError(
                f"out_ndim is {out_ndim}, but the array of shape {array.shape} has {rank} "
                f"axes; out_ndim must lie between 0 and {rank}"
            )
        factor, indices = _labeled(array, name)
        term = Term((factor,), indices[:out_ndim], indices[out_ndim:])
        return Block(array.shape[:out_ndim], array.shape[out_ndim:], array.dtype, (term,))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The structured summands; none for the zero block."""
        if self._terms is None and self.flattened is not None:
            self._terms = terms_of(*self.flattened)
        return self._terms or ()

    @property
    def shape(self) -> Shape:
        """The shape of the dense Jacobian: output shape, then input shape."""
        return self.out_shape + self.wrt_shape

    @property
    def size(self) -> int:
        """The number of entries of the dense Jacobian."""
        return math.prod(self.shape)

    @property
    def is_zero(self) -> bool:
        """Whether the block has no terms, so that every entry is known to be 0."""
        return not (self if self.flattened is None else self.flattened[1]).terms

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        if self.form is not None:
            return ()
        flattened = self.flattened
        for array, labels in leaves(self) if flattened is None else numbered_arrays(*flattened):
            shape = getattr(array, "shape", None)
            if shape is not None and len(shape) > len(labels):
                return tuple(shape[: len(shape) - len(labels)])
        return ()

    @property
    def stored(self) -> int:
        """How many numbers are stored; an array that several terms share counts once.

        Lookups whose values only the running program knows count as well. Positions that are known
        while the program is traced are structure, as strides are: only `nbytes` counts them, in
        the smallest integers that hold them.
        """
        lookups = [index.lookup for term in self.terms for index in term.indices]
        known = {id(lookup.array) for lookup in lookups if lookup is not None and lookup.constant}
        return sum(math.prod(array.shape) for array, _ in leaves(self) if id(array) not in known)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, including those of lookups; a shared array counts once."""
        return bytes_of(array for array, _ in leaves(self))

    @property
    def nnz(self) -> int:
        """The number of positions where the structure has an entry, overlaps counted once.

        Exact outside `jit` up to about ten million positions (not counting shared batch axes), and
        an upper bound beyond that or where lookups are run-time values under `jit`.
        """
        return operations().nnz(self)

    @property
    def structure(self) -> str:
        """A formula of the block, such as `δ[n,n'] X[n,k] B[n,m,h]`."""
        return describe(self.terms, self.shape)

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """The Jacobian as one array of `shape`, written once.

        Args:
            max_bytes: refuse a larger result; by default a share of the machine's memory.

        Raises:
            DenseTooLargeError: if the result is larger; says what to call instead.
        """
        return operations().dense(self, max_bytes)

    def diagonal(self) -> jax.Array:
        """The entries `block[i, i]`, an array of `out_shape`; no dense block is made.

        Raises:
            BlockShapeError: if out and wrt shapes differ.
        """
        return operations().diagonal(self)

    def matvec(self, tangent: Any) -> jax.Array:
        """`block star tangent`: a tangent of `wrt_shape` to one of `out_shape`."""
        return operations().star(self, as_array(tangent))

    def vecmat(self, cotangent: Any) -> jax.Array:
        """`cotangent star block`: a cotangent of `out_shape` to one of `wrt_shape`."""
        return operations().star(as_array(cotangent), self)

    @property
    def grid(self) -> list[list[Block]]:
        """This block as a grid of one row and one column."""
        return [[self]]

    @property
    def T(self) -> Block:
        """The transpose: output and input axes swapped."""
        return rebuilt(
            self.wrt_shape,
            self.out_shape,
            self.dtype,
            (Term(term.factors, term.wrt, term.out, term.coefficient) for term in self.terms),
        )

    def __repr__(self) -> str:
        batch = f", batch={self.batch_shape}" if self.batch_shape else ""
        return (
            f"Block(out={self.out_shape}, wrt={self.wrt_shape}, {self.dtype.name}, "
            f"stores {self.stored} of {self.size}{batch}: {self.structure})"
        )


def _labeled(array: Any, name: str) -> tuple[Factor, tuple[Index, ...]]:
    """An array as a factor over fresh labels, and the index of each of its axes."""
    labels = tuple(Label(size) for size in array.shape)
    return Factor(array, labels, name), tuple(map(Index.of, labels))


def delta_pairs(block: Block) -> list[tuple[int, int]]:
    """The pairs of an output and an input axis that are the same delta in every term."""
    return [
        (i, j)
        for i, size in enumerate(block.out_shape)
        for j, wrt_size in enumerate(block.wrt_shape)
        if size == wrt_size and all(term.has_delta(i, j, size) for term in block.terms)
    ]


def rebuilt(out_shape: Shape, wrt_shape: Shape, dtype: Any, terms: Iterable[Term]) -> Block:
    """A block from terms that are tidy already."""
    block = object.__new__(Block)
    block.out_shape, block.wrt_shape, block.dtype = out_shape, wrt_shape, dtype
    block.outline = block.form = block.flattened = None
    block._terms = tuple(terms)  # pyright: ignore[reportPrivateUsage]
    return block


def leaves(block: Block) -> list[tuple[Any, tuple[Label, ...]]]:
    """The arrays of a block with their labels, each array once: factors first, then lookups."""
    return labeled_arrays(block.terms)


def arrays_of(block: Block) -> list[Any]:
    """The arrays of a block: factors first, then lookups."""
    if block.flattened is not None:
        return block.flattened[0]
    return [array for array, _ in leaves(block)]


def flatten(block: Block) -> tuple[list[Any], Structure]:
    """The leaves and the structure, with labels numbered by first occurrence."""
    arrays = [array for array, _ in leaves(block)]
    terms, names = structure_of_terms(block.terms, arrays)
    return arrays, Structure(block.out_shape, block.wrt_shape, block.dtype, terms, names)


def unflatten(structure: Structure, arrays: Sequence[Any]) -> Block:
    """The inverse of `flatten`; looks at no leaf."""
    block = rebuilt(structure.out_shape, structure.wrt_shape, structure.dtype, ())
    block._terms = None  # pyright: ignore[reportPrivateUsage]
    block.flattened = list(arrays), structure
    return block


def flat_parts(block: Block) -> tuple[list[Any], Structure]:
    """The leaves, which may be any objects, and the structure that a block was built from."""
    return flatten(block) if block.flattened is None else block.flattened


jax.tree_util.register_pytree_node(Block, flat_parts, unflatten)
