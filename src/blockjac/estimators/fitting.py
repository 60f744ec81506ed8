"""Fit networks of several widths to a table, and keep the one that predicts left-out rows best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.estimators.ahead import compiled_ahead
from blockjac.estimators.blas_threads import few_threads
from blockjac.estimators.evidence import Level, Weighed, weighed_at
from blockjac.estimators.leave_one_out import LeftOut, is_as_good, left_out
from blockjac.estimators.network import initial_params, narrowed, widened
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.steps import Turn, first_turn
from blockjac.estimators.tables import Numbers
from blockjac.estimators.training_loop import Record, Rival, Settings, Table, trained

FIRST = (0.01, 0.3)
"""First strengths of the penalty, as shares of the number of rows: from each the evidence has a
maximum of its own, with many parameters determined or with few. The largest is taken."""


@dataclass(frozen=True)
class Fit:
    """A trained network, and what its rows would be without themselves.

    Attributes:
        hidden: nodes of the hidden layers.
        turn: parameters, penalty, evidence.
        record: of the training.
        triangle: the Cholesky factor of the curvature.
        left_out: outputs of each row, with it and without it.
        row_losses: of the rows without themselves.
        weights: of the rows.
    """

    hidden: tuple[int, ...]
    turn: Turn
    record: Record
    triangle: Any
    left_out: LeftOut
    row_losses: Numbers
    weights: Numbers = field(repr=False)

    @property
    def score(self) -> float:
        """Minus the mean loss of rows that were left out; higher is better."""
        return -float(np.average(self.row_losses, weights=self.weights))


def fit_widths(
    objective: Objective,
    widths: Sequence[Sequence[int]],
    room: Sequence[int],
    table: Table,
    seed: Callable[[], np.random.RandomState],
    settings: Settings,
    start: Any = None,
) -> Fit:
    """Train networks of several widths, all as one compiled program, and choose one.

    Args:
        objective: what to minimize.
        widths: nodes of the hidden layers of each, narrower ones first; equally many layers.
        room: nodes of the hidden layers to compile for; at least as many.
        table: what to fit.
        seed: makes the generator of initial parameters.
        settings: how.
        start: parameters to begin with, for a single network; drawn if left out.
    """
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
    is_drawn = start is None
    X, dtype = jnp.asarray(table.X), table.X.dtype
    targets = Targets(*map(jnp.asarray, table.targets))
    if start is None:
        start = initial_params(
            generator, (inputs, *hidden, outputs), dtype, has_direct=settings.has_direct
        )
    params, is_used = widened(start, (inputs, *room, outputs))
    parts = len(params["weights"]) + len(params["direct"])
    shares = FIRST if settings.strength is None else (settings.strength,)
    if not any(hidden) or not is_drawn:
        # the loss of a linear model has one minimum, and who gives a start wants to go on there
        shares = shares[:1]
    turns = [
        first_turn(
            params,
            Level(jnp.full(parts, share * table.weight, dtype), jnp.ones((), dtype)),
            settings.strength is not None,
        )
        for share in shares
    ]
    size = sum(part.size for part in jax.tree.leaves(params))
    ahead = partial(_compile_look, objective, X, targets, is_used, turns[0], size)
    key = (objective, X.shape, targets.values.shape, dtype, tuple(room), settings.has_direct)
    with few_threads(size):
        with compiled_ahead(key, ahead):
            beaten = None
            if rival is not None:
                has_won = partial(_is_beaten, objective, X, targets, is_used, rival)
                beaten = Rival(rival.row_losses, has_won)
            train = partial(trained, objective, X, targets, is_used)
            records: list[Record] = []
            for turn in turns:
                records.append(train(turn, tuple(hidden), table, settings, beaten))
                if records[-1].goes_on(settings):
                    break  # somebody wants it to stop, or a simpler network is as good
        # left-out rows take as long as steps, and are asked for at the best end alone
        ends = [_weighed(objective, X, targets, is_used, one.best) for one in records]
        evidences = [np.nan_to_num(float(says.evidence), nan=-np.inf) for says in ends]
        best = int(np.argmax(evidences))
        record, says = records[best], ends[best]
        without, row_losses = _looked_back(objective, X, targets, record.best, says)
    turn = record.best
    turn = turn._replace(evidence=says.evidence, well_determined=says.determined)
    turn = jax.device_get(turn)
    turn = turn._replace(params=narrowed(turn.params, (inputs, *hidden, outputs)))
    return Fit(
        tuple(hidden),
        turn,
        record,
        _restricted(np.asarray(says.triangle), is_used),
        jax.device_get(without),
        row_losses,
        np.asarray(table.targets.weights),
    )


def _restricted(triangle: Numbers, is_used: Any) -> Numbers:
    """The Cholesky factor for the parameters that belong to the network; the others meet none."""
    used = np.concatenate([part.ravel() for part in jax.tree.leaves(is_used)])
    if used.all():
        return triangle
    matrix = triangle @ triangle.T
    return np.linalg.cholesky(matrix[np.ix_(used, used)])


def _is_beaten(
    objective: Objective, X: Any, targets: Targets, is_used: Any, rival: Fit, turn: Turn
) -> bool:
    """Whether a simpler network predicts left-out rows as well as training does so far.

    A weak penalty lets the loss of separable classes fall for hundreds of steps.
    """
    says = _weighed(objective, X, targets, is_used, turn)
    row_losses = _looked_back(objective, X, targets, turn, says)[1]
    return is_as_good(rival.row_losses, row_losses, rival.weights)


def _weighed(objective: Objective, X: Any, targets: Targets, is_used: Any, turn: Turn) -> Weighed:
    """The evidence where training stands."""
    return weighed_at(objective, turn.params, X, targets, turn.level, is_used)


def _looked_back(
    objective: Objective, X: Any, targets: Targets, turn: Turn, says: Weighed
) -> tuple[LeftOut, Numbers]:
    """The left-out rows where training stands, and their losses."""
    strengths = turn.level.strengths
    without = left_out(objective, turn.params, says.triangle, X, targets, strengths)
    return without, np.asarray(_row_losses(objective, targets, without.without))


@partial(jax.jit, static_argnums=0)
def _row_losses(objective: Objective, targets: Targets, outputs: Any) -> Any:
    return objective.row_losses(targets, outputs)


def _compile_look(
    objective: Objective, X: Any, targets: Targets, is_used: Any, turn: Turn, size: int
) -> None:
    """Compile what `_weighed` and `_looked_back` call.

    Args:
        objective: of the network.
        X: the rows.
        targets: of them.
        is_used: which parameters belong to the network.
        turn: any one.
        size: how many parameters there are.
    """
    triangle: Any = jax.ShapeDtypeStruct((size, size), X.dtype)
    weighed_at.lower(objective, turn.params, X, targets, turn.level, is_used).compile()
    strengths = turn.level.strengths
    left_out.lower(objective, turn.params, triangle, X, targets, strengths).compile()
    _row_losses.lower(objective, targets, targets.values).compile()


def simplest(candidates: Sequence[Fit]) -> Fit:
    """The first whose left-out rows are predicted as well as those of the best, but for chance.

    Args:
        candidates: simpler ones first. One is taken in the place of a better one if the mean of the
            differences of their rows' losses is below its standard error.
    """
    finite = [one for one in candidates if np.isfinite(one.score)] or list(candidates)
    best = max(finite, key=lambda one: one.score)
    return next(one for one in finite if is_as_good(one.row_losses, best.row_losses, best.weights))
