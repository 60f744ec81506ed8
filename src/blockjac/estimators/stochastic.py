"""Large tables: Adam on shuffled batches, until held-out rows are not predicted better.

An epoch that does not bring the loss down is undone, and the rate halved: the loss never rises.
Columns are standardized batch by batch inside the compiled program, so that no second table exists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from blockjac.errors import MissingExtraError
from blockjac.estimators.checkpoints import Loop
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import BLOCK_BYTES, Block, Source, blocks_in_order
from blockjac.estimators.tables import ROWS, Numbers, Scale, filled, room_for
from blockjac.estimators.training_loop import Progress, Settings
from blockjac.optimize import ModelLoss
from blockjac.transforms.first_order import value_and_grad

try:
    import optax
except ImportError as error:
    raise MissingExtraError(
        "training by batches needs optax: pip install 'blockjac[app]', or pip install optax"
    ) from error

ADAM = optax.scale_by_adam()

FIRST_RATE = 0.01
"""A learning rate to begin with, if it falls."""

STEADY = 400
"""The number of batches after which a falling rate is half of the first."""

HALVINGS = 10
"""How often the rate may be halved before training is over."""


@dataclass(frozen=True)
class Batches:
    """How batches are made, and how far a batch moves the parameters.

    Attributes:
        size: rows of a batch.
        rate: the learning rate of Adam.
        seed: of the shuffling.
        is_falling: whether the rate falls like 1 over the number of batches.
    """

    size: int
    rate: float
    seed: int
    is_falling: bool = False

    @staticmethod
    def auto(size: int | None, rate: float | None, rows: int, seed: int) -> Batches:
        """What is given, and the rest by the number of rows.

        Args:
            size: rows of a batch, or None.
            rate: the learning rate, or None for one that falls.
            rows: to fit.
            seed: of the shuffling.
        """
        chosen = 200 if rows <= 20_000 else 500
        return Batches(size or chosen, FIRST_RATE if rate is None else rate, seed, rate is None)


class State(NamedTuple):
    """Where training stands: a tree of arrays, all that the next epoch depends on."""

    params: Any
    adam: Any
    """What Adam remembers."""
    rate: Any
    """The learning rate."""
    loss: Any
    """The mean loss of the batches of the last epoch that was kept; infinite before."""
    epoch: Any
    """How many were made, those that were undone included; with the seed it shuffles the next."""


@dataclass(frozen=True)
class Epochs:
    """What came of training by batches.

    Attributes:
        params: those after the epoch that predicts the validation rows best, or the last ones.
        losses: the mean loss of the batches of each epoch, with the penalty; that of the epoch
            before where one was undone.
        validation: that of the validation rows after each epoch; empty without.
        lengths: how far each epoch moved the parameters.
        state: to go on with.
        is_converged: whether training ended by itself.
    """

    params: Any
    losses: list[float]
    validation: list[float]
    lengths: list[float]
    state: State
    is_converged: bool


def begun(params: Any, rate: float) -> State:
    """The state before the first epoch.

    Args:
        params: to begin with.
        rate: the learning rate.
    """
    params = jax.tree.map(jnp.asarray, params)
    dtype = params["biases"][0].dtype
    rates = jnp.asarray(rate, dtype), jnp.asarray(jnp.inf, dtype)
    return State(params, ADAM.init(params), *rates, jnp.int32(0))


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
    course: _Course = loop.restored(_Course(state, state.params, none, none, none))
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


class _Course(NamedTuple):
    """Training up to an epoch: a tree of arrays."""

    state: State
    best: Any
    """The parameters after the epoch that predicts the validation rows best, or the last ones."""
    losses: Numbers
    validation: Numbers
    lengths: Numbers

    def is_over(self, settings: Settings, batches: Batches) -> bool:
        """Whether training ends by itself."""
        curve = self.validation if len(self.validation) else self.losses
        if not len(curve):
            return False
        is_worse = len(curve) - int(np.argmin(curve)) > settings.patience
        return is_worse or float(self.state.rate) < batches.rate * 0.5**HALVINGS

    def after(self, state: State, held: float) -> _Course:
        """After one more epoch.

        Args:
            state: after it.
            held: the loss of the validation rows; nan without.
        """
        is_known = not np.isnan(held)
        validation = np.append(self.validation, held) if is_known else self.validation
        is_best = not is_known or held <= np.min(validation)
        moves = jax.tree.map(
            lambda new, old: np.sum(np.square(np.asarray(new) - np.asarray(old))),
            state.params,
            self.state.params,
        )
        return _Course(
            state,
            state.params if is_best else self.best,
            np.append(self.losses, float(state.loss)),
            validation,
            np.append(self.lengths, np.sqrt(float(sum(jax.tree.leaves(moves))))),
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
