"""HT: a hand of 22 bones that is fitted to measured points.

Each vertex of its surface follows several bones (linear blend skinning). In the simple problem a
measured point belongs to a vertex, in the complicated one to a place in a triangle, which is two
more unknowns a point.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

FINGERS, BONES_OF_FINGER = 5, 4
PARENTS = (-1, *(0 if bone == 0 else -2 for _ in range(FINGERS) for bone in range(4)), 0)
"""The bone that each hangs on: -1 for none, -2 for the one before. Wrist, fingers, forearm."""
BONES = len(PARENTS)
ANGLES = 26


@dataclass(frozen=True)
class Hand:
    """The hand at rest, and what was measured.

    Attributes:
        relatives: `(bones, 4, 4)`, each bone in the frame of its parent.
        to_bones: `(bones, 4, 4)`, from the hand's frame to that of each bone at rest.
        vertices: `(4, vertices)`, at rest, in homogeneous coordinates.
        weights: `(bones, vertices)`: how much a vertex follows a bone.
        triangles: `(triangles, 3)`, vertices.
        measured: `(3, points)`.
        belongs: `(points,)`: to which vertex or triangle a measured point belongs.
    """

    relatives: np.ndarray
    to_bones: np.ndarray
    vertices: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    measured: np.ndarray
    belongs: np.ndarray


def parent_of(bone: int) -> int:
    """The number of the bone that a bone hangs on; -1 for none."""
    return bone - 1 if PARENTS[bone] == -2 else PARENTS[bone]


def rigid(generator: np.random.Generator) -> np.ndarray:
    """A rotation and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    matrix[:3, 3] = generator.normal(size=3)
    return matrix


def hand(points: int, vertices: int = 544, triangles: int = 1_084) -> Hand:
    """A random hand with so many measured points."""
    generator = np.random.default_rng(0)
    relatives = np.stack([rigid(generator) for _ in range(BONES)])
    absolutes = list(relatives)
    for bone in range(BONES):
        if parent_of(bone) >= 0:
            absolutes[bone] = absolutes[parent_of(bone)] @ relatives[bone]
    weights = generator.random((BONES, vertices)) ** 4
    return Hand(
        relatives,
        np.linalg.inv(np.stack(absolutes)),
        np.concatenate([generator.normal(size=(3, vertices)), np.ones((1, vertices))]),
        weights / weights.sum(0),
        generator.integers(vertices, size=(triangles, 3)),
        generator.normal(size=(3, points)),
        generator.integers(vertices, size=points),
    )


def arguments(points: int) -> tuple[jax.Array, jax.Array]:
    """The 26 angles and shifts, and two coordinates in its triangle for each point."""
    generator = np.random.default_rng(1)
    theta = 0.3 * generator.normal(size=ANGLES)
    return jnp.asarray(theta), jnp.asarray(generator.uniform(0, 0.5, size=(points, 2)))


def by_axis(turn: jax.Array) -> jax.Array:
    """The rotation about an axis by the length of `turn`: Rodrigues' formula."""
    angle = jnp.sqrt(jnp.sum(turn**2))
    x, y, z = turn / angle
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return jnp.eye(3) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * cross @ cross


def by_euler(x: jax.Array, z: jax.Array, y: jax.Array) -> jax.Array:
    """The homogeneous matrix of the turns `Rz Ry Rx`."""
    zero, one = jnp.zeros_like(x), jnp.ones_like(x)

    def matrix(*entries: jax.Array) -> jax.Array:
        return jnp.stack(entries).reshape(3, 3)

    about_x = matrix(one, zero, zero, zero, jnp.cos(x), -jnp.sin(x), zero, jnp.sin(x), jnp.cos(x))
    about_y = matrix(jnp.cos(y), zero, jnp.sin(y), zero, one, zero, -jnp.sin(y), zero, jnp.cos(y))
    about_z = matrix(jnp.cos(z), -jnp.sin(z), zero, jnp.sin(z), jnp.cos(z), zero, zero, zero, one)
    turn = about_z @ about_y @ about_x
    return jnp.eye(4).at[:3, :3].set(turn)


def pose(theta: jax.Array) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
    """The three angles of each bone: fingers bend at three joints, and spread at the first."""
    none = jnp.zeros_like(theta[0])
    angles = [(none, none, none)] * BONES
    following = iter(range(6, ANGLES))
    for finger in range(FINGERS):
        for joint in range(1, BONES_OF_FINGER):
            bend = theta[next(following)]
            spread = theta[next(following)] if joint == 1 else none
            angles[finger * BONES_OF_FINGER + joint] = (bend, spread, none)
    return angles


def surface(theta: jax.Array, hand: Hand) -> jax.Array:
    """The vertices `(3, vertices)` of the posed hand."""
    absolutes: list[jax.Array] = []
    for bone, angles in enumerate(pose(theta)):
        own = hand.relatives[bone] @ by_euler(*angles)
        parent = parent_of(bone)
        absolutes.append(own if parent < 0 else absolutes[parent] @ own)
    moves = jnp.stack(absolutes) @ hand.to_bones
    follow = jnp.einsum("bij,jv->biv", moves, hand.vertices)[:, :3]
    blended = jnp.einsum("biv,bv->iv", follow, hand.weights)
    return by_axis(theta[:3]) @ blended + theta[3:6, None]


def simple(theta: jax.Array, hand: Hand) -> jax.Array:
    """Measured points minus their vertices, `(points, 3)`."""
    return (hand.measured - surface(theta, hand)[:, hand.belongs]).T


def complicated(theta: jax.Array, inside: jax.Array, hand: Hand) -> jax.Array:
    """Measured points minus places in their triangles, `(points, 3)`.

    Args:
        theta: angles and shifts.
        inside: `(points, 2)`, the first two barycentric coordinates of the places.
        hand: what is fitted to what.
    """
    corners = surface(theta, hand)[:, hand.triangles[hand.belongs]]
    first, second = inside[:, 0], inside[:, 1]
    places = (
        first * corners[..., 0] + second * corners[..., 1] + (1 - first - second) * corners[..., 2]
    )
    return (hand.measured - places).T
