"""Programs that people differentiate, in plain JAX, at sizes to measure and at sizes to test.

Each is a scalar loss, and where there is one the array in front of it, by its first argument.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from real_programs import models, networks, physics

__all__ = ["PROGRAMS", "Program", "models", "networks", "physics"]

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Program:
    """A program and its arguments.

    Attributes:
        loss: a scalar function of the arguments.
        arguments: makes them from sizes, the same at every call.
        small: sizes for a test.
        real: sizes for a measurement.
        output: a function of the first of them, whose result is an array; None if there is none.
        outputs: how many of the arguments it takes.
    """

    loss: Callable[..., jax.Array]
    arguments: Callable[..., tuple[Any, ...]]
    small: Sizes
    real: Sizes
    output: Callable[..., jax.Array] | None = None
    outputs: int = 0


class Normal:
    """Arrays of normally distributed numbers, the same in every run."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, *shape: int, scale: float = 1.0) -> jax.Array:
        """An array of the shape."""
        return jnp.asarray(scale * self.generator.normal(size=shape))

    def below(self, bound: int, count: int) -> jax.Array:
        """Whole numbers from 0 to the bound, without it."""
        return jnp.asarray(self.generator.integers(bound, size=count))


def transformer(
    batch: int, length: int, width: int, heads: int, hidden: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, inputs and targets of a transformer block."""
    normal, size = Normal(), width // heads
    params = {
        **{name: normal(width, heads, size, scale=width**-0.5) for name in ("queries", "keys")},
        "values": normal(width, heads, size, scale=width**-0.5),
        "projection": normal(heads, size, width, scale=width**-0.5),
        "W_1": normal(width, hidden, scale=width**-0.5),
        "W_2": normal(hidden, width, scale=hidden**-0.5),
        "b_1": normal(hidden),
        "b_2": normal(width),
        **{f"scale_{place}": 1.0 + normal(width, scale=0.1) for place in (1, 2)},
        **{f"shift_{place}": normal(width, scale=0.1) for place in (1, 2)},
    }
    return params, normal(batch, length, width), normal(batch, length, width)


def residual_network(
    images: int, side: int, channels: int, first: int, second: int, classes: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, images and classes of a small residual network."""
    normal, params = Normal(), {}
    layers = {
        "stem": (3, channels, first),
        "1a": (3, first, first),
        "1b": (3, first, first),
        "2a": (3, first, second),
        "2b": (3, second, second),
        "skip": (1, first, second),
    }
    for name, (window, before, after) in layers.items():
        scale = (window * window * before) ** -0.5
        params[f"kernel_{name}"] = normal(window, window, before, after, scale=scale)
        params[f"scale_{name}"] = 1.0 + normal(after, scale=0.1)
        params[f"shift_{name}"] = normal(after, scale=0.1)
    params |= {"W": normal(second, classes, scale=second**-0.5), "b": normal(classes)}
    return params, normal(images, side, side, channels), normal.below(classes, images)


def lstm(
    time: int, batch: int, inputs: int, hidden: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, inputs and targets of a long short-term memory."""
    normal = Normal()
    params = {
        "W_input": normal(inputs, 4 * hidden, scale=inputs**-0.5),
        "W_hidden": normal(hidden, 4 * hidden, scale=hidden**-0.5),
        "b": normal(4 * hidden),
    }
    return params, normal(time, batch, inputs), normal(time, batch, hidden)


def gaussian_process(count: int, inputs: int) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Hyperparameters, places and observations of a Gaussian process."""
    normal = Normal()
    params = {
        "log_lengths": normal(inputs, scale=0.1),
        "log_variance": jnp.asarray(0.1),
        "log_noise": jnp.asarray(-1.0),
    }
    return params, normal(count, inputs), normal(count)


def neural_ode(
    batch: int, states: int, hidden: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, starting points and targets of a neural differential equation."""
    normal = Normal()
    params = {
        "W_1": normal(states, hidden, scale=states**-0.5),
        "b_1": normal(hidden),
        "W_2": normal(hidden, states, scale=hidden**-0.5),
        "b_2": normal(states),
    }
    return params, normal(batch, states), normal(batch, states)


def masked_attention(
    batch: int, heads: int, length: int, size: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Queries, keys and values; the mask; the target."""
    normal, shape = Normal(), (batch, heads, length, size)
    heads_of = {name: normal(*shape) for name in ("queries", "keys", "values")}
    return heads_of, networks.causal(length), normal(*shape)


def reprojection(
    cameras: int, points: int, observations: int
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array, jax.Array]:
    """A scene in front of its cameras, and who saw what where."""
    normal = Normal()
    distant = jnp.array([0.0, 0.0, -8.0])
    parts = [
        normal(cameras, 3, scale=0.3),
        normal(cameras, 3) + distant,
        1.0 + normal(cameras, 1, scale=0.1),
        normal(cameras, 2, scale=0.01),
    ]
    scene = {"cameras": jnp.concatenate(parts, axis=1), "points": normal(points, 3)}
    who = normal.below(cameras, observations), normal.below(points, observations)
    return scene, *who, normal(observations, 2)


def kalman_filter(time: int, states: int, seen: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """A linear Gaussian model, and what was observed."""
    normal = Normal()
    params = {
        "transition": 0.9 * jnp.eye(states) + normal(states, states, scale=0.05),
        "emission": normal(seen, states),
        "log_process": normal(states, scale=0.1),
        "log_noise": normal(seen, scale=0.1),
    }
    return params, normal(time, seen)


def flux(cells: int) -> tuple[jax.Array, jax.Array]:
    """Cell values, and the target."""
    normal = Normal()
    return normal(cells), normal(cells)


def mixture(examples: int, inputs: int, parts: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """A mixture of Gaussians, and examples."""
    normal = Normal()
    params = {
        "logits": normal(parts),
        "means": normal(parts, inputs),
        "log_scales": normal(parts, inputs, scale=0.3),
    }
    return params, normal(examples, inputs)


PROGRAMS = {
    "transformer": Program(
        networks.transformer_loss,
        transformer,
        {"batch": 2, "length": 3, "width": 4, "heads": 2, "hidden": 5},
        {"batch": 8, "length": 64, "width": 128, "heads": 4, "hidden": 512},
        networks.transformer_block,
        2,
    ),
    "residual network": Program(
        networks.residual_network_loss,
        residual_network,
        {"images": 2, "side": 4, "channels": 2, "first": 2, "second": 3, "classes": 3},
        {"images": 16, "side": 16, "channels": 3, "first": 16, "second": 32, "classes": 10},
        networks.residual_network,
        2,
    ),
    "lstm": Program(
        networks.lstm_loss,
        lstm,
        {"time": 3, "batch": 2, "inputs": 2, "hidden": 3},
        {"time": 64, "batch": 32, "inputs": 32, "hidden": 64},
        networks.lstm,
        2,
    ),
    "gaussian process": Program(
        models.gaussian_process,
        gaussian_process,
        {"count": 6, "inputs": 2},
        {"count": 400, "inputs": 4},
    ),
    "neural ode": Program(
        physics.neural_ode_loss,
        neural_ode,
        {"batch": 2, "states": 2, "hidden": 3},
        {"batch": 64, "states": 8, "hidden": 64},
        physics.neural_ode,
        2,
    ),
    "masked attention": Program(
        networks.masked_attention_loss,
        masked_attention,
        {"batch": 2, "heads": 2, "length": 3, "size": 2},
        {"batch": 4, "heads": 4, "length": 128, "size": 32},
        networks.masked_attention,
        2,
    ),
    "reprojection": Program(
        physics.reprojection_loss,
        reprojection,
        {"cameras": 2, "points": 4, "observations": 5},
        {"cameras": 20, "points": 2_000, "observations": 10_000},
        physics.reprojection,
        4,
    ),
    "kalman filter": Program(
        models.kalman_filter_loss,
        kalman_filter,
        {"time": 4, "states": 3, "seen": 2},
        {"time": 200, "states": 8, "seen": 4},
        models.kalman_filter,
        2,
    ),
    "flux": Program(
        physics.flux_loss,
        flux,
        {"cells": 8},
        {"cells": 65_536},
        physics.flux_difference,
        1,
    ),
    "mixture": Program(
        models.mixture_loss,
        mixture,
        {"examples": 5, "inputs": 2, "parts": 3},
        {"examples": 5_000, "inputs": 8, "parts": 16},
        models.mixture,
        2,
    ),
}
"""All of them, by name."""
