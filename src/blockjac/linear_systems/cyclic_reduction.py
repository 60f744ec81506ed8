"""Positive definite block tridiagonal matrices by cyclic reduction: every second run at once.

Runs of odd number do not meet. They are eliminated together, as one batch, and leave a block
tridiagonal matrix of the others, half as long: `log2(m)` steps instead of m, which is what an
accelerator wants, for two to three times the operations of a sweep. It is Cholesky's factorization
in another order of the unknowns, and as stable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from blockjac.linear_systems.cholesky_sweep import cholesky, of_triangles, triangle
from blockjac.linear_systems.solver import pytree
from blockjac.linear_systems.tiles import DIAGONAL, LOWER, Price, TiledSolver, Tiling

PRICE = Price(25 / 3, 60, 16)
"""Of one halving; the operations and passes are those of a run."""


@pytree()
@dataclass(frozen=True, eq=False)
class Halving:
    """The runs of odd number, eliminated.

    Attributes:
        triangles: the triangle G of each, `(h, b, b)`.
        before: `G^-1` times the tile that joins it to the run before, `(h, b, b)`.
        after: the same with the run after it; zero if it is the last.
    """

    triangles: jax.Array
    before: jax.Array
    after: jax.Array

    def forwards(self, runs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Eliminate in columns: those of the odd runs, and of the others."""
        odd = triangle(self.triangles, runs[1::2])
        pushed = _adjoint(self.before) @ odd, _adjoint(self.after) @ odd
        return odd, _without(runs[::2], *pushed)

    def backwards(self, odd: jax.Array, even: jax.Array) -> jax.Array:
        """Substitute back: all runs from the solution of the others."""
        left, right = _neighbours(even, len(odd))
        known = self.before @ left + self.after @ right
        return _interleaved(even, triangle(self.triangles, odd - known, adjoint=True))


@pytree("tiling")
@dataclass(frozen=True, eq=False)
class CyclicReduction(TiledSolver):
    """A Hermitian block tridiagonal matrix, halved until one run is left.

    Attributes:
        halvings: the odd runs of each step.
        last: the triangle of the run that is left, `(1, b, b)`.
        tiling: how the unknowns fall into tiles.
    """

    halvings: Sequence[Halving]
    last: jax.Array
    tiling: Tiling

    def solve_runs(self, right: jax.Array, transposed: bool) -> jax.Array:
        """Eliminate by halves, and substitute back."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve_runs(jnp.conj(right), transposed=False))
        runs = right.astype(jnp.result_type(right, self.last))
        odds: list[jax.Array] = []
        for halving in self.halvings:
            odd, runs = halving.forwards(runs)
            odds.append(odd)
        runs = triangle(self.last, triangle(self.last, runs), adjoint=True)
        for halving, odd in zip(reversed(self.halvings), reversed(odds), strict=True):
            runs = halving.backwards(odd, runs)
        return runs

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonals of all triangles."""
        return of_triangles([*(halving.triangles for halving in self.halvings), self.last])

    def inverse_diagonal(self) -> jax.Array:
        """From the last run backwards: tiles of the inverse at and beside its diagonal.

        With `V` the two couplings of an odd run, the rows of the inverse at that run are
        `-G^-H V` times those of its neighbours, and its own tile `(G G^H)^-1 + G^-H V Z V^H G^-1`
        with the four tiles Z of its neighbours.
        """
        units = jnp.eye(self.tiling.width, dtype=self.last.dtype)[None]
        inverse = triangle(self.last, triangle(self.last, units), adjoint=True)
        lower = jnp.zeros_like(inverse[:0])  # that joins run k + 1 to run k
        for halving in reversed(self.halvings):
            inverse, lower = _widened(halving, inverse, lower)
        diagonals = cast("jax.Array", jnp.diagonal(inverse, axis1=1, axis2=2))
        return self.tiling.joined(diagonals[:, :, None])[:, 0]

    @property
    def elimination(self) -> str:
        """By halves."""
        return "Cholesky by cyclic reduction"


def factored(tiles: jax.Array, tiling: Tiling) -> CyclicReduction:
    """Factor a Hermitian block tridiagonal matrix from its tiles, `(m, 3, b, b)`."""
    diagonal, lower = tiles[:, DIAGONAL], tiles[:, LOWER]
    halvings: list[Halving] = []
    while len(diagonal) > 1:
        count = len(diagonal) // 2
        triangles = cholesky(diagonal[1::2])
        after = _adjoint(lower[2::2])
        missing = count - len(after)
        after = jnp.concatenate([after, jnp.zeros_like(lower[:missing])])
        halving = Halving(triangles, triangle(triangles, lower[1::2]), triangle(triangles, after))
        before, after = halving.before, halving.after
        diagonal = _without(diagonal[::2], _adjoint(before) @ before, _adjoint(after) @ after)
        joined = -(_adjoint(after) @ before)[: len(diagonal) - 1]
        lower = jnp.concatenate([jnp.zeros_like(lower[:1]), joined])
        halvings.append(halving)
    return CyclicReduction(tuple(halvings), cholesky(diagonal), tiling)


def seconds(tiling: Tiling, systems: int) -> float:
    """About how long it takes to factor a number of matrices of the same pattern at once."""
    return PRICE.seconds(tiling, systems, math.ceil(math.log2(tiling.count)) + 1)


def seconds_again(tiling: Tiling, systems: int) -> float:
    """About how long each further solution takes."""
    return PRICE.seconds_again(tiling, systems, math.ceil(math.log2(tiling.count)) + 1)


def _widened(halving: Halving, inverse: jax.Array, lower: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tiles of an inverse before a halving, from those after it."""
    triangles, count = halving.triangles, len(halving.triangles)
    before = triangle(triangles, halving.before, adjoint=True)
    after = triangle(triangles, halving.after, adjoint=True)
    left, right = _neighbours(inverse, count)
    padded = jnp.concatenate([lower, jnp.zeros_like(inverse[: count - len(lower)])])
    across = padded[:count]  # the tile that joins the run after to the run before
    to_left = -(before @ left + after @ across)
    to_right = -(before @ _adjoint(across) + after @ right)
    units = jnp.broadcast_to(jnp.eye(triangles.shape[1], dtype=triangles.dtype), triangles.shape)
    own = triangle(triangles, triangle(triangles, units), adjoint=True)
    own = own - to_left @ _adjoint(before) - to_right @ _adjoint(after)
    total = len(inverse) + count
    beside = _interleaved(to_left, _adjoint(to_right))[: total - 1]
    return _interleaved(inverse, own), beside


def _neighbours(even: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The runs before and after each odd one; zeros after the last."""
    missing = count + 1 - len(even)
    padded = jnp.concatenate([even, jnp.zeros_like(even[:missing])])
    return padded[:count], padded[1 : count + 1]


def _without(even: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
    """Runs of even number less what is pushed to the one before and the one after each odd run."""
    even = even.at[: len(before)].add(-before)
    return even.at[1:].add(-after[: len(even) - 1])


def _interleaved(even: jax.Array, odd: jax.Array) -> jax.Array:
    """Runs of even and odd number in turn; there may be one more of the former."""
    pairs = jnp.stack([even[: len(odd)], odd], axis=1)
    return jnp.concatenate([jnp.reshape(pairs, (-1, *odd.shape[1:])), even[len(odd) :]])


def _adjoint(matrices: jax.Array) -> jax.Array:
    """The conjugate transposes of a batch."""
    return jnp.conj(jnp.swapaxes(matrices, 1, 2))
