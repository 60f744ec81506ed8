"""Where training by batches stands, from epoch to epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.errors import MissingExtraError
from blockjac.estimators.tables import Numbers
from blockjac.estimators.training_loop import Settings

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


class Course(NamedTuple):
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

    def after(self, state: State, held: float) -> Course:
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
        return Course(
            state,
            state.params if is_best else self.best,
            np.append(self.losses, float(state.loss)),
            validation,
            np.append(self.lengths, np.sqrt(float(sum(jax.tree.leaves(moves))))),
        )
