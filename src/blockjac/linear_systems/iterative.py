"""Systems without a matrix, by the iterative solvers of lineax.

They are left for matrices that are too large to be written out, and have no structure that a direct
solver could use. Products with the blocks are all that is needed, and the diagonal, which is the
preconditioner.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import diagonal
from blockjac.errors import DenseTooLargeError
from blockjac.linear_systems.batched import split
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Assumption, Solver, pytree
from blockjac.terms.block import Block

STEPS = 1_000
"""At most how many steps are taken; a solution that has not converged by then is nan."""


@pytree("assume")
@dataclass(frozen=True, eq=False)
class Iterative(Solver):
    """A matrix of which only products with vectors are known.

    Attributes:
        rows: the blocks.
        inverse_diagonals: the reciprocals of the diagonal, of each variable.
        assume: what the caller promises of the matrix.
    """

    rows: Sequence[Sequence[Block]]
    inverse_diagonals: Sequence[jax.Array]
    assume: Assumption

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve by conjugate gradients if the matrix is positive definite, else by GMRES."""
        import lineax

        columns = list(zip(*self.rows, strict=True))
        rows = [[block.T for block in column] for column in columns] if transposed else self.rows

        def product(vector: jax.Array) -> jax.Array:
            return _product(rows, vector)

        def preconditioned(vector: jax.Array) -> jax.Array:
            return jnp.concatenate(self.inverse_diagonals) * vector

        vector = right.astype(jnp.result_type(right, *self.inverse_diagonals))
        structure = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
        is_positive = self.assume == "pos"
        tags = lineax.positive_semidefinite_tag if is_positive else ()
        operator = lineax.FunctionLinearOperator(product, structure, tags)
        first = lineax.FunctionLinearOperator(preconditioned, structure, tags)
        tolerance = float(cast("Any", jnp.finfo(vector.dtype)).eps) ** 0.75
        method = lineax.CG if is_positive else lineax.GMRES
        solver = cast("Any", method)(tolerance, 0.0, max_steps=STEPS)
        options = {"preconditioner": first}
        found = lineax.linear_solve(operator, vector, solver, options=options, throw=False)
        # GMRES also stops where rounding ends the progress, a little short of its tolerance.
        solution = cast("jax.Array", found.value)
        residual = product(solution) - vector
        allowed = tolerance ** (4 / 3) * jnp.sum(jnp.abs(vector) ** 2)
        return jnp.where(jnp.sum(jnp.abs(residual) ** 2) <= allowed, solution, jnp.nan)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """Refuse: products with vectors do not give a determinant.

        Raises:
            DenseTooLargeError: always.
        """
        raise DenseTooLargeError(
            f"the determinant of a matrix of {self.unknowns:,} unknowns needs its factors, which "
            "do not fit, and no structure is of use"
        )

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return sum(math.prod(row[0].out_shape) for row in self.rows)

    def describe(self) -> str:
        """The method and the number of unknowns."""
        method = "conjugate gradients" if self.assume == "pos" else "GMRES"
        return f"{method} of lineax, {self.unknowns} unknowns, no matrix"


def is_there() -> bool:
    """Whether lineax is installed."""
    return importlib.util.find_spec("lineax") is not None


def factored(rows: Rows, dtype: Any, assume: Assumption) -> Iterative:
    """Prepare the blocks and their diagonals for products."""
    inverses: list[jax.Array] = []
    for number, row in enumerate(rows):
        entries = jnp.ravel(jnp.asarray(diagonal(row[number]), dtype))
        inverses.append(jnp.where(entries == 0, 1, 1 / jnp.where(entries == 0, 1, entries)))
    return Iterative([list(row) for row in rows], inverses, assume)


def _product(rows: Sequence[Sequence[Block]], vector: jax.Array) -> jax.Array:
    """The product of a grid with a flat vector."""
    parts = split(vector, [block.wrt_shape for block in rows[0]])
    products = [
        functools.reduce(jnp.add, map(Block.matvec, row, cast("Any", parts))) for row in rows
    ]
    return jnp.concatenate([jnp.ravel(product) for product in products]).astype(vector.dtype)
