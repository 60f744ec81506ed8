"""Large tables: Adam on shuffled batches, until held-out rows are not predicted better."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.errors import MissingExtraError
from blockjac.estimators.network import initial_params
from blockjac.estimators.objective import Objective
from blockjac.estimators.training_loop import Progress, Settings, Table, validation_loss
from blockjac.optimize import MinimizeResult, ModelLoss, Optax, minimize

try:
    import optax
except ImportError as error:
    raise MissingExtraError(
        "training by batches needs optax: pip install 'blockjac[app]', or pip install optax"
    ) from error


MOST = 2**30
"""More epochs than there will ever be: the compiled program need not know how many."""


@functools.cache
def _mean_loss(objective: Objective) -> ModelLoss:
    """The mean loss of rows, jitted, so that it is not traced for each call of `partial_fit`."""
    return ModelLoss(jax.jit(objective.model), jax.jit(objective.mean_loss), takes_l2=True)


@functools.cache
def _adam(rate: float, size: int, seed: int) -> Any:
    """The same object each time, by which its compiled program is found again."""
    return Optax(optax.adam(rate), batch_size=size, seed=seed)


@dataclass(frozen=True)
class Batches:
    """How batches are made, and how far a batch moves the parameters.

    Attributes:
        size: rows of a batch.
        rate: the learning rate of Adam.
        seed: of the shuffling.
    """

    size: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Epochs:
    """What came of training by batches.

    Attributes:
        params: those after the epoch that predicts the validation rows best, or the last ones.
        losses: the mean loss of the rows after each epoch, with the penalty.
        validation: that of the validation rows; empty without.
        lengths: how far each epoch moved the parameters.
        state: to go on with.
    """

    params: Any
    losses: list[float]
    validation: list[float]
    lengths: list[float]
    state: MinimizeResult


def train(
    objective: Objective,
    hidden: tuple[int, ...],
    table: Table,
    generator: np.random.RandomState,
    settings: Settings,
    batches: Batches,
    start: Any = None,
    resume: MinimizeResult | None = None,
) -> Epochs:
    """Train by batches, `settings.max_steps` epochs at most.

    Args:
        objective: what to minimize, in the mean.
        hidden: nodes of the hidden layers.
        table: what to fit, with no rows that only fill the shape.
        generator: draws the initial parameters.
        settings: how; the strength of the penalty is that of the mean loss.
        batches: of the rows.
        start: parameters to begin with; drawn if left out.
        resume: the state of earlier epochs, to go on with.
    """
    inputs, outputs = table.sizes
    if start is None:
        sizes = (inputs, *hidden, outputs)
        start = initial_params(generator, sizes, table.X.dtype, has_direct=settings.has_direct)
    losses: list[float] = []
    validation: list[float] = []
    best: list[Any] = [start]

    def after_epoch(found: MinimizeResult) -> bool:
        """Keep what the epoch brought, and say whether to stop."""
        params = found.state.params
        losses.append(float(found.state.loss))
        held = np.nan
        if table.validation is not None:
            held = validation_loss(objective, params, table.validation)
            validation.append(held)
        if not validation or held <= min(validation):
            best[0] = params
        progress = Progress(len(losses), settings.max_steps, losses[-1], held, hidden)
        is_stopped = settings.watch is not None and settings.watch(progress)
        curve = validation or losses
        is_worse = len(curve) - int(np.argmin(curve)) > settings.patience
        return bool(is_stopped or is_worse or len(losses) >= settings.max_steps)

    size = min(batches.size, len(table.X))
    found = minimize(
        _mean_loss(objective),
        jax.tree.map(jnp.asarray, start),
        jnp.asarray(table.X),
        table.targets,
        0.0 if settings.strength is None else settings.strength,
        solver=_adam(batches.rate, size, batches.seed),
        max_steps=MOST,
        ftol=0.0,
        xtol=0.0,
        callback=after_epoch,
        resume=resume,
    )
    return Epochs(
        jax.device_get(best[0]), losses, validation, found.trace.step_norm.tolist(), found
    )
