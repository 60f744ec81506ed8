"""The strength of an L2 penalty by the evidence: MacKay's updates, a strength for each layer.

The penalized loss is minus the logarithm of a posterior density of the parameters. Laplace's
approximation of its integral, the evidence, is largest where for each layer

    strength = noise * (well determined parameters) / |weights|^2

Source: D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
Computation 4 (1992).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from blockjac.estimators.curvature import Curvature, curvature
from blockjac.estimators.objective import HELD, UNPENALIZED, Objective, Targets, penalty

WEAKEST, STRONGEST = 1e-6, 1e6
"""Between these a strength stays."""


class Level(NamedTuple):
    """How strong the penalty is, and how noisy the targets are."""

    strengths: Any
    """For each layer and the direct map, as a multiple of the squares in the loss."""
    noise: Any
    """The variance of the targets around the outputs; 1 where they are classes."""


class Weighed(NamedTuple):
    """What the evidence says of parameters and a level."""

    evidence: Array
    determined: Array
    level: Level
    """The level at which the evidence would be largest, if the curvature stayed as it is."""
    triangle: Array
    """The Cholesky factor of the curvature of the penalized loss, of all parameters."""


def weighed(
    objective: Objective, params: Any, level: Level, here: Curvature, targets: Targets, is_used: Any
) -> Weighed:
    """The evidence of a level, and the next one.

    Args:
        objective: of the network.
        params: the point.
        level: of the penalty.
        here: the curvature there.
        targets: of the rows.
        is_used: which parameters belong to the network, a tree like them.
    """
    dtype = level.noise.dtype
    shifts, unflat = ravel_pytree(penalty(params, level.strengths, is_used))
    triangle = cast("Any", jnp.linalg.cholesky)(
        here.matrix + jnp.diag(shifts), symmetrize_input=False
    )
    inverse = solve_triangular(triangle, jnp.eye(len(shifts), dtype=dtype), lower=True)
    variances = unflat(jnp.sum(inverse**2, axis=0))
    logdet = 2 * jnp.sum(jnp.log(jnp.diagonal(triangle)))
    used = jax.tree.map(lambda part: part.astype(dtype), is_used)
    sizes = jnp.stack([jnp.sum(part) for part in _penalized(used)])
    squares = jnp.stack([jnp.sum(weight**2) for weight in _penalized(params)])
    pairs = zip(_penalized(used), _penalized(variances), strict=True)
    traces = jnp.stack([jnp.sum(part * variance) for part, variance in pairs])
    determined = jnp.clip(sizes - level.strengths * traces, 0, sizes)
    free = sum(jnp.sum(part) for part in used["biases"])
    held = sum(jnp.sum(1 - part) for part in jax.tree.leaves(used))
    all_determined = jnp.sum(determined) + free
    count = jnp.sum(targets.weights) * targets.values.shape[1]
    noise = jnp.ones_like(here.loss)
    if objective.kind == "numbers":
        noise = 2 * here.loss / jnp.maximum(count - all_determined, 0.1 * count)
        noise = jnp.maximum(noise, cast("Any", jnp.finfo(dtype)).eps)
    tiny = cast("Any", jnp.finfo(dtype)).tiny
    strengths = noise * determined / jnp.maximum(squares, tiny)
    energy = here.loss + jnp.sum(level.strengths * squares) / 2
    total = jnp.sum(sizes) + free
    evidence = (
        -energy / level.noise
        - (logdet - held * jnp.log(HELD) - total * jnp.log(level.noise)) / 2
        + jnp.sum(sizes * jnp.log(level.strengths / level.noise)) / 2
        + free * jnp.log(UNPENALIZED / level.noise) / 2
    )
    if objective.kind == "numbers":
        evidence -= count * jnp.log(2 * jnp.pi * level.noise) / 2
    level = Level(jnp.clip(strengths, WEAKEST, STRONGEST), noise)
    return Weighed(evidence, all_determined, level, triangle)


def _penalized(tree: Any) -> list[Any]:
    """The parts that have a strength each."""
    return [*tree["weights"], *tree["direct"]]


@partial(jax.jit, static_argnums=0)
def weighed_at(
    objective: Objective, params: Any, X: Array, targets: Targets, level: Level, is_used: Any
) -> Weighed:
    """What the evidence says of parameters and a level; see `weighed`."""
    here = curvature(objective, params, X, targets)
    return weighed(objective, params, level, here, targets, is_used)
