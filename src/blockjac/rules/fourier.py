"""The Fourier transform as an operator on real and imaginary parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.sums import summed
from blockjac.base import compat
from blockjac.blocks import Block, Factor, Label, Term
from blockjac.graph.graph import Equation
from blockjac.operators.operator import OperatorGroup
from blockjac.rules.building import labels_of, plain
from blockjac.rules.complex_parts import (
    as_any_row,
    as_parts,
    complex_scalar,
    is_complex,
)
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.terms.block import rebuilt


class FourierTransform(OperatorGroup):
    """A Fourier transform of the last axes; other axes keep what structure they have.

    Args:
        equation: with the primitive and its parameters.
        out: the result, or its shape and dtype.
        operand: the operand, or its shape and dtype.
    """

    edge_by_edge = True

    def __init__(self, equation: Equation, out: Any, operand: Any) -> None:
        super().__init__(
            out_shapes=[vertex_shape(out)],
            wrt_shapes=[vertex_shape(operand)],
            dtypes=[real_dtype(operand.dtype)],
            out_dtypes=[real_dtype(out.dtype)],
            name="fft",
        )
        self.transform, self.params = equation.primitive, equation.params
        self.rank = len(self.params["fft_lengths"])
        self.out, self.operand = (
            jax.ShapeDtypeStruct(value.shape, value.dtype) for value in (out, operand)
        )

    def written(self, row: int, column: int) -> Block:
        """The matrix of the transform on its axes, deltas on all others."""
        del column
        answer = self.pullback([Block.identity(self.out_shapes[row], self.out_dtypes[row])])[0]
        if answer is None:
            raise ValueError("an identity was given")
        return answer

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        if cotangent is None:
            return [None]
        return [self._through(cotangent, self.out, self.operand, self._backwards, -1)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        if tangent is None:
            return [None]
        pushed = self._through(tangent.T, self.operand, self.out, self._forwards, 1).T
        return [rebuilt(pushed.out_shape, pushed.wrt_shape, tangent.dtype, pushed.terms)]

    def _forwards(self, array: Any) -> Any:
        return compat.bind(self.transform, [array], self.params)[0]

    def _backwards(self, array: Any) -> Any:
        batch = array.shape[: array.ndim - self.rank]
        shape = (*batch, *self.operand.shape[len(self.operand.shape) - self.rank :])
        operand = jax.ShapeDtypeStruct(shape, self.operand.dtype)
        (answer,) = jax.linear_transpose(self._forwards, operand)(array)
        return answer

    def _through(
        self, block: Block, source: Any, wanted: Any, transform: Callable[[Any], Any], sign: int
    ) -> Block:
        """Each term of a block by the variable `source` transformed to one by `wanted`."""
        terms = [self._term_through(term, source, wanted, transform, sign) for term in block.terms]
        return summed(block.out_shape, vertex_shape(wanted), real_dtype(wanted.dtype), terms)

    def _term_through(
        self, term: Term, source: Any, wanted: Any, transform: Callable[[Any], Any], sign: int
    ) -> Term:
        """A term by the variable `source` transformed to one by `wanted`."""
        if is_complex(source):
            term = as_any_row(term, sign, real_dtype(source.dtype))
        rank = len(source.shape)
        axes = range(rank - self.rank, rank)
        term = as_dense_axes(term, axes, source.shape, source.dtype)
        targets = [label for axis in axes for label in term.wrt[axis].labels]
        # To a real variable the map is linear over real numbers only: complex ones go through it.
        inside = [
            factor
            for factor in term.factors
            if set(factor.labels) & set(targets)
            or (is_complex(factor.array) and not is_complex(wanted))
        ]
        outside = [factor for factor in term.factors if factor not in inside]
        coefficient = term.coefficient
        if isinstance(coefficient, complex) and not is_complex(wanted):
            inside, coefficient = [*inside, complex_scalar(coefficient, source.dtype)], 1
        batch = [label for label in arrays.union(inside) if label not in targets]
        sizes = source.shape[axes.start :]
        value = _spread(inside, [*batch, *targets], (*arrays.sizes(batch), *sizes), source.dtype)
        new_sizes = wanted.shape[len(wanted.shape) - self.rank :]
        result = self._applied(value, (*arrays.sizes(batch), *new_sizes), wanted.dtype, transform)
        labels = labels_of(new_sizes)
        carried = (*batch, *(label for label in labels if label.size != 1))
        factor = Factor(arrays.reshaped(result, carried), carried)
        transformed = Term(
            (*outside, factor), term.out, (*term.wrt[: axes.start], *plain(labels)), coefficient
        )
        return as_parts(transformed, sign, wanted.dtype) if is_complex(wanted) else transformed

    def _applied(
        self, value: Any, shape: tuple[int, ...], dtype: Any, transform: Callable[[Any], Any]
    ) -> Any:
        """The transform of an array, or its price: `5 n log2(n)` operations."""
        entries = max(math.prod(shape), math.prod(value.shape))
        length = math.prod(self.params["fft_lengths"])
        return backend().array(
            shape,
            dtype,
            lambda: transform(value),
            operations=5 * entries * length.bit_length(),
            moved=2 * entries * np.dtype(dtype).itemsize,
        )


def _spread(
    factors: Sequence[Factor], labels: Sequence[Label], shape: tuple[int, ...], dtype: Any
) -> Any:
    """The product of factors over all the labels, in the shape, which has axes of size 1 too."""
    backend().check_fits(labels, dtype)
    if not factors:
        return backend().array(shape, dtype, lambda: jnp.ones(shape, dtype))
    product = arrays.product(factors)

    def emit() -> Any:
        array = jnp.broadcast_to(arrays.aligned(product, labels), arrays.sizes(labels))
        return jnp.reshape(array, shape).astype(dtype)

    return backend().array(shape, dtype, emit)
