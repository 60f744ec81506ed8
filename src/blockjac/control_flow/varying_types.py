"""Types inside `jax.shard_map`: which arrays differ between devices, made to agree where they must.

A carry has one type, and so have the results of branches; a start of zeros is alike on all devices,
but a step may change that. Outside `shard_map` nothing here has an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from blockjac.base import compat


def start_of(step: Callable[[Any, Any], tuple[Any, Any]], init: Any, slices: Any) -> Any:
    """The start of a loop, in the types that its steps give."""
    if not compat.in_shard_map():
        return init
    first = jax.tree.map(lambda array: array[0], slices)
    while True:
        after = jax.eval_shape(lambda state, given: step(state, given)[0], init, first)
        grown = jax.tree.map(compat.spread_as, init, after)
        if all(
            compat.varying_axes(before) == compat.varying_axes(spread)
            for before, spread in zip(jax.tree.leaves(init), jax.tree.leaves(grown), strict=True)
        ):
            return init
        init = grown


def alike(branches: Sequence[Callable[..., Any]], *operands: Any) -> list[Callable[..., Any]]:
    """Branches with results of common types."""
    if not compat.in_shard_map():
        return list(branches)
    shapes = [jax.eval_shape(branch, *operands) for branch in branches]

    def spread(branch: Callable[..., Any]) -> Callable[..., Any]:
        """The branch with results that vary wherever those of any branch do."""

        def run(*operands: Any) -> Any:
            results = branch(*operands)
            for shape in shapes:
                results = jax.tree.map(compat.spread_as, results, shape)
            return results

        return run

    return [spread(branch) for branch in branches]


def barrier(arrays: Sequence[Any]) -> list[Any]:
    """`lax.optimization_barrier` over all arrays of one type together."""
    if not compat.in_shard_map():
        return list(lax.optimization_barrier(list(arrays)))
    groups: dict[Any, list[int]] = {}
    for number, array in enumerate(arrays):
        groups.setdefault(compat.varying_axes(array), []).append(number)
    behind = list(arrays)
    for numbers in groups.values():
        passed = lax.optimization_barrier([arrays[number] for number in numbers])
        for number, array in zip(numbers, passed, strict=True):
            behind[number] = array
    return behind
