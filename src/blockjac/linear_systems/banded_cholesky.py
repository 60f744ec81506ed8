"""Positive definite bands by LAPACK's Cholesky factorization on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from blockjac.devices import host_rates
from blockjac.linear_systems import host
from blockjac.linear_systems.banded import SECONDS_A_COLUMN, is_tridiagonal
from blockjac.linear_systems.cholesky_sweep import CholeskySweep
from blockjac.linear_systems.solver import Solver, pytree, sign_and_log
from blockjac.linear_systems.tiles import Tiling


@pytree("tiling")
@dataclass(frozen=True, eq=False)
class BandedCholesky(Solver):
    """A Hermitian band as `G G^H`.

    Attributes:
        factor: the diagonals of G, the main one first, `(width + 1, n)`; nan if there is none.
        tiling: the same matrix as a block tridiagonal one.
    """

    factor: jax.Array
    tiling: Tiling

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two banded triangular systems."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve(jnp.conj(right)))
        order = self.tiling.order
        arranged = (right if order is None else right[order.forth]).astype(self.factor.dtype)
        result = host.Result(right.shape, arranged.dtype)
        solution = cast("jax.Array", host.call(_solved, result, self.factor, arranged))
        return solution if order is None else solution[order.back]

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of G."""
        sign, logarithm = sign_and_log(self.factor[0])
        return sign * jnp.conj(sign), 2 * logarithm

    def inverse_diagonal(self) -> jax.Array:
        """By a sweep with the tiles that the band consists of."""
        diagonal, lower = self._tiles(0), self._tiles(self.tiling.width)
        return CholeskySweep(diagonal, lower, self.tiling).inverse_diagonal()

    def _tiles(self, before: int) -> jax.Array:
        """The tiles of G whose columns start so far before their rows, `(m, b, b)`."""
        b, m, size = self.tiling.width, self.tiling.count, self.tiling.size
        rows = jnp.reshape(jnp.arange(m * b), (m, b, 1))
        columns = jnp.reshape(jnp.arange(m * b) - before, (m, 1, b))
        distance = rows - columns
        inside = (distance >= 0) & (distance < len(self.factor)) & (columns >= 0) & (rows < size)
        entries = self.factor[
            jnp.clip(distance, 0, len(self.factor) - 1), jnp.clip(columns, 0, size - 1)
        ]
        units = (distance == 0) & (rows >= size)  # that nothing couples
        return jnp.where(inside, entries, units.astype(entries.dtype))

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.tiling.size

    def describe(self) -> str:
        """The width of the band and the number of unknowns."""
        moved = "" if self.tiling.order is None else ", reordered"
        width = self.factor.shape[-2] - 1
        return f"band of 1 + {width} diagonals by Cholesky, {self.unknowns} unknowns{moved}"


def factored(diagonals: jax.Array, tiling: Tiling) -> BandedCholesky:
    """Factor a Hermitian band.

    Args:
        diagonals: the main one and those below it, `(width + 1, n)`.
        tiling: how its unknowns are ordered.
    """

    def factor_one(matrix: np.ndarray) -> Sequence[np.ndarray]:
        return [_factored(matrix)]

    def factor(band: Any) -> Any:
        return host.over_batch(factor_one, [band], [2])[0]

    result = host.Result(diagonals.shape, diagonals.dtype)
    return BandedCholesky(cast("jax.Array", host.call(factor, result, diagonals)), tiling)


def seconds(size: int, width: int, systems: int) -> float:
    """About how long it takes to factor a number of bands."""
    if is_tridiagonal(size, (width, width)):
        return float("inf")  # which is solved without a call of the host
    operations = systems * size * (width + 1) ** 2
    stored = systems * 2 * 8 * size * (width + 1)
    work = systems * SECONDS_A_COLUMN * size + 4 * operations / host_rates().operations_per_second
    return host.seconds(stored) + work


def seconds_again(size: int, width: int, systems: int) -> float:
    """About how long it takes to solve once more: the factor and the right-hand side are moved."""
    numbers = systems * size * (width + 2)
    return host.seconds(8 * numbers, arrays=2) + 4 * numbers / host_rates().operations_per_second


def _factored(band: np.ndarray) -> np.ndarray:
    """Factor one band by LAPACK."""
    (pbtrf,) = cast("Any", linalg.get_lapack_funcs(("pbtrf",), (band,)))
    factor, info = pbtrf(band, lower=1)
    return np.full_like(band, np.nan) if info else factor


def _solved(factor: Any, right: Any) -> np.ndarray:
    """Solve for `(..., n)`, with one factored band for all vectors or one per vector."""
    factor, right = np.asarray(factor), np.asarray(right)
    (pbtrs,) = cast("Any", linalg.get_lapack_funcs(("pbtrs",), (factor,)))

    def solve(factor: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return pbtrs(factor, columns, lower=1)[0]

    if factor.size == factor.shape[-2] * factor.shape[-1]:  # one matrix, many right-hand sides
        columns = right.reshape(-1, right.shape[-1]).T
        return solve(factor.reshape(factor.shape[-2:]), columns).T.reshape(right.shape)

    def parts(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        return [solve(*arrays)]

    return host.over_batch(parts, [factor, right], [2, 1])[0]
