"""Large tables: trained by batches, with the parameters of the last layer uncertain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.estimators.epochs import Batches, begun
from blockjac.estimators.fitted import LARGE_WIDTHS, Fitted, Options
from blockjac.estimators.last_layer import last_layer
from blockjac.estimators.leave_one_out import LeftOut, left_out
from blockjac.estimators.model import Model
from blockjac.estimators.network import initial_params
from blockjac.estimators.objective import Kind, Objective, Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import Memory, Source
from blockjac.estimators.stochastic import train
from blockjac.estimators.tables import ROWS, Numbers, Scale, by_parts
from blockjac.estimators.training_loop import Settings

WEAK = 1e-5
"""The strength of the penalty for batches, of the mean loss: early stopping does the rest."""

PART_RATE = 1e-3
"""The learning rate for parts, of which nobody knows how many come."""


def fit_source(
    objective: Objective,
    source: Source,
    inputs: Scale,
    targets: Scale,
    options: Options,
    seed: int,
    start: Any,
) -> Fitted:
    """By batches; with the parameters of the last layer uncertain.

    Args:
        objective: what to minimize.
        source: of the rows; those that it keeps are looked at as if they were left out.
        inputs: the scale of the columns.
        targets: the scale that the values have been standardized by.
        options: how.
        seed: of initial parameters and batches.
        start: parameters to begin with; drawn if left out.
    """
    hidden = LARGE_WIDTHS if options.hidden is None else options.hidden
    settings, rows = _settings(options), source.kept
    sizes = (len(inputs.mean), *hidden, rows.values.shape[1])
    if start is None:
        start = _initial(sizes, rows.weights.dtype, settings, seed)
    batches = Batches.auto(options.batch_size, options.rate, source.count, seed)
    state = begun(start, batches.rate)
    epochs = train(objective, hidden, source, inputs, settings, batches, state)
    last = last_layer(objective, epochs.params, source, inputs, options.strength, seed)
    model = Model(objective, epochs.params, inputs, targets, last.noise, last.triangle, True)
    return Fitted(
        model=model,
        hidden=hidden,
        solver="adam",
        rows=rows,
        held_out=source.held_out,
        look_back=partial(_left_out, model, rows),
        strengths=last.strengths,
        losses=epochs.losses,
        validation=epochs.validation,
        lengths=epochs.lengths,
        steps=len(epochs.losses),
        is_converged=epochs.is_converged,
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
    settings, dtype = replace(_settings(options), max_steps=1), rows.weights.dtype
    rate = PART_RATE if options.rate is None else options.rate
    if old is None:
        sizes = (rows.table.shape[1], *hidden, rows.values.shape[1])
        state = begun(_initial(sizes, dtype, settings, seed), rate)
    else:
        hidden = old.hidden
        state = old.state if old.state is not None else begun(old.model.params, rate)
    # other rows may have a larger loss, for which nothing is to be undone
    state = state._replace(loss=jnp.full_like(state.loss, jnp.inf))
    batches = Batches(options.batch_size or 200, rate, 0)
    epochs = train(objective, hidden, Memory(rows, None), inputs, settings, batches, state)
    params, none = jax.device_get(epochs.state.params), np.zeros((0, 0), dtype)
    before = (0, [], []) if old is None else (old.steps, old.losses, old.lengths)
    return Fitted(
        model=Model(objective, params, inputs, targets, np.ones((), dtype), none),
        hidden=hidden,
        solver="adam",
        rows=rows,
        held_out=None,
        look_back=partial(_nothing, dtype),
        strengths=np.full(1, settings.strength),
        losses=[*before[1], *epochs.losses],
        validation=[],
        lengths=[*before[2], *epochs.lengths],
        steps=before[0] + 1,
        is_converged=False,
        evidence=float("nan"),
        state=epochs.state,
    )


def _initial(sizes: tuple[int, ...], dtype: Any, settings: Settings, seed: int) -> Any:
    """Parameters to begin with."""
    generator = np.random.RandomState(seed)
    return initial_params(generator, sizes, dtype, has_direct=settings.has_direct)


def _settings(options: Options) -> Settings:
    """How batches are fitted: with a weak penalty where none was asked for."""
    settings = options.settings
    return settings if settings.strength is not None else replace(settings, strength=WEAK)


def _nothing(dtype: Any) -> LeftOut:
    """What is known of left-out rows where nobody looked."""
    none = np.zeros((0, 0), dtype)
    return LeftOut(*(none for _ in LeftOut._fields))


def _left_out(model: Model, rows: Rows) -> LeftOut:
    """What the last layer's curvature says of each row; some rows at a time."""
    objective, params = model.uncertain
    triangle = jnp.asarray(model.triangle)

    def of_part(places: Numbers, *targets: Numbers) -> LeftOut:
        Z = model.uncertain_rows(rows.some(places))
        return left_out(objective, params, triangle, Z, Targets(*targets))

    return by_parts(of_part, ROWS, np.arange(len(rows)), *rows.targets)
