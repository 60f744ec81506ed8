"""Steps in the space of samples are those of the whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import blockjac
from blockjac import interop
from blockjac.errors import ArgumentError, ShapeMismatchError


def network(params, x):
    return jnp.tanh(x @ params["W"]) @ params["v"]


def complex_network(params, x):
    hidden = jnp.tanh(x @ params["W"])
    return hidden @ params["v"] + 1j * jnp.sin(hidden @ params["v"])


def problem(seed=0):
    generator = np.random.default_rng(seed)
    params = {"W": generator.normal(size=(3, 5)), "v": generator.normal(size=5)}
    return params, generator.normal(size=(7, 3)), generator


@pytest.mark.parametrize("log_psi", [network, complex_network])
@pytest.mark.parametrize("is_complex", [False, True])
def test_min_sr_is_stochastic_reconfiguration(log_psi, is_complex):
    params, x, generator = problem()
    energies = generator.normal(size=7) + 1j * is_complex * generator.normal(size=7)
    energies = energies if is_complex else energies.real
    damping = 0.01
    step = jax.jit(interop.min_sr(log_psi, damping=damping))(params, x, energies)
    flat, unravel = ravel_pytree(params)
    J = jax.vmap(jax.jacfwd(lambda p, x: log_psi(unravel(p), x[None])[0]), (None, 0))(flat, x)
    centred = (J - J.mean(0)) / np.sqrt(7)
    force = (centred.conj().T @ (energies - energies.mean()) / np.sqrt(7)).real
    exact = jnp.linalg.solve(
        (centred.conj().T @ centred).real + damping * jnp.eye(flat.size), force
    )
    np.testing.assert_allclose(ravel_pytree(step)[0], exact, rtol=1e-9, atol=1e-11)


def poisson(params, points):
    """Residuals of `-lap u = f` of a network, one a point, and of the value on the boundary."""

    def u(x):
        return jnp.tanh(x @ params["W"]) @ params["v"]

    inside = jax.vmap(blockjac.laplacian(u))(points["inside"]) + 1.0
    return jnp.concatenate([inside, 3 * jax.vmap(u)(points["boundary"])])


@pytest.mark.slow
def test_residual_step_is_damped_gauss_newton():
    params, x, _ = problem()
    points = {"inside": x[:4], "boundary": x[4:]}
    step, residuals = jax.jit(interop.residual_step(poisson, damping=0.1))(params, points)
    flat, unravel = ravel_pytree(params)
    J = jax.jacfwd(lambda p: poisson(unravel(p), points))(flat)
    np.testing.assert_allclose(residuals, poisson(params, points), rtol=1e-12)
    exact = jnp.linalg.solve(J.T @ J + 0.1 * jnp.eye(flat.size), J.T @ residuals)
    np.testing.assert_allclose(ravel_pytree(step)[0], exact, rtol=1e-8, atol=1e-10)


def test_samples_without_energies_that_fit_are_refused():
    params, x, _ = problem()
    with pytest.raises(
        ShapeMismatchError, match=r"gives an array of shape \(7,\), and .* shape \(6,\)"
    ):
        interop.min_sr(network, damping=0.1)(params, x, np.ones(6))
    with pytest.raises(ShapeMismatchError, match=r"one number per residual.*of shape \(7, \d+\)$"):
        interop.residual_step(lambda p, x: x @ p["W"], damping=0.1)(params, x)
    with pytest.raises(ShapeMismatchError, match=r"residual_step needs .* gives a dict"):
        interop.residual_step(lambda p, x: {"inside": x[:, 0]}, damping=0.1)(params, x)
    with pytest.raises(ArgumentError, match=r"damping is 0\.0, but must be a positive number"):
        interop.min_sr(network, damping=0.0)


@pytest.mark.slow
def test_the_kernel_of_laplacians_is_one_product_for_each_matrix():
    """What a Laplacian adds to a derivative is added before it meets itself."""
    width, count = 32, 200
    random = np.random.default_rng(0)
    shapes = {"A": (5, width), "B": (width, width), "v": (width,)}
    params = {name: random.normal(size=shape) / 3 for name, shape in shapes.items()}
    points = random.normal(size=(count, 5))

    def residuals(params, points):
        def u(x):
            return jnp.tanh(jnp.tanh(x @ params["A"]) @ params["B"]) @ params["v"]

        inside = jax.vmap(blockjac.laplacian(u))(points)
        return jnp.concatenate([inside, jax.vmap(u)(points[: count // 2])])

    step = jax.jit(interop.residual_step(residuals, damping=1e-3))
    found, _ = step(params, points)
    flat, unravel = ravel_pytree(params)
    J = jax.jacrev(lambda flat: residuals(unravel(flat), points))(flat)
    right = np.linalg.solve(J @ J.T + 1e-3 * np.eye(len(J)), residuals(params, points))
    np.testing.assert_allclose(ravel_pytree(found)[0], J.T @ right, rtol=1e-5, atol=1e-8)

    one_product = 2 * len(J) ** 2 * flat.size
    flops = step.lower(params, points).compile().cost_analysis()["flops"]
    assert flops < 1.3 * one_product
