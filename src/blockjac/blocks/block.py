"""Term and Block: a Jacobian kept in the structure that it has."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks.as_matrix import AsMatrix
from blockjac.blocks.cost import is_planning
from blockjac.blocks.factor import Factor, cast, is_mask, reshaped
from blockjac.blocks.index import Index, Label, Lookup, collect
from blockjac.errors import BlockShapeError, BlockTypeError

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """One structured summand of a Jacobian: a product of factors, and an index for each axis.

    A label that occurs both in `out` and in `wrt` is a Kronecker delta between those axes; a label
    that no factor carries is one along which the term is constant. Every label of a factor occurs
    in an index, so that nothing is left to be summed. Output axes come first, as in `jax.jacfwd`.

    Attributes:
        factors: arrays over labels, multiplied lazily.
        out: one index for each output axis.
        wrt: one index for each input axis.
        coefficient: a static scalar that multiplies the whole term.
    """

    factors: tuple[Factor, ...]
    out: tuple[Index, ...]
    wrt: tuple[Index, ...]
    coefficient: Any = 1

    @property
    def indices(self) -> tuple[Index, ...]:
        """The indices of all axes, output first."""
        return self.out + self.wrt

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label once, by first occurrence in the indices, then in the factors."""
        found = {label: None for index in self.indices for label in index.labels}
        for factor in self.factors:
            found.update(dict.fromkeys(factor.labels))
        return tuple(found)

    def has_delta(self, i: int, j: int, size: int) -> bool:
        """Whether output axis i and input axis j are one plain label that no other axis has."""
        one, other = self.out[i], self.wrt[j]
        if size == 1 or not one.is_plain(size) or not other.is_plain(size):
            return False
        label = one.strides[0][0]
        return (
            other.strides[0][0] is label
            and sum(label in index.labels for index in self.indices) == 2
        )

    def relabelled(self, given: Mapping[Label, Label] | None = None) -> Term:
        """The same term over fresh labels, or over those that are given for some of its own."""
        fresh = {label: Label(label.size) for label in self.labels}
        fresh.update(given or {})
        lookups: dict[int, Lookup] = {}

        def index_over_fresh(index: Index) -> Index:
            if index.lookup is None:
                return index.relabelled(fresh)
            new = index.relabelled(fresh)
            shared = lookups.setdefault(id(index.lookup), new.lookup)  # pyright: ignore[reportArgumentType]
            return replace(new, lookup=shared)

        return Term(
            tuple(
                Factor(factor.array, tuple(fresh[label] for label in factor.labels), factor.name)
                for factor in self.factors
            ),
            tuple(map(index_over_fresh, self.out)),
            tuple(map(index_over_fresh, self.wrt)),
            self.coefficient,
        )


@dataclass(frozen=True)
class Structure:
    """All of a block that is static, on which a compiled program depends; names do not count."""

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    terms: tuple[Any, ...]
    names: Names

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:  # programs are found by it, again and again
        return hash((self.out_shape, self.wrt_shape, self.dtype, self.terms))


