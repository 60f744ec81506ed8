"""Block: a Jacobian kept in the structure that it has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape, as_array, as_shape, canonical, default_dtype
from blockjac.errors import BlockShapeError
from blockjac.terms.describe import describe
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.matrix_interface import MatrixInterface
from blockjac.terms.operations import operations
from blockjac.terms.structure import Names, Structure, terms_of
from blockjac.terms.term import Term


class Block(MatrixInterface):
    """The Jacobian of one tensor with respect to another, as a sum of structured terms.

    `block[i, j] = d out[i] / d wrt[j]` with multi-indices `i` and `j`: output axes first. What is
    stored is what the structure needs: a Kronecker delta, a shift, a broadcast store nothing, a
    matrix product stores its other operand. A Block is a JAX pytree (leaves: the factors, then the
    lookup arrays) and may be returned from `jit`. Out of `jax.vmap` it comes with the batch axis
    first in each leaf and stands for a batch of blocks; its methods then put that axis first in
    their answers (`batch_shape` tells).

    Attributes:
        out_shape: shape of the differentiated tensor.
        wrt_shape: shape of the variable.
        dtype: dtype of the entries.
        terms: the structured summands; none for the zero block.
        outline: what a plan has noted of the block; None before one has.
        form: what has been noted for emitting it again, see `replay`; None before.
        flattened: leaves and structure of a block that was put together from them, whose terms are
            made when something asks for them; None of others.

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
        kept = []
        for term in terms:
            if (len(term.out), len(term.wrt)) != (len(self.out_shape), len(self.wrt_shape)):
                raise BlockShapeError(
                    f"a term with {len(term.out)} output and {len(term.wrt)} input indices does "
                    f"not fit a block of {self.out_shape} with respect to {self.wrt_shape}"
                )
            kept.append(operations().tidy(term, self.out_shape, self.wrt_shape))
        self._terms: tuple[Term, ...] | None = tuple(term for term in kept if term is not None)
        self.outline: Any = None
        self.form: Any = None
        self.flattened: tuple[list[Any], Structure] | None = None

    # Construction

    @staticmethod
    def zeros(
        out_shape: int | Sequence[int], wrt_shape: int | Sequence[int], dtype: Any = None
    ) -> Block:
        """The zero block, which stores nothing; as in NumPy, a shape `n` is `(n,)`."""
        return Block(as_shape(out_shape), as_shape(wrt_shape), default_dtype(dtype), ())

    @staticmethod
    def identity(shape: int | Sequence[int], dtype: Any = None) -> Block:
        """The identity on tensors of a shape: deltas alone; as in NumPy, a shape `n` is `(n,)`.

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
        labels = tuple(Label(size) for size in values.shape)
        indices = tuple(map(Index.of, labels))
        return Block(
            values.shape,
            values.shape,
            values.dtype,
            (Term((Factor(values, labels, name),), indices, indices),),
        )

    @staticmethod
    def from_dense(array: Any, out_ndim: int, name: str = "") -> Block:
        """A block that stores a dense array whose first `out_ndim` axes are the output's.

        Raises:
            BlockShapeError: if the array has fewer than `out_ndim` axes.
        """
        array = as_array(array)
        if not 0 <= out_ndim <= array.ndim:
            raise BlockShapeError(
                f"out_ndim is {out_ndim}, but the array of shape {array.shape} has {array.ndim} "
                f"axes; out_ndim must lie between 0 and {array.ndim}"
            )
        labels = tuple(Label(size) for size in array.shape)
        indices = tuple(map(Index.of, labels))
        term = Term((Factor(array, labels, name),), indices[:out_ndim], indices[out_ndim:])
        return Block(array.shape[:out_ndim], array.shape[out_ndim:], array.dtype, (term,))

    # What is known without touching an array

    @property
    def terms(self) -> tuple[Term, ...]:
        """The structured summands; none for the zero block."""
        if self._terms is None and self.flattened is not None:
            arrays, structure = self.flattened
            self._terms = terms_of(structure, arrays)
        return self._terms or ()

    @property
    def shape(self) -> Shape:
        """Output shape and input shape joined: the shape of the dense Jacobian."""
        return self.out_shape + self.wrt_shape

    @property
    def size(self) -> int:
        """The number of entries of the dense Jacobian."""
        return math.prod(self.shape)

    @property
    def is_zero(self) -> bool:
        """Whether there is no term: every entry is known to be 0."""
        return not (self if self.flattened is None else self.flattened[1]).terms

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        if self.form is not None:
            return ()
        for array, labels in _carried(self):
            shape = getattr(array, "shape", None)
            if shape is not None and len(shape) > len(labels):
                return tuple(shape[: len(shape) - len(labels)])
        return ()

    @property
    def stored(self) -> int:
        """How many numbers are stored; an array that several terms share counts once.

        Lookups that only the running program knows count as well. Where entries stand that is known
        while the program is traced is structure, as strides are: `nbytes` counts its lookups, in
        integers as small as they can be.
        """
        known = {
            id(index.lookup.array)
            for term in self.terms
            for index in term.indices
            if index.lookup is not None and index.lookup.constant
        }
        return sum(math.prod(array.shape) for array, _ in leaves(self) if id(array) not in known)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, those of lookups included; a shared array counts once."""
        return sum(
            math.prod(array.shape) * np.dtype(array.dtype).itemsize for array, _ in leaves(self)
        )

    @property
    def nnz(self) -> int:
        """The number of places where the structure has an entry, overlaps counted once.

        Exact outside `jit` up to about ten million places (after equal batch axes are set aside),
        and an upper bound beyond that and where lookups are run-time values under `jit`.
        """
        return operations().nnz(self)

    @property
    def structure(self) -> str:
        """A formula of the block, such as `δ[n,n'] X[n,k] B[n,m,h]`."""
        return describe(self.terms, self.shape)

    # Algebra

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """The Jacobian as one array of `shape`, written once.

        Args:
            max_bytes: refuse a result of more bytes; default a share of the machine's memory.

        Raises:
            DenseTooLargeError: with what it would need and what to call instead.
        """
        return operations().dense(self, max_bytes)

    def diagonal(self) -> jax.Array:
        """The entries `block[i, i]`, of `out_shape`, at the structure's cost.

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
        """This block as a grid of one."""
        return [[self]]

    def flat_matvec(self, vector: Any) -> jax.Array:
        """The product with a flat vector, flat."""
        return jnp.ravel(self.matvec(jnp.reshape(vector, self.wrt_shape)))

    def flat_vecmat(self, vector: Any) -> jax.Array:
        """The product of a flat vector with this, flat."""
        return jnp.ravel(self.vecmat(jnp.reshape(vector, self.out_shape)))

    @property
    def T(self) -> Block:
        """The transpose: output and input axes swapped."""
        return rebuilt(
            self.wrt_shape,
            self.out_shape,
            self.dtype,
            (Term(term.factors, term.wrt, term.out, term.coefficient) for term in self.terms),
        )

    def __matmul__(self, other: Any) -> Any:
        return operations().star(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return operations().star(other, self)

    def __add__(self, other: Any) -> Block:
        if not isinstance(other, Block):
            return NotImplemented
        return operations().add(self, other)

    def __neg__(self) -> Block:
        return -1 * self

    def __sub__(self, other: Any) -> Block:
        return self + (-other) if isinstance(other, Block) else NotImplemented

    def __mul__(self, scalar: Any) -> Block:
        if not isinstance(scalar, int | float | complex | np.number):
            return NotImplemented
        return operations().scaled(self, scalar)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Block:
        if not isinstance(scalar, int | float | complex | np.number):
            return NotImplemented
        return self * (1 / scalar)

    # numpy must leave `array @ block` to __rmatmul__
    __array_ufunc__ = None

    def __repr__(self) -> str:
        batch = f", batch={self.batch_shape}" if self.batch_shape else ""
        return (
            f"Block(out={self.out_shape}, wrt={self.wrt_shape}, {self.dtype.name}, "
            f"stores {self.stored} of {self.size}{batch}: {self.structure})"
        )


def delta_pairs(block: Block) -> list[tuple[int, int]]:
    """The pairs of an output and an input axis that are the same delta in every term."""
    return [
        (i, j)
        for i, size in enumerate(block.out_shape)
        for j, other in enumerate(block.wrt_shape)
        if size == other and all(term.has_delta(i, j, size) for term in block.terms)
    ]


def rebuilt(out_shape: Shape, wrt_shape: Shape, dtype: Any, terms: Iterable[Term]) -> Block:
    """A block from terms that are tidy already."""
    block = object.__new__(Block)
    block.out_shape, block.wrt_shape, block.dtype = out_shape, wrt_shape, dtype
    block._terms, block.outline, block.form, block.flattened = tuple(terms), None, None, None
    return block


def leaves(block: Block) -> list[tuple[Any, tuple[Label, ...]]]:
    """The arrays of a block with their labels, each array once: factors first, then lookups."""
    found: dict[int, tuple[Any, tuple[Label, ...]]] = {}
    for term in block.terms:
        for factor in term.factors:
            found.setdefault(id(factor.array), (factor.array, factor.labels))
    for term in block.terms:
        for index in term.indices:
            if index.lookup is not None:
                found.setdefault(id(index.lookup.array), (index.lookup.array, index.lookup.labels))
    return list(found.values())


def _carried(block: Block) -> Iterable[tuple[Any, Sequence[Any]]]:
    """The arrays of a block with their labels, or with numbers of these."""
    if block.flattened is None:
        yield from leaves(block)
        return
    arrays, structure = block.flattened
    for _, _, factors, out, wrt in structure.terms:
        for place, numbers in factors:
            yield arrays[place], numbers
        for _, _, lookup in (*out, *wrt):
            if lookup is not None:
                yield arrays[lookup[0]], lookup[1]


def arrays_of(block: Block) -> list[Any]:
    """The arrays of a block: factors first, then lookups."""
    if block.flattened is not None:
        return block.flattened[0]
    return [array for array, _ in leaves(block)]


def flatten(block: Block) -> tuple[list[Any], Structure]:
    """The leaves and the structure, with labels numbered by first occurrence."""
    arrays = [array for array, _ in leaves(block)]
    position = {id(array): place for place, array in enumerate(arrays)}
    terms, names = [], []
    for term in block.terms:
        number = {label: place for place, label in enumerate(term.labels)}

        def numbered(index: Index, number: dict[Label, int] = number) -> tuple[Any, ...]:
            strides = tuple((number[label], stride) for label, stride in index.strides)
            if index.lookup is None:
                return (index.offset, strides, None)
            lookup = index.lookup
            return (
                index.offset,
                strides,
                (
                    position[id(lookup.array)],
                    tuple(number[label] for label in lookup.labels),
                    lookup.bounds,
                    lookup.multiple,
                    lookup.constant,
                ),
            )

        terms.append(
            (
                tuple(label.size for label in term.labels),
                term.coefficient,
                tuple(
                    (position[id(factor.array)], tuple(number[label] for label in factor.labels))
                    for factor in term.factors
                ),
                tuple(map(numbered, term.out)),
                tuple(map(numbered, term.wrt)),
            )
        )
        names.append(tuple(factor.name for factor in term.factors))
    return arrays, Structure(
        block.out_shape, block.wrt_shape, block.dtype, tuple(terms), Names(names)
    )


def unflatten(structure: Structure, arrays: Sequence[Any]) -> Block:
    """The inverse of `flatten`; looks at no leaf."""
    block = object.__new__(Block)
    block.out_shape, block.wrt_shape = structure.out_shape, structure.wrt_shape
    block.dtype = structure.dtype
    block._terms, block.outline, block.form = None, None, None
    block.flattened = list(arrays), structure
    return block


def flat_parts(block: Block) -> tuple[list[Any], Structure]:
    """Leaves and structure; of a block that was put together, what it was put together from.

    Its leaves may be any objects, and one and the same object twice.
    """
    return flatten(block) if block.flattened is None else block.flattened


jax.tree_util.register_pytree_node(Block, flat_parts, unflatten)
