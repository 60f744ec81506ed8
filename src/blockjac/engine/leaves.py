"""Leaves of arguments and results: which of them are arrays, and of what type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.trees import flattened

NUMBERS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
"""What JAX takes for an array."""


TRACED = (jax.Array, np.ndarray, np.generic, float, complex)
"""What is traced of the other arguments; ints, bools and all else stay Python values."""


def is_array(leaf: Any) -> bool:
    """Whether JAX takes a leaf for an array: a number, or an array of numbers or of random keys."""
    return isinstance(leaf, NUMBERS) and (
        isinstance(leaf, jax.Array) or np.asarray(leaf).dtype.kind not in "OSTUMm"
    )


def dtype_of(leaf: Any) -> Any:
    """The dtype that JAX gives an array or a number; of its own arrays without a detour."""
    return leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)


def is_real_array(leaf: Any) -> bool:
    """Whether a leaf is one of JAX's own arrays, of one of NumPy's real dtypes: most are."""
    return isinstance(leaf, jax.Array) and leaf.dtype.kind == "f"


def float0_zeros(shape: Sequence[int]) -> np.ndarray:
    """The derivative by an integer, or of one: zeros of JAX's dtype for "no derivative"."""
    return np.zeros(tuple(shape), jax.dtypes.float0)


def separated(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The leaves of a tree that are traced, and what makes the tree of others in their places.

    Examples:
        >>> arrays, rebuilt = separated(({"x": 1.0, "steps": 3}, 2.0))
        >>> arrays, rebuilt([5.0, 6.0])
        ([1.0, 2.0], ({'steps': 3, 'x': 5.0}, 6.0))
    """
    leaves, structure = flattened(tree)
    moves = [isinstance(leaf, TRACED) for leaf in leaves]

    def rebuilt(arrays: Sequence[Any]) -> Any:
        """The tree with these arrays; all other leaves are as they were."""
        traced = iter(arrays)
        full = [next(traced) if own else leaf for leaf, own in zip(leaves, moves, strict=True)]
        return jax.tree.unflatten(structure, full)

    return [leaf for leaf, own in zip(leaves, moves, strict=True) if own], rebuilt
