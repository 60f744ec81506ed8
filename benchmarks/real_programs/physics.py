"""Geometry and physics as they are written in plain JAX."""

import jax
import jax.numpy as jnp
from jax import lax

Params = dict[str, jax.Array]


def neural_ode(params: Params, state: jax.Array, steps: int = 40) -> jax.Array:
    """The states `(batch, n)` at time 1 of `y' = mlp(y)`, by Runge-Kutta of fourth order."""

    def slope(y: jax.Array) -> jax.Array:
        return jnp.tanh(y @ params["W_1"] + params["b_1"]) @ params["W_2"] + params["b_2"]

    width = 1.0 / steps

    def step(y: jax.Array, _: None) -> tuple[jax.Array, None]:
        k_1 = slope(y)
        k_2 = slope(y + 0.5 * width * k_1)
        k_3 = slope(y + 0.5 * width * k_2)
        k_4 = slope(y + width * k_3)
        return y + width / 6.0 * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4), None

    return lax.scan(step, state, None, length=steps)[0]


def neural_ode_loss(params: Params, state: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of the states at time 1."""
    return jnp.mean((neural_ode(params, state) - target) ** 2)


def rotated(vectors: jax.Array, points: jax.Array) -> jax.Array:
    """Points `(n, 3)` rotated by rotation vectors `(n, 3)`: the formula of Rodrigues."""
    square = jnp.sum(vectors**2, axis=1, keepdims=True)
    tiny = square < 1e-12
    angle = jnp.sqrt(jnp.where(tiny, 1.0, square))
    axis = vectors / angle
    along = jnp.sum(axis * points, axis=1, keepdims=True)
    turned = (
        jnp.cos(angle) * points
        + jnp.sin(angle) * jnp.cross(axis, points)
        + (1.0 - jnp.cos(angle)) * along * axis
    )
    return jnp.where(tiny, points + jnp.cross(vectors, points), turned)


def reprojection(
    scene: Params, camera_of: jax.Array, point_of: jax.Array, observed: jax.Array
) -> jax.Array:
    """Bundle adjustment: residuals `(n, 2)` of the points as the cameras see them.

    Args:
        scene: "cameras" `(c, 9)`: rotation vector, translation, focal length, two distortions; and
            "points" `(p, 3)`.
        camera_of: the camera of each observation, `(n,)`.
        point_of: the point of each observation, `(n,)`.
        observed: where it was seen, `(n, 2)`.
    """
    cameras = scene["cameras"][camera_of]
    points = rotated(cameras[:, :3], scene["points"][point_of]) + cameras[:, 3:6]
    image = -points[:, :2] / points[:, 2:3]
    radius = jnp.sum(image**2, axis=1)
    distortion = 1.0 + radius * (cameras[:, 7] + radius * cameras[:, 8])
    return (cameras[:, 6] * distortion)[:, None] * image - observed


def reprojection_loss(
    scene: Params, camera_of: jax.Array, point_of: jax.Array, observed: jax.Array
) -> jax.Array:
    """Half the sum of squares."""
    return 0.5 * jnp.sum(reprojection(scene, camera_of, point_of, observed) ** 2)


def minmod(a: jax.Array, b: jax.Array) -> jax.Array:
    """The slope of smaller size where both have one sign, else zero."""
    smaller = jnp.where(a > 0, jnp.minimum(a, b), jnp.maximum(a, b))
    return jnp.where(a * b > 0, smaller, 0.0)


def flux_difference(u: jax.Array) -> jax.Array:
    """The rate of change `(n,)` of cells `u (n,)` on a ring, under the equation of Burgers.

    Second order by slopes that minmod limits; Rusanov's flux between the cells.
    """
    slope = minmod(u - jnp.roll(u, 1), jnp.roll(u, -1) - u)
    left, right = u + 0.5 * slope, jnp.roll(u - 0.5 * slope, -1)
    speed = jnp.maximum(jnp.abs(left), jnp.abs(right))
    flux = 0.25 * (left**2 + right**2) - 0.5 * speed * (right - left)
    return -(flux - jnp.roll(flux, 1)) * len(u)


def flux_loss(u: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of the state after one short step."""
    return jnp.mean((u + 0.1 / len(u) * flux_difference(u) - target) ** 2)