class Names(tuple):
    """Names that ride along with a structure: equal to any other names."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0

    def without(self) -> Names:
        """As many empty names."""
        return Names(("",) * len(names) for names in self)


class Block(AsMatrix):
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
            kept.append(tidy(term, self.out_shape, self.wrt_shape))
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
        return Block(as_shape(out_shape), as_shape(wrt_shape), _default(dtype), ())

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
        return Block(shape, shape, _default(dtype), (Term((), indices, indices),))

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
            self._terms = _terms_of(structure, arrays)
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
        from blockjac.blocks.pattern import nnz

        return nnz(self)

    @property
    def structure(self) -> str:
        """A formula of the block, such as `δ[n,n'] X[n,k] B[n,m,h]`."""
        from blockjac.blocks.describe import describe

        return describe(self)

    # Algebra

    def dense(self, max_bytes: int | None = None) -> jax.Array:
        """The Jacobian as one array of `shape`, written once.

        Args:
            max_bytes: refuse a result of more bytes; default a share of the machine's memory.

        Raises:
            DenseTooLargeError: with what it would need and what to call instead.
        """
        from blockjac.blocks.at_once import at_once

        return at_once(_dense, self, max_bytes=max_bytes)

    def diagonal(self) -> jax.Array:
        """The entries `block[i, i]`, of `out_shape`, at the structure's cost.

        Raises:
            BlockShapeError: if out and wrt shapes differ.
        """
        from blockjac.blocks.at_once import at_once

        return at_once(_diagonal, self)

    def matvec(self, tangent: Any) -> jax.Array:
        """`block star tangent`: a tangent of `wrt_shape` to one of `out_shape`."""
        from blockjac.blocks.star import star

        return star(self, as_array(tangent))

    def vecmat(self, cotangent: Any) -> jax.Array:
        """`cotangent star block`: a cotangent of `out_shape` to one of `wrt_shape`."""
        from blockjac.blocks.star import star

        return star(as_array(cotangent), self)

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
        from blockjac.blocks.star import star

        return star(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        from blockjac.blocks.star import star

        return star(other, self)

    def __add__(self, other: Any) -> Block:
        if not isinstance(other, Block):
            return NotImplemented
        from blockjac.blocks.star import add

        return add(self, other)

    def __neg__(self) -> Block:
        return -1 * self

    def __sub__(self, other: Any) -> Block:
        return self + (-other) if isinstance(other, Block) else NotImplemented

    def __mul__(self, scalar: Any) -> Block:
        if not isinstance(scalar, int | float | complex | np.number):
            return NotImplemented
        dtype = np.dtype(jnp.result_type(self.dtype, scalar))
        return rebuilt(
            self.out_shape,
            self.wrt_shape,
            dtype,
            (_scaled(term, scalar, dtype) for term in self.terms if scalar),
        )

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


def as_array(value: Any) -> Any:
    """A value as an array of a dtype that JAX works in; arrays of one pass through untouched."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == jnp.result_type(value) else jnp.asarray(value)
    return value if hasattr(value, "shape") and hasattr(value, "dtype") else jnp.asarray(value)


def as_shape(shape: Any) -> Shape:
    """A shape as a tuple of ints; a lone int is the shape of one axis, as in NumPy.

    Raises:
        BlockTypeError: for anything else.
        BlockShapeError: for negative sizes.
    """
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        raise BlockTypeError(f"a shape must be ints, as (2, 3), but is {shape!r}") from None
    if any(size < 0 for size in sizes):
        raise BlockShapeError(f"a shape must not have negative sizes, but is {sizes}")
    return sizes


def canonical(dtype: Any) -> np.dtype:
    """The dtype that JAX works in: float32 for float64 where 64 bits are not enabled."""
    return jnp.result_type(np.empty(0, dtype))  # of the bare dtype, it would warn


def _default(dtype: Any) -> Any:
    return jnp.zeros(()).dtype if dtype is None else dtype


def _scaled(term: Term, scalar: Any, dtype: Any) -> Term:
    """A term times a scalar, its numbers in the dtype that the product has."""
    factors = tuple(factor if is_mask(factor) else cast(factor, dtype) for factor in term.factors)
    return replace(term, factors=factors, coefficient=term.coefficient * scalar)


def rebuilt(out_shape: Shape, wrt_shape: Shape, dtype: Any, terms: Iterable[Term]) -> Block:
    """A block from terms that are tidy already."""
    block = object.__new__(Block)
    block.out_shape, block.wrt_shape, block.dtype = out_shape, wrt_shape, dtype
    block._terms, block.outline, block.form, block.flattened = tuple(terms), None, None, None
    return block


def tidy(term: Term, out_shape: Shape, wrt_shape: Shape) -> Term | None:
    """A term without labels of size 1, or None when it has no entry at all."""
    if isinstance(term.coefficient, int | float | complex) and term.coefficient == 0:
        return None
    labels = term.labels
    if any(label.size == 0 for label in labels):
        return None
    lookups: dict[int, Lookup] = {}
    indices = tuple(_tidy_index(index, lookups) for index in term.indices)
    for index, size in zip(indices, out_shape + wrt_shape, strict=True):
        bounds = index.bounds()
        if size == 0 or (bounds is not None and (bounds[1] < 0 or bounds[0] >= size)):
            return None
    out, wrt = indices[: len(out_shape)], indices[len(out_shape) :]
    factors = term.factors
    if any(
        index.single is not None and not index.within(size)
        for index, size in zip(indices, out_shape + wrt_shape, strict=True)
    ):
        from blockjac.blocks.network import trimmed

        return trimmed(Term(factors, out, wrt, term.coefficient), out_shape, wrt_shape)
    if any(label.size == 1 for factor in factors for label in factor.labels):
        factors = tuple(map(tidy_factor, factors))
    return Term(factors, out, wrt, term.coefficient)


