"""Functions of a few numbers that are evaluated at many points: the kernels of simulations.

Each is written for one point, from the mathematics, in plain `jax.numpy`; a batch is its `vmap`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalar_programs import euler, finance, minpack, networks, robot

__all__ = ["KERNELS", "Kernel", "euler", "finance", "minpack", "networks", "robot"]


@dataclass(frozen=True)
class Kernel:
    """A function of one point, and points for it.

    Attributes:
        function: of one point.
        points: makes the arguments of a number of points, the first axis theirs; the same at every
            call.
        argnums: the arguments to differentiate by.
    """

    function: Callable[..., Any]
    points: Callable[[int], tuple[Any, ...]]
    argnums: tuple[int, ...]

    def point(self) -> tuple[Any, ...]:
        """The arguments of one point."""
        return jax.tree.map(lambda leaf: leaf[0], self.points(1))


def uniform(low: float, high: float, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Arrays of numbers between two bounds."""
    generator = np.random.default_rng(0)
    return tuple(jnp.asarray(generator.uniform(low, high, shape)) for shape in shapes)


def gas(count: int, *momentum: int) -> tuple[jax.Array, ...]:
    """Left and right states: densities and energies above what the momenta need."""
    rho_l, rho_r, E_l, E_r = uniform(1.0, 2.0, *[(count,)] * 4)
    m_l, m_r = uniform(-1.0, 1.0, *[(count, *momentum)] * 2)
    return rho_l, m_l, E_l + 4.0, rho_r, m_r, E_r + 4.0


def option(count: int) -> tuple[jax.Array, ...]:
    """Prices, strikes, rates, volatilities and times."""
    S, K, r, sigma, T = uniform(0.0, 1.0, *[(count,)] * 5)
    return 90 + 20 * S, 90 + 20 * K, 0.01 + 0.05 * r, 0.1 + 0.3 * sigma, 0.25 + T


def examples(
    shape: tuple[int, ...], *layers: dict[str, tuple[int, ...]]
) -> Callable[[int], tuple[Any, ...]]:
    """Makes inputs, targets that sum to one along the last axis, and parameters.

    Gains are about one, all else about zero.
    """

    def points(count: int) -> tuple[Any, ...]:
        generator = np.random.default_rng(0)

        def normal(shape: tuple[int, ...]) -> jax.Array:
            return jnp.asarray(generator.normal(size=(count, *shape)))

        parameters = tuple(
            {name: name.startswith("gain") + 0.5 * normal(shape) for name, shape in layer.items()}
            for layer in layers
        )
        return normal(shape), networks.softmax(normal(shape)), parameters

    return points


BLOCK = {
    **dict.fromkeys(("queries", "keys", "values", "W"), (4, 4)),
    **dict.fromkeys(("b", "gain_1", "shift_1", "gain_2", "shift_2"), (4,)),
}

KERNELS = {
    "roe flux 1d": Kernel(euler.roe_flux_1d, gas, tuple(range(6))),
    "roe flux 3d": Kernel(euler.roe_flux_3d, lambda count: gas(count, 3), tuple(range(6))),
    "robot arm": Kernel(
        robot.robot_arm, lambda count: uniform(-1.0, 1.0, *[(count,)] * 6), tuple(range(6))
    ),
    "heart dipole": Kernel(
        minpack.heart_dipole, lambda count: uniform(-1.0, 1.0, *[(count,)] * 8), tuple(range(8))
    ),
    "propane combustion": Kernel(
        minpack.propane_combustion,
        lambda count: uniform(0.5, 2.0, *[(count,)] * 11),
        tuple(range(11)),
    ),
    "black scholes greeks": Kernel(finance.first_order_greeks, option, finance.FIVE),
    "perceptron": Kernel(
        networks.perceptron,
        examples(
            (4,),
            {"W": (8, 4), "b": (8,), "gain": (8,), "shift": (8,)},
            {"W": (4, 8), "b": (4,)},
        ),
        (0, 2),
    ),
    "encoder": Kernel(networks.encoder, examples((4, 4), BLOCK, BLOCK), (0, 2)),
}
"""All of them, by name."""
