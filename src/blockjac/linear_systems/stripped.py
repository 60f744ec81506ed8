"""A grid of blocks as a batch of smaller grids, along axes on which every block has a delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.linear_systems.groups import Family, Rows
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label
from blockjac.terms.term import Term


class Stripped:
    """The grid of one system, built from slices of the arrays of the batch.

    Attributes:
        arrays: the arrays of all blocks; the batch axis comes first in those that have it.
        axes: 0 for an array with the batch axis, None for an array that all systems share, as
            `in_axes` of `jax.vmap`.
    """

    def __init__(self, rows: Rows, family: Family) -> None:
        self.arrays: list[Any] = []
        self.axes: list[int | None] = []
        self._makers = [
            [self._stripped(block, family[i], family[j]) for j, block in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    @property
    def is_shared(self) -> bool:
        """Whether all systems have the same matrix."""
        return not any(axis == 0 for axis in self.axes)

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
                factors.append((len(self.arrays), rest, factor.name))
                is_batched = len(rest) < len(factor.labels)
                axis = factor.labels.index(label) if is_batched else None
                array = jnp.asarray(factor.array)
                self.arrays.append(array if axis is None else jnp.moveaxis(array, axis, 0))
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
