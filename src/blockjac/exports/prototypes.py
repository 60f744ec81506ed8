"""Sparse matrices outside `jit`: what a pattern needs is worked out once, then values are put in.

A pattern is known by the structure of the blocks and by the values of their lookups. Lookups that
are constants of the program are known by identity; those that the program computed are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid, pieces, values
from blockjac.base.caches import Cache, remembering
from blockjac.base.trees import tree_structure
from blockjac.exports.filled_prototype import FilledPrototype, filled_prototype, with_data
from blockjac.exports.ordered_values import (
    check_places,
    numpy_values,
    ordered_values,
    row_column_pairs,
)
from blockjac.sparsity.filled import is_filled
from blockjac.sparsity.pattern import Arrangement, arrangement
from blockjac.sparsity.scipy_formats import assembled
from blockjac.terms.block import Block, flat_parts, flatten, rebuilt, unflatten
from blockjac.terms.structure import Structure
from blockjac.terms.term import Term


class Held:
    """A constant array, compared by identity and kept alive so that the identity stays its own."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.array is other.array

    def __hash__(self) -> int:
        return id(self.array)


@dataclass(frozen=True)
class Layout:
    """All that is static of where the entries of a block are.

    Attributes:
        structure: of the indices alone.
        lookups: the arrays of its lookups that are constants; None for others.
    """

    structure: Structure
    lookups: tuple[Held | None, ...]

    def block(self, arrays: Sequence[Any]) -> Block:
        """The block of the indices alone, from the lookups that are not constants."""
        variable_lookups = iter(arrays)
        return unflatten(
            self.structure,
            [next(variable_lookups) if lookup is None else lookup.array for lookup in self.lookups],
        )


def lookup_positions(structure: Structure) -> tuple[int, ...]:
    """Which of the arrays of a structure are lookups."""
    return _indices(structure)[0]


Parts = Sequence[Sequence[tuple[Layout, Sequence[Any]]]]
"""The layouts of a grid's blocks, each with the lookups that are not constants."""


def layout_of(block: Block) -> tuple[Layout, list[Any]]:
    """The layout of a block, and its lookups that are not constants."""
    arrays, structure = flat_parts(block)
    positions, indices = _indices(structure)
    lookups = [arrays[position] for position in positions]
    held = tuple(
        [
            Held(cast("np.ndarray", lookup)) if isinstance(lookup, np.ndarray) else None
            for lookup in lookups
        ]
    )
    variable = [lookup for lookup, known in zip(lookups, held, strict=True) if known is None]
    return Layout(indices, held), variable


@remembering("structures of indices", 512)
def _indices(structure: Structure) -> tuple[tuple[int, ...], Structure]:
    """The structure of the indices alone, and the positions of its lookups among the arrays."""
    arrays = [object() for _ in range(_count(structure))]
    block = unflatten(structure, arrays)
    terms = [Term((), term.out, term.wrt) for term in block.terms]
    lookups, indices = flatten(rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms))
    position_of = {id(array): position for position, array in enumerate(arrays)}
    return tuple(position_of[id(lookup)] for lookup in lookups), indices


def _count(structure: Structure) -> int:
    """How many arrays a structure is of."""
    positions = [
        position
        for _, _, factors, out, wrt in structure.terms
        for position in (
            *(position for position, _ in factors),
            *(lookup[0] for _, _, lookup in (*out, *wrt) if lookup is not None),
        )
    ]
    return max(positions, default=-1) + 1


@dataclass(frozen=True, eq=False)
class Prototype:
    """A matrix of a format whose stored numbers tell which value goes where.

    Attributes:
        matrix: of integers: 0 for nothing, k for the k-th value of the pattern.
        arranged: how the entries come to stand in the pattern's order, or in that of the numbers of
            a matrix without any zeros; None where the matrix holds one entry per place and nothing
            else: it then tells which entry goes where, from 0.
    """

    matrix: Any
    arranged: Arrangement | None

    @property
    def nbytes(self) -> int:
        """About how many bytes this keeps."""
        entries = 0 if self.arranged is None else len(self.arranged.order)
        return 16 * self.matrix.data.size + 32 * entries + 8 * sum(self.matrix.shape)

    def filled(self, entries: Any) -> Any:
        """The matrix of the values; its index arrays are its own."""
        numbers = numpy_values(entries)
        if self.arranged is None:
            return with_data(self.matrix, numbers.take(self.matrix.data))
        ordered = self.arranged.arranged(numbers)
        if self.matrix.format == "dia":
            ordered = np.concatenate([np.zeros(1, ordered.dtype), ordered])[self.matrix.data]
        return with_data(self.matrix, ordered)


