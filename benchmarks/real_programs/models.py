"""Models of statistics as they are written in plain JAX."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

Params = dict[str, jax.Array]


def gaussian_process(params: Params, X: jax.Array, y: jax.Array) -> jax.Array:
    """Negative log marginal likelihood of `y (n,)` at `X (n, d)`, squared-exponential kernel.

    Args:
        params: "log_lengths" `(d,)`, "log_variance" and "log_noise" `()`.
        X: where `y` was observed.
        y: the observations.
    """
    scaled = X * jnp.exp(-params["log_lengths"])
    squares = jnp.sum(scaled**2, axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * scaled @ scaled.T
    kernel = jnp.exp(params["log_variance"] - 0.5 * distances)
    covariance = kernel + jnp.exp(params["log_noise"]) * jnp.eye(len(y))
    factor = cho_factor(covariance, lower=True)
    half_log_determinant = jnp.sum(jnp.log(jnp.diag(factor[0])))
    return (
        0.5 * y @ cho_solve(factor, y) + half_log_determinant + 0.5 * len(y) * jnp.log(2 * jnp.pi)
    )


def mixture(params: Params, X: jax.Array) -> jax.Array:
    """Log likelihood `(n,)` of each row of `X (n, d)` under a mixture of diagonal Gaussians.

    Args:
        params: "logits" `(k,)`, "means" and "log_scales" `(k, d)`.
        X: the examples.
    """
    standard = (X[:, None, :] - params["means"]) * jnp.exp(-params["log_scales"])
    log_densities = -0.5 * jnp.sum(standard**2 + jnp.log(2 * jnp.pi), axis=-1) - jnp.sum(
        params["log_scales"], axis=-1
    )
    weights = jax.nn.log_softmax(params["logits"])
    return jax.scipy.special.logsumexp(weights + log_densities, axis=1)


def mixture_loss(params: Params, X: jax.Array) -> jax.Array:
    """Negative mean log likelihood."""
    return -jnp.mean(mixture(params, X))


def kalman_filter(params: Params, observations: jax.Array) -> jax.Array:
    """Negative log likelihoods `(time,)` of observations `(time, m)` in a linear Gaussian model.

    Args:
        params: "transition" `(n, n)`, "emission" `(m, n)`, and the logarithms of the variances:
            "log_process" `(n,)`, "log_noise" `(m,)`.
        observations: one row a step.
    """
    transition, emission = params["transition"], params["emission"]
    process, noise = (
        jnp.diag(jnp.exp(params["log_process"])),
        jnp.diag(jnp.exp(params["log_noise"])),
    )
    states = len(transition)

    def step(carry: tuple[jax.Array, jax.Array], observed: jax.Array) -> tuple[tuple, jax.Array]:
        mean, covariance = carry
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + process
        surprise = observed - emission @ mean
        spread = emission @ covariance @ emission.T + noise
        gain = jnp.linalg.solve(spread, emission @ covariance).T
        _, log_determinant = jnp.linalg.slogdet(spread)
        cost = 0.5 * (
            surprise @ jnp.linalg.solve(spread, surprise)
            + log_determinant
            + len(observed) * jnp.log(2 * jnp.pi)
        )
        mean = mean + gain @ surprise
        covariance = covariance - gain @ spread @ gain.T
        return (mean, covariance), cost

    start = (jnp.zeros(states, observations.dtype), jnp.eye(states, dtype=observations.dtype))
    return lax.scan(step, start, observations)[1]


def kalman_filter_loss(params: Params, observations: jax.Array) -> jax.Array:
    """Negative log likelihood of all observations."""
    return jnp.sum(kalman_filter(params, observations))
