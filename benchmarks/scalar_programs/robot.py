"""The forward kinematics of a robot arm with six joints, a PUMA 560 with a tool.

Denavit and Hartenberg's rule: the frame after a joint of angle `theta` is reached by turning
about z by `theta`, moving along z by `d` and along x by `a`, then turning about x by `alpha`.
"""

import jax
import jax.numpy as jnp

Vector = tuple[jax.Array, jax.Array, jax.Array]

JOINTS = (
    (0.0, 0.0, 1),
    (0.0, 0.4318, 0),
    (0.15005, 0.0203, -1),
    (0.4318, 0.0, 1),
    (0.0, 0.0, -1),
    (0.0563, 0.0, 0),
)
"""`(d, a, sin alpha)` of each joint, in metres; alpha is 0 or a right angle."""


def robot_arm(
    t1: jax.Array, t2: jax.Array, t3: jax.Array, t4: jax.Array, t5: jax.Array, t6: jax.Array
) -> tuple[jax.Array, ...]:
    """Where the tool is and how it is turned, for six joint angles.

    Returns:
        x, y, z in metres, then the angles of roll, pitch and yaw.
    """
    zero, one = jnp.zeros_like(t1), jnp.ones_like(t1)
    place, along, across, upward = (
        (zero, zero, zero),
        (one, zero, zero),
        (zero, one, zero),
        (zero, zero, one),
    )
    for angle, (d, a, turn) in reversed(list(zip((t1, t2, t3, t4, t5, t6), JOINTS, strict=True))):
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        x, y, z = tilted(place, turn)
        place = turned((x + a, y, z + d), sine, cosine)
        along, across, upward = (
            turned(tilted(vector, turn), sine, cosine) for vector in (along, across, upward)
        )
    return (
        *place,
        jnp.arctan2(across[2], upward[2]),
        jnp.arctan2(-along[2], jnp.sqrt(along[0] ** 2 + along[1] ** 2)),
        jnp.arctan2(along[1], along[0]),
    )


def tilted(vector: Vector, turn: int) -> Vector:
    """Turned about x by a right angle times `turn`."""
    x, y, z = vector
    return {0: (x, y, z), 1: (x, -z, y), -1: (x, z, -y)}[turn]


def turned(vector: Vector, sine: jax.Array, cosine: jax.Array) -> Vector:
    """Turned about z."""
    x, y, z = vector
    return cosine * x - sine * y, sine * x + cosine * y, z
