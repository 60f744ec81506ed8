"""Very small dense systems, solved entry by entry.

Libraries of linear algebra take a fraction of a microsecond to start on each matrix of a batch,
which is more than a system of three unknowns takes. Written out in additions and products of single
entries, a batch is a few loops over arrays: each entry of the factors is an array of its own, with
one number for each system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.scipy import linalg

from blockjac.base.arrays import Shape
from blockjac.linear_systems.groups import Rows, grid_of
from blockjac.linear_systems.solver import Solver, pytree, sign_and_log

FACTORED = 3
"""Up to this size the factors are written out too: the program grows with the third power."""

SOLVED, SOLVED_AT_ONCE = 4, 6
"""Up to these sizes one system, or many, are solved sooner than by a library; as measured."""

Entries = list[list[Any]]


@pytree("size")
@dataclass(frozen=True, eq=False)
class EntrywiseLU(Solver):
    """A small dense matrix as `P A = L U`, with partial pivoting, entry by entry.

    Attributes:
        entries: row by row L below the diagonal, the reciprocals of the diagonal of U, and U above.
        order: the row of `A` that each row of `P A` is.
        size: the number n of unknowns.
    """

    entries: Sequence[Sequence[jax.Array]]
    order: Sequence[jax.Array]
    size: int

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Substitute twice; for the transpose by `A' = U' L' P`."""
        numbers = range(self.size)
        if transposed:
            rows = list(zip(*self.entries, strict=True))
            x = _forwards([right[i] for i in numbers], rows, has_unit_diagonal=False)
            x = _backwards(x, rows, has_unit_diagonal=True)
            return jnp.stack([self._put_back(x, j) for j in numbers])
        x = _forwards([self._picked(right, i) for i in numbers], self.entries, True)
        return jnp.stack(_backwards(x, self.entries, False))

    def _picked(self, right: jax.Array, row: int) -> jax.Array:
        """The entry of `P right` of a row, by comparisons, which are quicker than a lookup."""
        entry = right[0]
        for j in range(1, self.size):
            entry = jnp.where(self.order[row] == j, right[j], entry)
        return entry

    def _put_back(self, vector: Sequence[jax.Array], row: int) -> jax.Array:
        """The entry of `P' vector` of a row."""
        entry = vector[0]
        for i in range(1, self.size):
            entry = jnp.where(self.order[i] == row, vector[i], entry)
        return entry

    def inverse(self, shapes: Sequence[Shape]) -> Rows:
        """All entries of the inverse."""
        identity = jnp.eye(self.size, dtype=jnp.result_type(self.entries[0][0]))
        return grid_of(self.solve_columns(identity), shapes)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of U."""
        diagonal = jnp.stack([1 / self.entries[i][i] for i in range(self.size)])
        swaps = sum(
            (self.order[i] > self.order[j]).astype(int) for j in range(self.size) for i in range(j)
        )
        return sign_and_log(diagonal, swaps)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.size

    def describe(self) -> str:
        """The number of unknowns."""
        return f"dense LU of {self.size}"


def is_small(size: int, systems: int) -> bool:
    """Whether matrices of a size are solved entry by entry."""
    return 1 < size <= (SOLVED if systems == 1 else SOLVED_AT_ONCE)


def factored(matrix: jax.Array) -> EntrywiseLU:
    """Factor a small matrix `(n, n)`."""
    size = matrix.shape[-1]
    entries, order = _by_entries(matrix) if size <= FACTORED else _by_library(matrix)
    for i in range(size):
        entries[i][i] = 1 / entries[i][i]
    return EntrywiseLU(tuple(map(tuple, entries)), tuple(order), size)


def _entries(matrix: jax.Array) -> tuple[Entries, list[Any]]:
    """The entries of a matrix, and the numbers of its rows."""
    numbers = range(matrix.shape[-1])
    order: list[Any] = [jnp.asarray(i, jnp.int32) for i in numbers]
    return [[matrix[i, j] for j in numbers] for i in numbers], order


def _by_entries(matrix: jax.Array) -> tuple[Entries, list[Any]]:
    """L and U, and the order of the rows, by exchanges that are choices between numbers."""
    rows, order = _entries(matrix)
    size = len(rows)
    for k in range(size):
        for i in range(k + 1, size):
            larger = jnp.abs(rows[i][k]) > jnp.abs(rows[k][k])
            rows[k], rows[i] = _exchanged(larger, rows[k], rows[i])
            (order[k],), (order[i],) = _exchanged(larger, [order[k]], [order[i]])
        is_zero = rows[k][k] == 0  # then so is what is below: nothing is left to eliminate
        for i in range(k + 1, size):
            rows[i][k] = jnp.where(is_zero, 0, rows[i][k] / jnp.where(is_zero, 1, rows[k][k]))
            for j in range(k + 1, size):
                rows[i][j] = rows[i][j] - rows[i][k] * rows[k][j]
    return rows, order


def _by_library(matrix: jax.Array) -> tuple[Entries, list[Any]]:
    """The same by the library's factorization."""
    factors, pivots = cast("tuple[jax.Array, jax.Array]", linalg.lu_factor(matrix))
    rows, order = _entries(factors)
    for k in range(len(rows)):
        for i in range(k + 1, len(rows)):
            chosen = pivots[k] == i
            (order[k],), (order[i],) = _exchanged(chosen, [order[k]], [order[i]])
    return rows, order


def _exchanged(condition: Any, first: list[Any], second: list[Any]) -> tuple[list[Any], list[Any]]:
    """Two lists, exchanged where a condition holds."""
    pairs = list(zip(first, second, strict=True))
    return (
        [jnp.where(condition, b, a) for a, b in pairs],
        [jnp.where(condition, a, b) for a, b in pairs],
    )


def _forwards(vector: list[Any], rows: Any, has_unit_diagonal: bool) -> list[Any]:
    """The solution of a lower triangular system, whose diagonal is given by its reciprocals."""
    for i, row in enumerate(rows):
        for j in range(i):
            vector[i] = vector[i] - row[j] * vector[j]
        vector[i] = vector[i] if has_unit_diagonal else vector[i] * row[i]
    return vector


def _backwards(vector: list[Any], rows: Any, has_unit_diagonal: bool) -> list[Any]:
    """The solution of an upper triangular system likewise."""
    for i in reversed(range(len(vector))):
        for j in range(i + 1, len(vector)):
            vector[i] = vector[i] - rows[i][j] * vector[j]
        vector[i] = vector[i] if has_unit_diagonal else vector[i] * rows[i][i]
    return vector
