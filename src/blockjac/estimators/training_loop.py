"""The loop of steps of one fit: until it has converged, or rows held out say to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from blockjac.estimators.checkpoints import Loop
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.steps import Turn, step
from blockjac.estimators.tables import Numbers

LOOKS = 8
"""Steps between two comparisons with a rival."""

Watch = Callable[["Progress"], bool]
"""Called after each step; to stop, it returns True."""


@dataclass(frozen=True)
class Table:
    """Rows to fit, and rows to look at on the way.

    Attributes:
        X: standardized rows, shape `(n, inputs)`.
        targets: of them; rows of weight 0 fill the shape and count for nothing.
        validation: rows that are not fitted and what belongs to them, or None.
    """

    X: Numbers
    targets: Targets
    validation: tuple[Numbers, Targets] | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many inputs and outputs there are."""
        return self.X.shape[1], self.targets.values.shape[1]

    @property
    def weight(self) -> float:
        """Of all rows together."""
        return float(np.sum(self.targets.weights))


@dataclass(frozen=True)
class Settings:
    """How networks are fitted.

    Attributes:
        strength: of the penalty, of the mean loss; None for that of the evidence.
        max_steps: the most steps of training.
        tolerance: of the relative change of the loss in a step.
        patience: steps without a better loss of the validation rows, after which training stops.
        has_direct: whether a linear map leads from the inputs to the outputs, too.
        watch: called after each step.
    """

    strength: float | None = None
    max_steps: int = 200
    tolerance: float = 1e-5
    patience: int = 5
    has_direct: bool = True
    watch: Watch | None = None


@dataclass(frozen=True)
class Progress:
    """How far training is.

    Attributes:
        steps: made so far.
        max_steps: the most.
        loss: the mean loss of the rows.
        validation: the mean loss of the validation rows; nan without.
        hidden: nodes of the hidden layers.
    """

    steps: int
    max_steps: int
    loss: float
    validation: float
    hidden: tuple[int, ...]


def trained(
    objective: Objective,
    X: Any,
    targets: Targets,
    is_used: Any,
    turn: Turn,
    hidden: tuple[int, ...],
    table: Table,
    settings: Settings,
    rival: Rival | None = None,
) -> Record:
    """Make steps until one has converged, or the validation rows or somebody say to stop.

    Args:
        objective: what to minimize.
        X: the rows of the table.
        targets: of them.
        is_used: which parameters belong to the network.
        turn: before the first step.
        hidden: nodes of the hidden layers, for who watches.
        table: with the validation rows.
        settings: how.
        rival: a simpler network, which ends the training of one that does not predict better.
    """
    tolerance = jnp.asarray(settings.tolerance, X.dtype)
    how = f"{objective} {replace(settings, watch=None)}"
    beaten = None if rival is None else rival.row_losses
    loop = Loop(X, targets, table.validation, is_used, turn, how, beaten)
    none = np.zeros(0)
    record: Record = loop.restored(Record(turn, turn, (turn, turn), none, none, none))
    while record.goes_on(settings) and not _is_over(record, settings, rival):
        record = _stepped(objective, X, targets, is_used, tolerance, table, record)
        held = float(record.validation[-1]) if len(record.validation) else np.nan
        steps, loss = len(record.losses), float(record.losses[-1])
        progress = Progress(steps, settings.max_steps, loss, held, hidden)
        if settings.watch is not None and settings.watch(progress):
            break
        loop.keep(record)
    loop.end()
    return record


@dataclass(frozen=True)
class Rival:
    """A simpler network.

    Attributes:
        row_losses: of the rows without themselves.
        has_won: whether it predicts left-out rows as well as what training has reached.
    """

    row_losses: Numbers
    has_won: Callable[[Turn], bool]


def _is_over(record: Record, settings: Settings, rival: Rival | None) -> bool:
    """Whether it is time to ask if the rival has won, and it has."""
    if rival is None or settings.strength is not None or not bool(record.turn.is_settled):
        return False
    return len(record.losses) % LOOKS == 0 and rival.has_won(record.turn)


class Record(NamedTuple):
    """Training up to a step: a tree of arrays."""

    turn: Turn
    """After the last step."""
    best: Turn
    """After the step that predicts the validation rows best; the last one without."""
    first: tuple[Turn, Turn]
    """Before and after the first step."""
    losses: Numbers
    """The mean loss of the rows after each step."""
    validation: Numbers
    """That of the validation rows; empty without."""
    lengths: Numbers
    """How far each step moved the parameters, by their Euclidean norm."""

    def goes_on(self, settings: Settings) -> bool:
        """Whether there is another step."""
        if len(self.losses) >= settings.max_steps or bool(self.turn.is_converged):
            return False
        held = self.validation
        return not len(held) or len(held) - int(np.argmin(held)) <= settings.patience


def _stepped(
    objective: Objective,
    X: Any,
    targets: Targets,
    is_used: Any,
    tolerance: Array,
    table: Table,
    last: Record,
) -> Record:
    """After one more step."""
    turn = step(objective, X, targets, is_used, tolerance, last.turn)
    moves = jax.tree.map(  # by NumPy, as nothing has to be compiled for it
        lambda new, old: np.asarray(new) - np.asarray(old), turn.params, last.turn.params
    )
    length = np.sqrt(sum(float(np.sum(np.square(move))) for move in jax.tree.leaves(moves)))
    best, validation = turn, last.validation
    if table.validation is not None:
        held = validation_loss(objective, turn.params, table.validation)
        validation = np.append(validation, held)
        best = turn if held <= np.min(validation) else last.best
    return Record(
        turn,
        best,
        last.first if len(last.losses) else (last.turn, turn),
        np.append(last.losses, float(turn.loss) / table.weight),
        validation,
        np.append(last.lengths, length),
    )


def validation_loss(objective: Objective, params: Any, rows: tuple[Numbers, Targets]) -> float:
    """The mean loss of rows that are not fitted."""
    X, targets = rows
    return float(_loss(objective, params, X, targets)) / float(np.sum(targets.weights))


@partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: Any, X: Any, targets: Targets) -> Any:
    return objective.loss(targets, objective.model(params, X))
