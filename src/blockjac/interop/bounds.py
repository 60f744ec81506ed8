"""Bounds of trees of arrays, as flat vectors."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np

from blockjac.base.trees import flattened, tree_structure
from blockjac.errors import InvalidOptionError, ShapeMismatchError

Bounds = tuple[Any, Any]
"""Lower and upper bound: a number, an array, a tree of them, or None for no bound."""


def bounds_like(bounds: Bounds | None, tree: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of all numbers of a tree.

    Args:
        bounds: the pair, each side a number, an array, or a tree that begins like `tree`. Within a
            tuple `(lower, upper)` a list of numbers is an array too.
        tree: of arrays.
        name: of the option, for messages.

    Raises:
        InvalidOptionError: for what is not a pair of real numbers, for nan, and for a lower bound
            above the upper.
        ShapeMismatchError: for a side that does not fit.
    """
    if bounds is None:
        bounds = (None, None)
    if not _is_pair(bounds):
        raise InvalidOptionError(
            f"{name} must be a pair (lower, upper), with None for no bound, but is "
            f"{reprlib.repr(bounds)}{_hint(bounds)}"
        )
    # a list of lists may just as well be SciPy's, with a pair for each of two variables
    has_lists = isinstance(cast("Any", bounds), tuple)
    lower = _side(bounds[0], tree, -np.inf, f"the lower side of {name}", has_lists)
    upper = _side(bounds[1], tree, np.inf, f"the upper side of {name}", has_lists)
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


def _side(side: Any, tree: Any, nothing: float, name: str, has_lists: bool) -> np.ndarray:
    """One side for all numbers of a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=_is_none)
    found = _prefix(side, tree)
    if found is None and has_lists:
        found = _lists(side, tree)
    if found is None:
        raise ShapeMismatchError(
            f"{name} must be a number or a tree like {tree_structure(tree)}, but is "
            f"{tree_structure(side)}{_hint(side)}"
        )
    parts: list[np.ndarray] = []
    for bound, leaf in zip(found, leaves, strict=True):
        if leaf is None:  # a place of the tree that holds no numbers
            continue
        array = _numbers(bound, nothing, name)
        try:
            parts.append(np.broadcast_to(array, np.shape(leaf)).ravel())
        except ValueError as error:
            raise ShapeMismatchError(
                f"{name} has an array of shape {array.shape} for one of shape {np.shape(leaf)}"
            ) from error
    return np.concatenate([np.zeros(0), *parts])


def _prefix(side: Any, tree: Any) -> Sequence[Any] | None:
    """For each leaf what a side that begins like the tree has there; None if it does not."""
    try:
        spread = jax.tree.broadcast(side, tree, is_leaf=_is_none)
    except ValueError:
        return None
    return jax.tree.leaves(spread, is_leaf=_is_none)


def _lists(side: Any, tree: Any) -> Sequence[Any] | None:
    """The same of a side that has lists of numbers in place of arrays."""
    _, structure = flattened(tree, _is_none)
    try:
        found: Sequence[Any] = structure.flatten_up_to(side)
    except ValueError:
        return None
    is_fitting = all(isinstance(part, list) or _is_none(part) or _is_leaf(part) for part in found)
    return found if is_fitting else None


def _numbers(bound: Any, nothing: float, name: str) -> np.ndarray:
    """The numbers of one array of bounds, in which None leaves a side open."""
    try:
        array: Any = np.asarray(nothing if bound is None else bound)
        if array.dtype == object:
            filled = [nothing if number is None else number for number in array.flat]
            array = np.asarray(filled, float).reshape(array.shape)
    except (TypeError, ValueError):
        array = None
    if array is None or not np.can_cast(array.dtype, float, "same_kind"):
        raise InvalidOptionError(f"{name} must be real numbers, but is {reprlib.repr(bound)}")
    return array.astype(float)


def _hint(found: Any) -> str:
    """What to do with SciPy's form of bounds, if it may be that."""
    is_sequence = isinstance(found, tuple | list)
    return "; a list of SciPy's, of pairs, is tuple(np.transpose(pairs))" if is_sequence else ""


def _is_leaf(node: Any) -> bool:
    return tree_structure(node) == tree_structure(0)


def _is_none(node: Any) -> bool:
    return node is None
