"""Two systems of equations of the MINPACK-2 test problem collection.

Averick, Carter, More and Xue, "The MINPACK-2 test problem collection", Argonne National Laboratory
(1992): the human heart dipole problem, and the full formulation of the combustion of propane.
"""

import jax
import jax.numpy as jnp

HEART_SUMS = (0.485, -0.0019, -0.0581, 0.015, 0.105, 0.0406, 0.167, -0.399)
"""The moments of the dipole, as measured in one experiment."""
PRESSURE = 40.0
AIR = 10.0
"""Moles of air's oxygen atoms for each mole of propane."""
EQUILIBRIUM = (0.193, 2.597e-3, 3.448e-3, 1.799e-5, 2.155e-4, 3.846e-5)
"""The constants of the six reactions."""


def heart_dipole(
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    d: jax.Array,
    t: jax.Array,
    u: jax.Array,
    v: jax.Array,
    w: jax.Array,
) -> tuple[jax.Array, ...]:
    """The moments of two dipoles `a + ic`, `b + id` at `t + iv`, `u + iw`, less the measured ones.

    In pairs, real and imaginary: the sums of strength times place to the power 0, 1, 2 and 3.
    """
    moments = (
        a + b,
        c + d,
        t * a + u * b - v * c - w * d,
        v * a + w * b + t * c + u * d,
        a * (t**2 - v**2) - 2 * c * t * v + b * (u**2 - w**2) - 2 * d * u * w,
        c * (t**2 - v**2) + 2 * a * t * v + d * (u**2 - w**2) + 2 * b * u * w,
        a * t * (t**2 - 3 * v**2)
        + c * v * (v**2 - 3 * t**2)
        + b * u * (u**2 - 3 * w**2)
        + d * w * (w**2 - 3 * u**2),
        c * t * (t**2 - 3 * v**2)
        - a * v * (v**2 - 3 * t**2)
        + d * u * (u**2 - 3 * w**2)
        - b * w * (w**2 - 3 * u**2),
    )
    return tuple(moment - sum_ for moment, sum_ in zip(moments, HEART_SUMS, strict=True))


def propane_combustion(
    x1: jax.Array,
    x2: jax.Array,
    x3: jax.Array,
    x4: jax.Array,
    x5: jax.Array,
    x6: jax.Array,
    x7: jax.Array,
    x8: jax.Array,
    x9: jax.Array,
    x10: jax.Array,
    x11: jax.Array,
) -> tuple[jax.Array, ...]:
    """Four balances of atoms, six equilibria, and the sum of all moles.

    Moles of CO2, H2O, N2, CO, H2, H, OH, O, NO, O2, and of all together, from a mole of propane.
    """
    K5, K6, K7, K8, K9, K10 = EQUILIBRIUM
    root = jnp.sqrt(PRESSURE / x11)
    return (
        x1 + x4 - 3,
        2 * x1 + x2 + x4 + x7 + x8 + x9 + 2 * x10 - AIR,
        2 * x2 + 2 * x5 + x6 + x7 - 8,
        2 * x3 + x9 - 4 * AIR,
        K5 * x2 * x4 - x1 * x5,
        K6 * jnp.sqrt(x2 * x4) - jnp.sqrt(x1) * x6 * root,
        K7 * jnp.sqrt(x1 * x2) - jnp.sqrt(x4) * x7 * root,
        K8 * x1 - x4 * x8 * PRESSURE / x11,
        K9 * x1 * jnp.sqrt(x3) - x4 * x9 * root,
        K10 * x1**2 - x4**2 * x10 * PRESSURE / x11,
        x11 - (x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10),
    )
