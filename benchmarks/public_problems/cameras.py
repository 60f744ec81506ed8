"""The camera of bundle adjustment in the large (BAL)."""

import jax
import jax.numpy as jnp


def project(camera: jax.Array, point: jax.Array) -> jax.Array:
    """Rodrigues' rotation, translation, focal length and two radial distortions."""
    turn = camera[:, :3]
    angle = jnp.sqrt(jnp.sum(turn**2, axis=1, keepdims=True) + 1e-12)
    axis = turn / angle
    along = axis * jnp.sum(axis * point, axis=1, keepdims=True) * (1 - jnp.cos(angle))
    turned = point * jnp.cos(angle) + jnp.cross(axis, point) * jnp.sin(angle) + along
    moved = turned + camera[:, 3:6]
    plane = -moved[:, :2] / moved[:, 2:]
    radius = jnp.sum(plane**2, axis=1, keepdims=True)
    return camera[:, 6:7] * (1 + camera[:, 7:8] * radius + camera[:, 8:9] * radius**2) * plane
