"""Steps of Levenberg-Marquardt, and updates of the penalty by the evidence, in turns.

Once the evidence has settled or no longer rises, the strengths stay, and the steps go on to the
minimum. It need not settle: where a network is as good as linear, the weights of a layer may shrink
and those of the next grow, and the updates follow them without end.

The tables are small here, and most of their time goes into compiling. Therefore the matrix is
assembled from the rows' Jacobian in one product, and a step with all that the evidence wants is one
program, which compiles in a quarter of the time that `optimize.minimize` takes.

Source: F. D. Foresee and M. T. Hagan, Gauss-Newton approximation to Bayesian learning, ICNN 1997,
for taking turns; H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import cho_solve

from blockjac.estimators.curvature import curvature
from blockjac.estimators.evidence import Level, weighed
from blockjac.estimators.objective import Objective, Targets, penalty
from blockjac.optimize import LineProfile, Status
from blockjac.optimize.line_search import ARMIJO
from blockjac.transforms.first_order import grad

CHANCE = 0.1
"""A rise of the evidence by less means nothing."""

PATIENCE = 5
"""Updates after which the strengths stay if the evidence has not risen."""

SETTLED = 3e-4
"""The evidence has settled when an update changes it by less than this share of its size."""

FIRST_STEPS = 3
"""Steps before the first update: where training has just begun, the evidence says little."""

DAMPING = 1e-3
"""The first damping, as a share of the mean of the diagonal."""

TRIALS = 12
"""The most dampings that are tried for a step."""


class Turn(NamedTuple):
    """Where training stands after a step; a tree of arrays, to go on with or to be saved."""

    params: Any
    level: Level
    """That of the last step."""
    evidence: Array
    """Its logarithm, where it was last asked for."""
    best: Array
    """The largest so far, but for rises that are below chance."""
    quiet: Array
    """How many updates have passed since it rose."""
    well_determined: Array
    """How many parameters the data determine, of all."""
    loss: Array
    """The loss of the rows, without the penalty."""
    damping: Array
    growth: Array
    """By what the damping is multiplied after the next failure."""
    steps: Array
    is_settled: Array
    """Whether the strengths stay."""
    is_converged: Array


def first_turn(params: Any, level: Level, is_fixed: bool) -> Turn:
    """Before the first step.

    Args:
        params: where to begin.
        level: of the penalty.
        is_fixed: whether the strengths stay as they are.
    """
    zero = jnp.zeros_like(level.noise)
    return Turn(
        params=jax.tree.map(jnp.asarray, params),
        level=level,
        evidence=zero - jnp.inf,
        best=zero - jnp.inf,
        quiet=jnp.int32(0),
        well_determined=zero,
        loss=zero + jnp.inf,
        damping=zero,
        growth=zero + 2,
        steps=jnp.int32(0),
        is_settled=jnp.asarray(is_fixed),
        is_converged=jnp.asarray(False),
    )


@partial(jax.jit, static_argnums=0)
def step(
    objective: Objective, X: Array, targets: Targets, is_used: Any, tolerance: Array, last: Turn
) -> Turn:
    """Update the level, and make a step of training.

    Args:
        objective: of the network.
        X: the rows, shape `(n, inputs)`.
        targets: of them.
        is_used: which parameters belong to the network, a tree like them.
        tolerance: of the relative change of the loss in a step.
        last: after the step before.
    """
    here = curvature(objective, last.params, X, targets)
    is_early = last.steps < FIRST_STEPS
    says = _said(objective, here, targets, is_used, last, is_early)
    change = jnp.abs(says.evidence - last.evidence)
    settles = change < SETTLED * (1 + jnp.abs(says.evidence))
    rises = says.evidence > last.best + CHANCE
    quiet = jnp.where(rises | (last.steps <= FIRST_STEPS), 0, last.quiet + 1)
    settles = settles & (last.steps > FIRST_STEPS)
    is_settled = last.is_settled | settles | (quiet >= PATIENCE)
    keeps = is_settled | is_early
    # the noise does not move the minimum, so that it may follow to the end
    strengths = jnp.where(keeps, last.level.strengths, says.level.strengths)
    level = Level(strengths, says.level.noise)
    shifts, _ = ravel_pytree(penalty(last.params, level.strengths, is_used))
    flat, unflat = ravel_pytree(last.params)
    gradient = here.gradient + shifts * flat
    energy = here.loss + jnp.sum(shifts * flat**2) / 2
    matrix = here.matrix + jnp.diag(shifts)
    first = DAMPING * jnp.mean(jnp.diagonal(here.matrix))

    def energy_at(flat: Array) -> tuple[Array, Array]:
        loss = objective.loss(targets, objective.model(unflat(flat), X))
        return loss, loss + jnp.sum(shifts * flat**2) / 2

    def tried(trial: _Trial) -> _Trial:
        """Try a damping."""
        damped = matrix + jnp.diag(jnp.full_like(shifts, trial.damping))
        triangle = cast("Any", jnp.linalg.cholesky)(damped, symmetrize_input=False)
        move = -cho_solve((triangle, True), gradient)
        predicted = -move @ gradient - move @ (matrix @ move) / 2
        loss, value = energy_at(flat + move)
        is_accepted = (value < energy) & (predicted > 0)
        ratio = (energy - value) / jnp.where(predicted > 0, predicted, 1)
        easier = trial.damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        return _Trial(
            jnp.where(is_accepted, flat + move, flat),
            jnp.where(is_accepted, loss, here.loss),
            jnp.where(is_accepted, energy - value, 0),
            jnp.where(is_accepted, easier, trial.damping * trial.growth),
            jnp.where(is_accepted, 2.0, 2 * trial.growth).astype(shifts.dtype),
            trial.trials + 1,
            is_accepted,
        )

    start = _Trial(
        flat,
        here.loss,
        jnp.zeros_like(energy),
        jnp.where(last.steps == 0, first, last.damping),
        last.growth,
        jnp.int32(0),
        jnp.asarray(False),
    )
    found = cast("Any", lax.while_loop)(
        lambda trial: ~trial.is_accepted & (trial.trials < TRIALS), tried, start
    )
    is_still = found.decrease <= tolerance * (jnp.abs(found.loss) + tolerance)
    return Turn(
        params=unflat(found.flat),
        level=level,
        evidence=says.evidence,
        best=jnp.where(rises, says.evidence, last.best),
        quiet=quiet,
        well_determined=says.determined,
        loss=found.loss,
        damping=found.damping,
        growth=jnp.where(found.is_accepted, found.growth, 2.0).astype(shifts.dtype),
        steps=last.steps + 1,
        is_settled=is_settled,
        is_converged=is_settled & is_still & ~is_early,
    )


class _Said(NamedTuple):
    """What the evidence says; see `Weighed`."""

    evidence: Array
    determined: Array
    level: Level


def _said(
    objective: Objective, here: Any, targets: Targets, is_used: Any, last: Turn, is_early: Array
) -> _Said:
    """What the evidence says where the step begins, or said before if nobody will listen.

    That costs as much as the step. The noise of numbers is wanted at each step.
    """

    def new() -> _Said:
        return _Said(*weighed(objective, last.params, last.level, here, targets, is_used)[:3])

    def old() -> _Said:
        return _Said(last.evidence, last.well_determined, last.level)

    if objective.kind == "numbers":
        return new()
    return cast("Any", lax.cond)(last.is_settled | is_early, old, new)


class _Trial(NamedTuple):
    """The last step that was tried, and the damping of the next."""

    flat: Array
    loss: Array
    decrease: Array
    """Of the penalized loss."""
    damping: Array
    growth: Array
    trials: Array
    is_accepted: Array


def first_step_profile(
    objective: Objective, X: Any, targets: Targets, first: tuple[Turn, Turn]
) -> LineProfile:
    """The mean loss with its penalty along the first step.

    Args:
        objective: of the network.
        X: the rows, shape `(n, inputs)`.
        targets: of them.
        first: before and after the step.
    """
    before, after = first
    move = jax.tree.map(np.subtract, after.params, before.params)
    values, slope = jax.device_get(
        _along(objective, X, targets, before.params, move, after.level.strengths)
    )
    numbers: dict[str, Any] = {
        "steps": ALONG[:-2],
        "values": values[:-2],
        "start": values[-2],
        "slope": slope,
        "alpha": np.asarray(ARMIJO.alpha),
        "accepted_step": np.ones(()),
        "accepted_value": values[-1],
        "rejected_step": np.full((), np.nan),
        "rejected_value": np.full((), np.nan),
        "status": np.asarray(int(Status.FOUND)),
    }
    return LineProfile(**numbers)


ALONG = np.array([*np.linspace(-0.3, 1.3, 65), 0.0, 1.0])
"""Where the loss along a step is computed: for the picture, at its start and at its end."""


@partial(jax.jit, static_argnums=0)
def _along(
    objective: Objective, X: Array, targets: Targets, params: Any, move: Any, strengths: Array
) -> tuple[Array, Array]:
    """The loss along a move, and its slope at the start."""

    def loss(length: Array) -> Array:
        here = jax.tree.map(lambda param, part: param + length * part, params, move)
        squares = jnp.stack([jnp.sum(part**2) for part in (*here["weights"], *here["direct"])])
        value = objective.loss(targets, objective.model(here, X)) + strengths @ squares / 2
        return value / jnp.sum(targets.weights)

    lengths = jnp.asarray(ALONG, X.dtype)
    return lax.map(loss, lengths), grad(loss)(lengths[-2])
