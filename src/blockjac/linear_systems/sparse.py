"""Sparse systems, solved by SuperLU on the host."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import numpy as np

from blockjac.base.caches import Cache
from blockjac.devices import host_rates
from blockjac.linear_systems import host
from blockjac.linear_systems.known_pattern import KnownPattern
from blockjac.linear_systems.solver import Solver, pytree


@pytree("known")
@dataclass(frozen=True, eq=False)
class SparseLU(Solver):
    """A sparse matrix, factored by SuperLU when it is solved with; recent factors are cached.

    Attributes:
        numbers: the value at each place, `(nnz,)`.
        known: the pattern of the matrix.
    """

    numbers: jax.Array
    known: KnownPattern

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve two sparse triangular systems."""
        known, dtype = self.known, self.numbers.dtype
        result = host.Result(right.shape, dtype)

        def solve(numbers: Any, right: Any) -> Any:
            return _solved(known, np.asarray(numbers), np.asarray(right), transposed)

        return cast("jax.Array", host.call(solve, result, self.numbers, right.astype(dtype)))

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant, from the factors' diagonals and their permutations."""
        known, dtype = self.known, self.numbers.dtype
        real = cast("Any", np.zeros((), dtype)).real.dtype

        def slogdet(values: np.ndarray) -> Sequence[np.ndarray]:
            return _slogdet(known, values)

        def of_batch(numbers: Any) -> Any:
            return host.over_batch(slogdet, [numbers], [1])

        results = (host.Result((), dtype), host.Result((), real))
        sign, logarithm = host.call(of_batch, results, self.numbers)
        return sign, logarithm

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.known.size

    def describe(self) -> str:
        """The numbers of entries and unknowns."""
        return (
            f"sparse LU on the host, {self.known.pattern.nnz} entries, {self.known.size} unknowns"
        )


_factors: Cache[Any] = Cache("sparse factors", 8, 2**29, lambda value: _nbytes(value[1]))


def _nbytes(factors: Any) -> int:
    """About how many bytes the factors take."""
    return 64 if factors is None else 16 * int(factors.nnz)


def _factored(known: KnownPattern, numbers: np.ndarray) -> Any:
    """The factors by SuperLU, cached for systems with the same matrix; None if it is singular."""
    key = (id(known), hashlib.sha256(numbers.tobytes()).digest())
    return _factors.made(key, lambda: (known, _superlu(known, numbers)))[1]


def _superlu(known: KnownPattern, numbers: np.ndarray) -> Any:
    """Factor a matrix; None if SuperLU finds it singular."""
    from scipy.sparse import csc_array, linalg

    skeleton = known.by_column
    matrix = csc_array((numbers[skeleton.data], skeleton.indices, skeleton.indptr), skeleton.shape)
    try:
        return cast("Any", linalg.splu(matrix))
    except RuntimeError:  # "Factor is exactly singular"
        return None


def _solved(
    known: KnownPattern, numbers: np.ndarray, right: np.ndarray, transposed: bool
) -> np.ndarray:
    """Solve for `(..., n)`, with one matrix for all vectors or one per vector."""

    def solve(numbers: np.ndarray, columns: np.ndarray) -> np.ndarray:
        factors = _factored(known, numbers)
        if factors is None or not np.all(np.isfinite(numbers)):
            return np.full_like(columns, np.nan)
        return factors.solve(np.ascontiguousarray(columns), "T" if transposed else "N")

    if numbers.size == numbers.shape[-1]:  # one matrix, many right-hand sides
        columns = right.reshape(-1, right.shape[-1]).T
        return solve(numbers.reshape(-1), columns).T.reshape(right.shape)
    return host.over_batch(lambda *parts: [solve(*parts)], [numbers, right], [1, 1])[0]


def _slogdet(known: KnownPattern, numbers: np.ndarray) -> Sequence[np.ndarray]:
    """The sign and the logarithm of one determinant."""
    factors = _factored(known, numbers)
    if factors is None:
        return np.zeros((), numbers.dtype), np.asarray(-np.inf, cast("Any", numbers).real.dtype)
    diagonal = np.concatenate([factors.L.diagonal(), factors.U.diagonal()])
    sign = np.prod(diagonal / np.abs(diagonal)) * _sign(factors.perm_r) * _sign(factors.perm_c)
    return np.asarray(sign, numbers.dtype), np.sum(np.log(np.abs(diagonal)))


def _sign(permutation: np.ndarray) -> int:
    """The sign of a permutation: -1 to the power of its size minus the number of its cycles."""
    from scipy.sparse import csgraph, csr_array

    size = len(permutation)
    steps = csr_array((np.ones(size), (np.arange(size), permutation)), shape=(size, size))
    cycles = cast("Any", csgraph.connected_components)(steps, return_labels=False)
    return -1 if (size - cycles) % 2 else 1


def seconds_again(known: KnownPattern, systems: int) -> float:
    """About how long it takes to solve once more: the entries and the right-hand side are moved."""
    nnz, size = known.pattern.nnz, known.size
    filled = nnz * max(1.0, np.log2(size))
    return host.seconds(8 * nnz * systems, arrays=2) + systems * 4e-9 * filled


def seconds(known: KnownPattern, systems: int) -> float:
    """About how long it takes to factor: the cost of nested dissection on a plane grid."""
    nnz, size = known.pattern.nnz, known.size
    operations = 8 * size**1.5 * (nnz / size) ** 2
    work = 3e-7 * nnz + operations / host_rates().operations_per_second
    return host.seconds(8 * nnz * systems) + systems * work
