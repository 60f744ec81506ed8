"""Positive definite systems in which most variables separate once the others are known.

In an arrow matrix, and in the normal equations of bundle adjustment or of a model with parameters
for each group and some for all, the variables e that an axis numbers are many and meet only the
others r. They are eliminated first (Schur's complement), and what is left is small and dense:

    S = A_rr - A_re A_ee^-1 A_er.

Without exchanges of rows between e and r that is stable where the matrix is positive definite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.devices import rates
from blockjac.linear_systems import direct
from blockjac.linear_systems.batched import joined, parted
from blockjac.linear_systems.forms import columns_of
from blockjac.linear_systems.groups import Family, Rows, families
from blockjac.linear_systems.solver import Solver, pytree


@pytree("shapes", "eliminated")
@dataclass(frozen=True, eq=False)
class Schur(Solver):
    """A Hermitian matrix, factored as the eliminated variables and Schur's complement.

    Attributes:
        inner: the solver of `A_ee`.
        outer: the solver of `S`.
        coupling: `A_ee^-1 A_er`, of shape `(size of e, size of r)`.
        shapes: the shapes of all variables.
        eliminated: which variables are e.
    """

    inner: Solver
    outer: Solver
    coupling: jax.Array
    shapes: tuple[Shape, ...]
    eliminated: tuple[int, ...]

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Eliminate, solve with the complement, and substitute back."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve(jnp.conj(right)))
        inner, outer = parted(right, self.shapes, self._groups)
        first = self.inner.solve(inner)
        adjoint = jnp.conj(self.coupling.T)
        solved = self.outer.solve(outer - adjoint @ inner.astype(adjoint.dtype))
        return joined([first - self.coupling @ solved, solved], self.shapes, self._groups)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product of the determinants of `A_ee` and `S`."""
        (sign, logarithm), (sign_left, left) = self.inner.slogdet(), self.outer.slogdet()
        return sign * sign_left, logarithm + left

    def inverse_diagonal(self) -> jax.Array:
        """The diagonal of `A_ee^-1 + X S^-1 X^H` with the coupling X, and that of `S^-1`."""
        weighed = self.outer.solve_columns(jnp.conj(self.coupling.T)).T
        inner = self.inner.inverse_diagonal() + jnp.sum(self.coupling * weighed, axis=1)
        return joined([inner, self.outer.inverse_diagonal()], self.shapes, self._groups)

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """`L_e A_ee^-1 R_e' + (L W) S^-1 (R W)^H` on the diagonal, with `W = [-X; I]`."""
        inner_left, inner_right = self._eliminated_of(left), self._eliminated_of(right)
        first = self.inner.forms(inner_left, inner_right)
        a, b = self._reduced(left), self._reduced(right)
        solved = [self.outer.solve_columns(part.T).T for part in b]
        return [
            part + jnp.reshape(jnp.sum(x * y, axis=1), part.shape)
            for part, x, y in zip(first, a, solved, strict=True)
        ]

    def _eliminated_of(self, rows: Rows) -> Rows:
        """The blocks of the variables e."""
        return [[row[i] for i in self.eliminated] for row in rows]

    def _reduced(self, rows: Rows) -> list[jax.Array]:
        """The dense `L_r - L_e X` of each output."""
        across = columns_of(self._eliminated_of(rows), self.coupling)
        eye = jnp.eye(self.coupling.shape[1], dtype=self.coupling.dtype)
        remaining = columns_of([[row[i] for i in self._groups[1]] for row in rows], eye)
        return [a - b for a, b in zip(remaining, across, strict=True)]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return sum(map(math.prod, self.shapes))

    def describe(self) -> str:
        """What is eliminated, and how the complement is solved."""
        return f"Schur complement: {self.inner.describe()}; then {self.outer.describe()}"

    @property
    def _groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The variables e, and the variables r."""
        left = tuple(i for i in range(len(self.shapes)) if i not in self.eliminated)
        return self.eliminated, left


def eliminated_of(rows: Rows) -> tuple[tuple[int, ...], Family] | None:
    """The most variables that one axis of each numbers, if the others are left; else None.

    Returns:
        Which variables, and the family of their axes, with variables numbered among these.
    """
    best: tuple[int, tuple[int, ...], Family] | None = None
    for first in range(len(rows)):
        chosen = [first]
        shared = families(rows, chosen)
        for variable in range(len(rows)):
            if not shared or variable == first:
                continue
            wider = families(rows, [*chosen, variable])
            if wider and set(wider[0]) == {*chosen, variable}:
                chosen, shared = [*chosen, variable], wider
        size = sum(math.prod(rows[i][i].out_shape) for i in chosen)
        if shared and len(chosen) < len(rows) and (best is None or size > best[0]):
            family = {number: shared[0][i] for number, i in enumerate(chosen)}
            best = size, tuple(chosen), family
    return None if best is None else best[1:]


def seconds(size: int, rest: int, systems: int, matrices: int = 1) -> float:
    """About how long it takes to factor a number of matrices at once.

    Args:
        size: how many unknowns are eliminated.
        rest: how many are left.
        systems: how many independent systems those that are eliminated fall into.
        matrices: how many matrices.
    """
    device = rates()
    operations = matrices * 2 * size * rest * (rest + size / systems)
    stored = matrices * 3 * 8 * size * rest
    small = direct.seconds(size // systems, matrices * systems) + matrices * systems * 1e-6
    return (
        operations / device.operations_per_second
        + stored / device.bytes_per_second
        + small
        + direct.seconds(rest, matrices)
    )


def factored(
    inner: Solver,
    across: jax.Array,
    left: jax.Array,
    shapes: Sequence[Shape],
    eliminated: tuple[int, ...],
) -> Schur:
    """Eliminate variables whose own matrix is factored.

    Args:
        inner: the solver of `A_ee`.
        across: `A_er`, of shape `(size of e, size of r)`.
        left: `A_rr`.
        shapes: the shapes of all variables.
        eliminated: which variables are e.
    """
    coupling = inner.solve_columns(across)
    complement = left - jnp.conj(across.T) @ coupling
    outer = direct.factored(complement, "pos")
    return Schur(inner, outer, coupling, tuple(shapes), eliminated)
