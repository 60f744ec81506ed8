"""What the functions and the data of a nonlinear program must be, with messages that name them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import leaves_with_path, tree_structure
from blockjac.errors import (
    ArgumentError,
    NonScalarLossError,
    ParameterTypeError,
    ShapeMismatchError,
)
from blockjac.interop.sparse_structure import fits, promoted, shape_of_leaf


def check_functions(objective: Any, constraints: Any) -> None:
    """Raise unless both are functions.

    Raises:
        ArgumentError: says how several constraints are given.
    """
    if not callable(objective):
        raise ArgumentError(
            f"the objective must be a function of x, but is of type {type(objective).__name__}"
        )
    if constraints is not None and not callable(constraints):
        raise ArgumentError(
            "constraints must be one function of x, whose results may be a tree, such as "
            "lambda x: (first(x), second(x)) with constraint_bounds for each; but is of type "
            f"{type(constraints).__name__}"
        )


def check_objective(found: Any) -> None:
    """Raise unless the objective gives one real number.

    Args:
        found: the shape of its result.

    Raises:
        NonScalarLossError: says what it gives.
    """
    wanted = "the objective must be one real number, of shape (), but"
    if not hasattr(found, "shape"):
        raise NonScalarLossError(f"{wanted} gives the tree {tree_structure(found)}")
    if found.shape != ():
        raise NonScalarLossError(f"{wanted} has shape {found.shape}; sum it")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise NonScalarLossError(
            f"{wanted} is {found.dtype}; give a float, such as 0.0 where any point will do"
        )


def check_constraints(found: Any) -> None:
    """Raise unless the constraints give real numbers.

    Args:
        found: the shapes of their results.

    Raises:
        ParameterTypeError: names the array that is not real.
    """
    for path, leaf in leaves_with_path(found):
        name = f"constraints(x){jax.tree_util.keystr(path)}"
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ParameterTypeError(
                f"{name} is {leaf.dtype}; wanted real numbers: give the real and the imaginary part"
            )
        if leaf.dtype == bool:
            raise ParameterTypeError(
                f"{name} is bool; wanted real numbers: of `a <= b` give `a - b`, with "
                "constraint_bounds=(None, 0.0)"
            )


def check_count(found: int, wanted: int) -> None:
    """Raise unless there are as many constraints as when the program was made.

    Raises:
        ShapeMismatchError: says why their number is fixed.
    """
    if found != wanted:
        raise ShapeMismatchError(
            f"the constraints are {found} numbers now, but were {wanted} when the program was "
            "made; a solver is told their places once, so make another program with interop.nlp"
        )


def like_example(tree: Any, example: Any, name: str) -> Any:
    """A tree of data, of the dtypes of an example.

    Args:
        tree: of arrays or numbers.
        example: a tree of shapes and dtypes.
        name: of the data, for messages.

    Raises:
        ShapeMismatchError: if the trees or shapes differ, or if numbers would be lost.
    """
    found, wanted = tree_structure(tree), tree_structure(example)
    if found != wanted:
        raise ShapeMismatchError(
            f"{name} has the tree {found}, but had {wanted} when the program was made"
        )
    leaves: list[Any] = []
    for (path, leaf), like in zip(leaves_with_path(tree), jax.tree.leaves(example), strict=True):
        own = shape_of_leaf(leaf)
        if not fits(own, like):
            raise ShapeMismatchError(
                f"{name}{jax.tree_util.keystr(path)} is {own.dtype}{list(own.shape)}, but was "
                f"{like.dtype}{list(like.shape)} when the program was made; other shapes need "
                "another program"
            )
        leaves.append(promoted(leaf, like))
    return jax.tree.unflatten(wanted, leaves)
