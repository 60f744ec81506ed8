"""One way to factor a system, and what is known of the system beside its blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blockjac.linear_systems.solver import Assumption, Solver

SECONDS_A_PLACE = 4e-7
"""About how long it takes to locate an entry, once per pattern."""

BYTES_A_PLACE = 64
"""About how much memory that takes."""


@dataclass(frozen=True)
class Way:
    """One way to factor a matrix.

    Attributes:
        seconds: about how long the factorization takes, of all systems that are factored at once.
        factor: performs the factorization.
        is_dense: whether the whole matrix is written out.
        again: about how long each further solution takes, of all systems; 0 where it is little
            beside the factorization.
    """

    seconds: float
    factor: Callable[[], Solver]
    is_dense: bool = False
    again: float = 0.0


@dataclass(frozen=True)
class Options:
    """What is promised of a matrix, and asked of its factorization.

    Attributes:
        assume: `"pos"` for a positive definite matrix.
        is_patient: whether entries are located however long it takes.
        systems: how many systems of the same structure are factored at once, with others' values.
        solves: how many further solutions are expected of the same factors.
    """

    assume: Assumption = "gen"
    is_patient: bool = False
    systems: int = 1
    solves: int = 0

    def whole(self, way: Way) -> float:
        """About how long a way takes, with the solutions that are expected."""
        return way.seconds + self.solves * way.again
