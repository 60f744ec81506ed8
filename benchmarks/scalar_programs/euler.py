"""Roe's approximate Riemann solver for the Euler equations of an ideal gas.

Roe, "Approximate Riemann solvers, parameter vectors, and difference schemes", Journal of
Computational Physics 43 (1981). The flux between two states is the mean of their fluxes less half
the jump's waves, each times the size of its speed:

    F = (F(left) + F(right)) / 2 - sum_k |lambda_k| alpha_k r_k / 2

where `lambda`, `r` and the strengths `alpha` belong to the Jacobian at Roe's mean state: density
`sqrt(rho_l rho_r)`, velocity and enthalpy weighted by the roots of the densities.
"""

import jax
import jax.numpy as jnp

GAMMA = 1.4
Scalars = tuple[jax.Array, ...]


def roe_flux_1d(
    rho_l: jax.Array,
    m_l: jax.Array,
    E_l: jax.Array,
    rho_r: jax.Array,
    m_r: jax.Array,
    E_r: jax.Array,
) -> Scalars:
    """Fluxes of mass, momentum and energy from the densities of mass, momentum and energy."""
    u_l, u_r = m_l / rho_l, m_r / rho_r
    p_l = (GAMMA - 1) * (E_l - 0.5 * m_l * u_l)
    p_r = (GAMMA - 1) * (E_r - 0.5 * m_r * u_r)
    H_l, H_r = (E_l + p_l) / rho_l, (E_r + p_r) / rho_r

    w_l, w_r = jnp.sqrt(rho_l), jnp.sqrt(rho_r)
    u = (w_l * u_l + w_r * u_r) / (w_l + w_r)
    H = (w_l * H_l + w_r * H_r) / (w_l + w_r)
    c_squared = (GAMMA - 1) * (H - 0.5 * u * u)
    c = jnp.sqrt(c_squared)

    pressure = (p_r - p_l) / c_squared
    shock = w_l * w_r * (u_r - u_l) / c
    slow = 0.5 * jnp.abs(u - c) * (pressure - shock)
    middle = jnp.abs(u) * (rho_r - rho_l - pressure)
    fast = 0.5 * jnp.abs(u + c) * (pressure + shock)
    return (
        0.5 * (m_l + m_r - slow - middle - fast),
        0.5 * (m_l * u_l + p_l + m_r * u_r + p_r)
        - 0.5 * (slow * (u - c) + middle * u + fast * (u + c)),
        0.5 * (m_l * H_l + m_r * H_r)
        - 0.5 * (slow * (H - u * c) + middle * 0.5 * u * u + fast * (H + u * c)),
    )


def roe_flux_3d(
    rho_l: jax.Array,
    m_l: jax.Array,
    E_l: jax.Array,
    rho_r: jax.Array,
    m_r: jax.Array,
    E_r: jax.Array,
) -> Scalars:
    """Fluxes along the first axis; momentum, and its flux, is a vector of three."""
    u_l, u_r = m_l / rho_l, m_r / rho_r
    p_l = (GAMMA - 1) * (E_l - 0.5 * jnp.dot(m_l, u_l))
    p_r = (GAMMA - 1) * (E_r - 0.5 * jnp.dot(m_r, u_r))
    H_l, H_r = (E_l + p_l) / rho_l, (E_r + p_r) / rho_r

    w_l, w_r = jnp.sqrt(rho_l), jnp.sqrt(rho_r)
    u = (w_l * u_l + w_r * u_r) / (w_l + w_r)
    H = (w_l * H_l + w_r * H_r) / (w_l + w_r)
    kinetic = 0.5 * jnp.dot(u, u)
    c_squared = (GAMMA - 1) * (H - kinetic)
    c = jnp.sqrt(c_squared)

    normal = jnp.array([1.0, 0.0, 0.0])
    jump = u_r - u_l
    rho = w_l * w_r
    pressure = (p_r - p_l) / c_squared
    shock = rho * jump[0] / c
    slow = 0.5 * jnp.abs(u[0] - c) * (pressure - shock)
    middle = jnp.abs(u[0]) * (rho_r - rho_l - pressure)
    fast = 0.5 * jnp.abs(u[0] + c) * (pressure + shock)
    shear = jnp.abs(u[0]) * rho * (jump - jump[0] * normal)
    return (
        0.5 * (m_l[0] + m_r[0] - slow - middle - fast),
        0.5 * (m_l[0] * u_l + m_r[0] * u_r + (p_l + p_r) * normal)
        - 0.5 * ((slow + middle + fast) * u + (fast - slow) * c * normal + shear),
        0.5 * (m_l[0] * H_l + m_r[0] * H_r)
        - 0.5
        * ((slow + fast) * H + (fast - slow) * u[0] * c + middle * kinetic + jnp.dot(u, shear)),
    )
