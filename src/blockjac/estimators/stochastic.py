"""Large tables: Adam on shuffled batches, until held-out rows are not predicted better.

An epoch that does not bring the loss down is undone, and the rate halved: the loss never rises.
Columns are standardized batch by batch inside the compiled program, so that no second table exists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from blockjac.estimators.checkpoints import Loop
from blockjac.estimators.epochs import ADAM, STEADY, Batches, Course, Epochs, State
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import BLOCK_BYTES, Block, Source, blocks_in_order
from blockjac.estimators.tables import ROWS, Scale, filled, room_for
from blockjac.estimators.training_loop import Progress, Settings
from blockjac.optimize import ModelLoss
from blockjac.transforms.first_order import value_and_grad


def train(
    objective: Objective,
    hidden: tuple[int, ...],
    source: Source,
    scale: Scale,
    settings: Settings,
    batches: Batches,
    state: State,
) -> Epochs:
    """Train by batches, `settings.max_steps` epochs at most.

    Args:
        objective: what to minimize, in the mean.
        hidden: nodes of the hidden layers.
        source: of the rows.
        scale: of the columns.
        settings: how; the strength of the penalty is that of the mean loss.
        batches: of the rows.
        state: to begin with, see `begun`, or of earlier epochs.
    """
    how = f"{objective} {hidden} {replace(settings, watch=None)} {batches}"
    loop = Loop(scale.mean, scale.spread, source.digest, state, how)
    none = np.zeros(0)
    course: Course = loop.restored(Course(state, state.params, none, none, none))
    is_stopped = False
    while len(course.losses) < settings.max_steps and not is_stopped:
        if course.is_over(settings, batches):
            break
        last = course.state
        state = _kept(last, _epoch(objective, source, scale, settings, batches, last))
        held = np.nan
        if source.held_out is not None:
            held = held_loss(objective, state.params, scale, source.held_out)
        course = course.after(state, held)
        progress = Progress(len(course.losses), settings.max_steps, float(state.loss), held, hidden)
        is_stopped = settings.watch is not None and settings.watch(progress)
        if not is_stopped:
            loop.keep(course)
    loop.end()
    return Epochs(
        jax.device_get(course.best),
        course.losses.tolist(),
        course.validation.tolist(),
        course.lengths.tolist(),
        jax.tree.map(jnp.asarray, course.state),
        course.is_over(settings, batches),
    )


def _kept(before: State, after: State) -> State:
    """The state after an epoch; that before at half the rate where the loss did not fall."""
    if float(after.loss) <= float(before.loss):
        return after
    return before._replace(rate=before.rate / 2, epoch=after.epoch)


def _epoch(
    objective: Objective,
    source: Source,
    scale: Scale,
    settings: Settings,
    batches: Batches,
    state: State,
) -> State:
    """All rows once; those that fill no batch are left out of this epoch."""
    size = min(batches.size, source.count)
    generator = np.random.default_rng((batches.seed, int(state.epoch)))
    strength = 0.0 if settings.strength is None else settings.strength
    mean, spread = (part.astype(state.rate.dtype) for part in (scale.mean, scale.spread))
    rate = state.rate
    if batches.is_falling:
        rate = rate / (1 + int(state.epoch) * (source.count // size) / STEADY)
    made, own, total, count = (state.params, state.adam), 0.0, 0.0, 0
    for block in _blocks(source, generator, size, len(mean)):
        number = len(block) // size
        room = room_for(number) * size
        X = filled(block.X[: number * size].astype(state.rate.dtype, copy=False), room)
        targets = Targets(*(filled(part[: number * size], room) for part in block.targets))
        # waits for the block before, or all of them would wait in memory
        total, count = total + float(own), count + number
        *made, own = _updated(
            objective, size, tuple(made), rate, X, targets, mean, spread, strength, number
        )
    loss = jnp.asarray((total + float(own)) / count, state.rate.dtype)
    return State(made[0], made[1], state.rate, loss, state.epoch + 1)


def _blocks(
    source: Source, generator: np.random.Generator, size: int, columns: int
) -> Iterator[Block]:
    """The rows of an epoch, in blocks of whole batches; a rest that fills none is left out."""
    rows = max(BLOCK_BYTES // (4 * max(columns, 1)) // size, 1) * size
    for block in source.epoch(generator, rows):
        if len(block) >= size:
            yield block


@functools.cache
def _mean_loss(objective: Objective) -> ModelLoss:
    """The mean loss of rows, with the penalty."""
    return ModelLoss(objective.model, objective.mean_loss, takes_l2=True)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _updated(
    objective: Objective,
    size: int,
    before: tuple[Any, Any],
    rate: Any,
    X: Any,
    targets: Targets,
    mean: Any,
    spread: Any,
    strength: Any,
    number: Any,
) -> tuple[Any, Any, Array]:
    """Parameters and Adam's memory after an update by each batch, and the sum of their losses.

    Args:
        objective: what to minimize.
        size: rows of a batch.
        before: parameters and Adam's memory.
        rate: the learning rate.
        X: rows of the table.
        targets: of them.
        mean: of the columns.
        spread: of the columns.
        strength: of the penalty.
        number: how many batches there are; further rows only fill the shape.
    """
    slope = value_and_grad(_mean_loss(objective))

    def update(place: Array, carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        """One batch, standardized here."""
        params, memory, total = carry
        rows, *parts = (
            lax.dynamic_slice_in_dim(part, place * size, size) for part in (X, *targets)
        )
        loss, gradient = slope(params, (rows - mean) / spread, Targets(*parts), strength)
        steps, memory = ADAM.update(gradient, memory)
        params = jax.tree.map(lambda param, step: param - rate * step, params, steps)
        return params, memory, total + loss

    return lax.fori_loop(0, number, update, (*before, jnp.zeros((), X.dtype)))


def held_loss(objective: Objective, params: Any, scale: Scale, rows: Rows) -> float:
    """The mean loss of rows that are not fitted.

    Args:
        objective: what to minimize.
        params: of the network.
        scale: of the columns.
        rows: held out.
    """
    dtype = rows.weights.dtype
    mean, spread = scale.mean.astype(dtype), scale.spread.astype(dtype)
    total = 0.0
    for block in blocks_in_order(rows, ROWS):
        room = room_for(len(block))
        X, *parts = (filled(part, room) for part in (block.X, *block.targets))
        X = X.astype(dtype, copy=False)
        total += float(_loss(objective, params, X, Targets(*parts), mean, spread))
    return total / float(np.sum(rows.weights, dtype=float))


@functools.partial(jax.jit, static_argnums=0)
def _loss(
    objective: Objective, params: Any, X: Array, targets: Targets, mean: Array, spread: Array
) -> Array:
    return objective.loss(targets, objective.model(params, (X - mean) / spread))
