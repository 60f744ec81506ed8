"""From a table of numbers to a fitted network with its left-out rows, without scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from blockjac.errors import NonFiniteLossError
from blockjac.estimators.fitting import fit_widths
from blockjac.estimators.leave_one_out import LeftOut
from blockjac.estimators.model import Model
from blockjac.estimators.objective import Kind, Objective, Targets
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import Memory
from blockjac.estimators.tables import (
    Numbers,
    Scale,
    filled,
    room_for,
    room_of_nodes,
    shared_rows,
)
from blockjac.estimators.training_loop import Settings, Table, Watch


@dataclass(frozen=True)
class Options:
    """How an estimator fits; what is None is chosen by the table.

    Attributes:
        hidden: nodes of the hidden layers.
        activation: of the hidden layers.
        strength: of the penalty, of the mean loss.
        solver: "gauss-newton" or "adam".
        max_steps: the most steps, or epochs.
        tolerance: of the relative change of the loss.
        batch_size: rows of a batch.
        rate: the learning rate of Adam.
        validation: the share of rows that are held out; 0 for none.
        patience: rounds or epochs without progress after which training stops.
        watch: called after each round or epoch.
    """

    hidden: tuple[int, ...] | None
    activation: str
    strength: float | None
    solver: str | None
    max_steps: int | None
    tolerance: float
    batch_size: int | None
    rate: float | None
    validation: float | None
    patience: int
    watch: Watch | None

    @property
    def settings(self) -> Settings:
        """What training wants to know of them."""
        return Settings(
            self.strength,
            self.max_steps or 200,
            self.tolerance,
            self.patience,
            has_direct=self.hidden != (),
            watch=self.watch,
        )


@dataclass(frozen=True)
class Fitted:
    """A fit, and what is known of it.

    Attributes:
        model: predicts.
        hidden: nodes of the hidden layers.
        solver: that was used.
        rows: that were fitted.
        held_out: rows that were not, or None.
        look_back: finds `left_out`, which takes long for many rows.
        strengths: of the penalty, of the mean loss, a layer each and then the direct map.
        losses: the mean loss after each round or epoch.
        validation: that of the rows held out; empty without.
        lengths: how far each round or epoch moved the parameters.
        steps: how many were made.
        is_converged: whether training ended by itself.
        evidence: the logarithm of the evidence; nan where it was not computed.
        state: of Adam, to go on with; or None.
        first: before and after the first step of Gauss-Newton; None for Adam and for models that
            were loaded.
    """

    model: Model
    hidden: tuple[int, ...]
    solver: str
    rows: Rows
    held_out: Rows | None
    look_back: Callable[[], LeftOut]
    strengths: Numbers
    losses: list[float]
    validation: list[float]
    lengths: list[float]
    steps: int
    is_converged: bool
    evidence: float
    state: Any = None
    first: Any = None

    @cached_property
    def left_out(self) -> LeftOut:
        """Of each fitted row, its outputs with it and without it."""
        return self.look_back()


def fit_rows(
    kind: Kind,
    rows: Rows,
    inputs: Scale,
    targets: Scale,
    options: Options,
    seed: int,
    start: Any = None,
) -> Fitted:
    """Fit a network to a table.

    Args:
        kind: of targets.
        rows: to fit.
        inputs: the scale of their columns.
        targets: the scale that their values have been standardized by.
        options: how.
        seed: of initial parameters, batches and rows held out.
        start: parameters to begin with; drawn if left out.

    Raises:
        NonFiniteLossError: if training ends in parameters that are not finite.
    """
    solver = options.solver or cheapest_solver(rows, options)
    share = options.validation
    if share is None:
        share = 0.1 if solver == "adam" and len(rows) >= 200 else 0.0
    held_out, rows = _split(kind, rows, share, np.random.RandomState(seed))
    objective = Objective(kind, options.activation)
    if solver == "adam":
        # imported here, as it needs optax, which small tables do without
        from blockjac.estimators.large_tables import fit_source

        source = Memory(rows, held_out)
        fitted = fit_source(objective, source, inputs, targets, options, seed, start)
    else:
        fitted = _fit_small(objective, rows, held_out, inputs, targets, options, seed, start)
    return finite(fitted)


def finite(fitted: Fitted) -> Fitted:
    """The fit, if its parameters and their curvature are finite.

    Args:
        fitted: what came of training.

    Raises:
        NonFiniteLossError: if they are not.
    """
    model = fitted.model
    if not all(np.isfinite(part).all() for part in (*_leaves(model.params), model.triangle)):
        raise NonFiniteLossError(
            "training ended in parameters that are not finite; look for extreme values in X or y, "
            "or try another random_state"
        )
    return fitted


def _leaves(params: Any) -> list[Numbers]:
    return [part for parts in params.values() for part in parts]


def _split(
    kind: Kind, rows: Rows, share: float, generator: np.random.RandomState
) -> tuple[Rows | None, Rows]:
    """Rows held out, and the others; of each class its share, but never its last row."""
    n = len(rows)
    order = generator.permutation(n)
    groups = [order]
    if kind == "classes":
        classes = np.argmax(rows.values[order], axis=1)
        groups = [order[classes == one] for one in range(rows.values.shape[1])]
    out = np.concatenate(
        [group[: min(round(share * len(group)), len(group) - 1)] for group in groups if len(group)]
    )
    if share == 0 or not len(out):
        return None, rows
    kept = np.setdiff1d(np.arange(n), out)
    return rows.take(np.sort(out)), rows.take(kept)


def _fit_small(
    objective: Objective,
    rows: Rows,
    held_out: Rows | None,
    inputs: Scale,
    targets: Scale,
    options: Options,
    seed: int,
    start: Any,
) -> Fitted:
    """By Gauss-Newton steps, with all parameters uncertain."""
    many = room_for(len(rows))
    targets_of_rows = Targets(*(filled(part, many) for part in rows.targets))
    X = filled(inputs.apply(rows.X), many)
    validation = None if held_out is None else held_out.standardized(inputs)
    sizes, weight = (rows.table.shape[1], rows.values.shape[1]), float(np.sum(rows.weights))
    widths = widest = [options.hidden or ()]
    if options.hidden is None:
        widths, widest = (auto_widths(one, *sizes) for one in (weight, shared_rows(weight)))
    fit = fit_widths(
        objective,
        widths,
        room_of_nodes([*widths, *widest]),
        Table(X, targets_of_rows, validation),
        lambda: np.random.RandomState(seed),
        options.settings,
        start,
    )
    model = Model(objective, fit.turn.params, inputs, targets, fit.turn.level.noise, fit.triangle)
    return Fitted(
        model=model,
        hidden=fit.hidden,
        solver="gauss-newton",
        rows=rows,
        held_out=held_out,
        look_back=partial(LeftOut, *(part[: len(rows)] for part in fit.left_out)),
        strengths=np.asarray(fit.turn.level.strengths) / np.sum(rows.weights),
        losses=fit.record.losses.tolist(),
        validation=fit.record.validation.tolist(),
        lengths=fit.record.lengths.tolist(),
        steps=len(fit.record.losses),
        is_converged=bool(fit.turn.is_converged),
        evidence=float(fit.turn.evidence),
        first=jax.device_get(fit.record.first),
    )


def auto_widths(weight: float, columns: int, outputs: int) -> list[tuple[int, ...]]:
    """Nodes of the hidden layers to try: none, few, and as many as the rows can determine.

    Args:
        weight: of all rows together.
        columns: of the table.
        outputs: of the network.
    """
    most = weight * outputs / (4 * (columns + outputs + 1))
    wide = int(2 ** np.clip(round(np.log2(max(most, 1))), 2, 5))
    return [(0,), (max(wide // 4, 1),), (wide,)]


LARGE_WIDTHS = (100,)
"""Nodes of the hidden layers for a large table."""


def cheapest_solver(rows: Rows, options: Options) -> str:
    """Gauss-Newton steps, unless they are predicted to take much longer than batches.

    They give more (penalties by the evidence, left-out rows), and may take ten times as long.
    """
    n, outputs = rows.values.shape
    columns = rows.table.shape[1]
    wide = options.hidden
    if wide is None:
        wide = auto_widths(float(np.sum(rows.weights)), columns, outputs)[-1]
    nodes = (columns, *wide, outputs)
    parameters = sum((a + 1) * b for a, b in itertools.pairwise(nodes))
    parameters += columns * outputs
    second = 60 * (n * outputs * parameters**2 + 2 * parameters**3) / 2e10
    first = 100 * (n / 200 * 5e-5 + 6 * n * parameters / 3e9)
    return "gauss-newton" if second <= 10 * first + 2 else "adam"
