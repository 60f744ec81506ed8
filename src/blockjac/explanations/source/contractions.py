"""Contractions: matrix products where they are some, else `einsum`."""

from __future__ import annotations

from itertools import count

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Binary,
    Expression,
    Text,
    call,
)
from blockjac.explanations.source.program import Value

LETTERS = "ijklmnopqrstuvwxyzabcdefgh"


def dot_general(equation: Equation) -> Result:
    """`x @ y`, `x.T @ y`, `x @ y.T`, or `einsum("nij,njk->nik", x, y)`."""
    (left_axes, right_axes), (left_batch, _) = equation.params["dimension_numbers"]
    builder = equation.builder
    left, right = (
        builder.converted(builder.exact(operand, shape), equation.out.dtype)
        for operand, shape in zip(equation.operands, equation.shapes, strict=True)
    )
    product = None
    is_plain = not left_batch and len(left_axes) == 1
    if is_plain and max(len(left.shape), len(right.shape)) <= 2 and 0 not in left.shape:
        product = _matmul(left, right, left_axes[0], right_axes[0], equation)
    elif _is_stack(left.shape, right.shape, equation.params["dimension_numbers"]):
        product = Binary("@", left.ref, right.ref)
    if product is None:
        letters = _letters(equation)
        product = call(f"{equation.module}.einsum", Text(f'"{letters}"'), left.ref, right.ref)
    return product


def _matmul(
    left: Value, right: Value, left_axis: int, right_axis: int, equation: Equation
) -> Expression:
    """The product of matrices and vectors."""
    builder = equation.builder
    if len(left.shape) == 2 and left_axis == 0:
        left = builder.turned(left)
    if len(right.shape) == 2 and right_axis == 1:
        right = builder.turned(right)
    return Binary("@", left.ref, right.ref)


def _is_stack(
    left: tuple[int, ...], right: tuple[int, ...], numbers: tuple[tuple[tuple[int, ...], ...], ...]
) -> bool:
    """Whether a contraction is a product of stacks of matrices, as `@` does it."""
    (left_axes, right_axes), (left_batch, right_batch) = numbers
    rank = len(left)
    leading = tuple(range(rank - 2))
    return (
        rank == len(right)
        and rank > 2
        and tuple(left_batch) == tuple(right_batch) == leading
        and tuple(left_axes) == (rank - 1,)
        and tuple(right_axes) == (rank - 2,)
    )


def _letters(equation: Equation) -> str:
    """The subscripts of `einsum`, with letters in the order in which they occur."""
    (left_axes, right_axes), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left_rank, right_rank = map(len, equation.shapes)
    numbers = count()
    left = [LETTERS[next(numbers)] for _ in range(left_rank)]
    right = [""] * right_rank
    for mine, theirs in zip((*left_axes, *left_batch), (*right_axes, *right_batch), strict=True):
        right[theirs] = left[mine]
    right = [letter or LETTERS[next(numbers)] for letter in right]
    batch: list[str] = [left[axis] for axis in left_batch]
    free_left = [x for n, x in enumerate(left) if n not in (*left_axes, *left_batch)]
    free_right = [x for n, x in enumerate(right) if n not in (*right_axes, *right_batch)]
    return f"{''.join(left)},{''.join(right)}->{''.join(batch + free_left + free_right)}"


CONTRACTIONS: dict[str, Translation] = {"dot_general": dot_general}
"""Translations by primitive."""
