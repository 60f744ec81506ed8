"""A diagonal matrix plus outer products, by the Sherman-Morrison-Woodbury formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import dense
from blockjac.linear_systems import direct
from blockjac.linear_systems.batched import split
from blockjac.linear_systems.forms import columns_of, with_inverse
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Solver, pytree, sign_and_log
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.index import Label
from blockjac.terms.term import Term


@pytree()
@dataclass(frozen=True, eq=False)
class LowRank(Solver):
    """`D + U V'` with a diagonal D of n entries, and with few columns in U and V.

    D may have zeros, at most r of them if `D + U V'` is regular. So that D is never nearly
    singular, a large number is added to its r smallest entries, and subtracted again by
    r further columns of U and V.

    Attributes:
        diagonal: D with the smallest entries raised, `(n,)`.
        left: U with the further columns, `(n, 2 r)`.
        right: V with the further columns, `(n, 2 r)`.
        inner: the factored `I + V' D^-1 U`.
    """

    diagonal: jax.Array
    left: jax.Array
    right: jax.Array
    inner: Solver

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """`D^-1 (y - U (I + V' D^-1 U)^-1 V' D^-1 y)`."""
        U, V = (self.right, self.left) if transposed else (self.left, self.right)
        scaled = right / self.diagonal
        return scaled - (U @ self.inner.solve(V.T @ scaled, transposed)) / self.diagonal

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """`det D det(I + V' D^-1 U)`."""
        sign, logarithm = self.inner.slogdet()
        diagonal_sign, diagonal_logarithm = sign_and_log(self.diagonal)
        return sign * diagonal_sign, logarithm + diagonal_logarithm

    def inverse_diagonal(self) -> jax.Array:
        """`(1 - sum_k U_ik ((I + V' D^-1 U)^-1 V' D^-1)_ki) / D_i`."""
        solved = self.inner.solve_columns((self.right / self.diagonal[:, None]).T)
        rows = jnp.sum(self.left * solved.T, axis=1)
        return (1 - rows) / self.diagonal

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """`L D^-1 R' - (L D^-1 U) (I + V' D^-1 U)^-1 (V' D^-1 R')`, on the diagonal."""
        shapes = [block.wrt_shape for block in left[0]]
        parts = split(1 / self.diagonal, shapes)
        inverse = [
            [
                Block.diag(part) if i == j else Block.zeros(part.shape, shape, part.dtype)
                for j, shape in enumerate(shapes)
            ]
            for i, part in enumerate(parts)
        ]
        scaled_left = columns_of(left, self.left / self.diagonal[:, None])
        scaled_right = columns_of(right, self.right / self.diagonal[:, None])
        solved = [self.inner.solve_columns(part.T).T for part in scaled_right]
        return [
            first - jnp.reshape(jnp.sum(a * b, axis=1), first.shape)
            for first, a, b in zip(
                with_inverse(inverse, left, right), scaled_left, solved, strict=True
            )
        ]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.diagonal.shape[-1]

    def describe(self) -> str:
        """The size and the rank."""
        size, rank = self.left.shape[-2:]
        return f"diagonal of {size} plus rank {rank // 2}"


def factored(diagonal: jax.Array, left: jax.Array, right: jax.Array) -> LowRank:
    """Factor `D + U V'`.

    Args:
        diagonal: D, `(n,)`.
        left: U, `(n, r)`.
        right: V, `(n, r)`.
    """
    size, rank = left.shape
    magnitudes = jnp.abs(diagonal)
    _, smallest = jax.lax.top_k(-magnitudes, rank)
    scale = jnp.max(magnitudes) + jnp.max(jnp.abs(left)) * jnp.max(jnp.abs(right))
    phases = jnp.where(magnitudes == 0, 1, diagonal / jnp.where(magnitudes == 0, 1, magnitudes))
    shift = (scale * phases[smallest]).astype(diagonal.dtype)
    columns = jnp.zeros((size, rank), diagonal.dtype).at[smallest, jnp.arange(rank)]
    raised = diagonal.at[smallest].add(shift)
    U = jnp.concatenate([left, columns.set(-shift)], axis=1)
    V = jnp.concatenate([right, columns.set(1)], axis=1)
    inner = jnp.eye(2 * rank, dtype=diagonal.dtype) + V.T @ (U / raised[:, None])
    return LowRank(raised, U, V, direct.factored(inner, "gen"))


@dataclass(frozen=True, eq=False)
class Split:
    """A grid as diagonal terms and outer products.

    Attributes:
        diagonal: the diagonal terms of each variable.
        outer: the row, column and term of each outer product.
    """

    diagonal: list[list[Term]]
    outer: list[tuple[int, int, Term]]

    @property
    def rank(self) -> int:
        """The number of outer products."""
        return len(self.outer)


def split_of(rows: Rows) -> Split | None:
    """The diagonal terms and outer products of a grid, or None if it has other terms."""
    split = Split([[] for _ in rows], [])
    for i, row in enumerate(rows):
        for j, block in enumerate(row):
            for term in block.terms:
                if _is_outer(term, block):
                    split.outer.append((i, j, term))
                elif i == j and _is_diagonal(term, block):
                    split.diagonal[i].append(term)
                else:
                    return None
    return split if split.outer and any(split.diagonal) else None


def of_split(rows: Rows, split: Split, dtype: Any) -> LowRank:
    """Factor a grid from its diagonal terms and outer products."""
    return factored(*_parts(rows, split, dtype))


def log_determinant(rows: Rows, split: Split, dtype: Any) -> jax.Array:
    """The logarithm of the absolute determinant of such a grid.

    By `det D (1 + v' D^-1 u)` for one outer product, in which a zero of D may be as good as any
    tiny number; by that of the factors for more of them, unless D holds known numbers alone.
    """
    is_known = not any(term.factors for terms in split.diagonal for term in terms)
    if split.rank > 1 and not is_known:
        return of_split(rows, split, dtype).slogdet()[1]
    diagonal, left, right = _parts(rows, split, dtype)
    if not is_known:
        tiny = jnp.asarray(jnp.finfo(dtype).tiny ** 0.5, dtype)
        diagonal = jnp.where(diagonal == 0, tiny, diagonal)
    scaled = left / diagonal[:, None]
    if split.rank == 1:
        logarithm = jnp.log(jnp.abs(1 + jnp.sum(scaled * right)))
    else:
        inner = jnp.eye(split.rank, dtype=dtype) + right.T @ scaled
        logarithm = cast("jax.Array", jnp.linalg.slogdet(inner)[1])
    return logarithm + jnp.sum(jnp.log(jnp.abs(diagonal)))


def _parts(rows: Rows, split: Split, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The diagonal `(n,)`, and U and V `(n, r)`, of a grid of diagonal terms and outer products."""
    shapes = [row[0].out_shape for row in rows]

    def vector(index: int, factors: Any, indices: Any, scale: Any) -> jax.Array:
        """A vector of all variables: a product of factors in one of them, zero in the others."""
        parts = [
            jnp.ravel(_tensor(shape, factors, indices, scale, dtype))
            if number == index
            else jnp.zeros(shape, dtype).ravel()
            for number, shape in enumerate(shapes)
        ]
        return jnp.concatenate(parts)

    left: list[jax.Array] = []
    right: list[jax.Array] = []
    for i, j, term in split.outer:
        out_labels = _labels(term.out)
        out_factors = tuple(factor for factor in term.factors if set(factor.labels) & out_labels)
        wrt_factors = tuple(
            factor for factor in term.factors if not set(factor.labels) & out_labels
        )
        left.append(vector(i, out_factors, term.out, term.coefficient))
        right.append(vector(j, wrt_factors, term.wrt, 1))
    diagonal = [
        sum(
            (_tensor(shape, term.factors, term.out, term.coefficient, dtype) for term in terms),
            jnp.zeros(shape, dtype),
        )
        for shape, terms in zip(shapes, split.diagonal, strict=True)
    ]
    flat = jnp.concatenate([jnp.ravel(part) for part in diagonal])
    return flat, jnp.stack(left, axis=1), jnp.stack(right, axis=1)


