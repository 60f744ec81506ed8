"""The price of a European call by Black and Scholes, and what its derivatives are called.

C = S N(d1) - K exp(-r T) N(d2)
d1 = (log(S / K) + (r + sigma^2 / 2) T) / (sigma sqrt(T)),  d2 = d1 - sigma sqrt(T)
"""

import jax
import jax.numpy as jnp

FIVE = (0, 1, 2, 3, 4)


def normal_cdf(x: jax.Array) -> jax.Array:
    """The probability that a standard normal number is below x."""
    return 0.5 * (1 + jax.scipy.special.erf(x / jnp.sqrt(2.0)))


def black_scholes(
    S: jax.Array, K: jax.Array, r: jax.Array, sigma: jax.Array, T: jax.Array
) -> jax.Array:
    """The price of the right to buy, in `T` years at the price `K`, what now costs `S`."""
    spread = sigma * jnp.sqrt(T)
    d1 = (jnp.log(S / K) + (r + 0.5 * sigma**2) * T) / spread
    return S * normal_cdf(d1) - K * jnp.exp(-r * T) * normal_cdf(d1 - spread)


first_order_greeks = jax.grad(black_scholes, FIVE)
"""The price's gradient; its Jacobian holds gamma, vanna, volga and the others of second order."""
