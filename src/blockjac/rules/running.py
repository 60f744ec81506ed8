"""Running results as operators: sums by triangles, others by an associative scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.sums import summed
from blockjac.base.promises import is_structure_kept
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.graph.zero_rules import LARGEST
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import OperatorGroup
from blockjac.terms.block import delta_pairs, rebuilt
from blockjac.terms.known_indices import is_known, known_values

Combination = Callable[[Any, Any], tuple[Any, Any, Any]]
"""Two neighbouring partial results to their joint one, and its derivative by each of them."""

MAX_WRITTEN = 128
"""Along a longer axis the triangle of a running product is applied and not written out."""


def precedes(size: int, reverse: bool) -> Any:
    """The mask over (i, j) of which entries j take part in the running result i."""
    backend().check_fits([Label(size), Label(size)], np.dtype(bool))
    if is_structure_kept() and size**2 <= LARGEST:
        triangle = np.tri(size, dtype=bool)
        return triangle.T if reverse else triangle
    i, j = (lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1))
    return j >= i if reverse else j <= i


def _is_row_known(index: Index, size: int) -> bool:
    """Whether it is known, and worth to know, in which rows of the triangle an index stands."""
    return (
        is_structure_kept()
        and bool(index.labels)
        and is_known(index)
        and index.within(size)
        and arrays.numel(index.labels) * size <= LARGEST
    )


def _rows(index: Index, j: Label, from_end: bool) -> Factor:
    """The rows of the triangle in which an index stands, a mask."""
    labels = (*index.labels, j)

    def emit() -> Any:
        rows = np.broadcast_to(known_values(index, index.labels), arrays.sizes(index.labels))
        return np.asarray(precedes(j.size, from_end))[rows]

    return _known_mask(labels, emit)


def _known_mask(labels: Sequence[Label], emit: Callable[[], Any]) -> Factor:
    """A mask of constants, which plans look into that follow places."""
    if backend().knows_places:
        return Factor(emit(), tuple(labels))
    return backend().factor(labels, np.dtype(bool), emit)


class Running(MapGroup):
    """The derivative of the running results of any associative combination along an axis.

    It is the scan of the combination over values and tangents together: linear in the tangents, so
    that its transpose is the way back; both take time in proportion to the axis.
    """

    def __init__(
        self, name: str, operand: Any, axis: int, reverse: bool, combine: Combination
    ) -> None:
        shape, dtype = tuple(operand.shape), operand.dtype

        def joined(left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
            value, by_left, by_right = combine(left[0], right[0])
            return value, by_left * left[1] + by_right * right[1]

        def push(tangents: Sequence[Any]) -> list[Any]:
            pairs = (operand, tangents[0])
            return [lax.associative_scan(joined, pairs, reverse=reverse, axis=axis)[1]]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            backwards = jax.linear_transpose(push, [jax.ShapeDtypeStruct(shape, dtype)])
            return list(backwards(list(cotangents))[0])

        axis_names = [
            tuple(None if position == axis else position for position in range(len(shape)))
        ]
        super().__init__(
            out_shapes=[shape],
            wrt_shapes=[shape],
            dtypes=[dtype],
            out_dtypes=[dtype],
            pull=pull,
            push=push,
            name=name,
            row_axes=axis_names,
            column_axes=axis_names,
            structured=True,
        )
        self.operand = operand
        self.axis, self.from_end = axis, reverse

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`; of a cotangent with a delta in the axis a triangle."""
        (cotangent,), (answer,) = cotangents, super().pullback(cotangents)
        if cotangent is None or answer is None:
            return [answer]
        rows = [i for i, j in delta_pairs(cotangent) if j == self.axis]
        return [self._triangular(answer, [(i, self.axis) for i in rows])]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`; of a tangent with a delta in the axis a triangle."""
        (tangent,), (answer,) = tangents, super().pushforward(tangents)
        if tangent is None or answer is None:
            return [answer]
        columns = [j for i, j in delta_pairs(tangent) if i == self.axis]
        return [self._triangular(answer, [(self.axis, j) for j in columns])]

    def _triangular(self, block: Block, pairs: Sequence[tuple[int, int]]) -> Block:
        """A block without the entries of which it is known that they take no part."""
        size = self.operand.shape[self.axis]
        if not pairs or not is_structure_kept() or size**2 > LARGEST:
            return block
        terms = [self._masked(term, *pairs[0], size) for term in block.terms]
        return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)

    def _masked(self, term: Term, row: int, column: int, size: int) -> Term:
        """A term times the mask of the positions that precede a result."""
        i, j = term.out[row], term.wrt[column]
        if not (i.is_plain(size) and j.is_plain(size)) or i.labels == j.labels:
            return term
        labels = (*i.labels, *j.labels)
        mask = _known_mask(labels, lambda: precedes(size, self.from_end))
        return replace(term, factors=(*term.factors, mask))

    @property
    def held(self) -> Any:
        """The values that the combination is taken at."""
        return self.operand


def _reached(masks: Sequence[Factor], j: Label, from_end: bool) -> list[Factor]:
    """Where running sums along a label of what is masked may be other numbers than zero."""
    if not masks:
        return []
    mask = arrays.product(masks)
    axis = mask.labels.index(j)
    towards = mask.array if from_end else np.flip(mask.array, axis)
    may = np.logical_or.accumulate(towards, axis)
    may = may if from_end else np.flip(may, axis)
    return [] if may.all() else [Factor(np.asarray(may), mask.labels)]


class RunningSum(OperatorGroup):
    """The running sum along an axis; its transpose is the running sum from the other end.

    What it is applied to keeps its structure in every other axis.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, axis: int, reverse: bool) -> None:
        super().__init__(
            out_shapes=[tuple(shape)],
            wrt_shapes=[tuple(shape)],
            dtypes=[dtype],
            out_dtypes=[dtype],
            name="cumsum",
        )
        self.axis, self.from_end = axis, reverse

    def written(self, row: int, column: int) -> Block:
        """The triangle of ones along the axis, a mask that stores no numbers."""
        return self._through(
            Block.identity(self.out_shapes[row], self.dtypes[column]), self.from_end
        )

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        return [None if cotangent is None else self._through(cotangent, self.from_end)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        return [None if tangent is None else self._through(tangent.T, not self.from_end).T]

    def _through(self, block: Block, from_end: bool) -> Block:
        """`sum_i block[..., i] M[i, j]`, `M[i, j]` 1 for `j <= i`, or `j >= i` if `from_end`."""
        terms = [self._term_through(term, block, from_end) for term in block.terms]
        return summed(block.out_shape, block.wrt_shape, block.dtype, terms)

    def _term_through(self, term: Term, block: Block, from_end: bool) -> Term:
        """One term of `_through`."""
        index, size = term.wrt[self.axis], block.wrt_shape[self.axis]
        elsewhere = [
            expression for position, expression in enumerate(term.wrt) if position != self.axis
        ]
        other_labels = {
            label for expression in (*term.out, *elsewhere) for label in expression.labels
        }
        plain = index.is_plain(size)
        if (plain or _is_row_known(index, size)) and other_labels.issuperset(index.labels):
            # The labels stay, in another axis: only a triangle of ones comes to them.
            j = Label(size)
            mask = self._mask(index.labels[0], j, from_end) if plain else _rows(index, j, from_end)
            return Term(
                (*term.factors, mask), term.out, self._replaced(term.wrt, j), term.coefficient
            )
        masks = [mask for mask in term.factors if arrays.is_known_mask(mask)] if plain else []
        term = as_dense_axes(term, [self.axis], block.wrt_shape, block.dtype)
        (j,) = term.wrt[self.axis].labels
        masks = [arrays.renamed(mask, index.labels[0], j) for mask in masks]
        inside = [factor for factor in term.factors if j in factor.labels]
        outside = [factor for factor in term.factors if j not in factor.labels]
        total = self._sums(inside, j, from_end, block.dtype)
        reached = _reached([mask for mask in masks if j in mask.labels], j, from_end)
        return Term((*outside, total, *reached), term.out, term.wrt, term.coefficient)

    def _replaced(self, wrt: tuple[Index, ...], label: Label) -> tuple[Index, ...]:
        return (*wrt[: self.axis], Index.of(label), *wrt[self.axis + 1 :])

    def _mask(self, i: Label, j: Label, from_end: bool) -> Factor:
        return _known_mask((i, j), lambda: precedes(i.size, from_end))

    def _sums(self, factors: Sequence[Factor], j: Label, from_end: bool, dtype: Any) -> Factor:
        """The running sums along j of a product of factors; of ones where there is none."""
        if not factors:
            counts = jnp.arange(1, j.size + 1, dtype=dtype)
            return Factor(counts if from_end else counts[::-1], (j,))
        total = arrays.cast(arrays.product(factors), dtype)
        axis = total.labels.index(j)
        sums = backend().array(
            arrays.sizes(total.labels),
            dtype,
            lambda: lax.cumsum(total.array, axis, reverse=not from_end),
            operations=total.numel,
            moved=2 * total.numel * jnp.dtype(dtype).itemsize,
        )
        return Factor(sums, total.labels)
