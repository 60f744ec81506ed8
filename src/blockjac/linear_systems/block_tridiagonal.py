"""Ways to factor block tridiagonal matrices and rings of blocks on the device."""

from __future__ import annotations

from typing import Any

from blockjac.linear_systems import (
    banded,
    bordered,
    cholesky_sweep,
    cyclic_reduction,
    pivoted_sweep,
)
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.known_pattern import KnownPattern
from blockjac.linear_systems.solver import Solver
from blockjac.linear_systems.tiles import DIAGONAL, LOWER, UPPER, Tiling
from blockjac.linear_systems.way import Options, Way

SWEEPS = {"pos": (cholesky_sweep, cyclic_reduction)}
"""The eliminations of a block tridiagonal matrix by what is promised; with pivoting otherwise."""


def ways(rows: Rows, known: KnownPattern, dtype: Any, options: Options) -> list[Way]:
    """One for each order of the unknowns, elimination and size of the tiles."""
    choices = [way for tiling in known.tilings for way in _of_tiling(rows, tiling, dtype, options)]
    ring, opened = known.ring, known.open_ring
    if options.assume != "pos" or ring is None or opened is None:
        return choices
    inner = min(_positive(rows, opened, dtype, options), key=options.whole)

    def cut_open() -> Solver:
        return bordered.factored(ring, rows, dtype, inner.factor())

    rest = bordered.seconds(ring, options.systems)
    return [*choices, Way(2 * inner.seconds + rest, cut_open, again=2 * inner.again)]


def _positive(rows: Rows, tiling: Tiling, dtype: Any, options: Options) -> list[Way]:
    """The ways of a positive definite matrix, and that of one of single numbers."""

    def as_tridiagonal() -> Solver:
        diagonals = tiling.tiles(rows, dtype)[:, :, 0, 0]
        below, main, above = (diagonals[:, part] for part in (LOWER, DIAGONAL, UPPER))
        return banded.Tridiagonal(below, main, above, tiling.order, is_positive=True)

    choices = _of_tiling(rows, tiling, dtype, options)
    if banded.is_tridiagonal(tiling.size, (tiling.width, tiling.width)):
        time = banded.seconds(tiling.size, (1, 1), options.systems)
        choices.append(Way(time, as_tridiagonal, again=time))
    return choices


def _of_tiling(rows: Rows, tiling: Tiling, dtype: Any, options: Options) -> list[Way]:
    """The ways of one order of the unknowns, each with the best size of its tiles."""
    choices: list[Way] = []
    for elimination in SWEEPS.get(options.assume, (pivoted_sweep,)):
        size, time = tiling, elimination.seconds(tiling, options.systems)
        while (wider := elimination.seconds(size.doubled, options.systems)) < time:
            size, time = size.doubled, wider

        def factor(elimination: Any = elimination, tiling: Tiling = size) -> Solver:
            return elimination.factored(tiling.tiles(rows, dtype), tiling)

        again = elimination.seconds_again(size, options.systems)
        choices.append(Way(time, factor, again=again))
    return choices