def _tidy_index(index: Index, lookups: dict[int, Lookup]) -> Index:
    """An index without labels of size 1; equal lookups stay one object through `lookups`."""
    if all(label.size != 1 for label in index.labels):
        return index
    lookup = index.lookup
    if lookup is not None and any(label.size == 1 for label in lookup.labels):
        if id(lookup) not in lookups:
            squeezed = tidy_factor(Factor(lookup.array, lookup.labels))
            array = squeezed.array
            if lookup.constant and isinstance(lookup.array, np.ndarray):
                array = np.reshape(lookup.array, tuple(label.size for label in squeezed.labels))
            lookups[id(lookup)] = replace(lookup, array=array, labels=squeezed.labels)
        lookup = lookups[id(lookup)]
        if not lookup.labels and lookup.constant and isinstance(lookup.array, np.ndarray):
            return Index(index.offset + int(lookup.array), collect(index.strides))
    return Index(index.offset, collect(index.strides), lookup)


def tidy_factor(factor: Factor) -> Factor:
    """A factor without labels of size 1, which no index names."""
    labels = tuple(label for label in factor.labels if label.size != 1)
    if len(labels) == len(factor.labels):
        return factor
    return Factor(reshaped(factor.array, labels), labels, factor.name)


def delta_pairs(block: Block) -> list[tuple[int, int]]:
    """The pairs of an output and an input axis that are the same delta in every term."""
    return [
        (i, j)
        for i, size in enumerate(block.out_shape)
        for j, other in enumerate(block.wrt_shape)
        if size == other and all(term.has_delta(i, j, size) for term in block.terms)
    ]


# Blocks as pytrees


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


def _terms_of(structure: Structure, arrays: Sequence[Any]) -> tuple[Term, ...]:
    terms = []
    for (label_sizes, coefficient, factors, out, wrt), names in zip(
        structure.terms, structure.names, strict=True
    ):
        labels = [Label(size) for size in label_sizes]
        lookups: dict[Any, Lookup] = {}

        def index_of(
            numbered: tuple[Any, ...],
            labels: list[Label] = labels,
            lookups: dict[Any, Lookup] = lookups,
        ) -> Index:
            offset, strides, key = numbered
            lookup = None
            if key is not None:
                over = tuple(labels[number] for number in key[1])
                made = Lookup(arrays[key[0]], over, *key[2:])
                lookup = lookups.setdefault(key, made)
            return Index(
                offset, tuple((labels[number], stride) for number, stride in strides), lookup
            )

        terms.append(
            Term(
                tuple(
                    Factor(arrays[place], tuple(labels[number] for number in numbers), name)
                    for (place, numbers), name in zip(factors, names, strict=True)
                ),
                tuple(map(index_of, out)),
                tuple(map(index_of, wrt)),
                coefficient,
            )
        )
    return tuple(terms)


def flat_parts(block: Block) -> tuple[list[Any], Structure]:
    """Leaves and structure; of a block that was put together, what it was put together from.

    Its leaves may be any objects, and one and the same object twice.
    """
    return flatten(block) if block.flattened is None else block.flattened


jax.tree_util.register_pytree_node(Block, flat_parts, unflatten)


def _dense(block: Block, max_bytes: int | None) -> Any:
    from blockjac.blocks.dense import dense
    from blockjac.blocks.replay import replayed_array

    def written(one: Block) -> Any:
        return dense(one, max_bytes=max_bytes)

    if is_planning() or block.batch_shape:
        return mapped(block, written)
    return replayed_array(("dense", max_bytes), written, block)


def _diagonal(block: Block) -> Any:
    from blockjac.blocks.dense import diagonal

    return mapped(block, diagonal)


def mapped(block: Block, function: Callable[[Block], Any]) -> Any:
    """Apply a function of one block over the batch axes that an outer `vmap` has left on it."""
    for _ in block.batch_shape:
        function = jax.vmap(function)
    return function(block)
