"""Choose how to solve a system: by structure first, then by the estimated time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.entries import shape_of
from blockjac.algebra.sums import compact
from blockjac.devices import in_bytes
from blockjac.errors import StructureLostError
from blockjac.linear_systems import (
    direct,
    kronecker,
    low_rank,
    schur,
    schur_listed,
)
from blockjac.linear_systems.batched import Batched, Grouped
from blockjac.linear_systems.groups import Family, Rows, families, groups
from blockjac.linear_systems.meeting_lists import listed_meetings, matrices_of
from blockjac.linear_systems.settled import settled
from blockjac.linear_systems.solver import Assumption, Solver, pytree, wide
from blockjac.linear_systems.stripped import Stripped
from blockjac.linear_systems.way import Options, Way
from blockjac.linear_systems.ways import by_places, without_structure, written
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.term import Term


@pytree("note")
@dataclass(frozen=True, eq=False)
class Factored:
    """A factored matrix.

    Attributes:
        solver: its factors.
        note: what it costs that no structure was of use, in words, if so; else "".
    """

    solver: Solver
    note: str = ""


def factored(
    rows: Rows, assume: Assumption = "gen", require_structure: bool = False, solves: int = 0
) -> Factored:
    """Factor the matrix of a square grid, using its structure.

    Args:
        rows: the blocks by output and input, which have the same shapes.
        assume: what the caller promises: `"pos"` for a positive definite matrix.
        require_structure: whether to refuse to write out the whole matrix.
        solves: how many further solutions are expected of the same factors.

    Raises:
        DenseTooLargeError: if only a dense factorization is possible, and the matrix is too large.
        StructureLostError: if only a dense factorization is possible, and that is refused.
    """
    chosen = way(rows, assume, is_patient=require_structure, solves=solves)
    note = _note(rows) if chosen.is_dense else ""
    if note and require_structure:
        raise StructureLostError(
            f"a linear system is solved densely: {note}; require_structure=True refuses that. The "
            f"structure of its blocks is {_structures(rows)}"
        )
    return Factored(chosen.factor(), note)


def _note(rows: Rows) -> str:
    """What a dense factorization costs, in words; "" for one unknown."""
    size, itemsize = shape_of(rows)[0], jnp.result_type(*_dtypes(rows)).itemsize
    if size < 2:
        return ""
    return (
        f"no structure is of use, so all {size:,} x {size:,} entries are written out, "
        f"{in_bytes(size**2 * itemsize)}"
    )


def _structures(rows: Rows) -> str:
    """The structure of each block, row by row."""
    return "; ".join(", ".join(block.structure for block in row) for row in rows)


def _dtypes(rows: Rows) -> list[Any]:
    """The dtypes of all blocks."""
    return [block.dtype for row in rows for block in row]


def way(rows: Rows, assume: Assumption = "gen", is_patient: bool = False, solves: int = 0) -> Way:
    """How to factor the matrix of a square grid.

    Groups of variables that no block joins are factored separately. An axis along which every
    block has a delta numbers independent systems, which are factored as a batch. Any other grid is
    factored in the way with the lowest estimated time.

    Args:
        rows: the blocks by output and input, which have the same shapes; in a plan without values.
        assume: what the caller promises: `"pos"` for a positive definite matrix.
        is_patient: whether to locate entries however long it takes, once for each pattern.
        solves: how many further solutions are expected of the same factors.
    """
    options = Options(assume, is_patient, solves=solves)
    return _way([[settled(compact(block)) for block in row] for row in rows], options)


def _way(rows: Rows, options: Options) -> Way:
    """The way to factor a grid whose blocks have few terms."""
    parts = groups(rows)
    if len(parts) > 1:
        return _grouped(rows, parts, options)
    shared = families(rows, range(len(rows)))
    if shared:
        return _batched(rows, shared[0], options)
    return min(_ways(rows, options), key=options.whole)


def _part(rows: Rows, chosen: Sequence[int], columns: Sequence[int] | None = None) -> Rows:
    """The grid of some variables; with `columns`, of these by others."""
    return [[rows[i][j] for j in (columns or chosen)] for i in chosen]


def _grouped(rows: Rows, parts: Sequence[Sequence[int]], options: Options) -> Way:
    """The way to factor groups of variables separately."""
    ways = [_way(_part(rows, part), options) for part in parts]

    def factor() -> Solver:
        solvers = tuple(way.factor() for way in ways)
        return Grouped(solvers, tuple(row[0].out_shape for row in rows), tuple(map(tuple, parts)))

    seconds, again = (sum(getattr(way, name) for way in ways) for name in ("seconds", "again"))
    return Way(seconds, factor, again=again)


def _batched(rows: Rows, family: Family, options: Options) -> Way:
    """The way to factor the systems that an axis numbers, as a batch."""
    batch = Stripped(rows, family)
    count = 1 if batch.is_shared else rows[0][0].out_shape[family[0]]

    inside = replace(options, systems=count * options.systems)

    def factor_one(*arrays: Any) -> Solver:
        return _way(batch.grid(arrays), inside).factor()

    def factor() -> Solver:
        """Factor all systems at once."""
        arrays = batch.arrays
        solver = (
            factor_one(*arrays)
            if batch.is_shared
            else jax.vmap(factor_one, in_axes=tuple(batch.axes))(*arrays)
        )
        shapes = tuple(row[0].out_shape for row in rows)
        axes = tuple(family[i] for i in range(len(rows)))
        return Batched(solver, shapes, axes, batch.is_shared)

    one = _way(batch.grid(batch.of_one), inside)
    return Way(one.seconds, factor, again=one.again)


def _ways(rows: Rows, options: Options) -> list[Way]:
    """The ways to factor a grid whose blocks share no delta."""
    dtype = wide(jnp.result_type(*_dtypes(rows)))
    size = sum(math.prod(row[0].out_shape) for row in rows)
    if not size:
        return [Way(0.0, lambda: direct.Empty(jnp.zeros((0,), dtype)))]
    ways = [without_structure(rows, size, dtype, options)]
    if size == 1:
        return ways
    if len(rows) == 1:
        ways += _as_kronecker(rows[0][0], size, options)
    elif options.assume == "pos":
        ways += _by_elimination(rows, size, dtype, options)
    split = low_rank.split_of(rows)
    if split is not None:
        time = low_rank.seconds(size, split.rank, options.systems)
        ways.append(Way(time, lambda: low_rank.of_split(rows, split, dtype)))
    return ways + by_places(rows, dtype, options, min(way.seconds for way in ways))


def _by_elimination(rows: Rows, size: int, dtype: Any, options: Options) -> list[Way]:
    """The ways by Schur's complement, if variables separate once others are known."""
    chosen = schur.eliminated_of(rows)
    if chosen is None:
        return []
    eliminated, family = chosen
    left = [i for i in range(len(rows)) if i not in eliminated]
    inner = sum(math.prod(rows[i][0].out_shape) for i in eliminated)
    systems = rows[eliminated[0]][0].out_shape[family[0]]
    shapes = tuple(row[0].out_shape for row in rows)
    own, across = _part(rows, eliminated), _part(rows, eliminated, left)

    def factor() -> Solver:
        """Factor the separate systems, then the complement."""
        solver = _batched(own, family, options).factor()
        dense = written(across, dtype), written(_part(rows, left), dtype)
        return schur.factored(solver, *dense, shapes, eliminated)

    whole = Way(schur.seconds(inner, size - inner, systems, options.systems), factor)
    return [whole, *_by_meetings(rows, chosen, dtype, options, whole.seconds)]


