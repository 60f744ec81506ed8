"""Large tables: trained by batches; then the last layer once more, as a linear model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.estimators.fitted import LARGE_WIDTHS, Fitted, Options, Rows
from blockjac.estimators.fitting import fit
from blockjac.estimators.leave_one_out import LeftOut, left_out
from blockjac.estimators.model import ROWS, Model, features_of, uncertain_part
from blockjac.estimators.objective import Kind, Objective, Targets
from blockjac.estimators.stochastic import Batches, Epochs, train
from blockjac.estimators.tables import Numbers, Scale, by_parts, filled, room_for
from blockjac.estimators.training_loop import Settings, Table, validation_loss

WORK = 2e9
"""Multiplications for a curvature of the last layer: of more rows it takes some only."""

WEAK = 1e-5
"""The strength of the penalty for batches, of the mean loss: early stopping does the rest."""


def fit_large(
    objective: Objective,
    rows: Rows,
    held_out: Rows | None,
    inputs: Scale,
    targets: Scale,
    options: Options,
    seed: int,
    start: Any,
) -> Fitted:
    """By batches; with the parameters of the last layer uncertain."""
    hidden = LARGE_WIDTHS if options.hidden is None else options.hidden
    validation = None if held_out is None else held_out.standardized(inputs)
    settings = _settings(options)
    batches = Batches(options.batch_size or 200, options.rate, seed)
    table = Table(*rows.standardized(inputs), validation)
    generator = np.random.RandomState(seed)
    epochs = train(objective, hidden, table, generator, settings, batches, start)
    last = _Last(objective, epochs, table, options, seed)
    return Fitted(
        model=Model(objective, last.params, inputs, targets, last.noise, last.triangle, True),
        hidden=hidden,
        solver="adam",
        rows=rows,
        held_out=held_out,
        left_out=last.left_out,
        strengths=last.strengths,
        losses=epochs.losses,
        validation=epochs.validation,
        lengths=epochs.lengths,
        steps=len(epochs.losses),
        is_converged=len(epochs.losses) < settings.max_steps,
        evidence=float("nan"),
        state=epochs.state,
    )


def fit_part(
    kind: Kind,
    rows: Rows,
    inputs: Scale,
    targets: Scale,
    options: Options,
    seed: int,
    old: Fitted | None,
) -> Fitted:
    """One epoch over some rows, beginning where the last one ended; no parameter is uncertain.

    Args:
        kind: of targets.
        rows: to fit.
        inputs: the scale of their columns.
        targets: the scale that their values have been standardized by.
        options: how.
        seed: of initial parameters, for the first epoch.
        old: what came of the last epoch.
    """
    objective = Objective(kind, options.activation)
    hidden = LARGE_WIDTHS if options.hidden is None else options.hidden
    if old is not None:
        hidden = old.hidden
    settings = replace(_settings(options), max_steps=1)
    # one seed of the shuffling, which is part of the compiled program
    batches = Batches(options.batch_size or 200, options.rate, 0)
    table = Table(*rows.standardized(inputs))
    generator = np.random.RandomState(seed)
    start, resume = (None, None) if old is None else (old.model.params, old.state)
    epochs = train(objective, hidden, table, generator, settings, batches, start, resume)
    params = jax.device_get(epochs.state.state.params)
    none = np.zeros((0, 0), rows.X.dtype)
    before = (0, [], []) if old is None else (old.steps, old.losses, old.lengths)
    return Fitted(
        model=Model(objective, params, inputs, targets, np.ones((), rows.X.dtype), none),
        hidden=hidden,
        solver="adam",
        rows=rows,
        held_out=None,
        left_out=LeftOut(none, none, none, none),
        strengths=np.full(1, settings.strength),
        losses=[*before[1], *epochs.losses],
        validation=[],
        lengths=[*before[2], *epochs.lengths],
        steps=before[0] + 1,
        is_converged=False,
        evidence=float("nan"),
        state=epochs.state,
    )


def _settings(options: Options) -> Settings:
    """How batches are fitted: with a weak penalty where none was asked for."""
    settings = options.settings
    return settings if settings.strength is not None else replace(settings, strength=WEAK)


class _Last:
    """The last layer as a linear model of what it gets."""

    def __init__(
        self,
        objective: Objective,
        epochs: Epochs,
        table: Table,
        options: Options,
        seed: int,
    ) -> None:
        self.objective, self.table = objective, table
        Z = self._inputs(epochs.params, table.X)
        rows = self._some(Z, seed)
        share = len(rows) / len(Z)
        targets = Targets(*(np.asarray(part)[rows] for part in table.targets))
        many = room_for(len(rows))
        few = Table(filled(Z[rows], many), Targets(*(filled(part, many) for part in targets)))
        settings = Settings(options.strength, max_steps=80, tolerance=1e-6, has_direct=False)
        start = uncertain_part(epochs.params)
        found = fit(objective, (), (), few, np.random.RandomState(seed), settings, start)
        self.params = self._better(epochs.params, found.turn.params)
        self.triangle = found.triangle / np.sqrt(share)
        self.strengths = np.asarray(found.turn.level.strengths) / few.weight
        self.noise = self._noise(found.turn.level.noise)
        many = room_for(len(Z))
        X, *parts = (jnp.asarray(filled(part, many)) for part in (Z, *table.targets))
        out = left_out(
            objective,
            uncertain_part(self.params),
            jnp.asarray(self.triangle),
            X,
            Targets(*parts),
        )
        self.left_out = LeftOut(*(np.asarray(part)[: len(Z)] for part in out))

    def _inputs(self, params: Any, X: Numbers) -> Numbers:
        return by_parts(partial(features_of, self.objective, params), X, ROWS)

    def _some(self, Z: Numbers, seed: int) -> Numbers:
        """The places of as many rows as a curvature may take."""
        outputs = self.table.targets.values.shape[1]
        most = max(int(WORK / (outputs * Z.shape[1]) ** 2), 4 * Z.shape[1])
        if most >= len(Z):
            return np.arange(len(Z))
        return np.sort(np.random.RandomState(seed).choice(len(Z), most, replace=False))

    def _better(self, old: Any, last: Any) -> Any:
        """The parameters with the new last layer, unless held-out rows speak against it."""
        nodes = len(old["weights"][-1])
        weights = last["weights"][0]
        new = {
            "weights": [*old["weights"][:-1], weights[:nodes]],
            "biases": [*old["biases"][:-1], last["biases"][0]],
            "direct": [weights[nodes:]] if old["direct"] else [],
        }
        rows = self.table.validation
        if rows is None:
            return new
        losses = [validation_loss(self.objective, params, rows) for params in (old, new)]
        return new if losses[1] <= losses[0] else old

    def _noise(self, noise: Numbers) -> Numbers:
        """The variance of targets around outputs, by held-out rows where there are any."""
        rows = self.table.validation
        if rows is None or self.objective.kind != "numbers":
            return noise
        outputs = rows[1].values.shape[1]
        mean = 2 * validation_loss(self.objective, self.params, rows) / outputs
        return np.asarray(mean, noise.dtype)
