"""The kernels compute what their mathematics says, at one point and under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalar_programs import KERNELS, euler, finance, minpack, networks, robot

SHAPES = {
    "roe flux 1d": [()] * 3,
    "roe flux 3d": [(), (3,), ()],
    "robot arm": [()] * 6,
    "heart dipole": [()] * 8,
    "propane combustion": [()] * 11,
    "black scholes greeks": [()] * 5,
    "perceptron": [()],
    "encoder": [()],
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_runs_at_a_point_and_under_vmap(name):
    kernel = KERNELS[name]
    batch = kernel.points(3)
    results = jax.tree.leaves(jax.vmap(kernel.function)(*batch))
    assert [leaf.shape for leaf in results] == [(3, *shape) for shape in SHAPES[name]]
    assert all(np.isfinite(leaf).all() for leaf in results)
    first = kernel.function(*jax.tree.map(lambda leaf: leaf[0], batch))
    for leaf, one in zip(results, jax.tree.leaves(first), strict=True):
        np.testing.assert_allclose(leaf[0], one, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_smooth_where_it_is_measured(name):
    kernel = KERNELS[name]
    jacobian = jax.vmap(jax.jacrev(kernel.function, kernel.argnums))(*kernel.points(64))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jacobian))


def conserved(rho, u, p):
    """Densities of mass, momentum and energy; and the fluxes along the first axis."""
    u = np.asarray(u)
    along = float(u.ravel()[0])
    E = p / (euler.GAMMA - 1) + 0.5 * rho * np.sum(u * u)
    normal = np.eye(3)[0] if u.ndim else 1.0
    return (rho, rho * u, E), (rho * along, rho * along * u + p * normal, along * (E + p))


VELOCITIES = {
    "one dimension": (euler.roe_flux_1d, 0.3, 0.5),
    "three dimensions": (euler.roe_flux_3d, [0.3, -0.2, 0.7], [0.5, 0.1, -0.4]),
}


@pytest.mark.parametrize("case", VELOCITIES)
def test_roe_flux_between_equal_states_is_the_flux_of_euler(case):
    flux, left, _ = VELOCITIES[case]
    state, expected = conserved(1.2, left, 0.9)
    for got, want in zip(flux(*state, *state), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("case", VELOCITIES)
@pytest.mark.parametrize(("wind", "upwind"), [(5.0, 0), (-5.0, 1)])
def test_roe_flux_faster_than_sound_is_that_of_the_state_upwind(case, wind, upwind):
    flux, *velocities = VELOCITIES[case]
    first = np.eye(3)[0] if np.ndim(velocities[0]) else 1.0
    sides = [
        conserved(rho, np.asarray(u) + wind * first, p)
        for rho, u, p in zip((1.2, 0.8), velocities, (0.9, 1.1), strict=True)
    ]
    result = flux(*sides[0][0], *sides[1][0])
    for got, want in zip(result, sides[upwind][1], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_roe_flux_in_three_dimensions_along_the_axis_is_that_in_one():
    one = euler.roe_flux_1d(1.2, 0.3, 5.0, 0.9, -0.2, 4.0)
    mass, momentum, energy = euler.roe_flux_3d(
        1.2, jnp.array([0.3, 0, 0]), 5.0, 0.9, jnp.array([-0.2, 0, 0]), 4.0
    )
    np.testing.assert_allclose([mass, momentum[0], energy], one, rtol=1e-13)
    np.testing.assert_array_equal(momentum[1:], 0)


def denavit_hartenberg(theta, d, a, sine):
    """The frame after a joint, as a matrix."""
    cosine = 1 - abs(sine)
    c, s = np.cos(theta), np.sin(theta)
    return np.array(
        [
            [c, -s * cosine, s * sine, a * c],
            [s, c * cosine, -c * sine, a * s],
            [0, sine, cosine, d],
            [0, 0, 0, 1],
        ]
    )


def test_arm_is_the_product_of_its_joints():
    angles = np.array([0.4, -0.7, 0.9, 0.3, -0.5, 0.8])
    frame = np.linalg.multi_dot(
        [
            denavit_hartenberg(angle, d, a, turn)
            for angle, (d, a, turn) in zip(angles, robot.JOINTS, strict=True)
        ]
    )
    *place, roll, pitch, yaw = robot.robot_arm(*jnp.asarray(angles))
    np.testing.assert_allclose(place, frame[:3, 3], rtol=1e-13)
    (cx, cy, cz), (sx, sy, sz) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    turned = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned = turned @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turned = turned @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    np.testing.assert_allclose(turned, frame[:3, :3], atol=1e-13)


def test_arm_stretched_out_reaches_as_far_as_its_links():
    x, y, z, *angles = robot.robot_arm(*jnp.zeros(6))
    np.testing.assert_allclose([x, y, z], [0.4318 + 0.0203, -0.15005, 0.4318 + 0.0563], rtol=1e-14)
    np.testing.assert_allclose(angles, 0, atol=1e-14)


@pytest.mark.slow
def test_first_joint_turns_the_arm_about_the_upright():
    rest = jnp.asarray([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    x, y, z, roll, pitch, yaw = robot.robot_arm(*rest)
    turned = robot.robot_arm(rest[0] + 0.25, *rest[1:])
    np.testing.assert_allclose(complex(*turned[:2]), complex(x, y) * np.exp(0.25j), rtol=1e-13)
    np.testing.assert_allclose(turned[2:], [z, roll, pitch, yaw + 0.25], rtol=1e-12)


def test_heart_dipole_compares_moments():
    a, b, c, d, t, u, v, w = 0.3, 0.2, -0.5, 0.4, 1.1, -0.6, 0.7, 0.9
    moments = [
        (a + 1j * c) * (t + 1j * v) ** k + (b + 1j * d) * (u + 1j * w) ** k for k in range(4)
    ]
    pairs = [part for moment in moments for part in (moment.real, moment.imag)]
    residuals = minpack.heart_dipole(a, b, c, d, t, u, v, w)
    np.testing.assert_allclose(np.add(residuals, minpack.HEART_SUMS), pairs, rtol=1e-13)


def test_propane_combustion_at_a_point_worked_out_by_hand():
    """At one mole of each the balances count atoms; at a total of the pressure the root is one."""
    residuals = minpack.propane_combustion(*[1.0] * 10, minpack.PRESSURE)
    equilibria = np.array(minpack.EQUILIBRIUM) - 1
    np.testing.assert_allclose(residuals, [-1, -1, -2, -37, *equilibria, 30], rtol=1e-14)


def test_greeks_are_those_of_the_textbook():
    S, K, r, sigma, T = 105.0, 100.0, 0.03, 0.25, 0.75
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
    d2 = d1 - sigma * np.sqrt(T)
    density = np.exp(-(d1**2) / 2) / np.sqrt(2 * np.pi)
    delta, _, _, vega, _ = finance.first_order_greeks(S, K, r, sigma, T)
    np.testing.assert_allclose(delta, finance.normal_cdf(d1), rtol=1e-13)
    np.testing.assert_allclose(vega, S * density * np.sqrt(T), rtol=1e-13)
    second = np.array(jax.jacfwd(finance.first_order_greeks, finance.FIVE)(S, K, r, sigma, T))
    np.testing.assert_allclose(second, second.T, rtol=1e-10)
    np.testing.assert_allclose(second[0, 0], density / (S * sigma * np.sqrt(T)), rtol=1e-12)
    np.testing.assert_allclose(second[0, 3], -density * d2 / sigma, rtol=1e-12)
    np.testing.assert_allclose(second[3, 3], vega * d1 * d2 / sigma, rtol=1e-12)


@pytest.mark.parametrize("name", ["perceptron", "encoder"])
def test_loss_is_least_where_the_target_is_what_the_network_says(name):
    """By Gibbs: no other target than the prediction has a smaller cross-entropy less entropy."""
    function = KERNELS[name].function
    x, target, layers = KERNELS[name].point()
    excess = function(x, target, layers) + jnp.sum(target * jnp.log(target))
    assert excess > 0


def test_perceptron_ignores_shift_and_scale_of_what_layer_norm_sees():
    x, target, (first, second) = KERNELS["perceptron"].point()
    moved = {**first, "W": 1e3 * first["W"], "b": 1e3 * first["b"] + 5.0}
    same = networks.perceptron(
        x, target, ({**first, "W": 1e3 * first["W"], "b": 1e3 * first["b"]}, second)
    )
    np.testing.assert_allclose(networks.perceptron(x, target, (moved, second)), same, rtol=1e-9)


def test_encoder_treats_its_tokens_as_a_set():
    x, target, blocks = KERNELS["encoder"].point()
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        networks.encoder(x[order], target[order], blocks),
        networks.encoder(x, target, blocks),
        rtol=1e-12,
    )