@dataclass(frozen=True, eq=False)
class JaxPrototype:
    """The same for arrays of `jax.experimental.sparse`.

    Attributes:
        places: rows and columns `(count, 2)`, sorted, as an array of JAX.
        ordered: the compiled program that gives the values in their order, from the grid.
        tree: of the matrix, whose leaves are values and places.
    """

    places: Any
    ordered: Callable[[Any], Any]
    tree: Any

    @property
    def nbytes(self) -> int:
        """About how many bytes this keeps."""
        return 3 * self.places.nbytes

    def filled(self, grid: Grid) -> Any:
        """The matrix of a grid's values."""
        numbers = self.ordered([list(row) for row in grid])
        return jax.tree.unflatten(self.tree, (numbers, self.places))


_prototypes: Cache[Any] = Cache("patterns", 64, max_bytes=2**30, size=lambda kept: kept.nbytes)


def prototype(parts: Parts, format: str, triangle: str | None = None) -> Any:
    """The matrix whose numbers are to be filled in, made once for a pattern.

    Args:
        parts: the layouts of a grid, and its lookups that are not constants.
        format: of scipy's.
        triangle: "lower" or "upper" for one triangle and the diagonal; None for all entries.
    """

    def make(grid: Grid) -> Prototype | FilledPrototype:
        if triangle is None and format in ("csr", "csc") and is_filled(grid):
            return filled_prototype(grid, format)
        return _made(arrangement(grid).triangle(triangle), format)

    return _made_once(parts, (format, triangle), make)


def scipy_prototype(grid: Grid, format: str) -> Prototype | FilledPrototype:
    """The same of a grid that is at hand."""
    return prototype([[layout_of(block) for block in row] for row in grid], format)


def kept_for_pattern(grid: Grid, name: str, make: Callable[[Grid], Any]) -> Any:
    """What `make` gives for a grid of indices alone, kept for the next grid of this pattern.

    Args:
        grid: at hand, and its places known.
        name: of what is made.
        make: gives it; it has `nbytes`.
    """
    return _made_once([[layout_of(block) for block in row] for row in grid], (name,), make)


def jax_prototype(
    grid: Grid, shape: tuple[int, int], dtype: Any, triangle: str | None = None
) -> JaxPrototype:
    """Where the values of a grid go in a matrix of JAX's.

    Args:
        grid: at hand, and no value of a program.
        shape: of the matrix.
        dtype: of the places.
        triangle: as for `prototype`.
    """
    parts = [[layout_of(block) for block in row] for row in grid]
    structures = tuple(tuple(flat_parts(block)[1] for block in row) for row in grid)

    from jax.experimental import sparse

    def prototype_of(bare: Grid) -> JaxPrototype:
        """The prototype of a grid of indices alone."""
        check_places(pieces(bare))
        arranged = arrangement(bare).triangle(triangle)
        places = jnp.asarray(row_column_pairs(arranged.pattern, dtype))

        def numbers(grid: Any) -> Any:
            return ordered_values(values(grid), arranged)

        program = jax.jit(numbers)
        matrix = sparse.BCOO(
            (places[:, 0], places), shape=shape, indices_sorted=True, unique_indices=True
        )
        return JaxPrototype(places, program, tree_structure(matrix))

    return _made_once(parts, ("bcoo", structures, np.dtype(dtype), triangle), prototype_of)


def _made_once(parts: Parts, further: tuple[Any, ...], make: Callable[[Grid], Any]) -> Any:
    """What `make` gives for a grid of indices alone; kept for the next grid of this pattern."""
    layouts = tuple(tuple(layout for layout, _ in row) for row in parts)
    places = tuple(
        np.asarray(array).tobytes() for row in parts for _, arrays in row for array in arrays
    )
    key = (layouts, places, further)
    return _prototypes.made(
        key, lambda: make([[layout.block(arrays) for layout, arrays in row] for row in parts])
    )


def _made(arranged: Arrangement, format: str) -> Prototype:
    """The prototype of a pattern in a format of SciPy."""
    if arranged.starts is None and format != "dia":
        return Prototype(assembled(arranged.pattern, arranged.order, format), None)
    matrix = assembled(arranged.pattern, np.arange(1, arranged.pattern.nnz + 1), format)
    if format == "dia":
        return Prototype(matrix, arranged)
    return Prototype(matrix, arranged.chosen(matrix.data - 1))
