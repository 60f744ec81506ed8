"""Bounds of trees of arrays, as flat vectors."""

from __future__ import annotations

from typing import Any, cast

import jax
import numpy as np

from blockjac.errors import InvalidOptionError, ShapeMismatchError

Bounds = tuple[Any, Any]
"""Lower and upper bound: a number, an array, a tree of them, or None for no bound."""


def bounds_like(bounds: Bounds | None, tree: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of all numbers of a tree.

    Args:
        bounds: the pair, each side a number, an array, or a tree that begins like `tree`.
        tree: of arrays.
        name: of the option, for messages.

    Raises:
        InvalidOptionError: for what is not a pair, for nan, and for a lower bound above the upper.
        ShapeMismatchError: for a side that does not fit.
    """
    if bounds is None:
        bounds = (None, None)
    if not _is_pair(bounds):
        raise InvalidOptionError(
            f"{name} must be a pair (lower, upper), with None for no bound, but is {bounds!r}"
        )
    lower = _side(bounds[0], tree, -np.inf, f"the lower side of {name}")
    upper = _side(bounds[1], tree, np.inf, f"the upper side of {name}")
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise InvalidOptionError(f"{name} contains nan; use -inf and inf, or None, for no bound")
    above = np.flatnonzero(lower > upper)
    if len(above):
        first = above[0]
        raise InvalidOptionError(
            f"{len(above)} of the {name} have a lower bound above the upper one, the first at "
            f"number {first} of the flattened tree: {lower[first]} > {upper[first]}"
        )
    return lower, upper


def _is_pair(bounds: Any) -> bool:
    return isinstance(bounds, tuple | list) and len(cast("tuple[Any, ...]", bounds)) == 2


def _side(side: Any, tree: Any, nothing: float, name: str) -> np.ndarray:
    """One side for all numbers of a tree."""
    leaves = jax.tree.leaves(tree)
    try:
        spread = jax.tree.broadcast(
            nothing if side is None else side, tree, is_leaf=lambda leaf: leaf is None
        )
    except ValueError as error:
        raise ShapeMismatchError(
            f"{name} must be a number or a tree like {jax.tree.structure(tree)}, but is "
            f"{jax.tree.structure(side)}"
        ) from error
    parts: list[np.ndarray] = []
    for bound, leaf in zip(
        jax.tree.leaves(spread, is_leaf=lambda part: part is None), leaves, strict=True
    ):
        array = np.asarray(nothing if bound is None else bound, float)
        try:
            parts.append(np.broadcast_to(array, np.shape(leaf)).ravel())
        except ValueError as error:
            raise ShapeMismatchError(
                f"{name} has an array of shape {array.shape} for one of shape {np.shape(leaf)}"
            ) from error
    return np.concatenate([np.zeros(0), *parts])
