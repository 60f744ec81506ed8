"""Natural gradients in the space of samples, and local energies, beside how they are usually made.

The usual way writes the Jacobian of all samples out, by `vmap(grad)` of a residual with a Hessian
inside, or of a wave function. FermiNet's kinetic energy is a product with the Hessian for each
coordinate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

import blockjac
import harness
from blockjac import interop
from laplacians import dense_layers, network

Function = Callable[..., Any]
PINN_DAMPING, SR_DAMPING = 1.0, 1e-3
"""So large that steps by different ways agree to rounding; no time depends on it."""


def dense_step(J: Any, errors: Any, damping: float) -> Any:
    """`J' (J J' + damping I)^-1 errors` of a Jacobian that is written out."""
    kernel = J @ J.T + damping * jnp.eye(len(J))
    return J.T @ jax.scipy.linalg.solve(kernel, errors, assume_a="pos")


def poisson(inside: int, boundary: int, width: int) -> harness.Task:
    """A step for the residuals of Poisson's equation in five dimensions."""
    random = np.random.default_rng(0)
    params = dense_layers((5, width, width, 1))
    points = {
        "inside": jnp.asarray(random.uniform(size=(inside, 5))),
        "boundary": jnp.asarray(random.uniform(size=(boundary, 5))),
    }

    def residuals(laplacian: Function, params: Any, points: Any) -> jax.Array:
        def u(x: jax.Array) -> jax.Array:
            return network(x, params)

        source = jnp.pi**2 * jnp.sum(jnp.cos(jnp.pi * points["inside"]), axis=1)
        on_boundary = jnp.sum(jnp.cos(jnp.pi * points["boundary"]), axis=1)
        return jnp.concatenate(
            [
                (jax.vmap(laplacian(u))(points["inside"]) + source) / inside**0.5,
                10 * (jax.vmap(u)(points["boundary"]) - on_boundary) / boundary**0.5,
            ]
        )

    def ours(params: Any, points: Any) -> Any:
        return interop.residual_step(
            lambda params, points: residuals(blockjac.laplacian, params, points),
            damping=PINN_DAMPING,
        )(params, points)[0]

    def usual(params: Any, points: Any) -> Any:
        def trace(u: Function) -> Function:
            return lambda x: jnp.trace(jax.hessian(u)(x))

        flat, unravel = ravel_pytree(params)

        def one(flat: jax.Array, inner: Any, outer: Any) -> jax.Array:
            """The residuals of one point of each kind, to be mapped over them."""
            parts = {"inside": inner[None], "boundary": outer[None]}
            return residuals(trace, unravel(flat), parts)

        # one point at a time, as a residual depends on one alone
        by_params = jax.vmap(jax.grad(lambda flat, x: one(flat, x, x)[0]), (None, 0))
        at_edge = jax.vmap(jax.grad(lambda flat, x: one(flat, x, x)[1]), (None, 0))
        J = jnp.concatenate([by_params(flat, points["inside"]), at_edge(flat, points["boundary"])])
        return unravel(dense_step(J, residuals(trace, params, points), PINN_DAMPING))

    name = "vmap(grad) of each residual with jax.hessian inside"
    return harness.Task(
        title=f"A Gauss-Newton step of a PINN, Poisson in 5-D, 5-{width}-{width}-1, "
        f"{inside} points inside and {boundary} on the boundary",
        arguments=(params, points),
        contenders={harness.OURS: ours, name: usual},
        alike=(harness.OURS, name),
        claims=(harness.Claim(1.0, (name,)),),
    )


def reconfiguration(samples: int, widths: tuple[int, ...]) -> harness.Task:
    """A step of stochastic reconfiguration of a dense wave function."""
    random = np.random.default_rng(0)
    params = dense_layers((*widths, 1))
    x = jnp.asarray(random.normal(size=(samples, widths[0])))
    energies = jnp.asarray(random.normal(size=samples))

    def log_psi(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(network, (0, None))(x, params)

    def usual(params: Any, x: jax.Array, energies: jax.Array) -> Any:
        flat, unravel = ravel_pytree(params)
        J = jax.vmap(jax.grad(lambda flat, x: network(x, unravel(flat))), (None, 0))(flat, x)
        J, errors = J - J.mean(0), energies - energies.mean()
        return unravel(dense_step(J, errors, samples * SR_DAMPING))

    name = "vmap(grad), written out"
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return harness.Task(
        title=f"A step of stochastic reconfiguration, {samples} samples, {count:,} parameters",
        arguments=(params, x, energies),
        contenders={harness.OURS: interop.min_sr(log_psi, damping=SR_DAMPING), name: usual},
        alike=(harness.OURS, name),
        claims=(harness.Claim(1.0, (name,)),),
    )


def local_energy(walkers: int, electrons: int, width: int) -> harness.Task:
    """Kinetic energies of a wave function of pairs of electrons."""
    random = np.random.default_rng(0)
    params = dense_layers((4, width, width, 1))
    positions = jnp.asarray(random.normal(size=(walkers, 3 * electrons)))
    first, second = np.triu_indices(electrons, 1)

    def log_psi(params: Any, x: jax.Array) -> jax.Array:
        places = x.reshape(-1, 3)
        apart = places[first] - places[second]
        pairs = jnp.concatenate([apart, jnp.sum(apart**2, axis=1, keepdims=True)], axis=1)
        return jnp.sum(jax.vmap(network, (0, None))(pairs, params)) - jnp.sum(x**2) / 2

    def usual(params: Any, x: jax.Array) -> jax.Array:
        gradient = jax.grad(lambda x: log_psi(params, x))
        slopes, product = jax.linearize(gradient, x)
        units = jnp.eye(x.size)

        def add(i: int, total: jax.Array) -> jax.Array:
            return total + slopes[i] ** 2 + product(units[i])[i]

        return -lax.fori_loop(0, x.size, add, 0.0) / 2

    name = "a product with the Hessian for each coordinate"
    return harness.Task(
        title=f"Local kinetic energies of {walkers} walkers of {electrons} electrons",
        arguments=(params, positions),
        contenders={
            harness.OURS: jax.vmap(interop.local_kinetic_energy(log_psi), (None, 0)),
            name: jax.vmap(usual, (None, 0)),
        },
        alike=(harness.OURS, name),
        claims=(harness.Claim(0.8, (name,)),),
        note="The other way is FermiNet's default. `laplacians` has folx beside ours.",
    )


TASKS = {
    "pinn": lambda: poisson(500, 200, 48),
    "min_sr-1000": lambda: reconfiguration(1_000, (20, 64, 64)),
    "min_sr-500-wide": lambda: reconfiguration(500, (64, 256, 256)),
    "kinetic-energy": lambda: local_energy(64, 8, 32),
}

if __name__ == "__main__":
    harness.main("Natural gradients and local energies", TASKS)
