"""A convolution as a function of its operands, and the blocks of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.nonzeros import without_zeros
from blockjac.algebra.views import View
from blockjac.base import compat
from blockjac.blocks import Block, Index, Label, Term
from blockjac.terms.block import rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import collect
from blockjac.terms.known_indices import known_lookup, mask_at

EXAMPLE = "example"
"""The name of the batch axes of the left operand and of the result."""


@dataclass(frozen=True)
class Places:
    """Where the labels of a convolution meet its arrays, an index for each axis.

    `out[places.out] = sum over labels of lhs[places.lhs] rhs[places.rhs]`.
    """

    lhs: tuple[Index, ...]
    rhs: tuple[Index, ...]
    out: tuple[Index, ...]


@dataclass(frozen=True)
class Window:
    """One spatial axis: `o` and `k` meet the input at `i` where `b i = s o + d k - p`."""

    size: int
    width: int
    count: int
    stride: int
    low: int
    base: int
    dilation: int

    def by_result(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `o` and `k`; exact where `b` is 1."""
        o, k = Label(self.count), Label(self.width)
        strides = collect([(o, self.stride), (k, self.dilation)])
        return Index(-self.low, strides), Index.of(k), Index.of(o)

    def by_input(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `i` and `k`; exact where `s` is 1."""
        i, k = Label(self.size), Label(self.width)
        strides = collect([(i, self.base), (k, -self.dilation)])
        return Index.of(i), Index.of(k), Index(self.low, strides)

    def by_table(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `o` and `k`, for any strides."""
        o, k = Label(self.count), Label(self.width)
        positions = (
            self.stride * np.arange(o.size)[:, None]
            + self.dilation * np.arange(k.size)[None, :]
            - self.low
        )
        met = (positions % self.base == 0) & (positions >= 0)
        positions = np.where(met, positions // self.base, self.size)
        carried = tuple(label for label in (o, k) if label.size != 1)
        table = known_lookup(positions.reshape(arrays.sizes(carried)), carried)
        return Index(0, (), table), Index.of(k), Index.of(o)

    def indices(self, input_is_stored: bool) -> tuple[Index, Index, Index]:
        """Input, kernel and result, so that the stored one of the operands is not copied."""
        one_each = 1 in (self.count, self.width)
        if self.base == 1 and (not input_is_stored or one_each or self.stride != 1):
            return self.by_result()
        return self.by_input() if self.stride == 1 or self.count == 1 else self.by_table()


@dataclass(frozen=True, eq=False)
class Convolution:
    """The shapes and parameters of one `conv_general_dilated`."""

    primitive: Any
    params: dict[str, Any]
    lhs: jax.ShapeDtypeStruct
    rhs: jax.ShapeDtypeStruct
    out: jax.ShapeDtypeStruct

    def __call__(self, lhs: Any, rhs: Any) -> Any:
        """The convolution of two arrays."""
        (out,) = compat.bind(self.primitive, [lhs, rhs], self.params)
        return out

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        feature = self.params["dimension_numbers"].rhs_spec[0]
        taps = math.prod(size for axis, size in enumerate(self.rhs.shape) if axis != feature)
        return 2 * math.prod(self.out.shape) * taps

    def block(self, operand: int, other_operand: Any, may: np.ndarray | None = None) -> Block:
        """The block with respect to the left (0) or right (1) operand, over the other operand.

        Args:
            operand: the position of the operand.
            other_operand: the value of the other operand.
            may: where that value may be nonzero; None for everywhere.
        """
        variable = (self.lhs, self.rhs)[operand]
        if 0 in (*self.out.shape, *self.lhs.shape, *self.rhs.shape):
            return Block.zeros(self.out.shape, variable.shape, variable.dtype)
        places = self.places(input_is_stored=operand == 1)
        wrt, stored = (places.lhs, places.rhs) if operand == 0 else (places.rhs, places.lhs)
        factors = [View(other_operand, stored).read()]
        if may is not None:
            labels = arrays.unique([label for index in stored for label in index.labels])
            factors.append(Factor(mask_at(may, stored, labels), labels))
        term = Term(tuple(factors), places.out, wrt)
        block = Block(self.out.shape, variable.shape, variable.dtype, [term])
        return block if may is None else _without_mask(block)

    def places(self, input_is_stored: bool) -> Places:
        """Where labels meet the three arrays.

        Groups are the high digit of the output feature, and of the input feature or the batch.
        """
        numbers, params = self.params["dimension_numbers"], self.params
        group = Label(params["feature_group_count"] * params["batch_group_count"])
        batch = Label(self.out.shape[numbers.out_spec[0]])
        feature = Label(self.rhs.shape[numbers.rhs_spec[0]] // group.size)
        inner = Label(self.rhs.shape[numbers.rhs_spec[1]])

        def grouped(low: Label, count: int) -> Index:
            return Index(0, collect([(group, low.size if count != 1 else 0), (low, 1)]))

        outer = grouped(feature, group.size)
        spatial = [window.indices(input_is_stored) for window in self.windows()]
        lhs, rhs, out = ([each[position] for each in spatial] for position in range(3))
        lhs_batch = grouped(batch, params["batch_group_count"])
        lhs_feature = grouped(inner, params["feature_group_count"])
        return Places(
            _arranged(numbers.lhs_spec, [lhs_batch, lhs_feature, *lhs]),
            _arranged(numbers.rhs_spec, [outer, Index.of(inner), *rhs]),
            _arranged(numbers.out_spec, [Index.of(batch), outer, *out]),
        )

    @property
    def example_axis(self) -> int:
        """The batch axis of the result."""
        return self.params["dimension_numbers"].out_spec[0]

    @property
    def examples_are_apart(self) -> bool:
        """Whether the batch axes of left operand and result are one."""
        return self.params["batch_group_count"] == 1

    def names(self, axes: Sequence[int]) -> tuple[str | None, ...]:
        """A name for the batch axis of an array with these axes, if examples are separate."""
        batch = axes[0] if self.examples_are_apart else None
        return tuple(EXAMPLE if axis == batch else None for axis in range(len(axes)))

    def kernel_cotangents(self, lhs: Any, cotangents: Any) -> Any:
        """The cotangents of the kernel from each example separately, which is the first axis.

        By one product of matrices per example for each place of the kernel. Where a place does not
        multiply one slice, by a convolution with a group for each example: that takes twice as
        long on a CPU, and XLA divides it wrongly among devices that share a batch (JAX 0.10.2).
        """
        if self.has_plain_taps:
            return self._kernel_cotangents_by_taps(lhs, cotangents)
        lhs_axis = self.params["dimension_numbers"].lhs_spec[0]

        def of_one(example: Any, cotangent: Any) -> Any:
            example = jnp.expand_dims(example, lhs_axis)
            backwards = jax.linear_transpose(lambda rhs: self(example, rhs), self.rhs)
            return backwards(jnp.expand_dims(cotangent, self.example_axis))[0]

        return jax.vmap(of_one, (lhs_axis, self.example_axis))(lhs, cotangents)

    @property
    def has_plain_taps(self) -> bool:
        """Whether each place of the kernel multiplies one strided slice of the left operand."""
        params = self.params
        return (
            params["feature_group_count"] == params["batch_group_count"] == 1
            and all(size == 1 for size in params["lhs_dilation"])
            and 0 not in (*self.lhs.shape, *self.rhs.shape, *self.out.shape)
        )

    @property
    def bytes_of_taps(self) -> int:
        """What products of matrices for each place of the kernel read and write."""
        feature, inner, *spatial = (self.rhs.shape[axis] for axis in self._rhs_spec)
        places = math.prod(self.out.shape) // max(feature, 1)
        each = 2 * places * inner + math.prod(self.out.shape)  # a slice is written and read
        return math.prod(spatial) * each * np.dtype(self.rhs.dtype).itemsize

    @property
    def _rhs_spec(self) -> tuple[int, ...]:
        return self.params["dimension_numbers"].rhs_spec

    def _kernel_cotangents_by_taps(self, lhs: Any, cotangents: Any) -> Any:
        """The same, by products of matrices."""
        numbers, windows = self.params["dimension_numbers"], self.windows()
        spatial = [list(spec[2:]) for spec in (numbers.lhs_spec, numbers.out_spec)]
        padding = [(0, 0, 0)] * lhs.ndim
        for axis, (low, high) in zip(spatial[0], self.params["padding"], strict=True):
            padding[axis] = (low, high, 0)
        padded = jax.lax.pad(lhs, jnp.zeros((), lhs.dtype), padding)
        batch = [numbers.lhs_spec[0]], [numbers.out_spec[0]]
        taps: list[Any] = []
        for tap in itertools.product(*(range(window.width) for window in windows)):
            starts, ends, strides = [0] * lhs.ndim, list(padded.shape), [1] * lhs.ndim
            for axis, place, window in zip(spatial[0], tap, windows, strict=True):
                starts[axis] = place * window.dilation
                ends[axis] = starts[axis] + (window.count - 1) * window.stride + 1
                strides[axis] = window.stride
            part = jax.lax.slice(padded, starts, ends, strides)
            taps.append(
                jax.lax.dot_general(
                    part,
                    cotangents,
                    ((spatial[0], spatial[1]), batch),
                    precision=self.params["precision"],
                    preferred_element_type=self.rhs.dtype,
                )
            )
        widths = [window.width for window in windows]
        stacked = jnp.stack(taps, axis=1).reshape((taps[0].shape[0], *widths, *taps[0].shape[1:]))
        rank = len(widths)
        places = dict(zip(numbers.rhs_spec, (rank + 2, rank + 1, *range(1, rank + 1)), strict=True))
        return jnp.transpose(stacked, (0, *(places[axis] for axis in range(rank + 2))))

    def windows(self) -> list[Window]:
        """The spatial axes, in the order of the parameters."""
        numbers, params = self.params["dimension_numbers"], self.params
        return [
            Window(
                self.lhs.shape[numbers.lhs_spec[2 + axis]],
                self.rhs.shape[numbers.rhs_spec[2 + axis]],
                self.out.shape[numbers.out_spec[2 + axis]],
                params["window_strides"][axis],
                params["padding"][axis][0],
                params["lhs_dilation"][axis]
                if self.lhs.shape[numbers.lhs_spec[2 + axis]] > 1
                else 1,
                params["rhs_dilation"][axis],
            )
            for axis in range(len(params["window_strides"]))
        ]


def _without_mask(block: Block) -> Block:
    """The block over the places that its mask leaves, in the cheapest form."""
    if not block.terms:
        return block
    (term,) = block.terms
    masks = [factor for factor in term.factors if is_known_mask(factor)]
    numbers = tuple(factor for factor in term.factors if factor not in masks)
    if len(masks) != 1 or len(numbers) != 1 or set(masks[0].labels) != set(numbers[0].labels):
        return block
    (mask,), (number,) = masks, numbers
    may = np.transpose(mask.array, [mask.labels.index(label) for label in number.labels])
    bare = rebuilt(block.out_shape, block.wrt_shape, block.dtype, [replace(term, factors=numbers)])
    return without_zeros(bare, 0, may)


def _arranged(axes: Sequence[int], indices: Sequence[Index]) -> tuple[Index, ...]:
    """The indices of batch, feature and spatial axes in the order of an array's own axes."""
    own = dict(zip(axes, indices, strict=True))
    return tuple(own[axis] for axis in range(len(own)))
