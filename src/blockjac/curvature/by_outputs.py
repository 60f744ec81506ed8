"""Damped Gauss-Newton systems, solved in the space of the outputs.

With `J J' = L L'` the columns of `Q = J' L^-T` are an orthonormal basis of what `J'` gives, and

    (J' H J + s)^-1 = Q (L' H L + s)^-1 Q' + (1 - Q Q') / s.

The more usual `(1 - J' (s + H J J')^-1 H J) / s` is equal and shorter, but takes the difference of
two nearly equal vectors where it is applied to a gradient, and squares the condition number. Where
J' is not of full rank, Q is a little short of a basis: so a vector is projected twice, and the two
parts add up to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import dense
from blockjac.algebra.star import chain_along
from blockjac.blocks import BlockMatrix, add
from blockjac.linear_systems import direct
from blockjac.linear_systems.forms import with_inverse
from blockjac.linear_systems.groups import Rows, grid_of
from blockjac.linear_systems.solver import Solver, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class ByOutputs(Solver):
    """`J' H J + s` for m outputs, in matrices of m rows.

    Attributes:
        jacobian: J, of m outputs by n parameters.
        triangle: L, `(m, m)`.
        system: the factored `L' H L + s`.
        shift: s, of shape ().
    """

    jacobian: BlockMatrix
    triangle: jax.Array
    system: Solver
    shift: jax.Array

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve the part that J' spans by outputs, and divide the rest by s."""
        first = self._coordinates(right)
        rest = right - self._spanned(first)
        second = self._coordinates(rest)
        inside = self.system.solve(first + second)
        return self._spanned(inside) + (rest - self._spanned(second)) / self.shift

    def _coordinates(self, vector: jax.Array) -> jax.Array:
        """`Q' y`."""
        return solve_triangular(self.triangle, self.jacobian.flat_matvec(vector), lower=True)

    def _spanned(self, coordinates: jax.Array) -> jax.Array:
        """`Q c`."""
        solved = solve_triangular(self.triangle, coordinates, lower=True, trans=1)
        return self.jacobian.flat_vecmat(solved)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """`s^(n - m) det(L' H L + s)`."""
        sign, logarithm = self.system.slogdet()
        outputs, parameters = self.jacobian.shape
        return sign, logarithm + (parameters - outputs) * jnp.log(self.shift)

    def inverse_diagonal(self) -> jax.Array:
        """`1/s + diag(J' N J)`, with `N = L^-T ((L' H L + s)^-1 - 1/s) L^-1`."""
        size = len(self.triangle)
        identity = jnp.eye(size, dtype=self.triangle.dtype)
        inside = self.system.solve_columns(identity) - identity / self.shift
        half = solve_triangular(self.triangle, inside, lower=True, trans=1)
        middle = solve_triangular(self.triangle, half.T, lower=True, trans=1).T
        grid = grid_of(middle, self.jacobian.out_shapes)
        columns = self.jacobian.T.grid
        parts = with_inverse(grid, columns, columns)
        return 1 / self.shift + jnp.concatenate([jnp.ravel(part) for part in parts])

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """`L R' / s`, and what differs from it in the space that J' spans."""
        transposed = self.jacobian.T
        sides = [self._in_basis(rows, transposed) for rows in (left, right)]
        answers: list[jax.Array] = []
        for left_row, right_row, a, b in zip(left, right, *sides, strict=True):
            pairs = [(axis, axis) for axis in range(len(left_row[0].out_shape))]
            products = (
                chain_along([x, y.T], pairs) for x, y in zip(left_row, right_row, strict=True)
            )
            plain = dense(reduce(add, products))
            inside = self.system.solve_columns(b) - b / self.shift
            answers.append(
                plain / self.shift + jnp.reshape(jnp.sum(a * inside, axis=0), plain.shape)
            )
        return answers

    def _in_basis(self, rows: Rows, transposed: BlockMatrix) -> list[jax.Array]:
        """`Q' R'` of each output, `(m, outputs)`."""
        parts: list[jax.Array] = []
        for row in rows:
            product = (BlockMatrix([row]) @ transposed).dense()
            parts.append(solve_triangular(self.triangle, product.T, lower=True))
        return parts

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.jacobian.shape[1]

    def describe(self) -> str:
        """The number of outputs and how their system is solved."""
        outputs, parameters = self.jacobian.shape
        return f"by {outputs} outputs of {parameters} parameters: {self.system.describe()}"


def factored(jacobian: BlockMatrix, inner: BlockMatrix, shift: Any) -> ByOutputs:
    """Factor `J' H J + shift`.

    Args:
        jacobian: J.
        inner: H, symmetric.
        shift: positive.
    """
    H, gram = inner.dense(), (jacobian @ jacobian.T).dense()
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    precision = cast("Any", jnp.finfo(gram.dtype))
    largest = jnp.max(cast("jax.Array", jnp.diagonal(gram)), initial=0)
    raised = len(gram) * precision.eps * largest + precision.tiny
    L = cast("jax.Array", jnp.linalg.cholesky(gram + raised * identity))
    shift = jnp.asarray(shift, gram.dtype)
    return ByOutputs(jacobian, L, direct.factored(L.T @ H @ L + shift * identity, "gen"), shift)


def seconds(jacobian: BlockMatrix) -> float:
    """About how long it takes to factor."""
    with planning() as cost:
        for row in (jacobian @ jacobian.T).rows:
            for block in row:
                dense(block)
    return cost.seconds() + 3 * direct.seconds(jacobian.shape[0])
