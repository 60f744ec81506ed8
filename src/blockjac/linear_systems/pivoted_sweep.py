"""Block tridiagonal matrices by Gaussian elimination in one compiled sweep.

A run of unknowns meets the rows of its own run and of the next alone. All of these rows compete for
its pivots, as they do in LAPACK's elimination of a band, so that the sweep is as stable as a dense
factorization with partial pivoting. Rows that are exchanged reach one run farther: U has tiles on
three diagonals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.linear_systems.solver import pytree, sign_and_log
from blockjac.linear_systems.tiles import DIAGONAL, LOWER, UPPER, Price, TiledSolver, Tiling

PRICE = Price(8, 60, 7)
"""Of one run."""


@pytree("tiling")
@dataclass(frozen=True, eq=False)
class PivotedSweep(TiledSolver):
    """A block tridiagonal matrix as `P L U`, with pivots among neighbouring runs of rows.

    Attributes:
        panels: of each run the columns of L, and its tile of U above their diagonal, `(m, 2b, b)`.
        rows: which of the 2b rows that compete stands where, `(m, 2b)`.
        pivots: with which row each of the first b was exchanged, `(m, b)`.
        above: the tiles of U to the right of the diagonal, `(m, b, 2b)`.
        tiling: how the unknowns fall into tiles.
    """

    panels: jax.Array
    rows: jax.Array
    pivots: jax.Array
    above: jax.Array
    tiling: Tiling

    def solve_runs(self, right: jax.Array, transposed: bool) -> jax.Array:
        """Two sweeps, forwards and backwards."""
        right = right.astype(jnp.result_type(right, self.panels))
        return self._transposed(right) if transposed else self._solved(right)

    def _solved(self, right: jax.Array) -> jax.Array:
        """Solve with `P L`, then with U."""
        b = self.tiling.width

        def forwards(current: jax.Array, step: Any) -> Any:
            panel, rows, following = step
            both = jnp.concatenate([current, following])[rows]
            first = _lower(panel[:b], both[:b])
            return both[b:] - panel[b:] @ first, first

        def backwards(later: Any, step: Any) -> Any:
            panel, above, run = step
            x = _upper(panel[:b], run - above @ jnp.concatenate(later))
            return (x, later[0]), x

        following = _shifted(right)
        _, runs = jax.lax.scan(forwards, right[0], (self.panels, self.rows, following))
        nothing = jnp.zeros_like(right[0])
        steps = self.panels, self.above, runs
        return jax.lax.scan(backwards, (nothing, nothing), steps, reverse=True)[1]

    def _transposed(self, right: jax.Array) -> jax.Array:
        """Solve with the transpose of U, then with that of `P L`."""
        b = self.tiling.width

        def forwards(earlier: Any, step: Any) -> Any:
            panel, above, run = step
            z = _upper(panel[:b], run - earlier[0], transposed=True)
            pushed = above.T @ z
            return (earlier[1] + pushed[:b], pushed[b:]), z

        def backwards(following: jax.Array, step: Any) -> Any:
            panel, rows, run = step
            first = _lower(panel[:b], run - panel[b:].T @ following, transposed=True)
            both = jnp.zeros_like(first, shape=(2 * b, first.shape[1]))
            both = both.at[rows].set(jnp.concatenate([first, following]), unique_indices=True)
            return both[:b], both[b:]

        nothing = jnp.zeros_like(right[0])
        steps = self.panels, self.above, right
        _, runs = jax.lax.scan(forwards, (nothing, nothing), steps)
        steps = self.panels, self.rows, runs
        first, later = jax.lax.scan(backwards, nothing, steps, reverse=True)
        return jnp.concatenate([first[None], later[:-1]])

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign and log-determinant from the diagonal of U."""
        b = self.tiling.width
        diagonals = cast("jax.Array", jnp.diagonal(self.panels[:, :b], axis1=1, axis2=2))
        return sign_and_log(jnp.ravel(diagonals), jnp.sum(self.pivots != jnp.arange(b)))

    @property
    def elimination(self) -> str:
        """Run after run."""
        return "one after another with pivoting"


def factored(tiles: jax.Array, tiling: Tiling) -> PivotedSweep:
    """Factor a block tridiagonal matrix from its tiles, `(m, 3, b, b)`."""
    b = tiling.width
    nothing = jnp.zeros_like(tiles[0, DIAGONAL])

    def step(current: jax.Array, following: jax.Array) -> Any:
        """Eliminate a run; `current` has the tiles of its rows on and after the diagonal."""
        column = jnp.concatenate([current[:, :b], following[LOWER]])
        panel, pivots, rows = jax.lax.linalg.lu(column)
        upper = jnp.concatenate([current[:, b:], nothing], axis=1)
        lower = jnp.concatenate([following[DIAGONAL], following[UPPER]], axis=1)
        both = jnp.concatenate([upper, lower])[rows]
        above = _lower(panel[:b], both[:b])
        return both[b:] - panel[b:] @ above, (panel, rows, pivots, above)

    first = jnp.concatenate([tiles[0, DIAGONAL], tiles[0, UPPER]], axis=1)
    panels, rows, pivots, above = jax.lax.scan(step, first, _shifted(tiles))[1]
    return PivotedSweep(panels, rows, pivots, above, tiling)


def seconds(tiling: Tiling, systems: int) -> float:
    """About how long it takes to factor a number of matrices of the same pattern at once."""
    return PRICE.seconds(tiling, systems, tiling.count)


def seconds_again(tiling: Tiling, systems: int) -> float:
    """About how long each further solution takes."""
    return PRICE.seconds_again(tiling, systems, tiling.count)


def _shifted(array: jax.Array) -> jax.Array:
    """The part after each along the first axis; zeros after the last."""
    return jnp.concatenate([array[1:], jnp.zeros_like(array[:1])])


def _lower(panel: jax.Array, right: jax.Array, transposed: bool = False) -> jax.Array:
    """Solve with the unit triangle below the diagonal."""
    return jax.lax.linalg.triangular_solve(
        panel, right, left_side=True, lower=True, transpose_a=transposed, unit_diagonal=True
    )


def _upper(panel: jax.Array, right: jax.Array, transposed: bool = False) -> jax.Array:
    """Solve with the triangle on and above the diagonal."""
    return jax.lax.linalg.triangular_solve(
        panel, right, left_side=True, lower=False, transpose_a=transposed
    )