def seconds(size: int, rank: int, systems: int = 1) -> float:
    """About how long it takes to factor a number of matrices of this size and rank at once."""
    products = systems * size * (2 * rank + 1) ** 2 * 2e-10
    return direct.seconds(2 * rank, systems) + products + 1e-5


def _tensor(shape: Any, factors: Any, indices: Any, scale: Any, dtype: Any) -> jax.Array:
    """The tensor of a product of factors."""
    block = rebuilt(tuple(shape), (), dtype, [Term(tuple(factors), tuple(indices), (), scale)])
    return jnp.asarray(dense(block), dtype)


def _is_outer(term: Term, block: Block) -> bool:
    """Whether a term is an outer product: no label and no factor joins its two sides."""
    out = _labels(term.out)
    wrt = _labels(term.wrt)
    return (
        _is_plain(term, block)
        and not out & wrt
        and not any(
            set(factor.labels) & out and set(factor.labels) & wrt for factor in term.factors
        )
    )


def _is_diagonal(term: Term, block: Block) -> bool:
    """Whether a term lies on the diagonal."""
    return (
        _is_plain(term, block)
        and block.out_shape == block.wrt_shape
        and all(out == wrt for out, wrt in zip(term.out, term.wrt, strict=True))
    )


def _is_plain(term: Term, block: Block) -> bool:
    """Whether every axis is a label of its own, which no other axis of its side has."""
    sides = (term.out, block.out_shape), (term.wrt, block.wrt_shape)
    return all(
        index.is_plain(size)
        for indices, shape in sides
        for index, size in zip(indices, shape, strict=True)
    ) and all(
        len([label for index in indices for label in index.labels]) == len(_labels(indices))
        for indices, _ in sides
    )


def _labels(indices: Any) -> set[Label]:
    """The labels that occur in indices."""
    return {label for index in indices for label in index.labels}
