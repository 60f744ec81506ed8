"""A Kronecker product of two symmetric matrices, plus a multiple of the identity.

The sum is no Kronecker product, but the eigenvectors of the two factors make it diagonal:

    A (x) G + s I = (U (x) V) (a g' + s) (U (x) V)'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.star import star
from blockjac.base.arrays import Shape
from blockjac.linear_systems.forms import with_inverse
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Solver, pytree, sign_and_log
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


@pytree("shape", "left_axes", "right_axes")
@dataclass(frozen=True, eq=False)
class Eigen(Solver):
    """`A (x) G + s I` over two groups of the axes of one variable, by eigenvectors.

    Attributes:
        left: the eigenvectors U of A, `(p, p)`.
        right: the eigenvectors V of G, `(q, q)`.
        values: the eigenvalues of the sum, `(p, q)`.
        shape: the shape of the variable.
        left_axes: its axes that belong to A.
        right_axes: those that belong to G.
    """

    left: jax.Array
    right: jax.Array
    values: jax.Array
    shape: Shape
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the variable, those of A first."""
        return self.left_axes + self.right_axes

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Rotate, divide, and rotate back; the matrix is symmetric."""
        U, V = self.left, self.right
        moved = jnp.transpose(jnp.reshape(right, self.shape), self.axes)
        flat = jnp.reshape(moved, self.values.shape)
        solved = U @ (U.T @ flat @ V / self.values) @ V.T
        return jnp.ravel(jnp.transpose(jnp.reshape(solved, moved.shape), self._order))

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """From the eigenvalues."""
        return sign_and_log(jnp.ravel(self.values))

    def inverse_diagonal(self) -> jax.Array:
        """`sum_ag U[i,a]^2 V[h,g]^2 / values[a,g]`."""
        diagonal = jnp.square(self.left) @ (1 / self.values) @ jnp.square(self.right).T
        sizes = [self.shape[axis] for axis in self.axes]
        return jnp.ravel(jnp.transpose(jnp.reshape(diagonal, sizes), self._order))

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """Contracted with the rotated blocks, which keep what structure they have."""
        rotation = self._rotation()
        turned = [[[star(row[0], rotation)] for row in rows] for rows in (left, right)]
        return with_inverse([[Block.diag(1 / self.values)]], *turned)

    def _rotation(self) -> Block:
        """`U (x) V` by the rotated coordinates, in its two factors."""
        rows = {axis: Label(self.shape[axis]) for axis in self.axes}
        groups = self.left_axes, self.right_axes
        columns = [Label(size) for size in self.values.shape]
        factors = tuple(
            Factor(
                jnp.reshape(vectors, (*(self.shape[axis] for axis in group), len(vectors))),
                (*(rows[axis] for axis in group), column),
            )
            for vectors, group, column in zip((self.left, self.right), groups, columns, strict=True)
        )
        out = tuple(Index.of(rows[axis]) for axis in range(len(self.shape)))
        term = Term(factors, out, tuple(map(Index.of, columns)))
        return rebuilt(self.shape, self.values.shape, self.values.dtype, [term])

    @property
    def _order(self) -> list[int]:
        """Where each axis of the variable is among `axes`."""
        return [self.axes.index(axis) for axis in range(len(self.axes))]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """The sizes of the two factors."""
        return f"eigenvectors of {len(self.left)} and {len(self.right)}"


def factored(A: jax.Array, G: jax.Array, shift: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The eigenvectors of A and G, and the eigenvalues of `A (x) G + shift * I`."""
    eigh = cast("Callable[[Any], tuple[jax.Array, jax.Array]]", jnp.linalg.eigh)
    (a, U), (g, V) = eigh(A), eigh(G)
    return U, V, a[:, None] * g[None, :] + shift
