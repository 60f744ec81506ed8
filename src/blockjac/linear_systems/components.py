"""Systems that fall into small independent ones, found from the known places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid
from blockjac.linear_systems import direct
from blockjac.linear_systems.entrywise import is_small
from blockjac.linear_systems.known_pattern import Components, KnownPattern
from blockjac.linear_systems.solver import Solver, pytree, unit_columns
from blockjac.linear_systems.way import Options


@pytree("parts", "size")
@dataclass(frozen=True, eq=False)
class Separate(Solver):
    """Small independent systems, batched by size.

    Attributes:
        solvers: one per size, batched over the systems of this size.
        parts: the unknowns of the systems, by size.
        size: the number of all unknowns.
    """

    solvers: Sequence[Solver]
    parts: tuple[Components, ...]
    size: int

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve one batch per size."""

        def solve(solver: Solver, vector: jax.Array) -> jax.Array:
            return solver.solve(vector, transposed)

        solved = [
            jax.vmap(solve)(solver, part.taken(right))
            for solver, part in zip(self.solvers, self.parts, strict=True)
        ]
        if len(solved) == 1:
            return self.parts[0].put_back(solved[0])
        order = np.concatenate([part.unknowns.ravel() for part in self.parts])
        return jnp.concatenate([part.ravel() for part in solved])[np.argsort(order)]

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product over all systems."""

        def slogdet(solver: Solver) -> tuple[jax.Array, jax.Array]:
            return solver.slogdet()

        pairs = [jax.vmap(slogdet)(solver) for solver in self.solvers]
        signs, logarithms = zip(*pairs, strict=True)
        return jnp.prod(jnp.concatenate(signs)), jnp.sum(jnp.concatenate(logarithms))

    @property
    def unknowns(self) -> int:
        """The number of unknowns of all systems."""
        return self.size

    @property
    def probe_count(self) -> int:
        """One probe per unknown of the largest system."""
        return max(part.unknowns.shape[1] for part in self.parts)

    def probes(self, numbers: jax.Array) -> jax.Array:
        """Probes with one unknown of each system."""
        columns = jnp.zeros((self.size, len(numbers)), jnp.result_type(float))
        for part in self.parts:
            units = unit_columns(part.unknowns.shape[1], numbers)
            columns = columns.at[part.unknowns].set(units)
        return columns

    def describe(self) -> str:
        """The number of systems of each size."""
        counts = ", ".join(
            f"{len(part.unknowns)} of {part.unknowns.shape[1]}" for part in self.parts
        )
        return f"separate systems: {counts}"


def factored(known: KnownPattern, grid: Grid, dtype: Any, options: Options) -> Separate:
    """Factor all systems of a pattern."""

    def of_size(part: Components) -> Solver:
        """The factors of the systems of one size."""
        systems = options.systems * len(part.unknowns)

        def factor(matrix: jax.Array) -> Solver:
            return direct.factored(matrix, options.assume, systems)

        return jax.vmap(factor)(part.placement.array(grid, dtype))

    solvers = map(of_size, known.components)
    return Separate(tuple(solvers), tuple(known.components), known.size)


SECONDS_A_SYSTEM, SECONDS_A_SMALL_ONE = 3e-7, 5e-9
"""About how long it takes to start on another system of a batch; and on one of those that are
solved entry by entry."""


def seconds(known: KnownPattern, matrices: int) -> float:
    """About how long it takes to factor all systems of a number of matrices."""
    shapes = [part.unknowns.shape for part in known.components]
    return sum(
        direct.seconds(size, matrices * count) + matrices * count * _start(size, matrices * count)
        for count, size in shapes
    )


def seconds_again(known: KnownPattern, matrices: int) -> float:
    """About how long it takes to solve all systems once more."""
    shapes = [part.unknowns.shape for part in known.components]
    return sum(direct.seconds_again(size, matrices * count) for count, size in shapes)


def _start(size: int, systems: int) -> float:
    """About how long it takes to start on a system."""
    return SECONDS_A_SMALL_ONE if is_small(size, systems) else SECONDS_A_SYSTEM
