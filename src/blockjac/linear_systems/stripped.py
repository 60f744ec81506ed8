"""A grid of blocks as a batch of smaller grids, along axes on which every block has a delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.cost import Abstract
from blockjac.linear_systems.groups import Family, Rows
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


class Stripped:
    """The grid of one system, built from slices of the arrays of the batch.

    Attributes:
        axes: 0 for an array with the batch axis, None for an array that all systems share, as
            `in_axes` of `jax.vmap`.
    """

    def __init__(self, rows: Rows, family: Family) -> None:
        self._sources: list[tuple[Any, int | None]] = []
        self.axes: list[int | None] = []
        self._makers = [
            [self._stripped(block, family[i], family[j]) for j, block in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    @property
    def is_shared(self) -> bool:
        """Whether all systems have the same matrix."""
        return not any(axis == 0 for axis in self.axes)

    @property
    def arrays(self) -> list[jax.Array]:
        """The arrays of all blocks; the batch axis comes first in those that have it."""
        return [
            jnp.asarray(array) if axis is None else jnp.moveaxis(jnp.asarray(array), axis, 0)
            for array, axis in self._sources
        ]

    @property
    def of_one(self) -> list[Abstract]:
        """The shapes and dtypes of the arrays of one system."""
        return [
            Abstract(tuple(size for n, size in enumerate(array.shape) if n != axis), array.dtype)
            for array, axis in self._sources
        ]

    def grid(self, arrays: Sequence[Any]) -> list[list[Block]]:
        """The grid of one system, from its arrays."""
        return [[make(arrays) for make in row] for row in self._makers]

    def _stripped(self, block: Block, out_axis: int, wrt_axis: int) -> Any:
        """Record the arrays of a block; return what builds the block of one system from them."""
        terms: list[tuple[Term, list[tuple[int, tuple[Label, ...], str]]]] = []
        for term in block.terms:
            label = term.out[out_axis].labels[0]
            factors: list[tuple[int, tuple[Label, ...], str]] = []
            for factor in term.factors:
                rest = tuple(other for other in factor.labels if other is not label)
                factors.append((len(self._sources), rest, factor.name))
                is_batched = len(rest) < len(factor.labels)
                axis = factor.labels.index(label) if is_batched else None
                self._sources.append((factor.array, axis))
                self.axes.append(0 if is_batched else None)
            terms.append((term, factors))
        out_shape = _without(block.out_shape, out_axis)
        wrt_shape = _without(block.wrt_shape, wrt_axis)

        def make(arrays: Sequence[Any]) -> Block:
            """The block of one system, from its arrays."""
            stripped = [
                Term(
                    tuple(Factor(arrays[n], labels, name) for n, labels, name in factors),
                    _without(term.out, out_axis),
                    _without(term.wrt, wrt_axis),
                    term.coefficient,
                )
                for term, factors in terms
            ]
            return rebuilt(out_shape, wrt_shape, block.dtype, stripped)

        return make


def _without(parts: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    """The parts except for that of an axis."""
    return parts[:axis] + parts[axis + 1 :]


def arrays_of_rows(rows: Rows) -> list[Any]:
    """The arrays of the factors of all blocks, in order."""
    return [
        factor.array
        for row in rows
        for block in row
        for term in block.terms
        for factor in term.factors
    ]


def numbered(
    rows: Rows, arrays: Sequence[Any], axes: Sequence[int], count: int, is_shared: bool
) -> list[list[Block]]:
    """The grid of all systems of a batch, from the grid of one: each block gets a delta.

    Args:
        rows: the grid of one system.
        arrays: the arrays of its factors, with the batch axis first unless they are shared.
        axes: the axis of each variable that numbers the systems.
        count: the number of systems.
        is_shared: whether all systems have the same matrix.
    """
    remaining = iter(arrays)

    def widened(block: Block, out_axis: int, wrt_axis: int) -> Block:
        """The block of all systems."""
        terms: list[Term] = []
        for term in block.terms:
            label = Label(count)
            index, shared = Index.of(label), () if is_shared else (label,)
            factors = tuple(
                Factor(next(remaining), (*shared, *factor.labels), factor.name)
                for factor in term.factors
            )
            out, wrt = _with(term.out, out_axis, index), _with(term.wrt, wrt_axis, index)
            terms.append(Term(factors, out, wrt, term.coefficient))
        out_shape = _with(block.out_shape, out_axis, count)
        wrt_shape = _with(block.wrt_shape, wrt_axis, count)
        return rebuilt(out_shape, wrt_shape, block.dtype, terms)

    return [
        [widened(block, i, j) for j, block in zip(axes, row, strict=True)]
        for i, row in zip(axes, rows, strict=True)
    ]


def _with(parts: tuple[Any, ...], axis: int, part: Any) -> tuple[Any, ...]:
    """The parts with one more at an axis."""
    return (*parts[:axis], part, *parts[axis:])
