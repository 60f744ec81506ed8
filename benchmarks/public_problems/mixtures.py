"""GMM: the log posterior of a mixture of Gaussians with full precision matrices.

The precision of component k is `Q_k' Q_k` with a lower triangular Q_k, whose diagonal is `exp(q_k)`
and whose other entries follow, column by column. The prior of the precisions is Wishart's.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

M, GAMMA = 0, 1.0
"""Additional degrees of freedom of the prior, and its precision."""


def arguments(points: int, dimensions: int, components: int) -> tuple[np.ndarray, ...]:
    """Weights, means, diagonals, triangles and observations."""
    generator = np.random.default_rng(0)
    below = dimensions * (dimensions - 1) // 2
    return (
        generator.normal(size=components),
        generator.normal(size=(components, dimensions)),
        0.1 * generator.normal(size=(components, dimensions)),
        0.1 * generator.normal(size=(components, below)),
        generator.normal(size=(points, dimensions)),
    )


def log_posterior(alpha: Any, mu: Any, q: Any, below: Any, x: Any, xp: Any = jnp) -> Any:
    """The log posterior of all observations, with respect to the first four.

    Args:
        alpha: `(k,)`, whose softmax is the weights.
        mu: `(k, d)`, the means.
        q: `(k, d)`, the logarithms of the diagonals.
        below: `(k, d (d - 1) / 2)`, what is below them.
        x: `(n, d)`, the observations.
        xp: `jax.numpy` or one of its like.
    """
    points, dimensions = x.shape
    components = len(alpha)
    freedom = dimensions + M + 1
    Q = triangles(q, below, xp)
    apart = xp.einsum("kij,nkj->nki", Q, x[:, None, :] - mu[None])
    log_determinants = xp.sum(q, axis=1)
    beta = alpha + log_determinants - 0.5 * xp.sum(apart**2, axis=2)
    likelihood = xp.sum(log_sum_exp(beta, xp)) - points * (
        dimensions / 2 * math.log(2 * math.pi) + log_sum_exp(alpha, xp)
    )
    constant = freedom * dimensions * math.log(GAMMA / math.sqrt(2)) - log_gamma(
        dimensions, freedom / 2
    )
    prior = components * constant - GAMMA**2 / 2 * xp.sum(Q**2) + M * xp.sum(q)
    return likelihood + prior


def triangles(q: Any, below: Any, xp: Any) -> Any:
    """The lower triangular matrices `(k, d, d)`."""
    dimensions = q.shape[1]
    columns, rows = np.triu_indices(dimensions, 1)
    # Which of `0, exp(q), below` an entry is.
    entry = np.zeros((dimensions, dimensions), int)
    entry[np.arange(dimensions), np.arange(dimensions)] = 1 + np.arange(dimensions)
    entry[rows, columns] = 1 + dimensions + np.arange(len(rows))
    return xp.concatenate([0 * q[:, :1], xp.exp(q), below], 1)[:, entry]


def log_sum_exp(values: Any, xp: Any) -> Any:
    """Along the last axis, safe from overflow."""
    largest = xp.amax(values, axis=-1)
    return largest + xp.log(xp.sum(xp.exp(values - largest[..., None]), axis=-1))


def log_gamma(dimensions: int, x: float) -> float:
    """The logarithm of the multivariate gamma function."""
    return dimensions * (dimensions - 1) / 4 * math.log(math.pi) + sum(
        math.lgamma(x - j / 2) for j in range(dimensions)
    )
