"""The local kinetic energy of a wave function, as variational Monte Carlo asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.arrays import in_words
from blockjac.engine.arguments import check_callable
from blockjac.errors import ArgumentError, ShapeMismatchError
from blockjac.transforms.laplacians import value_grad_laplacian


def local_kinetic_energy(f: Callable[..., Any], *, complex_output: bool = False) -> Any:
    """The local kinetic energy `-1/2 (lap psi) / psi`, from the logarithm of a wave function.

    It stands where FermiNet has `local_kinetic_energy(f, laplacian_method=...)`: value, gradient
    and Laplacian of `log psi` come from one pass.

    Args:
        f: as FermiNet's `f(params, positions, spins, atoms, charges)`, which gives
            `(sign or phase, log |psi|)` at one configuration; or `f(params, positions)`, which
            gives `log psi`, real or complex.
        complex_output: for the first form, whether the phase varies; the energy is complex then.

    Returns:
        A function `(params, data)`: data with `positions`, `spins`, `atoms` and `charges` for the
        first form, the positions themselves, an array, for the second. Map it over walkers with
        `jax.vmap`.

    Raises:
        TypeError: for positions that are not an array.
        ValueError: if log psi is not one number, as that of many walkers.

    Source:
        Pfau et al., "Ab initio solution of the many-electron Schrödinger equation with deep neural
        networks", Physical Review Research 2020.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> ground_state = lambda width, x: -width * jnp.sum(x**2) / 2  # of an oscillator
        >>> energy = interop.local_kinetic_energy(ground_state)
        >>> float(energy(1.0, jnp.array([0.5, 0.5])))  # 1 - x'x / 2
        0.75
    """
    check_callable(f, "interop.local_kinetic_energy")

    def energy(params: Any, data: Any) -> Any:
        """The local kinetic energy of one configuration."""
        if not hasattr(data, "positions"):
            if not jax.tree_util.all_leaves([data]):
                raise ArgumentError(
                    "local_kinetic_energy takes positions, an array, or data with .positions, "
                    f".spins, .atoms and .charges, but got {type(data).__name__!r}"
                )
            return _of_log(lambda x: f(params, x), data)

        def log_psi(x: Any) -> Any:
            phase, logarithm = f(params, x, data.spins, data.atoms, data.charges)
            return logarithm + 1j * phase if complex_output else logarithm

        return _of_log(log_psi, data.positions)

    return energy


def _of_log(log_psi: Callable[[Any], Any], positions: Any) -> Any:
    """`-1/2 (lap log psi + grad log psi . grad log psi)`."""
    value, gradient, laplacian = value_grad_laplacian(log_psi)(positions)
    if getattr(value, "shape", None) != ():
        raise ShapeMismatchError(
            "local_kinetic_energy needs log psi of one configuration, a number, but got "
            f"{in_words(value)} for positions of shape {jnp.shape(positions)}: give "
            "(params, positions) -> log psi, and map the energy over walkers, "
            "jax.vmap(energy, (None, 0))"
        )
    return -(laplacian + jnp.sum(gradient**2)) / 2
