"""The smaller problems of GradBench: clusters, least squares, LogSumExp, an equation in time, det.

Clusters are those of k-means with Newton's method; the others come from cmpad.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def cluster_cost(centroids: Any, points: Any, xp: Any = jnp) -> Any:
    """The sum of squared distances of points `(n, d)` to their nearest centroids `(k, d)`."""
    distances = xp.sum((points[:, None, :] - centroids[None]) ** 2, axis=2)
    return xp.sum(xp.amin(distances, axis=1))


def polynomial_misfit(x: Any, count: int, xp: Any = jnp) -> Any:
    """Half the squared misfit of a polynomial with coefficients x to the sign of t on [-1, 1]."""
    t = np.linspace(-1, 1, count)
    powers = np.vander(t, len(x), increasing=True)
    if xp.__name__ == "torch":
        powers, signs = xp.as_tensor(powers), xp.as_tensor(np.sign(t))
    else:
        signs = np.sign(t)
    return xp.sum((signs - powers @ x) ** 2) / 2


def log_sum_exp(x: Any, xp: Any = jnp) -> Any:
    """`log sum exp x`, by its parts."""
    largest = xp.amax(x)
    return largest + xp.log(xp.sum(xp.exp(x - largest)))


def slope(x: jax.Array, y: jax.Array) -> jax.Array:
    """How fast y changes: `y_0' = x_0`, and `y_i' = x_i y_{i-1}`."""
    return x * jnp.concatenate([jnp.ones(1, y.dtype), y[:-1]])


def last_state(x: jax.Array, steps: int) -> jax.Array:
    """The last component of y at time 2, from zeros, by Runge and Kutta's method."""
    width = 2 / steps

    def advance(y: jax.Array, _: None) -> tuple[jax.Array, None]:
        first = slope(x, y)
        second = slope(x, y + width / 2 * first)
        third = slope(x, y + width / 2 * second)
        fourth = slope(x, y + width * third)
        return y + width / 6 * (first + 2 * second + 2 * third + fourth), None

    return lax.scan(advance, jnp.zeros_like(x), None, length=steps)[0][-1]


def determinant_by_recursion(A: Any, columns: tuple[int, ...] | None = None) -> Any:
    """By expansion along the first row, minor by minor, as the definition has it."""
    columns = tuple(range(len(A))) if columns is None else columns
    row = len(A) - len(columns)
    if len(columns) == 1:
        return A[row, columns[0]]
    total = 0.0
    for place, column in enumerate(columns):
        minor = determinant_by_recursion(A, columns[:place] + columns[place + 1 :])
        total = total + (-1) ** place * A[row, column] * minor
    return total


def determinant_by_minors(A: jax.Array) -> jax.Array:
    """By the same expansion, each minor once: those of the last rows first, all at once."""
    size = len(A)
    minors = A[-1]  # of the last row and each column
    before = {(column,): column for column in range(size)}
    for order in range(2, size + 1):
        row = size - order
        chosen = list(itertools.combinations(range(size), order))
        left = np.array(
            [[before[c[:place] + c[place + 1 :]] for place in range(order)] for c in chosen]
        )
        signs = (-1.0) ** np.arange(order)
        minors = jnp.sum(signs * A[row][np.array(chosen)] * minors[left], axis=1)
        before = {columns: number for number, columns in enumerate(chosen)}
    return minors[0]
