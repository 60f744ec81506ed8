"""Small functions of many scalars, written from their formulas, whose counts are known."""

import jax.numpy as jnp


def dipole(x1, x2, x3, x4, x5, x6, x7, x8):
    """The human-heart dipole problem (MINPACK-2): eight moments of two dipoles, sums all 1."""
    a, b = x5**2 - x7**2, x6**2 - x8**2
    c, d = x5 * (x5**2 - 3 * x7**2), x7 * (x7**2 - 3 * x5**2)
    e, f = x6 * (x6**2 - 3 * x8**2), x8 * (x8**2 - 3 * x6**2)
    return (
        x1 + x2 - 1.0,
        x3 + x4 - 1.0,
        x5 * x1 + x6 * x2 - x7 * x3 - x8 * x4 - 1.0,
        x7 * x1 + x8 * x2 + x5 * x3 + x6 * x4 - 1.0,
        x1 * a - 2 * x3 * x5 * x7 + x2 * b - 2 * x4 * x6 * x8 - 1.0,
        x3 * a + 2 * x1 * x5 * x7 + x4 * b + 2 * x2 * x6 * x8 - 1.0,
        x1 * c + x3 * d + x2 * e + x4 * f - 1.0,
        x3 * c - x1 * d + x4 * e - x2 * f - 1.0,
    )


DIPOLE = tuple(0.1 * place + 0.3 for place in range(8))


def lighthouse(nu, gamma, omega, t):
    """Where the beam of a turning lighthouse meets a quay (Griewank): two coordinates."""
    angle = jnp.tan(omega * t)
    along = nu * angle / (gamma - angle)
    return along, gamma * along


LIGHTHOUSE = (0.7, 2.0, 0.5, 0.4)
