"""Choose how to solve a system: by structure first, then by the estimated time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import check_size, matrix_of
from blockjac.algebra.entries import is_static, pieces, shape_of
from blockjac.algebra.sums import compact
from blockjac.devices import host_limit
from blockjac.linear_systems import banded, components, direct, kronecker, low_rank, schur, sparse
from blockjac.linear_systems.batched import Batched, Grouped
from blockjac.linear_systems.groups import Family, Rows, families, groups
from blockjac.linear_systems.known_pattern import KnownPattern, known_pattern
from blockjac.linear_systems.solver import Assumption, Solver, wide
from blockjac.linear_systems.stripped import Stripped
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.term import Term

SECONDS_A_PLACE = 4e-7
"""About how long it takes to locate an entry, once per pattern."""

BYTES_A_PLACE = 64
"""About how much memory that takes."""


@dataclass(frozen=True)
class Way:
    """One way to factor a matrix.

    Attributes:
        seconds: about how long the factorization takes.
        factor: performs the factorization.
    """

    seconds: float
    factor: Callable[[], Solver]


def factored(rows: Rows, assume: Assumption = "gen") -> Solver:
    """Factor the matrix of a square grid, using its structure.

    Groups of variables that no block joins are factored separately. An axis along which every
    block has a delta numbers independent systems, which are factored as a batch. Any other grid is
    factored in the way with the lowest estimated time.

    Args:
        rows: the blocks by output and input, which have the same shapes.
        assume: what the caller promises: `"pos"` for a positive definite matrix.

    Raises:
        DenseTooLargeError: if only a dense factorization is possible, and the matrix is too large.
    """
    return _factored([[compact(block) for block in row] for row in rows], assume)


def _factored(rows: Rows, assume: Assumption) -> Solver:
    """Factor a grid whose blocks have few terms."""
    parts = groups(rows)
    if len(parts) > 1:
        solvers = [_factored(_part(rows, part), assume) for part in parts]
        shapes = tuple(row[0].out_shape for row in rows)
        return Grouped(tuple(solvers), shapes, tuple(map(tuple, parts)))
    shared = families(rows, range(len(rows)))
    if shared:
        return _batched(rows, shared[0], assume)
    return min(_ways(rows, assume), key=lambda way: way.seconds).factor()


def _part(rows: Rows, chosen: Sequence[int], columns: Sequence[int] | None = None) -> Rows:
    """The grid of some variables; with `columns`, of these by others."""
    return [[rows[i][j] for j in (columns or chosen)] for i in chosen]


def _batched(rows: Rows, family: Family, assume: Assumption) -> Batched:
    """Factor the systems that an axis numbers, as a batch."""
    batch = Stripped(rows, family)

    def factor(*arrays: Any) -> Solver:
        return _factored(batch.grid(arrays), assume)

    solver = (
        factor(*batch.arrays)
        if batch.is_shared
        else jax.vmap(factor, in_axes=tuple(batch.axes))(*batch.arrays)
    )
    shapes = tuple(row[0].out_shape for row in rows)
    axes = tuple(family[i] for i in range(len(rows)))
    return Batched(solver, shapes, axes, batch.is_shared)


def _ways(rows: Rows, assume: Assumption) -> list[Way]:
    """The ways to factor a grid whose blocks share no delta."""
    dtype = wide(jnp.result_type(*(block.dtype for row in rows for block in row)))
    size = sum(math.prod(row[0].out_shape) for row in rows)
    if not size:
        return [Way(0.0, lambda: direct.Empty(jnp.zeros((0,), dtype)))]
    ways = [Way(direct.seconds(size), lambda: _dense(rows, dtype, assume))]
    if len(rows) == 1:
        ways += _as_kronecker(rows[0][0], size, assume)
    elif assume == "pos":
        ways += _by_elimination(rows, size, dtype)
    split = low_rank.split_of(rows)
    if split is not None:
        time = low_rank.seconds(size, split.rank)
        ways.append(Way(time, lambda: low_rank.of_split(rows, split, dtype)))
    return ways + _by_places(rows, dtype, assume, min(way.seconds for way in ways))


def _by_elimination(rows: Rows, size: int, dtype: Any) -> list[Way]:
    """The way by Schur's complement, if variables separate once others are known."""
    chosen = schur.eliminated_of(rows)
    if chosen is None:
        return []
    eliminated, family = chosen
    left = [i for i in range(len(rows)) if i not in eliminated]
    inner = sum(math.prod(rows[i][0].out_shape) for i in eliminated)
    systems = rows[eliminated[0]][0].out_shape[family[0]]

    def factor() -> Solver:
        """Factor the separate systems, then the complement."""
        solver = _batched(_part(rows, eliminated), family, "pos")
        across = _written(_part(rows, eliminated, left), dtype)
        shapes = [row[0].out_shape for row in rows]
        return schur.factored(
            solver, across, _written(_part(rows, left), dtype), shapes, eliminated
        )

    return [Way(schur.seconds(inner, size - inner, systems), factor)]


