"""Arithmetic and checks on trees of parameters."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from blockjac.base.trees import leaves_with_path, tree_structure
from blockjac.errors import (
    InvalidOptionError,
    NonFiniteLossError,
    NonScalarLossError,
    ParameterTypeError,
    ShapeMismatchError,
)

Params = TypeVar("Params")


def as_arrays(tree: Any) -> Any:
    """The tree with its leaves as arrays of JAX."""

    def array(leaf: ArrayLike) -> Array:
        return jnp.asarray(leaf)

    return jax.tree.map(array, tree)


def joined(parts: Sequence[Any]) -> Any:
    """A trace of all rows from the traces of its parts, on the host."""

    def column(*columns: Any) -> np.ndarray:
        return np.concatenate(columns)

    return jax.tree.map(column, *parts)


def number(value: Any) -> float:
    """An option as a number; nan, which is in no range, if it is none.

    Examples:
        >>> number(0.5), number("a"), number(None)
        (0.5, nan, nan)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def check_count(name: str, value: Any, suffix: str = "") -> None:
    """Refuse an option that is not a whole number of at least 1.

    Args:
        name: of the option.
        value: what was given.
        suffix: what else it might be, for the message.

    Raises:
        InvalidOptionError: In that case.

    Examples:
        >>> check_count("max_steps", 10)
    """
    if not (number(value) >= 1 and number(value).is_integer()):
        raise InvalidOptionError(f"{name} is {value}; wanted a whole number of at least 1{suffix}")


def check_tolerance(name: str, value: Any) -> None:
    """Refuse a tolerance that is not from 0, which leaves its test out, to below 1.

    Args:
        name: of the option.
        value: what was given.

    Raises:
        InvalidOptionError: In that case.

    Examples:
        >>> check_tolerance("ftol", 1e-8)
    """
    if not 0 <= number(value) < 1:
        raise InvalidOptionError(
            f"{name} is {value}; wanted a number from 0, which leaves it out, to 1"
        )


def check_finite_start(loss: Any) -> None:
    """Refuse to search from where the loss is infinite or nan.

    Args:
        loss: its value there.

    Raises:
        NonFiniteLossError: In that case.

    Examples:
        >>> check_finite_start(0.5)
    """
    if not np.isfinite(loss):
        raise NonFiniteLossError(
            f"the loss at the params given is {loss}; wanted a finite number: "
            "look for nan in the data, or start from smaller params"
        )


def move(params: Params, step: ArrayLike, direction: Params) -> Params:
    """The parameters a step further along a direction, `params + step * direction`.

    Args:
        params: Any pytree of arrays.
        step: Scalar.
        direction: The same tree of the same shapes.

    Returns:
        The same tree, in the dtypes of `params`.

    Examples:
        >>> print(move({"w": jnp.zeros(2)}, 0.5, {"w": jnp.array([2.0, 4.0])})["w"])
        [1. 2.]
    """

    def moved(value: Array, change: Array) -> Array:
        value = jnp.asarray(value)
        return value + jnp.asarray(step, value.dtype) * jnp.asarray(change, value.dtype)

    return jax.tree.map(moved, params, direction)


def inner_product(left: Any, right: Any) -> Array:
    """The sum over all leaves and entries of the products of two trees.

    Args:
        left: Any pytree of real arrays.
        right: The same tree of the same shapes.

    Returns:
        Scalar array; 0 for trees without leaves.

    Examples:
        >>> print(inner_product((jnp.ones(3), 2.0), (jnp.ones(3), 4.0)))
        11.0
    """

    def product(a: Array, b: Array) -> Array:
        return jnp.sum(a * b)

    products = jax.tree.map(product, left, right)
    return jnp.asarray(sum(jax.tree.leaves(products)))


def check_alike(params: Any, tree: Any, name: str) -> None:
    """Refuse a tree that does not match the parameters.

    Args:
        params: Any pytree of arrays.
        tree: The tree to check.
        name: What it is, for the message.

    Raises:
        ShapeMismatchError: If the trees or a leaf's shapes differ.

    Examples:
        >>> check_alike([jnp.ones(2)], [jnp.zeros(2)], "gradient")
    """
    wanted, structure = tree_structure(params), tree_structure(tree)
    if wanted != structure:
        raise ShapeMismatchError(f"{name} is the tree {structure}; wanted that of params, {wanted}")
    leaves = zip(leaves_with_path(params), jax.tree.leaves(tree), strict=True)
    for (path, leaf), change in leaves:
        if jnp.shape(leaf) != jnp.shape(change):
            raise ShapeMismatchError(
                f"{name}{jax.tree_util.keystr(path)} has shape {jnp.shape(change)}; "
                f"wanted that of params{jax.tree_util.keystr(path)}, {jnp.shape(leaf)}"
            )


def check_scalar(loss: Callable[..., ArrayLike], params: Any, *data: Any) -> None:
    """Refuse a loss that does not give one real number, without evaluating it.

    Args:
        loss: `loss(params, *data)`.
        params: Any pytree of arrays.
        *data: Further arguments of the loss.

    Raises:
        NonScalarLossError: If the loss gives anything but one real number.

    Examples:
        >>> check_scalar(jnp.sum, jnp.ones(3))
    """
    result = jax.eval_shape(loss, params, *data)
    leaves = jax.tree.leaves(result)
    if len(leaves) != 1 or result is not leaves[0]:
        raise NonScalarLossError(f"the loss gives {result}; wanted one real number")
    if result.shape != () or not jnp.issubdtype(result.dtype, jnp.floating):
        raise NonScalarLossError(
            f"the loss gives {result.dtype}{list(result.shape)}; wanted one real number, "
            "such as the mean or the sum of it"
        )


def check_real(params: Any) -> None:
    """Refuse parameters that a step along a gradient has no meaning for.

    Args:
        params: Any pytree.

    Raises:
        ParameterTypeError: If a leaf is not real.

    Examples:
        >>> check_real([1.0, jnp.ones(2)])
    """
    for path, leaf in leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            name = f"params{jax.tree_util.keystr(path)}"
            raise ParameterTypeError(
                f"{name} is {dtype}; wanted real numbers: "
                "pass a float array here, and what is not to be trained as data, after the params"
            )
