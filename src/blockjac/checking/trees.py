"""The tree of a given derivative beside that of the exact one."""

from __future__ import annotations

import math
from typing import Any, cast

import jax
import numpy as np

from blockjac.base.trees import flattened, leaves_with_path, tree_structure
from blockjac.blocks import Block, BlockMatrix
from blockjac.checking.report import Mistake
from blockjac.engine.leaves import NUMBERS, is_array
from blockjac.errors import DifferentiationTypeError

Pairs = list[tuple[Any, Any]]
"""Leaves that were given, arrays and Blocks, each with the exact one."""


def paired(given: Any, exact: Any) -> Pairs | Mistake:
    """The leaves of two trees side by side, or how the given tree differs.

    A list may stand for a tuple, and a tuple for a named one.

    Raises:
        DifferentiationTypeError: if a leaf is neither an array nor a Block.
    """
    if isinstance(given, BlockMatrix):
        given = _opened(given, exact)
    return _paired(given, exact, "")


def _paired(given: Any, exact: Any, path: str) -> Pairs | Mistake:
    """The leaves of two trees in pairs, or where the trees differ."""
    if is_leaf(exact):
        leaf = as_leaf(given)
        if leaf is None and _has_shape_beside(given):
            hint = (
                f"found a pair of an array and its shape{_where(path)}; return the array alone, "
                "the shapes of output and variable are known"
            )
            return Mistake("a pair with a shape", hint)
        if leaf is None:
            return _mismatch(given, exact, path)
        return [(leaf, exact)]
    if is_leaf(given) or given is None:
        return _mismatch(given, exact, path)
    exact_children, given_children = _children(exact), _children(given)
    alike = isinstance(given, tuple | list) and isinstance(exact, tuple | list)
    same_keys = list(exact_children) == list(given_children)
    if len(exact_children) != len(given_children) or not (alike or same_keys):
        return _mismatch(given, exact, path)
    pairs: Pairs = []
    children = zip(exact_children.items(), given_children.values(), strict=True)
    for (key, exact_child), given_child in children:
        child_pairs = _paired(given_child, exact_child, path + key)
        if isinstance(child_pairs, Mistake):
            return child_pairs
        pairs += child_pairs
    return pairs


def is_leaf(value: Any) -> bool:
    """Whether a value is an array, a number or a Block."""
    return isinstance(value, (Block, *NUMBERS))


def as_leaf(given: Any) -> Any:
    """A Block, or the array of a number, an array or nested lists of numbers; else None.

    Raises:
        DifferentiationTypeError: for an array of anything else.
    """
    if isinstance(given, Block):
        return given.dense() if given.batch_shape else given
    if isinstance(cast("object", given), NUMBERS):
        if not is_array(given) or getattr(given, "dtype", None) == jax.dtypes.float0:
            raise DifferentiationTypeError(
                f"a derivative is compared as arrays of numbers, but found {given!r} of type "
                f"{type(given)} in the given derivative"
            )
        return given if hasattr(given, "dtype") else np.asarray(given)
    if isinstance(given, list) and all(isinstance(number, NUMBERS) for number in _numbers(given)):
        try:
            array: Any = np.asarray(cast("list[Any]", given))
        except ValueError:  # rows of several lengths
            return None
        return array if is_array(array) else None
    if not isinstance(given, tuple | list | dict) and tree_structure(given) == LEAF:
        raise DifferentiationTypeError(
            f"a derivative is compared as arrays, Blocks and trees of these, but found {given!r} "
            f"of type {type(given)} in the given derivative"
        )
    return None


LEAF = tree_structure(0)


def _numbers(given: Any) -> list[Any]:
    """The entries of nested lists."""
    if not isinstance(given, list):
        return [given]
    return [number for row in cast("list[Any]", given) for number in _numbers(row)]


def entries(given: Any) -> list[tuple[int, ...]]:
    """The shapes of all arrays and Blocks of a tree; other leaves are skipped."""
    if isinstance(given, BlockMatrix):
        given = given.rows
    is_array_of_lists = isinstance(given, list) and as_leaf(given) is not None
    leaves: list[Any] = [given] if is_array_of_lists else flattened(given, is_leaf)[0]
    return [
        leaf.shape if isinstance(leaf, Block) else np.shape(cast("Any", leaf))
        for leaf in leaves
        if isinstance(leaf, Block | list) or is_array(leaf)
    ]


def size(shapes: list[tuple[int, ...]]) -> int:
    """How many entries arrays of these shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)


def _opened(matrix: BlockMatrix, exact: Any) -> Any:
    """The tree of a BlockMatrix; that of the exact derivative where the numbers of blocks agree."""
    blocks = [block for row in matrix.rows for block in row]
    leaves, tree = flattened(exact, is_leaf=is_leaf)
    return jax.tree.unflatten(tree, blocks) if len(blocks) == len(leaves) else matrix.tree()


def _children(tree: Any) -> dict[str, Any]:
    """What a tree holds one level down, by key."""
    children = leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    return {jax.tree_util.keystr(path): child for path, child in children}


def _mismatch(given: Any, exact: Any, path: str) -> Mistake:
    """The mistake of two trees that differ at a path."""
    hint = (
        f"found{_where(path)} {_described(given)}, wanted {_described(exact)}: outputs outside, "
        "and in place of each the tree of the arguments, a tuple where argnums is one"
    )
    return Mistake("wrong tree", hint)


def _where(path: str) -> str:
    return f" at {path}" if path else ""


def _has_shape_beside(given: Any) -> bool:
    """Whether an array comes with a shape, as the lecture's Jacobians do."""
    if not isinstance(given, tuple | list) or len(cast("Any", given)) != 2:
        return False
    array, shape = cast("Any", given)
    return (
        np.ndim(array) > 0
        and isinstance(shape, tuple)
        and all(isinstance(size, int) for size in cast("tuple[Any, ...]", shape))
    )


def _described(tree: Any) -> str:
    """A tree in a few words: its type and its keys, or the shape of an array."""
    if tree is None:
        return "None"
    if isinstance(tree, Block):
        return f"an array or Block of shape {tree.out_shape} + {tree.wrt_shape}"
    if is_leaf(tree):
        return f"an array of shape {np.shape(tree)}"
    children = _children(tree)
    name = type(tree).__name__
    if isinstance(tree, tuple | list):
        return f"a {name} of {len(children)}"
    return f"a {name} with {', '.join(children) or 'nothing'}"
