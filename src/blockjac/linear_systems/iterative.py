"""Systems without a matrix, by iterative solvers: those of lineax, and MINRES.

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
from blockjac.base.arrays import precision
from blockjac.errors import DenseTooLargeError
from blockjac.linear_systems.batched import split
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.minres import Product, minres
from blockjac.linear_systems.solver import Assumption, Solver, pytree
from blockjac.terms.block import Block

STEPS = 1_000
"""At most how many steps are taken; a solution that has not converged by then is nan."""

CONJUGATE_GRADIENTS, GMRES, MINRES = "conjugate gradients of lineax", "GMRES of lineax", "MINRES"


@pytree("method")
@dataclass(frozen=True, eq=False)
class Iterative(Solver):
    """A matrix of which only products with vectors are known.

    Attributes:
        rows: the blocks.
        inverse_diagonals: the reciprocals of the diagonal, of each variable.
        method: by which they are solved.
    """

    rows: Sequence[Sequence[Block]]
    inverse_diagonals: Sequence[jax.Array]
    method: str

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve by conjugate gradients, MINRES or GMRES, as the promise allows."""
        columns = list(zip(*self.rows, strict=True))
        rows = [[block.T for block in column] for column in columns] if transposed else self.rows

        def product(vector: jax.Array) -> jax.Array:
            return _product(rows, vector)

        vector = right.astype(jnp.result_type(right, *self.inverse_diagonals))
        tolerance = precision(vector.dtype) ** 0.75
        solve = self._by_minres if self.method == MINRES else self._by_lineax
        solution = solve(product, vector, tolerance)
        # They also stop where rounding ends the progress, a little short of the tolerance.
        residual = product(solution) - vector
        allowed = tolerance ** (4 / 3) * jnp.sum(jnp.abs(vector) ** 2)
        return jnp.where(jnp.sum(jnp.abs(residual) ** 2) <= allowed, solution, jnp.nan)

    def _by_minres(self, product: Product, vector: jax.Array, tolerance: float) -> jax.Array:
        """The solution for a symmetric matrix, with a preconditioner that is positive definite."""
        scale = jnp.abs(jnp.concatenate(self.inverse_diagonals))
        return minres(
            product,
            vector,
            preconditioned=lambda residual: scale * residual,
            atol=0.0,
            btol=tolerance,
            conlim=1 / precision(vector.dtype),
            steps=STEPS,
        )

    def _by_lineax(self, product: Product, vector: jax.Array, tolerance: float) -> jax.Array:
        """The solution for a positive definite matrix, or for any."""
        import lineax

        def preconditioned(vector: jax.Array) -> jax.Array:
            return jnp.concatenate(self.inverse_diagonals) * vector

        structure = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
        is_positive = self.method == CONJUGATE_GRADIENTS
        tags = lineax.positive_semidefinite_tag if is_positive else ()
        operator = lineax.FunctionLinearOperator(product, structure, tags)
        first = lineax.FunctionLinearOperator(preconditioned, structure, tags)
        solver = cast("Any", lineax.CG if is_positive else lineax.GMRES)
        found = lineax.linear_solve(
            operator,
            vector,
            solver(tolerance, 0.0, max_steps=STEPS),
            options={"preconditioner": first},
            throw=False,
        )
        return cast("jax.Array", found.value)

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
        return f"{self.method}, {self.unknowns} unknowns, no matrix"


def method_of(assume: Assumption, dtype: Any) -> str | None:
    """By which method a matrix is solved of which this is promised; None if it needs lineax.

    MINRES takes every real symmetric matrix, and stands in for conjugate gradients too.
    """
    is_real = not jnp.issubdtype(dtype, jnp.complexfloating)
    if assume == "sym" and is_real:
        return MINRES
    if is_there():
        return CONJUGATE_GRADIENTS if assume == "pos" else GMRES
    return MINRES if assume == "pos" and is_real else None


def is_there() -> bool:
    """Whether lineax is installed."""
    return importlib.util.find_spec("lineax") is not None


def factored(rows: Rows, dtype: Any, method: str) -> Iterative:
    """Prepare the blocks and their diagonals for products."""
    inverses: list[jax.Array] = []
    for number, row in enumerate(rows):
        entries = jnp.ravel(jnp.asarray(diagonal(row[number]), dtype))
        inverses.append(jnp.where(entries == 0, 1, 1 / jnp.where(entries == 0, 1, entries)))
    return Iterative([list(row) for row in rows], inverses, method)


def _product(rows: Sequence[Sequence[Block]], vector: jax.Array) -> jax.Array:
    """The product of a grid with a flat vector."""
    parts = split(vector, [block.wrt_shape for block in rows[0]])
    products = [
        functools.reduce(jnp.add, map(Block.matvec, row, cast("Any", parts))) for row in rows
    ]
    return jnp.concatenate([jnp.ravel(product) for product in products]).astype(vector.dtype)
