"""Stages with an elementwise path beside others: through few numbers, or below the diagonal.

Of `x + V tanh(W x)` with a narrow layer the matrix determinant lemma makes a small matrix. Of an
autoregressive layer `x exp(s(x)) + t(x)` the networks s and t lie below the diagonal, so that they
need not be differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import is_static, pieces, places
from blockjac.graph.linearity import is_inexact
from blockjac.graph.square_stages import Program, Stage, Step
from blockjac.linear_systems import low_rank
from blockjac.linear_systems.determinants import Determinant, determinant
from blockjac.linear_systems.triangular_form import triangular_form
from blockjac.transforms.first_order import block_jacobian

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
"""Primitives that mix the numbers of a layer."""

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


def beside_the_diagonal(
    stage: Stage,
    own: Sequence[Step],
    run: Callable[[dict[int, Any]], dict[int, Any]],
    values: Mapping[int, Any],
) -> Determinant | None:
    """The determinant by the paths that go through no product of matrices, if these are all of it.

    Args:
        stage: of one input and one result, with a triangular Jacobian.
        own: the steps that depend on the input.
        run: evaluates the stage, from the input and what else is given.
        values: at hand.
    """
    products = [step.results[0] for step in own if step.primitive.name in PRODUCTS]
    if len(stage.old) != 1 or len(stage.new) != 1 or not products:
        return None
    (old,), (new,) = stage.old, stage.new
    at = values[old]
    held = {value: values[value] for value in products}

    def through(x: Any) -> Any:
        inside = run({old: x})
        return run({old: at, **{value: inside[value] for value in products}})[new]

    def past(x: Any) -> Any:
        return run({**held, old: x})[new]

    direct = block_jacobian(past)(at)
    rest = [[block_jacobian(through)(at)]]
    found = determinant([[direct]])
    form = triangular_form([[direct]]) if is_static([[direct]]) and is_static(rest) else None
    if form is None or not form.is_diagonal:
        return None
    for piece in pieces(rest):
        own_places = places(piece)
        inside = np.ones(len(own_places.rows), bool)
        inside = inside if own_places.inside is None else own_places.inside
        if len(form.targets(own_places.rows, own_places.columns, inside, 1)[0]):
            return None
    return found


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
