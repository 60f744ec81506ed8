"""Square roots of the second derivative of a loss by the outputs, to draw random vectors with it.

Of numbers z that are +1 or -1 at random, `r = R z` has the expectation `E[r r'] = R R' = H`. The
root is kept as small as H itself: that of a diagonal is one, and a diagonal with one product of
vectors, as the cross-entropy of a softmax has, has a root of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import along, dense
from blockjac.base.arrays import precision
from blockjac.blocks import Block, BlockMatrix, Term
from blockjac.terms.block import delta_pairs, rebuilt

Root = Callable[[jax.Array], jax.Array]
"""From an array of an output's shape to another, linear."""


def are_apart(inner: BlockMatrix) -> bool:
    """Whether H has no entry between two examples, which are on the first axes of the outputs."""
    return all(_is_apart(block) for row in inner.rows for block in row)


def _is_apart(block: Block) -> bool:
    if not block.out_shape or block.out_shape[:1] != block.wrt_shape[:1]:
        return False
    size = block.out_shape[0]
    return size == 1 or all(term.has_delta(0, 0, size) for term in block.terms)


def times_root(inner: BlockMatrix, vectors: Sequence[jax.Array]) -> list[jax.Array]:
    """A square root of H, times vectors of the outputs.

    Args:
        inner: H, without entries between examples. Where it is not positive semidefinite, the
            result is nan.
        vectors: one array for each output.
    """
    rows = inner.rows
    off_diagonal = [block for i, row in enumerate(rows) for j, block in enumerate(row) if i != j]
    if all(block.is_zero for block in off_diagonal):
        return [
            root_of(row[number])(vector)
            for number, (row, vector) in enumerate(zip(rows, vectors, strict=True))
        ]
    return _joint_product(inner, vectors)


def root_of(block: Block) -> Root:
    """A square root of the block of one output.

    Args:
        block: symmetric.
    """
    if block.is_zero:
        return lambda vector: 0 * vector
    same = sorted(i for i, j in delta_pairs(block) if i == j)
    rest = [axis for axis in range(len(block.out_shape)) if axis not in same]
    if not rest:
        scale = jnp.sqrt(block.diagonal())
        return lambda vector: scale * vector
    structured = _with_outer_product(block, same, rest)
    if structured is not None:
        return structured
    entries = jnp.transpose(_along(block, same), (*same, *rest, *_behind(block, rest)))
    size = math.prod(block.out_shape[axis] for axis in rest)
    lead = entries.shape[: len(same)]
    factor = semidefinite_cholesky(jnp.reshape(entries, (*lead, size, size)))

    def root(vector: jax.Array) -> jax.Array:
        order = (*same, *rest)
        moved = jnp.transpose(vector, order)
        product = jnp.einsum("...ij,...j->...i", factor, jnp.reshape(moved, (*lead, size)))
        back = [order.index(axis) for axis in range(len(order))]
        return jnp.transpose(jnp.reshape(product, moved.shape), back)

    return root


def _along(block: Block, axes: Sequence[int]) -> jax.Array:
    """The entries at equal places of some output and input axes, as an array."""
    return dense(along(block, [(axis, axis) for axis in axes]))


def _behind(block: Block, rest: Sequence[int]) -> list[int]:
    """Where the input axes that are left lie in the array of `_along`."""
    return list(range(len(block.out_shape), len(block.out_shape) + len(rest)))


def _with_outer_product(block: Block, same: Sequence[int], rest: Sequence[int]) -> Root | None:
    """A square root of `D + c u u'`, or None if the block is not of this form.

    With `v = u / sqrt(D)` it is `sqrt(D) (1 + b v v')`, where `2 b + b^2 v'v = c`.
    """
    diagonals = [
        term
        for term in block.terms
        if all(term.has_delta(axis, axis, block.out_shape[axis]) for axis in rest)
    ]
    others = [term for term in block.terms if term not in diagonals]
    if len(others) != 1 or not diagonals:
        return None
    sides = _sides(block, others[0], rest)
    if sides is None:
        return None
    shape = block.out_shape
    u, v = sides
    D = rebuilt(shape, shape, block.dtype, diagonals).diagonal()
    axes = tuple(rest)

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(values, axis=axes, keepdims=True)

    def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
        return jnp.where(
            denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator)
        )

    root_D = jnp.sqrt(D)
    scaled = ratio(u, root_D)
    c, length = ratio(total(u * v), total(u * u)), total(scaled * scaled)
    inside = 1 + c * length
    rounding = 8 * shape[rest[0]] * precision(block.dtype)
    inside = jnp.where(jnp.abs(inside) < rounding, 0, inside)  # 0 for a softmax, but for rounding
    b = ratio(jnp.sqrt(inside) - 1, length)
    return lambda vector: root_D * (vector + b * scaled * total(scaled * vector))