def _as_kronecker(block: Any, size: int, assume: Assumption) -> list[Way]:
    """The way by a Kronecker product, if the block is one: each factor in the fastest way."""
    parts = kronecker.groups_of(block)
    if parts is None:
        return []

    def factor() -> Solver:
        solvers = tuple(_factored([[factor_block]], "gen") for _, factor_block in parts)
        shape = block.out_shape
        return kronecker.Kronecker(solvers, tuple(group for group, _ in parts), shape, shape)

    sizes = [math.prod(factor_block.out_shape) for _, factor_block in parts]
    return [Way(sum(map(direct.seconds, sizes)) + size * 1e-9, factor)]


def _by_places(rows: Rows, dtype: Any, assume: Assumption, limit: float) -> list[Way]:
    """The ways that need the places of the entries, if these are known and quickly found."""
    count = sum(piece.count for piece in pieces(rows))
    is_short = SECONDS_A_PLACE * count < limit and BYTES_A_PLACE * count < host_limit()
    if not is_short or not is_static(rows):
        return []
    known = known_pattern(rows)

    def as_sparse() -> Solver:
        return sparse.SparseLU(known.numbers(rows, dtype), known)

    def as_components() -> Solver:
        return components.factored(known, rows, dtype, assume)

    ways = [Way(sparse.seconds(known), as_sparse)]
    if sum(len(part.unknowns) for part in known.components) > 1:
        ways.append(Way(components.seconds(known), as_components))
    widths = known.band[0]
    ways.append(Way(banded.seconds(known.size, widths), lambda: _as_band(rows, known, dtype)))
    return ways


def _as_band(rows: Rows, known: KnownPattern, dtype: Any) -> Solver:
    """Factor a matrix as a band."""
    widths, order = known.band
    band = known.diagonals(rows, dtype)
    if not banded.is_tridiagonal(known.size, widths):
        return banded.factored(band, widths, order)
    below, above = widths
    padded = jnp.pad(band, [(1 - above, 1 - below), (0, 0)])
    return banded.tridiagonal(padded, order)


def _dense(rows: Rows, dtype: Any, assume: Assumption) -> Solver:
    """Factor a grid as one dense matrix."""
    return direct.factored(_written(rows, dtype), assume)


def _written(rows: Rows, dtype: Any) -> jax.Array:
    """A grid as one dense matrix.

    Raises:
        DenseTooLargeError: if it is too large.
    """
    instead = "use .matvec in an iterative solver, such as jax.scipy.sparse.linalg.cg"
    check_size(shape_of(rows), dtype, None, "the matrix of a linear system", instead)
    return jnp.asarray(matrix_of(rows), dtype)


def damped(rows: Rows, damping: Any) -> list[list[Block]]:
    """The grid with a number added to the diagonal of its matrix, as separate terms."""

    def entry(i: int, j: int, block: Block) -> Block:
        """The block, with a term for the damping if it is on the diagonal of the grid."""
        if i != j:
            return block
        dtype = jnp.result_type(block.dtype, damping)
        number = Factor(jnp.asarray(damping, dtype), (), "damping")
        units = Block.identity(block.out_shape, dtype).terms  # none where an axis is empty
        shifts = [Term((number,), unit.out, unit.wrt) for unit in units]
        return rebuilt(block.out_shape, block.wrt_shape, dtype, [*block.terms, *shifts])

    return [[entry(i, j, block) for j, block in enumerate(row)] for i, row in enumerate(rows)]
