"""Types inside `jax.shard_map`: which arrays differ between devices, made to agree where they must.

What is carried, and what branches give, has one type; a start of zeros is alike on all devices and
what a step makes of it may not be. Outside of `shard_map` nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from blockjac.base import compat


def start_of(step: Callable[[Any, Any], tuple[Any, Any]], init: Any, slices: Any) -> Any:
    """The start of a loop in the types that its steps give."""
    if not compat.in_shard_map():
        return init
    first = jax.tree.map(lambda array: array[0], slices)
    while True:
        after = jax.eval_shape(lambda state, one: step(state, one)[0], init, first)
        grown = jax.tree.map(compat.spread_as, init, after)
        if all(
            compat.varying_axes(one) == compat.varying_axes(other)
            for one, other in zip(jax.tree.leaves(init), jax.tree.leaves(grown), strict=True)
        ):
            return init
        init = grown


def alike(branches: Sequence[Callable[..., Any]], *operands: Any) -> list[Callable[..., Any]]:
    """Branches whose results have the types that all of them can have."""
    if not compat.in_shard_map():
        return list(branches)
    shapes = [jax.eval_shape(branch, *operands) for branch in branches]

    def spread(branch: Callable[..., Any]) -> Callable[..., Any]:
        def run(*operands: Any) -> Any:
            found = branch(*operands)
            for shape in shapes:
                found = jax.tree.map(compat.spread_as, found, shape)
            return found

        return run

    return [spread(branch) for branch in branches]


def barrier(arrays: Sequence[Any]) -> list[Any]:
    """`lax.optimization_barrier` over all arrays of one type together."""
    if not compat.in_shard_map():
        return list(lax.optimization_barrier(list(arrays)))
    groups: dict[Any, list[int]] = {}
    for place, array in enumerate(arrays):
        groups.setdefault(compat.varying_axes(array), []).append(place)
    passed = list(arrays)
    for places in groups.values():
        found = lax.optimization_barrier([arrays[place] for place in places])
        for place, array in zip(places, found, strict=True):
            passed[place] = array
    return passed
