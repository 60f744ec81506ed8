"""Ways to factor one system: by the places of its entries, densely, or without a matrix."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import check_size, matrix_of
from blockjac.algebra.entries import is_static, pieces, shape_of
from blockjac.devices import host_limit, memory_limit
from blockjac.linear_systems import (
    banded,
    banded_cholesky,
    block_tridiagonal,
    components,
    direct,
    iterative,
    sparse,
)
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.known_pattern import KnownPattern, known_pattern
from blockjac.linear_systems.solver import Solver
from blockjac.linear_systems.way import BYTES_A_PLACE, SECONDS_A_PLACE, Options, Way


def without_structure(rows: Rows, size: int, dtype: Any, options: Options) -> Way:
    """The way that takes every matrix: dense if it fits, else without a matrix."""
    seconds = direct.seconds(size, options.systems)
    fits = options.systems * size**2 * jnp.dtype(dtype).itemsize <= memory_limit()
    method = iterative.method_of(options.assume, dtype)
    if fits or options.is_patient or method is None:
        again = direct.seconds_again(size, options.systems)
        return Way(seconds, lambda: _dense(rows, dtype, options), is_dense=True, again=again)
    return Way(seconds, lambda: iterative.factored(rows, dtype, method))


def by_places(rows: Rows, dtype: Any, options: Options, limit: float) -> list[Way]:
    """The ways that need the places of the entries, if these are known and quickly found."""
    count = sum(piece.count for piece in pieces(rows))
    is_short = options.is_patient or SECONDS_A_PLACE * count < limit
    if not is_short or BYTES_A_PLACE * count > host_limit() or not is_static(rows):
        return []
    known = known_pattern(rows)

    def as_sparse() -> Solver:
        return sparse.SparseLU(known.numbers(rows, dtype), known)

    def as_components() -> Solver:
        return components.factored(known, rows, dtype, options)

    systems = options.systems
    again = sparse.seconds_again(known, systems)
    ways = [Way(sparse.seconds(known, systems), as_sparse, again=again)]
    below, above = known.pattern.bandwidth
    if not below or not above:
        time = direct.triangular_seconds(known.size, systems)
        again = direct.seconds_again(known.size, systems)
        ways.append(Way(time, lambda: _triangle(rows, dtype, is_lower=not above), again=again))
    if sum(len(part.unknowns) for part in known.components) > 1:
        again = components.seconds_again(known, systems)
        ways.append(Way(components.seconds(known, systems), as_components, again=again))
    widths = known.band[0]
    time = banded.seconds(known.size, widths, systems)
    again = banded.seconds_again(known.size, widths, systems)
    ways.append(Way(time, lambda: _as_band(rows, known, dtype, options), again=again))
    if options.assume == "pos":
        ways.append(_as_positive_band(rows, known, dtype, options))
    return ways + block_tridiagonal.ways(rows, known, dtype, options)


def _as_band(rows: Rows, known: KnownPattern, dtype: Any, options: Options) -> Solver:
    """Factor a matrix as a band."""
    widths, order = known.band
    band = known.diagonals(rows, dtype)
    if not banded.is_tridiagonal(known.size, widths):
        return banded.factored(band, widths, order)
    below, above = widths
    padded = jnp.pad(band, [(1 - above, 1 - below), (0, 0)])
    return banded.tridiagonal(padded, order, options.assume == "pos")


def _as_positive_band(rows: Rows, known: KnownPattern, dtype: Any, options: Options) -> Way:
    """The way of a positive definite band, of which the lower half is read."""
    below, above = known.band[0]

    def factor() -> Solver:
        diagonals = known.diagonals(rows, dtype)[above:]
        return banded_cholesky.factored(diagonals, known.band_tiling)

    time = banded_cholesky.seconds(known.size, below, options.systems)
    again = banded_cholesky.seconds_again(known.size, below, options.systems)
    return Way(time, factor, again=again)


def _dense(rows: Rows, dtype: Any, options: Options) -> Solver:
    """Factor a grid as one dense matrix."""
    return direct.factored(written(rows, dtype), options.assume, options.systems)


def _triangle(rows: Rows, dtype: Any, is_lower: bool) -> Solver:
    """A grid as one dense triangular matrix, which needs no factorization."""
    matrix = written(rows, dtype)
    return direct.Triangular(matrix, is_lower, len(matrix))


def written(rows: Rows, dtype: Any) -> jax.Array:
    """A grid as one dense matrix.

    Raises:
        DenseTooLargeError: if it is too large.
    """
    instead = "with lineax (pip install lineax) it is solved without the matrix"
    check_size(shape_of(rows), dtype, None, "the matrix of a linear system", instead)
    return jnp.asarray(matrix_of(rows), dtype)
