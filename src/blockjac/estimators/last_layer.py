"""What is not known of the last layer, after training by batches: curvature, penalty and noise.

The last layer is a linear model of what it gets. Its curvature at the trained parameters comes
from some of the rows, no more than an epoch's work takes, and stands for all of them. It is
computed in float64: two logits that rise together change nothing, and in float32 a weak penalty
would be lost beside what the rows say of their difference.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from blockjac.estimators.blas_threads import few_threads
from blockjac.estimators.curvature import curvature
from blockjac.estimators.evidence import Level, Weighed, weighed
from blockjac.estimators.model import features_of, uncertain_part
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.sources import Source
from blockjac.estimators.stochastic import held_loss
from blockjac.estimators.tables import ROWS, Numbers, Scale, by_parts, filled, room_for

FEWEST = 4
"""Rows for each node, at least."""

MOST_BYTES = 2**25
"""Of the Jacobians of these rows, beyond that."""

ROUNDS = 20
"""Of the evidence, at most."""

SETTLED = 0.05
"""A change of the logarithm of the strength below which the evidence is done."""


class LastLayer(NamedTuple):
    """What is known of the last layer and the direct map."""

    triangle: Numbers
    """The Cholesky factor of the curvature of all rows' penalized loss."""
    strengths: Numbers
    """Of the penalty, of the mean loss; shape `(1,)`."""
    noise: Numbers
    """The variance of standardized targets around the outputs; 1 for classes."""


def last_layer(
    objective: Objective,
    params: Any,
    source: Source,
    scale: Scale,
    strength: float | None,
    seed: int,
) -> LastLayer:
    """The curvature of the last layer, the penalty that suits it, and the noise.

    Args:
        objective: of the network.
        params: trained.
        source: of the rows.
        scale: of the columns.
        strength: of the penalty, of the mean loss; None for that of the evidence.
        seed: of the choice of rows.
    """
    last = uncertain_part(params)
    dtype = last["biases"][0].dtype
    block = source.some(_enough(params, last, source.count), seed)

    def features(X: Numbers) -> Any:
        return features_of(objective, params, scale.apply(X).astype(dtype, copy=False))

    Z = by_parts(features, ROWS, block.X).astype(float)
    share = len(Z) / source.count
    room = room_for(len(Z))
    values, weights, units = (filled(part, room).astype(float) for part in block.targets)
    with jax.enable_x64(True), few_threads(sum(part.size for part in jax.tree.leaves(last))):
        targets = Targets(values, weights / share, units)
        weight = float(np.sum(targets.weights))
        is_free = strength is None
        start = (0.01 if strength is None else strength) * weight
        level = Level(jnp.full(1, start), jnp.ones(()))
        found, at = _settled(
            objective, jax.tree.map(np.float64, last), filled(Z, room), targets, level, is_free
        )
        says = jax.device_get((found.triangle, at.strengths / weight, found.level.noise))
    triangle, strengths, noise = (part.astype(dtype) for part in says)
    rows = source.held_out
    if rows is not None and objective.kind == "numbers":
        loss = held_loss(objective, params, scale, rows)
        noise = np.asarray(2 * loss / rows.values.shape[1], dtype)
    return LastLayer(triangle, strengths, noise)


def _enough(params: Any, last: Any, count: int) -> int:
    """How many rows the curvature may take: about the multiplications of an epoch, and memory."""
    weights = last["weights"][0]
    nodes, outputs = weights.shape
    all_weights = sum(part.size for part in (*params["weights"], *params["direct"]))
    work = 3 * count * all_weights // weights.size**2
    memory = MOST_BYTES // (8 * outputs * weights.size)
    return max(min(work, memory), FEWEST * nodes)


@partial(jax.jit, static_argnums=0)
def _settled(
    objective: Objective, params: Any, Z: Array, targets: Targets, level: Level, is_free: Any
) -> tuple[Weighed, Level]:
    """The evidence where it is largest for these parameters, or at a strength; and the level.

    Args:
        objective: of the network.
        params: of the last layer.
        Z: what it gets, shape `(n, nodes)`.
        targets: of the rows.
        level: to begin with.
        is_free: whether the strength is chosen.
    """
    here = curvature(objective, params, Z, targets)
    is_used = jax.tree.map(lambda part: jnp.ones_like(part, bool), params)

    def says(level: Level) -> Weighed:
        return weighed(objective, params, level, here, targets, is_used)

    def goes_on(state: tuple[Array, Level, Array]) -> Array:
        rounds, _, change = state
        return is_free & (rounds < ROUNDS) & (change > SETTLED)

    def again(state: tuple[Array, Level, Array]) -> tuple[Array, Level, Array]:
        rounds, level, _ = state
        found = says(level).level
        change = jnp.max(jnp.abs(jnp.log(found.strengths / level.strengths)))
        return rounds + 1, found, change

    start = (jnp.zeros((), int), level, jnp.full((), jnp.inf))
    level = lax.while_loop(goes_on, again, start)[1]
    return says(level), level
