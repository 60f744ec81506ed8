"""Auxiliary results: what a function returns beside its value, taken out of the trace as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.compat import is_made_by_jax
from blockjac.base.trees import flattened
from blockjac.engine.leaves import is_array
from blockjac.errors import DifferentiationTypeError


@dataclass(frozen=True, eq=False)
class Passed:
    """What of an auxiliary result no program computes.

    Attributes:
        tree: of the whole.
        leaves: those that are not JAX arrays, which are passed through; None for the others.
    """

    tree: Any
    leaves: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Auxiliary:
    """What a function returns beside the value that is differentiated.

    It is a pytree of its arrays, so that a compiled program can return it whatever else it holds.

    Attributes:
        arrays: its leaves that are JAX arrays.
        passed: everything else.
    """

    arrays: tuple[Any, ...]
    passed: Passed

    @classmethod
    def of(cls, tree: Any) -> Auxiliary:
        """Split a tree into its parts."""
        leaves, structure = flattened(tree)
        arrays = tuple(leaf for leaf in leaves if is_made_by_jax(leaf))
        passed = [None if is_made_by_jax(leaf) else leaf for leaf in leaves]
        return cls(arrays, Passed(structure, passed))

    def tree(self) -> Any:
        """The tree as the function returned it."""
        arrays = iter(self.arrays)
        leaves = [next(arrays) if leaf is None else leaf for leaf in self.passed.leaves]
        return jax.tree.unflatten(self.passed.tree, leaves)


NO_AUXILIARY = Auxiliary.of(None)


@dataclass(eq=False)
class Record:
    """What one run of the user's function returned.

    Attributes:
        results: shapes and dtypes of the result's leaves.
        out_tree: the result's tree.
        auxiliary: the auxiliary result, without its arrays.
        name: of the function.
    """

    name: str
    results: Sequence[jax.ShapeDtypeStruct] = ()
    out_tree: Any = None
    auxiliary: Auxiliary = NO_AUXILIARY

    def flat(self, answer: Any, has_aux: bool) -> list[Any]:
        """The arrays of the result and then those of aux; everything else is remembered here."""
        arrays: list[Any] = []
        if has_aux:
            auxiliary = Auxiliary.of(value_and_aux(answer)[1])
            arrays, self.auxiliary = [*auxiliary.arrays], replace(auxiliary, arrays=())
        leaves, self.out_tree = flattened(value_of(answer, has_aux))
        for leaf in leaves:
            if not is_array(leaf):
                raise DifferentiationTypeError(
                    f"the result {leaf!r} of type {type(leaf)} is not a valid JAX type; return "
                    "arrays or trees of arrays, and anything else as aux with has_aux=True"
                )
        self.results = [
            jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves
        ]
        return [*leaves, *arrays]


def value_of(result: Any, has_aux: bool) -> Any:
    """What of a function's result is differentiated."""
    return value_and_aux(result)[0] if has_aux else result


def value_and_aux(result: Any) -> tuple[Any, Any]:
    """The two parts of what a function with an auxiliary result returns.

    Raises:
        DifferentiationTypeError: in JAX's words, if it is not a pair.
    """
    parts = cast("tuple[Any, ...]", result if isinstance(result, tuple) else ())
    if len(parts) != 2:
        raise DifferentiationTypeError(
            "expected function with aux output to return a two-element tuple, "
            f"(value, aux), but got {result!r} of type {type(cast('object', result))}"
        )
    return parts
