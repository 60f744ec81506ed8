"""Banded systems, solved by LAPACK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from blockjac.devices import host_rates, rates
from blockjac.linear_systems import host
from blockjac.linear_systems.order import Order
from blockjac.linear_systems.solver import (
    Solver,
    pytree,
    sign_and_log,
)

Widths = tuple[int, int]
"""The numbers of diagonals of a band below and above the main one."""


SECONDS_A_COLUMN = 1.5e-7
"""About how long LAPACK takes for a column of a narrow band."""


@pytree("widths", "order")
@dataclass(frozen=True, eq=False)
class Banded(Solver):
    """A banded matrix as `P L U`, by LAPACK on the host.

    Attributes:
        factors: L and U as `gbtrf` returns them, `(2 below + above + 1, n)`.
        pivots: the row that each row was exchanged with, `(n,)`.
        widths: the widths of the band before the factorization.
        order: the order of the unknowns in the band; None if they keep their own.
    """

    factors: jax.Array
    pivots: jax.Array
    widths: Widths
    order: Order | None

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two banded triangular systems."""
        arranged = right if self.order is None else right[self.order.forth]
        arranged = arranged.astype(self.factors.dtype)
        result = host.Result(right.shape, arranged.dtype)
        below, above = self.widths

        def solve(factors: Any, pivots: Any, rhs: Any) -> Any:
            return _solved(factors, pivots, rhs, below, above, transposed)

        solution = cast("jax.Array", host.call(solve, result, self.factors, self.pivots, arranged))
        return solution if self.order is None else solution[self.order.back]

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of U."""
        swaps = jnp.sum(self.pivots != jnp.arange(len(self.pivots)))
        return sign_and_log(self.factors[sum(self.widths)], swaps)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.pivots.shape[-1]

    def describe(self) -> str:
        """The widths of the band and the number of unknowns."""
        below, above = self.widths
        moved = "" if self.order is None else ", reordered"
        return f"band of {below} + 1 + {above} diagonals, {self.unknowns} unknowns{moved}"


@pytree("order", "is_positive")
@dataclass(frozen=True, eq=False)
class Tridiagonal(Solver):
    """A tridiagonal matrix, solved in one compiled sweep.

    Attributes:
        below: the diagonal below the main one, `(n,)`; the first number is unused.
        main: the main diagonal, `(n,)`.
        above: the diagonal above the main one, `(n,)`; the last number is unused.
        order: the order of the unknowns in the rows; None if they keep their own.
        is_positive: whether the matrix is promised to be positive definite.
    """

    below: jax.Array
    main: jax.Array
    above: jax.Array
    order: Order | None
    is_positive: bool = False

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve by `jax.lax.linalg.tridiagonal_solve`."""
        below, above = self.below, self.above
        if transposed:
            below, above = jnp.roll(above, 1), jnp.roll(below, -1)
        arranged = right if self.order is None else right[self.order.forth]
        columns = arranged.astype(self.main.dtype)[:, None]
        solution = jax.lax.linalg.tridiagonal_solve(below, self.main, above, columns)[:, 0]
        return solution if self.order is None else solution[self.order.back]

    @property
    def banded(self) -> Banded:
        """The same matrix, factored as a band."""
        diagonals = jnp.stack([jnp.roll(self.above, 1), self.main, jnp.roll(self.below, -1)])
        return factored(diagonals, (1, 1), self.order)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the factored band."""
        return self.banded.slogdet()

    def inverse_diagonal(self) -> jax.Array:
        """Of a positive definite matrix `1 / (p + q - a)`, with the pivots p and q of both sweeps.

        What the unknowns before leave of a diagonal entry a is its pivot p in a sweep forwards, and
        what those after it leave is its pivot q in a sweep backwards.
        """
        if not self.is_positive:  # whose sweeps would need exchanges of rows
            return super().inverse_diagonal()

        def step(pivots: jax.Array, row: Any) -> tuple[jax.Array, jax.Array]:
            main, product = row
            pivots = main - product / pivots
            return pivots, pivots

        products = jnp.pad(self.below[1:] * self.above[:-1], (1, 0))
        rows = [
            jnp.stack([self.main, self.main[::-1]], axis=1),
            jnp.stack([products, jnp.pad(products[:0:-1], (1, 0))], axis=1),
        ]
        pivots = jax.lax.scan(step, jnp.ones_like(rows[0][0]), rows)[1]
        diagonal = 1 / (pivots[:, 0] + pivots[::-1, 1] - self.main)
        return diagonal if self.order is None else diagonal[self.order.back]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.main.shape[-1]

    def describe(self) -> str:
        """The number of unknowns."""
        moved = "" if self.order is None else ", reordered"
        return f"tridiagonal of {self.unknowns}{moved}"


def factored(diagonals: Any, widths: Widths, order: Order | None = None) -> Banded:
    """Factor a band.

    Args:
        diagonals: `(below + above + 1, n)`, the highest first, as in `scipy.linalg.solve_banded`.
        widths: the widths of the band.
        order: the order of the unknowns in the rows; None if they keep their own.
    """
    below, above = widths
    size = diagonals.shape[-1]
    results = (
        host.Result((2 * below + above + 1, size), diagonals.dtype),
        host.Result((size,), np.dtype(np.int32)),
    )

    def factor(band: Any) -> Any:
        def factor_matrix(matrix: np.ndarray) -> Sequence[np.ndarray]:
            return _factored(matrix, below, above)

        return host.over_batch(factor_matrix, [band], [2])

    factors, pivots = cast("Sequence[jax.Array]", host.call(factor, results, diagonals))
    return Banded(factors, pivots, widths, order)


def tridiagonal(diagonals: Any, order: Order | None, is_positive: bool) -> Tridiagonal:
    """A tridiagonal matrix from its three diagonals, the highest first; see `factored`."""
    below, above = jnp.roll(diagonals[2], 1), jnp.roll(diagonals[0], -1)
    return Tridiagonal(below, diagonals[1], above, order, is_positive)


def is_tridiagonal(size: int, widths: Widths) -> bool:
    """Whether a band is solved as a tridiagonal matrix, which has three unknowns at least."""
    return max(widths) <= 1 and size >= 3


def seconds(size: int, widths: Widths, systems: int = 1) -> float:
    """About how long it takes to factor a number of bands."""
    below, above = widths
    operations = systems * 2 * size * (below + 1) * (below + above + 1)
    stored = systems * 3 * 8 * size * (2 * below + above + 1)
    device = rates()
    if is_tridiagonal(size, widths):
        return operations / device.operations_per_second + stored / device.bytes_per_second
    work = systems * SECONDS_A_COLUMN * size + 4 * operations / host_rates().operations_per_second
    return host.seconds(stored) + work


def seconds_again(size: int, widths: Widths, systems: int = 1) -> float:
    """About how long it takes to solve once more: factors, pivots and right-hand side are moved."""
    if is_tridiagonal(size, widths):
        return seconds(size, widths, systems)
    below, above = widths
    numbers = systems * size * (2 * below + above + 2)
    return host.seconds(8 * numbers, arrays=3) + 4 * numbers / host_rates().operations_per_second


def _factored(band: np.ndarray, below: int, above: int) -> Sequence[np.ndarray]:
    """Factor one band by LAPACK; a zero on the diagonal of U is kept."""
    storage = np.zeros((2 * below + above + 1, band.shape[1]), band.dtype)
    storage[below:] = band
    (gbtrf,) = cast("Any", linalg.get_lapack_funcs(("gbtrf",), (storage,)))
    factors, pivots, _ = gbtrf(storage, below, above)
    return factors, pivots.astype(np.int32)


def _solved(
    factors: Any, pivots: Any, rhs: Any, below: int, above: int, transposed: bool
) -> np.ndarray:
    """Solve for `(..., n)`, with one factored band for all vectors or one per vector."""
    factors, pivots, rhs = map(np.asarray, (factors, pivots, rhs))
    (gbtrs,) = cast("Any", linalg.get_lapack_funcs(("gbtrs",), (factors,)))

    def solve(factors: np.ndarray, pivots: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if not np.all(factors[below + above]):  # LAPACK would divide by zero
            return np.full_like(columns, np.nan)
        return gbtrs(factors, below, above, columns, pivots, trans=int(transposed))[0]

    if factors.size == factors.shape[-2] * factors.shape[-1]:  # one matrix, many right-hand sides
        matrix = factors.reshape(factors.shape[-2:])
        columns = rhs.reshape(-1, rhs.shape[-1]).T
        return solve(matrix, pivots.reshape(-1), columns).T.reshape(rhs.shape)
    return host.over_batch(lambda *parts: [solve(*parts)], [factors, pivots, rhs], [2, 1, 1])[0]
