"""The vectors of a BlockMatrix: trees of tensors, checked, flattened and rebuilt."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape, as_array
from blockjac.base.compat import Tracer
from blockjac.base.trees import flattened
from blockjac.errors import BlockShapeError, InvalidOptionError

NUMBERS: tuple[type, ...] = (int, float, np.generic, np.ndarray, jax.Array)


def flat(given: Any) -> jax.Array:
    """The tensors of a tree as one vector, each in row-major order."""
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


def over_batch(
    method: Callable[..., Any], matrix: Any, tree: Any = None, shapes: Sequence[Shape] = ()
) -> Any:
    """A method for each matrix of a batch.

    Args:
        method: takes a matrix and, if there is one, a tree.
        matrix: the batch.
        tree: the argument: one for each matrix, or one for all of them.
        shapes: the shapes of the tree's leaves for one matrix.
    """
    if tree is None:
        return jax.vmap(method)(matrix)
    of_batch = tuple((*matrix.batch_shape, *shape) for shape in shapes)
    batched = shapes_of(tree) == of_batch
    return jax.vmap(method, in_axes=(0, 0 if batched else None))(matrix, tree)


def check(given: Any, structure: Any, shapes: Sequence[Shape], name: str) -> None:
    """Raise unless a tree has the right structure and shapes.

    Args:
        given: the tree.
        structure: its required structure.
        shapes: the required shapes of its leaves.
        name: the method, for the message.

    Raises:
        BlockShapeError: if they differ; names both.
    """
    own, own_shapes = flattened(given)[1], shapes_of(given)
    if own != structure or own_shapes != tuple(shapes):
        raise BlockShapeError(
            f"{name} needs a tree {structure} of shapes {tuple(shapes)}, but found {own} of "
            f"shapes {own_shapes}"
        )


def check_damping(damping: Any) -> None:
    """Raise unless a damping is a real number, and not negative if its value is known.

    Raises:
        InvalidOptionError: names the damping.
    """
    is_number = isinstance(damping, NUMBERS)
    if not is_number or np.ndim(damping) or not jnp.isrealobj(damping):
        raise InvalidOptionError(
            f"damping must be a real number or an array of shape (), but is {damping!r}"
        )
    if not isinstance(damping, Tracer) and not float(damping) >= 0:
        raise InvalidOptionError(f"damping must not be negative, but is {damping}")