def _by_meetings(
    rows: Rows, chosen: tuple[tuple[int, ...], Family], dtype: Any, options: Options, limit: float
) -> list[Way]:
    """The way by Schur's complement, if what is eliminated meets few of the others each."""
    eliminated, family = chosen
    left = [i for i in range(len(rows)) if i not in eliminated]
    own, across = _part(rows, eliminated), _part(rows, eliminated, left)
    shapes = tuple(row[0].out_shape for row in rows)
    meetings = listed_meetings(across, family, options, limit)
    if meetings is None:
        return []
    systems = _batched(own, family, options)
    rest = _part(rows, left)

    def outer(products: Any) -> Way:
        """How the complement is solved."""
        return _way(schur_listed.complement(rest, products, meetings), options)

    def factor() -> Solver:
        """Factor the systems, and the complement of what they meet."""
        solver = cast("Batched", systems.factor())
        matrices = matrices_of(across, family, meetings, dtype)
        coupling = schur_listed.solved(solver, matrices, meetings)
        outside = outer(meetings.products(matrices, coupling)).factor()
        return schur_listed.ListedSchur(solver, outside, coupling, shapes, eliminated, meetings)

    beside = options.systems * schur_listed.seconds(meetings)
    abstract = outer(schur_listed.abstract_products(meetings, dtype))
    again = systems.again + abstract.again
    return [Way(systems.seconds + beside + abstract.seconds, factor, again=again)]


def _as_kronecker(block: Any, size: int, options: Options) -> list[Way]:
    """The way by a Kronecker product, if the block is one: each factor in the fastest way."""
    parts = kronecker.groups_of(block)
    if parts is None:
        return []
    ways = [_way([[factor_block]], replace(options, assume="gen")) for _, factor_block in parts]

    def factor() -> Solver:
        solvers = tuple(way.factor() for way in ways)
        shape = block.out_shape
        return kronecker.Kronecker(solvers, tuple(group for group, _ in parts), shape, shape)

    return [Way(sum(way.seconds for way in ways) + options.systems * size * 1e-9, factor)]


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