def _sides(block: Block, term: Term, rest: Sequence[int]) -> tuple[jax.Array, jax.Array] | None:
    """The vectors u and v of a term `u v'` on some axes, as arrays of the output's shape."""
    groups = [
        {label for axis in rest for label in side[axis].labels} for side in (term.out, term.wrt)
    ]
    if groups[0] & groups[1]:
        return None
    left = [factor for factor in term.factors if not set(factor.labels) & groups[1]]
    right = [factor for factor in term.factors if set(factor.labels) & groups[1]]
    if any(set(factor.labels) & groups[0] for factor in right):
        return None
    shape = block.out_shape
    moved = tuple(term.wrt[axis] if axis in rest else term.out[axis] for axis in range(len(shape)))
    u = Term(tuple(left), term.out, (), term.coefficient)
    v = Term(tuple(right), moved, ())
    arrays = (dense(Block(shape, (), block.dtype, [side])) for side in (u, v))
    return cast("tuple[jax.Array, jax.Array]", tuple(arrays))


def _joint_product(inner: BlockMatrix, vectors: Sequence[jax.Array]) -> list[jax.Array]:
    """A square root of the matrices of the single examples, where several outputs meet."""
    count = inner.out_shapes[0][0]

    def matrix(block: Block) -> jax.Array:
        """The entries of each example, as a matrix."""
        out, wrt = (math.prod(shape[1:]) for shape in (block.out_shape, block.wrt_shape))
        entries = _along(block, [0]) if count > 1 else dense(block)
        return jnp.reshape(entries, (count, out, wrt))

    entries = jnp.concatenate(
        [jnp.concatenate([matrix(block) for block in row], axis=2) for row in inner.rows], axis=1
    )
    flat = jnp.concatenate([jnp.reshape(vector, (count, -1)) for vector in vectors], axis=1)
    product = jnp.einsum("nij,nj->ni", semidefinite_cholesky(entries), flat)
    results: list[jax.Array] = []
    start = 0
    for vector in vectors:
        size = math.prod(vector.shape[1:])
        results.append(jnp.reshape(product[:, start : start + size], vector.shape))
        start += size
    return results


def semidefinite_cholesky(matrices: Any) -> jax.Array:
    """Lower triangular L with `L L' = A` for positive semidefinite A, `(..., n, n)`.

    Pivots that are 0 but for rounding give a column of zeros, where `jax.lax.linalg.cholesky` gives
    nan; clearly negative ones give nan. All matrices are taken together, one column at a time.

    Source:
        Higham, "Analysis of the Cholesky decomposition of a semi-definite matrix", 1990.

    Examples:
        >>> import jax.numpy as jnp
        >>> A = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
        >>> L = semidefinite_cholesky(A)
        >>> (L @ L.T).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    size, unit = matrices.shape[-1], precision(matrices.dtype)
    pivots = cast("jax.Array", jnp.diagonal(matrices, axis1=-2, axis2=-1))
    scale = jnp.max(jnp.abs(pivots), axis=-1)
    rounding, refused = size * unit * scale, size * unit**0.5 * scale

    def column(state: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[Any, None]:
        """One more column of L, and what is left of A."""
        left, factor = state
        entries = jnp.take(left, number, axis=-1)
        pivot = jnp.take(entries, number, axis=-1)
        is_zero = (pivot <= rounding) & (pivot >= -refused)
        root = jnp.sqrt(jnp.where(is_zero, 1, pivot))
        new = jnp.where(is_zero[..., None], 0, entries / root[..., None])
        new = jnp.where(jnp.arange(size) < number, 0, new)
        factor = jnp.where(jnp.arange(size) == number, new[..., None], factor)
        return (left - new[..., :, None] * new[..., None, :], factor), None

    start = matrices, jnp.zeros(matrices.shape, matrices.dtype)
    (_, factor), _ = jax.lax.scan(column, start, jnp.arange(size))
    return factor
