"""Data of a fit that are places: integers stay constants of the program.

Which camera sees which point decides which entries a Jacobian has. Arrays of integers are therefore
not arguments of the compiled program but known to it, and other integers have another program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.compat import is_traced
from blockjac.base.trees import flattened
from blockjac.engine.leaves import is_array
from blockjac.engine.run import compiled


def with_constant_integers(function: Callable[..., Any], params: Any, data: Sequence[Any]) -> Any:
    """`function(params, data)`, compiled, with the integers of the data as constants.

    Args:
        function: takes a tree of arrays and a tuple of trees, and gives a tree of arrays.
        params: passed as it is.
        data: whose arrays of integers are constants, unless a trace is under way.
    """
    leaves, tree = flattened(tuple(data))
    is_fixed = [_is_constant(leaf) for leaf in leaves]
    fixed = [_held(leaf) if own else None for leaf, own in zip(leaves, is_fixed, strict=True)]
    moving = [leaf for leaf, own in zip(leaves, is_fixed, strict=True) if not own]

    def of_arrays(params: Any, moving: Sequence[Any]) -> Any:
        """Put the data together again."""
        arrays = iter(moving)
        full = [next(arrays) if leaf is None else leaf for leaf in fixed]
        return function(params, jax.tree.unflatten(tree, full))

    return compiled(of_arrays)(params, moving)


def held(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Data with their constant integers as arrays of NumPy, which a trace leaves known."""
    leaves, tree = flattened(data)
    return jax.tree.unflatten(
        tree, [_held(leaf) if _is_constant(leaf) else leaf for leaf in leaves]
    )


def _is_constant(leaf: Any) -> bool:
    """Whether a leaf of the data is a constant of the program."""
    if is_traced(leaf):
        return False
    return not is_array(leaf) or bool(jnp.issubdtype(jnp.result_type(leaf), jnp.integer))


def _held(leaf: Any) -> Any:
    """An array of NumPy, which a program may depend on; what is not an array stays as it is."""
    is_held = isinstance(leaf, jax.Array | np.ndarray | np.generic)
    return np.asarray(cast("Any", leaf)) if is_held else leaf
