"""Positive definite block tridiagonal matrices by Cholesky's factorization, run after run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.linear_systems.solver import pytree, sign_and_log
from blockjac.linear_systems.tiles import DIAGONAL, LOWER, Price, TiledSolver, Tiling

PRICE = Price(10 / 3, 10, 6)
"""Of one run."""


@pytree("tiling")
@dataclass(frozen=True, eq=False)
class CholeskySweep(TiledSolver):
    """A Hermitian block tridiagonal matrix as `G G^H` with two diagonals of tiles.

    Attributes:
        diagonal: the tiles of G on the diagonal, triangular, `(m, b, b)`.
        lower: the tiles to the left of them, `(m, b, b)`; the first is zero.
        tiling: how the unknowns fall into tiles.
    """

    diagonal: jax.Array
    lower: jax.Array
    tiling: Tiling

    def solve_runs(self, right: jax.Array, transposed: bool) -> jax.Array:
        """A sweep with G, then one backwards with `G^H`."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve_runs(jnp.conj(right), transposed=False))

        def forwards(earlier: jax.Array, step: Any) -> Any:
            diagonal, lower, run = step
            y = triangle(diagonal, run - lower @ earlier)
            return y, y

        def backwards(pulled: jax.Array, step: Any) -> Any:
            diagonal, lower, run = step
            x = triangle(diagonal, run - pulled, adjoint=True)
            return _adjoint(lower) @ x, x

        right = right.astype(jnp.result_type(right, self.diagonal))
        nothing = jnp.zeros_like(right[0])
        _, runs = jax.lax.scan(forwards, nothing, (self.diagonal, self.lower, right))
        steps = self.diagonal, self.lower, runs
        return jax.lax.scan(backwards, nothing, steps, reverse=True)[1]

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of G."""
        return of_triangles([self.diagonal])

    def inverse_diagonal(self) -> jax.Array:
        """From the last run to the first: the covariances of a smoother.

        With the tiles Z of the inverse, `Z_k = G_kk^-H (I + G_k+1,k^H Z_k+1 G_k+1,k) G_kk^-1`.
        """

        def step(later: jax.Array, parts: Any) -> Any:
            """The tile of one run."""
            diagonal, following = parts
            middle = jnp.eye(len(diagonal), dtype=diagonal.dtype)
            middle = middle + _adjoint(following) @ later @ following
            half = triangle(diagonal, middle, adjoint=True)
            tile = _adjoint(triangle(diagonal, _adjoint(half), adjoint=True))
            return tile, cast("jax.Array", jnp.diagonal(tile))

        following = jnp.concatenate([self.lower[1:], jnp.zeros_like(self.lower[:1])])
        steps = self.diagonal, following
        runs = jax.lax.scan(step, jnp.zeros_like(self.diagonal[0]), steps, reverse=True)[1]
        return self.tiling.joined(runs[:, :, None])[:, 0]

    @property
    def elimination(self) -> str:
        """Run after run."""
        return "Cholesky one after another"


def factored(tiles: jax.Array, tiling: Tiling) -> CholeskySweep:
    """Factor a Hermitian block tridiagonal matrix from its tiles, `(m, 3, b, b)`."""

    def step(earlier: jax.Array, run: jax.Array) -> Any:
        lower = _adjoint(triangle(earlier, _adjoint(run[LOWER])))
        diagonal = cholesky(run[DIAGONAL] - lower @ _adjoint(lower))
        return diagonal, (diagonal, lower)

    units = jnp.eye(tiling.width, dtype=tiles.dtype)
    diagonal, lower = jax.lax.scan(step, units, tiles)[1]
    return CholeskySweep(diagonal, lower, tiling)


def seconds(tiling: Tiling, systems: int) -> float:
    """About how long it takes to factor a number of matrices of the same pattern at once."""
    return PRICE.seconds(tiling, systems, tiling.count)


def seconds_again(tiling: Tiling, systems: int) -> float:
    """About how long each further solution takes."""
    return PRICE.seconds_again(tiling, systems, tiling.count)


def cholesky(matrix: jax.Array) -> jax.Array:
    """The lower triangle G of `G G^H`, of which only the lower triangle is read; nan if not."""
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


def triangle(lower: jax.Array, right: jax.Array, adjoint: bool = False) -> jax.Array:
    """Solve with a lower triangle, or with its conjugate transpose."""
    return jax.lax.linalg.triangular_solve(
        lower,
        right,
        left_side=True,
        lower=True,
        transpose_a=adjoint,
        conjugate_a=adjoint and jnp.iscomplexobj(lower),
    )


def of_triangles(triangles: Any) -> tuple[jax.Array, jax.Array]:
    """The sign and log-determinant of `G G^H` from the tiles of G on the diagonal."""
    diagonals = [
        jnp.ravel(cast("jax.Array", jnp.diagonal(part, axis1=1, axis2=2))) for part in triangles
    ]
    sign, logarithm = sign_and_log(jnp.concatenate(diagonals))
    return sign * jnp.conj(sign), 2 * logarithm


def _adjoint(matrix: jax.Array) -> jax.Array:
    """The conjugate transpose."""
    return jnp.conj(matrix.T)
