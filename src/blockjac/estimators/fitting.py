"""Fit networks of several widths to a table, and keep the one that predicts left-out rows best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.estimators.evidence import Level, Weighed, weighed_at
from blockjac.estimators.leave_one_out import LeftOut, is_as_good, left_out
from blockjac.estimators.network import initial_params, narrowed, widened
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.steps import Turn, first_turn, step
from blockjac.estimators.tables import Numbers

FIRST = 0.01
"""The first strength of the penalty, as a share of the number of rows."""

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


@dataclass(frozen=True)
class Fit:
    """A trained network, and what its rows would be without themselves.

    Attributes:
        hidden: nodes of the hidden layers.
        turn: parameters, penalty, evidence.
        losses: the mean loss of the rows after each step.
        validation: that of the validation rows; empty without.
        triangle: the Cholesky factor of the curvature.
        left_out: outputs of each row, with it and without it.
        row_losses: of the rows without themselves.
        steps: how many were made.
        weights: of the rows.
    """

    hidden: tuple[int, ...]
    turn: Turn
    losses: list[float]
    validation: list[float]
    triangle: Any
    left_out: LeftOut
    row_losses: Numbers
    steps: int
    weights: Numbers = field(repr=False)

    @property
    def score(self) -> float:
        """Minus the mean loss of rows that were left out; higher is better."""
        return -float(np.average(self.row_losses, weights=self.weights))


def fit_widths(
    objective: Objective,
    widths: Sequence[Sequence[int]],
    table: Table,
    seed: Callable[[], np.random.RandomState],
    settings: Settings,
    start: Any = None,
) -> Fit:
    """Train networks of several widths, all as one compiled program, and choose one.

    Args:
        objective: what to minimize.
        widths: nodes of the hidden layers of each, narrower ones first; equally many layers.
        table: what to fit.
        seed: makes the generator of initial parameters.
        settings: how.
        start: parameters to begin with, for a single network; drawn if left out.
    """
    room = [max(nodes) for nodes in zip(*widths, strict=True)]
    fits: list[Fit] = []
    for hidden in widths:
        rival = simplest(fits) if fits else None
        fits.append(fit(objective, hidden, room, table, seed(), settings, start, rival))
    return simplest(fits)


def fit(
    objective: Objective,
    hidden: Sequence[int],
    room: Sequence[int],
    table: Table,
    generator: np.random.RandomState,
    settings: Settings,
    start: Any = None,
    rival: Fit | None = None,
) -> Fit:
    """Train one network.

    Args:
        objective: what to minimize.
        hidden: nodes of the hidden layers; zeros for a linear model.
        room: nodes of the hidden layers to compile for; at least as many.
        table: what to fit.
        generator: draws the initial parameters.
        settings: how.
        start: parameters to begin with; drawn if left out.
        rival: a simpler network, which ends the training of one that does not predict better.
    """
    inputs, outputs = table.sizes
    X, dtype = jnp.asarray(table.X), table.X.dtype
    targets = Targets(*map(jnp.asarray, table.targets))
    if start is None:
        start = initial_params(
            generator, (inputs, *hidden, outputs), dtype, has_direct=settings.has_direct
        )
    params, is_used = widened(start, (inputs, *room, outputs))
    share = FIRST if settings.strength is None else settings.strength
    parts = len(params["weights"]) + len(params["direct"])
    level = Level(jnp.full(parts, share * table.weight, dtype), jnp.ones((), dtype))
    turn, losses, validation = _trained(
        objective,
        X,
        targets,
        is_used,
        first_turn(params, level, settings.strength is not None),
        tuple(hidden),
        table,
        settings,
        rival,
    )
    says, without, row_losses = _looked_back(objective, X, targets, is_used, turn)
    turn = turn._replace(evidence=says.evidence, well_determined=says.determined)
    turn = jax.device_get(turn)
    turn = turn._replace(params=narrowed(turn.params, (inputs, *hidden, outputs)))
    return Fit(
        tuple(hidden),
        turn,
        losses,
        validation,
        _restricted(np.asarray(says.triangle), is_used),
        jax.device_get(without),
        row_losses,
        len(losses),
        np.asarray(table.targets.weights),
    )


def _restricted(triangle: Numbers, is_used: Any) -> Numbers:
    """The Cholesky factor for the parameters that belong to the network; the others meet none."""
    used = np.concatenate([part.ravel() for part in jax.tree.leaves(is_used)])
    if used.all():
        return triangle
    matrix = triangle @ triangle.T
    return np.linalg.cholesky(matrix[np.ix_(used, used)])


def _trained(
    objective: Objective,
    X: Any,
    targets: Targets,
    is_used: Any,
    turn: Turn,
    hidden: tuple[int, ...],
    table: Table,
    settings: Settings,
    rival: Fit | None,
) -> tuple[Turn, list[float], list[float]]:
    """Steps until one has converged or the rival has won, and the losses after each."""
    losses: list[float] = []
    validation: list[float] = []
    best, tolerance = turn, jnp.asarray(settings.tolerance, X.dtype)
    while len(losses) < settings.max_steps and not bool(turn.is_converged):
        turn = step(objective, X, targets, is_used, tolerance, turn)
        losses.append(float(turn.loss) / table.weight)
        held = np.nan
        if table.validation is not None:
            held = validation_loss(objective, turn.params, table.validation)
            validation.append(held)
            if held <= min(validation):
                best = turn
            if len(validation) - int(np.argmin(validation)) > settings.patience:
                break
        progress = Progress(len(losses), settings.max_steps, losses[-1], held, hidden)
        if settings.watch is not None and settings.watch(progress):
            break
        if rival and settings.strength is None and turn.is_settled and len(losses) % LOOKS == 0:
            # a weak penalty lets the loss of separable classes fall for hundreds of steps
            row_losses = _looked_back(objective, X, targets, is_used, turn)[2]
            if is_as_good(rival.row_losses, row_losses, rival.weights):
                break
    return (turn if table.validation is None else best), losses, validation


def _looked_back(
    objective: Objective, X: Any, targets: Targets, is_used: Any, turn: Turn
) -> tuple[Weighed, LeftOut, Numbers]:
    """The evidence where training stands, the left-out rows, and their losses."""
    says = weighed_at(objective, turn.params, X, targets, turn.level, is_used)
    without = left_out(objective, turn.params, says.triangle, X, targets)
    return says, without, np.asarray(objective.row_losses(targets, without.without))


def validation_loss(objective: Objective, params: Any, rows: tuple[Numbers, Targets]) -> float:
    """The mean loss of rows that are not fitted."""
    X, targets = rows
    return float(_loss(objective, params, X, targets)) / float(np.sum(targets.weights))


@partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: Any, X: Any, targets: Targets) -> Any:
    return objective.loss(targets, objective.model(params, X))


def simplest(candidates: Sequence[Fit]) -> Fit:
    """The first whose left-out rows are predicted as well as those of the best, but for chance.

    Args:
        candidates: simpler ones first. One is taken in the place of a better one if the mean of the
            differences of their rows' losses is below its standard error.
    """
    finite = [one for one in candidates if np.isfinite(one.score)] or list(candidates)
    best = max(finite, key=lambda one: one.score)
    return next(one for one in finite if is_as_good(one.row_losses, best.row_losses, best.weights))
