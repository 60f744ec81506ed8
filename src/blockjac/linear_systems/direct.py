"""Small and dense systems: division, triangles, LU and Cholesky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.scipy import linalg

from blockjac.base.arrays import Shape
from blockjac.devices import rates
from blockjac.linear_systems import entrywise
from blockjac.linear_systems.groups import Rows, grid_of
from blockjac.linear_systems.solver import Assumption, Solver, pytree, sign_and_log


@pytree()
@dataclass(frozen=True, eq=False)
class Division(Solver):
    """One equation with one unknown.

    Attributes:
        value: the coefficient, of shape ().
    """

    value: jax.Array

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Divide by the coefficient."""
        return right / self.value

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and the logarithm of the coefficient."""
        return sign_and_log(self.value[None])

    def inverse(self, shapes: Sequence[Shape]) -> Rows:
        """The reciprocal of the coefficient."""
        return grid_of(1 / self.value[None, None], shapes)

    def inverse_diagonal(self) -> jax.Array:
        """The reciprocal of the coefficient."""
        return 1 / self.value[None]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return 1

    def describe(self) -> str:
        """The name of the operation."""
        return "division"


@pytree()
@dataclass(frozen=True, eq=False)
class Empty(Solver):
    """No equation at all.

    Attributes:
        nothing: an array of shape (0,).
    """

    nothing: jax.Array

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Nothing."""
        return right

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The determinant 1."""
        return sign_and_log(self.nothing)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return 0

    def describe(self) -> str:
        """A few words."""
        return "no unknowns"


@pytree("size")
@dataclass(frozen=True, eq=False)
class LU(Solver):
    """A dense matrix as `P L U`, with partial pivoting.

    Attributes:
        factors: L below the diagonal and U, `(n, n)`.
        pivots: the row that each row was exchanged with, `(n,)`.
        size: n.
    """

    factors: jax.Array
    pivots: jax.Array
    size: int

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two triangular systems."""
        factors = (self.factors, self.pivots)
        return cast("jax.Array", linalg.lu_solve(factors, right, trans=int(transposed)))

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two triangular systems with several right-hand sides."""
        return self.solve(right, transposed)

    def inverse(self, shapes: Sequence[Shape]) -> Rows:
        """All entries of the inverse."""
        return grid_of(self.solve_columns(jnp.eye(self.size, dtype=self.factors.dtype)), shapes)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of U."""
        swaps = jnp.sum(self.pivots != jnp.arange(self.size))
        diagonal = cast("jax.Array", jnp.diagonal(self.factors))
        return sign_and_log(diagonal, swaps)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.size

    def describe(self) -> str:
        """The number of unknowns."""
        return f"dense LU of {self.size}"


@pytree("size")
@dataclass(frozen=True, eq=False)
class Cholesky(Solver):
    """A dense positive definite matrix as `L L'`.

    Attributes:
        factor: L, `(n, n)`; nan for a matrix that is not positive definite.
        size: n.
    """

    factor: jax.Array
    size: int

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two triangular systems."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve(jnp.conj(right)))
        return linalg.cho_solve((self.factor, True), right)

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two triangular systems with several right-hand sides."""
        return self.solve(right, transposed)

    def inverse(self, shapes: Sequence[Shape]) -> Rows:
        """All entries of the inverse."""
        return grid_of(self.solve_columns(jnp.eye(self.size, dtype=self.factor.dtype)), shapes)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of L."""
        diagonal = cast("jax.Array", jnp.diagonal(self.factor))
        sign, logarithm = sign_and_log(diagonal)
        return sign * jnp.conj(sign), 2 * logarithm

    def inverse_diagonal(self) -> jax.Array:
        """The sums of the squared columns of `L^-1`."""
        identity = jnp.eye(self.size, dtype=self.factor.dtype)
        inverse = linalg.solve_triangular(self.factor, identity, lower=True)
        return jnp.sum(jnp.square(jnp.abs(inverse)), axis=0).astype(self.factor.dtype)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.size

    def describe(self) -> str:
        """The number of unknowns."""
        return f"dense Cholesky of {self.size}"


@pytree("is_lower", "size")
@dataclass(frozen=True, eq=False)
class Triangular(Solver):
    """A dense triangular matrix.

    Attributes:
        matrix: `(n, n)`.
        is_lower: whether the entries are on and below the diagonal.
        size: n.
    """

    matrix: jax.Array
    is_lower: bool
    size: int

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Substitute."""
        return linalg.solve_triangular(
            self.matrix, right, trans=int(transposed), lower=self.is_lower
        )

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Substitute in several right-hand sides."""
        return self.solve(right, transposed)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal."""
        return sign_and_log(cast("jax.Array", jnp.diagonal(self.matrix)))

    def inverse_diagonal(self) -> jax.Array:
        """The reciprocals of the diagonal."""
        return 1 / cast("jax.Array", jnp.diagonal(self.matrix))

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.size

    def describe(self) -> str:
        """The number of unknowns."""
        return f"triangular of {self.size}"


def factored(matrix: Any, assume: Assumption, systems: int = 1) -> Solver:
    """Factor a dense matrix `(n, n)`, one of a number of systems."""
    size = matrix.shape[-1]
    if size == 1:
        return Division(matrix[0, 0])
    if assume == "pos":
        factor = cast("jax.Array", jnp.linalg.cholesky(matrix))
        return Cholesky(factor, size)
    if entrywise.is_small(size, systems):
        return entrywise.factored(matrix)
    factors, pivots = cast("tuple[jax.Array, jax.Array]", linalg.lu_factor(matrix))
    return LU(factors, pivots, size)


def triangular_seconds(size: int, count: int = 1) -> float:
    """About how long it takes to write out and solve triangular matrices of this size."""
    device = rates()
    one = size**2 / device.operations_per_second + 16 * size**2 / device.bytes_per_second
    return count * one


def seconds_again(size: int, count: int = 1) -> float:
    """About how long it takes to solve once more with dense factors: they are read once."""
    device = rates()
    return size * device.seconds_a_column + 8 * count * size**2 / device.bytes_per_second


def seconds(size: int, count: int = 1) -> float:
    """About how long it takes to factor a dense matrix of this size, or a batch of them.

    All columns but the last are eliminated, one after the other: that is what a small matrix takes
    on an accelerator. A batch waits for each column once.
    """
    device = rates()
    operations, stored = 2 / 3 * size**3 + 2 * size**2, 3 * 8 * size**2
    work = operations / device.operations_per_second + stored / device.bytes_per_second
    return (size - 1) * device.seconds_a_column + count * work
