"""The vectors of a BlockMatrix: trees of tensors, checked, flattened and put back together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape, as_array
from blockjac.base.compat import Tracer
from blockjac.errors import BlockShapeError, InvalidOptionError


def flat(given: Any) -> jax.Array:
    """The tensors of a tree after each other, each in row-major order."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(given)])


def tree(vector: Any, shapes: Sequence[Shape], structure: Any) -> Any:
    """The tree of tensors that a flat vector holds."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    parts = jnp.split(vector, ends[:-1])
    tensors = [jnp.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
    return jax.tree.unflatten(structure, tensors)


def shapes_of(given: Any) -> tuple[Shape, ...]:
    """The shapes of a tree's leaves."""
    return tuple(tuple(as_array(leaf).shape) for leaf in jax.tree.leaves(given))


def check(given: Any, structure: Any, shapes: Sequence[Shape], name: str) -> None:
    """Raise unless a tree has a structure and shapes.

    Args:
        given: the tree.
        structure: what it should be.
        shapes: of its leaves.
        name: of the method, for the message.

    Raises:
        BlockShapeError: names both.
    """
    found, found_shapes = jax.tree.structure(given), shapes_of(given)
    if found != structure or found_shapes != tuple(shapes):
        raise BlockShapeError(
            f"{name} needs a tree {structure} of shapes {tuple(shapes)}, but found {found} of "
            f"shapes {found_shapes}"
        )


def check_damping(damping: Any) -> None:
    """Raise for a damping that is no number, and where the value is known for one below 0.

    Raises:
        InvalidOptionError: says what it is.
    """
    is_number = isinstance(damping, int | float | np.generic | np.ndarray | jax.Array)
    if not is_number or np.ndim(damping) or not jnp.isrealobj(damping):
        raise InvalidOptionError(
            f"damping must be a real number or an array of shape (), but is {damping!r}"
        )
    if not isinstance(damping, Tracer) and not float(damping) >= 0:
        raise InvalidOptionError(f"damping must not be negative, but is {damping}")
