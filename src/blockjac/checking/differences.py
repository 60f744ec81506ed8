"""Central differences: a witness that knows nothing of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.checking.program_mistakes import Program
from blockjac.engine.leaves import separated

CLOSENESS = 0.1
"""Differences speak for a gradient if they are this much closer to it than to the other one."""


def witness(
    program: Program, given: Sequence[np.ndarray], exact: Sequence[np.ndarray]
) -> str | None:
    """What central differences along a random direction say of two gradients.

    Args:
        program: the function at its arguments.
        given: the leaves of one gradient.
        exact: those of the exact one.

    Returns:
        A sentence; None if shapes differ or the differences are too rough to tell.
    """
    if [leaf.shape for leaf in given] != [leaf.shape for leaf in exact]:
        return None
    arrays, rebuilt = separated((program.args, program.kwargs))
    call = program.call
    order = {value: position for position, value in enumerate(call.graph.inputs)}
    positions = [order[value] for value in call.smooth]
    generator = np.random.default_rng(0)
    directions = [generator.normal(size=leaf.shape) for leaf in exact]

    def along(t: float) -> float:
        """The function at a point on the line."""
        moved = list(arrays)
        for position, direction in zip(positions, directions, strict=True):
            leaf = jnp.asarray(arrays[position])
            moved[position] = leaf + jnp.asarray(t * direction, leaf.dtype)
        args, kwargs = rebuilt(moved)
        return float(np.asarray(jax.tree.leaves(program.fun(*args, **kwargs))[0]))

    precision = max(float(cast("Any", jnp.finfo(leaf.dtype)).eps) for leaf in exact)
    step = precision ** (1 / 3)
    slope = (along(step) - along(-step)) / (2 * step)
    by_given, by_exact = (
        float(sum(np.sum(d * leaf) for d, leaf in zip(directions, leaves, strict=True)))
        for leaves in (given, exact)
    )
    gap = abs(by_given - by_exact)
    numbers = f"{slope:.6g} along a random direction, {by_given:.6g} by the given gradient"
    if abs(slope - by_exact) <= CLOSENESS * gap:
        return f"central differences agree with the exact gradient: {numbers}"
    if abs(slope - by_given) <= CLOSENESS * gap:
        return (
            f"central differences agree with the given gradient: {numbers}, {by_exact:.6g} by the "
            f"function's own rules; is a custom_jvp or custom_vjp in it wrong?"
        )
    return None
