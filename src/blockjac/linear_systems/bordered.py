"""Positive definite matrices with few unknowns that are taken out: a ring is then a band.

    A = [T  C^H]     S = D - C T^-1 C^H
        [C   D ],

Without exchanges of rows between the two that is stable where the matrix is positive definite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.devices import rates
from blockjac.linear_systems import direct
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.placement import Placement
from blockjac.linear_systems.schur import Schur
from blockjac.linear_systems.solver import Solver, pytree
from blockjac.sparsity.pattern import Arrangement


@pytree("shapes", "eliminated")
@dataclass(frozen=True, eq=False)
class Bordered(Schur):
    """Schur's complement of unknowns that are not variables of their own."""

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """As of a matrix of one piece."""
        return Solver.forms(self, left, right)

    def describe(self) -> str:
        """Where the ring is cut, and how the rest is solved."""
        return f"ring cut open at {self.outer.unknowns} unknowns: {self.inner.describe()}"


@dataclass(frozen=True, eq=False)
class Border:
    """The last unknowns of a matrix.

    Attributes:
        arranged: the pattern of the matrix.
        size: the number of the other unknowns.
        width: the number of unknowns taken out.
        placement: where the entries of C and D stand in `[C D]`.
    """

    arranged: Arrangement
    size: int
    width: int
    placement: Placement

    @staticmethod
    def of(arranged: Arrangement, width: int) -> Border:
        """The last `width` unknowns."""
        pattern = arranged.pattern
        unknowns = pattern.shape[0]
        size = unknowns - width
        entries = np.flatnonzero(pattern.rows >= size)
        targets = (pattern.rows[entries] - size) * unknowns + pattern.columns[entries]
        return Border(
            arranged, size, width, Placement(arranged, entries, targets, (width, unknowns))
        )


def factored(border: Border, grid: Any, dtype: Any, inner: Solver) -> Bordered:
    """Eliminate all but the last unknowns, of which the matrix T is factored."""
    rows = border.placement.array(grid, dtype)
    across, corner = rows[:, : border.size], rows[:, border.size :]
    coupling = inner.solve_columns(jnp.conj(across.T))
    outer = direct.factored(corner - across @ coupling, "pos")
    return Bordered(inner, outer, coupling, ((border.size,), (border.width,)), (0,))


def seconds(border: Border, systems: int) -> float:
    """About how long it takes beside the factorization of T, a few times as long for the rest."""
    device = rates()
    operations = 2 * border.size * border.width**2
    stored = 3 * 8 * border.size * border.width
    work = operations / device.operations_per_second + stored / device.bytes_per_second
    return systems * work + direct.seconds(border.width, systems)


def ring_width(rows: np.ndarray, columns: np.ndarray, size: int) -> int:
    """The number of unknowns that cut a ring open, if the ends of the matrix are joined to one.

    Examples:
        >>> ring_width(np.array([0, 1, 0]), np.array([1, 2, 9]), 10)
        1
    """
    distances = np.abs(rows - columns)
    return int(np.minimum(distances, size - distances).max(initial=0))
