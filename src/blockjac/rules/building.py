"""Blocks from labels, arrays and terms: the helpers that rules are written with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.terms.block import rebuilt


def scaling(out_shape: Sequence[int], operand: Any, values: Any) -> Block:
    """The block of an elementwise map, `δ[i, i'] values[i]`; axes that broadcast have no delta.

    Args:
        out_shape: shape of the result.
        operand: the operand, of the result's rank with axes equal or 1, or of rank 0.
        values: the derivative: a Python scalar, or an array that broadcasts to the result.
    """
    labels = [Label(size) for size in out_shape]
    out = tuple(map(Index.of, labels))
    shape = operand.shape
    wrt = tuple(
        Index.of(label) if size == label.size else Index()
        for label, size in zip(labels, shape, strict=False)
    )
    if known(values):
        values = values.item()
    if isinstance(values, bool | int | float | complex):
        if values == 0:
            return Block.zeros(out_shape, shape, operand.dtype)
        return made(out_shape, shape, operand.dtype, Term((), out, wrt, values))
    factor = over(values, labels, operand.dtype)
    return made(out_shape, shape, operand.dtype, Term((factor,), out, wrt))


def known(value: Any) -> bool:
    """Whether a number is known while tracing, as literals are: a NumPy array of shape ()."""
    return isinstance(value, np.ndarray | np.generic) and value.shape == ()


def over(values: Any, labels: Sequence[Label], dtype: Any, name: str = "") -> Factor:
    """A factor from an array that broadcasts to the labels: its axes of size 1 carry no label."""
    carried = tuple(label for label, size in zip(labels, values.shape, strict=False) if size != 1)
    if values.ndim != len(carried):
        values = values.reshape(tuple(label.size for label in carried))
    if values.dtype not in (dtype, np.dtype(bool)):
        values = values.astype(dtype)
    return Factor(values, carried, name)


def made(out_shape: Sequence[int], wrt_shape: Sequence[int], dtype: Any, *terms: Term) -> Block:
    """A block of terms whose indices lie on their axes; empty shapes give the zero block."""
    if 0 in out_shape or 0 in wrt_shape:
        return Block.zeros(out_shape, wrt_shape, dtype)
    folded = [term for term in map(_folded, terms) if term.coefficient != 0]
    return rebuilt(tuple(out_shape), tuple(wrt_shape), np.dtype(dtype), folded)


def _folded(term: Term) -> Term:
    """The term with its known numbers multiplied into the coefficient, so that none is stored."""
    numbers = [factor.array.item() for factor in term.factors if known(factor.array)]
    if not numbers:
        return term
    rest = tuple(factor for factor in term.factors if not known(factor.array))
    coefficient = math.prod(numbers, start=term.coefficient)
    if isinstance(coefficient, complex) and coefficient.imag == 0:
        coefficient = coefficient.real
    return replace(term, factors=rest, coefficient=coefficient)


def plain(labels: Sequence[Label]) -> tuple[Index, ...]:
    """An index for each label: axes that the labels run over in order."""
    return tuple(map(Index.of, labels))


def labels_of(shape: Sequence[int]) -> list[Label]:
    """A fresh label for each axis of a shape."""
    return [Label(size) for size in shape]
