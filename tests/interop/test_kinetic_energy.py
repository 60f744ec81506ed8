"""Local kinetic energies against closed forms and against JAX's nested derivatives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import interop
from blockjac.errors import ArgumentError, ShapeMismatchError


class Data(NamedTuple):
    """What FermiNet hands over."""

    positions: jax.Array
    spins: jax.Array
    atoms: jax.Array
    charges: jax.Array


def helium(params, positions, spins, atoms, charges):
    """A phase, and the logarithm of a pair of exponentials with a Jastrow factor."""
    electrons = positions.reshape(-1, 3)
    distances = jnp.linalg.norm(electrons - atoms[0], axis=1)
    between = jnp.linalg.norm(electrons[0] - electrons[1])
    logarithm = -params["decay"] * charges[0] * distances.sum() + 0.5 * between / (1 + between)
    return params["turn"] * jnp.sin(electrons[0, 0] * spins[0]), logarithm


def exact(log_psi, x):
    """By nested derivatives of psi itself."""

    def psi(x):
        return jnp.exp(log_psi(x))

    def second(part):
        return jnp.trace(jax.hessian(lambda x: part(psi(x)))(x))

    return -(second(jnp.real) + 1j * second(jnp.imag)) / (2 * psi(x))


@pytest.mark.slow
@pytest.mark.parametrize("complex_output", [False, True])
def test_in_the_place_of_ferminet(complex_output):
    params = {"decay": 0.9, "turn": 0.3}
    positions = np.random.default_rng(0).normal(size=(4, 6))
    rest = np.array([1.0, -1.0]), np.zeros((1, 3)), np.array([2.0])
    energy = interop.local_kinetic_energy(helium, complex_output=complex_output)
    walkers = jax.vmap(energy, (None, Data(0, None, None, None)))
    found = jax.jit(walkers)(params, Data(positions, *rest))

    def log_psi(x):
        phase, logarithm = helium(params, x, *rest)
        return logarithm + 1j * phase * complex_output

    wanted = [exact(log_psi, x) for x in positions]
    assert jnp.iscomplexobj(found) == complex_output
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.slow
def test_of_a_complex_logarithm():
    def log_psi(wave, x):
        return 1j * wave @ x - x @ x / 4

    wave, x = np.array([1.0, 2.0, -1.0]), np.array([0.1, 0.2, 0.3])
    energy = interop.local_kinetic_energy(log_psi)(wave, x)
    np.testing.assert_allclose(energy, exact(lambda x: log_psi(wave, x), x), rtol=1e-12)


def test_what_is_no_logarithm_of_one_configuration_is_refused():
    walkers = np.ones((5, 3))
    with pytest.raises(
        ShapeMismatchError, match=r"array of shape \(5,\) for .*\(5, 3\).*jax\.vmap"
    ):
        interop.local_kinetic_energy(lambda a, x: -a * jnp.sum(x**2, axis=1))(1.0, walkers)
    with pytest.raises(ShapeMismatchError, match=r"got a tuple"):
        interop.local_kinetic_energy(lambda a, x: (0.0, -a * jnp.sum(x**2)))(1.0, walkers[0])
    with pytest.raises(ArgumentError, match=r"positions, an array, .* but got 'dict'"):
        interop.local_kinetic_energy(helium)({}, {"positions": walkers[0]})
    with pytest.raises(TypeError, match="callable"):
        interop.local_kinetic_energy(None)
