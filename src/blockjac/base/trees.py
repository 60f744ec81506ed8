"""JAX's trees with types: those of `jax.tree` are unknown to type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def flattened(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure, as by `jax.tree.flatten`."""
    return jax.tree.flatten(tree, is_leaf=is_leaf)


def leaves_with_path(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves of a tree, each with its path, as by `jax.tree.leaves_with_path`."""
    return jax.tree.leaves_with_path(tree, is_leaf=is_leaf)


def tree_structure(tree: Any) -> Any:
    """The structure of a tree, as by `jax.tree.structure`."""
    return jax.tree.structure(tree)


def mapped(
    function: Callable[[Any], Any], tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """The tree with a function of each leaf, as by `jax.tree.map` of one tree."""
    return jax.tree.map(function, tree, is_leaf=is_leaf)
