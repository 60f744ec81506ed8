"""The registry of elemental Jacobians, keyed by primitive name.

A *structural* rule is a function `rule(out, *inputs, **params)` that gives one `Block` an input (None for the zero block; a
tuple of such tuples, one an output, for primitives with several results). An *elementwise* rule is its derivative, one
function an operand. Names in `ZERO` have no derivative at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.blocks.block import rebuilt

Derivative = Callable[..., Any]
Edges = list[list[Any]]
"""Blocks or operators, by output and then by input; None where there is no dependence."""


@dataclass(frozen=True)
class Rule:
    """How the elemental Jacobians of one primitive are made.

    Attributes:
        name: the primitive's name.
        apply: `(outs, inputs, params, active) -> Edges`, where `active` tells which inputs are differentiated.
    """

    name: str
    apply: Callable[[Sequence[Any], Sequence[Any], dict[str, Any], Sequence[bool]], Edges]


RULES: dict[str, Rule] = {}
"""Every structured rule by primitive name."""

ZERO: set[str] = set()
"""Primitives whose derivative is zero wherever it exists."""


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a structural rule for primitives.

    The function takes the result, the operands and the primitive's parameters by name (end with `**_`), and returns one
    Block an operand as a tuple, None where the derivative is zero; for a primitive with several results it takes
    the tuple of results and returns a tuple of such tuples.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def apply(outs: Sequence[Any], inputs: Sequence[Any], params: dict[str, Any], active: Sequence[bool]) -> Edges:
            del active
            if len(outs) == 1:
                answer = function(outs[0], *inputs, **params)
                # A primitive with one result in a list may answer with or without the outer tuple.
                nested = len(answer) == 1 and isinstance(answer[0], tuple)
                return [list(answer[0] if nested else answer)]
            return [list(row) for row in function(tuple(outs), *inputs, **params)]

        for name in names:
            RULES[name] = Rule(name, apply)
        return function

    return register


def elementwise(name: str, *derivatives: Derivative | None) -> None:
    """Register an elementwise primitive by its partial derivatives.

    Args:
        name: the primitive's name.
        derivatives: one function `derivative(out, *operands, **params)` an operand, giving an array that broadcasts to the
            result or a Python scalar; None where the derivative is zero.
    """

    def apply(outs: Sequence[Any], inputs: Sequence[Any], params: dict[str, Any], active: Sequence[bool]) -> Edges:
        out = outs[0]
        row: list[Any] = []
        for operand, derivative, wanted in zip(inputs, derivatives, active, strict=True):
            if derivative is None or not wanted:
                row.append(None)
            else:
                row.append(scaling(out.shape, operand, _called(derivative, out, inputs, params)))
        return [row]

    RULES[name] = Rule(name, apply)


def _called(derivative: Derivative, out: Any, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
    """The derivative, with the primitive's parameters that it names as keyword-only arguments."""
    code = derivative.__code__
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return derivative(out, *inputs, **{name: params[name] for name in names})


def zero(*names: str) -> None:
    """Register primitives whose derivative is zero."""
    ZERO.update(names)


def scaling(out_shape: Sequence[int], operand: Any, values: Any) -> Block:
    """The block of an elementwise map: `δ values`, with the operand's size-1 (or missing) axes broadcast.

    Args:
        out_shape: shape of the result.
        operand: the operand, of the result's rank with axes equal or 1, or of rank 0.
        values: the derivative: a Python scalar, or an array that broadcasts to the result.
    """
    labels = [Label(size) for size in out_shape]
    out = tuple(map(Index.of, labels))
    shape = operand.shape
    wrt = tuple(Index.of(label) if size == label.size else Index() for label, size in zip(labels, shape, strict=False))
    if isinstance(values, bool | int | float | complex):
        return made(out_shape, shape, operand.dtype, Term((), out, wrt, values))
    return made(out_shape, shape, operand.dtype, Term((over(values, labels, operand.dtype),), out, wrt))


def over(values: Any, labels: Sequence[Label], dtype: Any, name: str = "") -> Factor:
    """A factor from an array that broadcasts to the labels: axes of size 1 carry no label; masks stay boolean."""
    carried = tuple(label for label, size in zip(labels, values.shape, strict=False) if size != 1 or label.size == 0)
    if values.ndim != len(carried):
        values = values.reshape(tuple(label.size for label in carried))
    if values.dtype not in (dtype, np.dtype(bool)):
        values = values.astype(dtype)
    return Factor(values, carried, name)


def made(out_shape: Sequence[int], wrt_shape: Sequence[int], dtype: Any, *terms: Term) -> Block:
    """A block of terms whose indices lie on their axes by construction; empty shapes give the zero block."""
    if 0 in out_shape or 0 in wrt_shape:
        return Block.zeros(out_shape, wrt_shape, dtype)
    return rebuilt(tuple(out_shape), tuple(wrt_shape), np.dtype(dtype), terms)
