"""Stages that go through few numbers beside an elementwise path, such as `x + V tanh(W x)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.graph.linearity import is_inexact
from blockjac.graph.square_stages import Program, Stage, Step
from blockjac.linear_systems import low_rank
from blockjac.linear_systems.determinants import Determinant
from blockjac.transforms.first_order import block_jacobian

TRIALS = 3
"""How many values are tried, the shortest first."""


def through_narrow(
    program: Program,
    stage: Stage,
    own: Sequence[Step],
    run: Callable[[dict[int, Any]], dict[int, Any]],
    values: Mapping[int, Any],
) -> Determinant | None:
    """The determinant by a value z that is shorter than half of the input; None if there is none.

    With z held, the Jacobian must be a diagonal D; it is `D + dy/dz dz/dx`, of which the
    determinant follows by the matrix determinant lemma.

    Args:
        program: that the stage belongs to.
        stage: of one input and one result.
        own: the steps that depend on the input.
        run: evaluates the stage, from the input and what else is given.
        values: at hand.
    """
    if len(stage.old) != 1 or len(stage.new) != 1:
        return None
    (old,), (new,) = stage.old, stage.new
    size = program.size({old})
    for z in _narrow(program, own, size)[:TRIALS]:
        at = values[old]

        def held(x: Any, z_value: Any, z: int = z) -> Any:
            return run({old: x, z: z_value})[new]

        def inner(x: Any, z: int = z) -> Any:
            return run({old: x})[z]

        direct, through = block_jacobian(held, (0, 1))(at, values[z])
        if direct.is_zero or not _is_diagonal(direct):
            continue
        before = block_jacobian(inner)(at)
        rank = math.prod(program.avals[z].shape)

        def logarithm(
            direct: Any = direct, through: Any = through, before: Any = before, rank: int = rank
        ) -> Any:
            left = jnp.reshape(through.dense(), (size, rank))
            right = jnp.reshape(before.dense(), (rank, size))
            return low_rank.factored(jnp.ravel(direct.diagonal()), left, right.T).slogdet()[1]

        return Determinant(logarithm, f"diagonal of {size} plus rank {rank}")
    return None


def _is_diagonal(block: Any) -> bool:
    """Whether each axis of the results is that of the inputs."""
    return block.out_shape == block.wrt_shape and all(
        size == 1 or all(term.has_delta(axis, axis, size) for term in block.terms)
        for axis, size in enumerate(block.out_shape)
    )


def _narrow(program: Program, own: Sequence[Step], size: int) -> list[int]:
    """The last value of each length that is short enough, the shortest first."""
    found: dict[int, int] = {}
    for step in own:
        for value in step.results:
            length = program.size({value})
            if is_inexact(program.avals[value]) and 0 < 2 * length < size:
                found[length] = value
    return [found[length] for length in sorted(found)]
