"""BA: bundle adjustment with cameras of eleven parameters and a weight for each observation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZES = {
    "ba1": (49, 7_776, 31_843),
    "ba4": (372, 47_423, 204_472),
    "ba10": (1_197, 126_327, 563_734),
    "ba14": (356, 226_730, 1_255_268),
    "ba16": (1_544, 942_409, 4_750_193),
}
"""Cameras, points and observations of problems of ADBench."""


def arguments(cameras: int, points: int, observations: int) -> tuple[Any, ...]:
    """Cameras, points and weights; then who is seen by whom, and where.

    The pairs of camera and point are constants of the problem: arrays of NumPy.
    """
    generator = np.random.default_rng(0)
    cams = np.concatenate(
        [
            0.1 * generator.normal(size=(cameras, 3)),
            generator.normal(size=(cameras, 3)) - np.array([0, 0, 10.0]),
            500 + generator.normal(size=(cameras, 1)),
            generator.normal(size=(cameras, 2)),
            0.01 * generator.normal(size=(cameras, 2)),
        ],
        axis=1,
    )
    pairs = np.stack(
        [generator.integers(cameras, size=observations), np.arange(observations) % points], axis=1
    )
    return (
        jnp.asarray(cams),
        jnp.asarray(generator.normal(size=(points, 3))),
        jnp.asarray(generator.uniform(0.5, 1, size=observations)),
        pairs,
        jnp.asarray(generator.normal(size=(observations, 2))),
    )


def rotated(turn: jax.Array, point: jax.Array) -> jax.Array:
    """Points `(..., 3)` turned about axes by angles: the direction and length of `turn`."""
    square = jnp.sum(turn**2, axis=-1, keepdims=True)
    angle = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    axis = turn / angle
    along = axis * jnp.sum(axis * point, axis=-1, keepdims=True) * (1 - jnp.cos(angle))
    turned = point * jnp.cos(angle) + jnp.cross(axis, point) * jnp.sin(angle) + along
    return jnp.where(square > 0, turned, point + jnp.cross(turn, point))


def projected(camera: jax.Array, point: jax.Array) -> jax.Array:
    """Where cameras `(..., 11)` see points `(..., 3)`.

    A camera is its turn (3), centre (3), focal length, principal point (2), and two coefficients of
    radial distortion.
    """
    seen = rotated(camera[..., :3], point - camera[..., 3:6])
    plane = seen[..., :2] / seen[..., 2:]
    square = jnp.sum(plane**2, axis=-1, keepdims=True)
    distortion = 1 + camera[..., 9:10] * square + camera[..., 10:] * square**2
    return camera[..., 6:7] * distortion * plane + camera[..., 7:9]


def residuals(
    cameras: jax.Array, points: jax.Array, weights: jax.Array, pairs: np.ndarray, seen: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted errors of reprojection `(p, 2)`, and what keeps the weights near to 1 `(p,)`."""
    places = projected(cameras[pairs[:, 0]], points[pairs[:, 1]])
    return weights[:, None] * (places - seen), 1 - weights**2
