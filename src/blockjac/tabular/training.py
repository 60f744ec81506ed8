"""From a table to a model: one is fitted without the rows that test it, then one to all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from blockjac.errors import InvalidDataError
from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.tables import shared_shapes
from blockjac.optimize import LineProfile
from blockjac.tabular.encoding import Encoder, encoder_of, listed
from blockjac.tabular.measures import Measures, measured
from blockjac.tabular.model import TableModel
from blockjac.tabular.table import Table, Values
from blockjac.tabular.targets import Target, target_of

ESTIMATORS = {"classification": FeedforwardClassifier, "regression": FeedforwardRegressor}


@dataclass(frozen=True)
class How:
    """How a table is to be learned.

    Attributes:
        target: the column to predict; None for the one that suits.
        task: "classification", "regression" or "auto".
        drop: columns not to use.
        test: the share of rows that are set aside to test.
        folds: of a cross-validation in the place of that; 0 for none.
        seed: of all that is random.
        options: of the estimator.
    """

    target: str | None = None
    task: str = "auto"
    drop: tuple[str, ...] = ()
    test: float = 0.2
    folds: int = 0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A table as numbers.

    Attributes:
        table: that it was.
        target: what to predict.
        encoder: made numbers of the columns.
        X: the numbers of the rows with a target.
        splits: rows to fit and rows to test, of each fit but the last.
        notes: of all that a user should know.
    """

    table: Table
    target: Target
    encoder: Encoder
    X: Values
    splits: Sequence[tuple[Values, Values]]
    notes: tuple[str, ...]

    def where(self, row: int) -> str:
        """A row of `X`, as a user finds it in the table."""
        return self.table.where(int(self.target.rows[row]))


@dataclass(frozen=True)
class History:
    """How one fit went.

    Attributes:
        stage: which rows were fitted.
        solver: that was used.
        hidden: nodes of the hidden layers.
        losses: after each step, or round, or epoch.
        validation: that of rows held out; empty without.
        lengths: how far each step moved the parameters.
        line: the loss along the first step; None where there is none.
    """

    stage: str
    solver: str
    hidden: tuple[int, ...]
    losses: Sequence[float]
    validation: Sequence[float]
    lengths: Sequence[float]
    line: LineProfile | None

    @staticmethod
    def of(stage: str, estimator: Any, has_line: bool) -> History:
        """Of an estimator that was just fitted.

        Args:
            stage: which rows were fitted.
            estimator: fitted to them.
            has_line: whether the first step is wanted.
        """
        is_newton = estimator.solver_ == "gauss-newton"
        return History(
            stage,
            estimator.solver_,
            estimator.hidden_layer_sizes_,
            estimator.loss_curve_,
            estimator.validation_curve_ or (),
            estimator.step_norms_,
            estimator.first_step_profile() if has_line and is_newton else None,
        )


@dataclass(frozen=True)
class Trained:
    """A model, and how well it does.

    Attributes:
        prepared: the table.
        model: fitted to all rows.
        tested: how well rows are predicted that the fit did not see; None if none were set aside.
        left_out: how well each row is predicted by the others; None where nobody knows.
        histories: how the fits went, in turn.
    """

    prepared: Prepared
    model: TableModel
    tested: Measures | None
    left_out: Measures | None
    histories: Sequence[History]

    @property
    def shown(self) -> Measures | None:
        """What pictures show: the left-out rows, or those set aside."""
        return self.left_out or self.tested


def prepare(table: Table, how: How) -> Prepared:
    """Choose the target, and make numbers of the other columns.

    Args:
        table: to learn.
        how: to learn it.

    Raises:
        InvalidDataError: if it cannot be learned; says why.
    """
    unknown = [name for name in how.drop if name not in table.columns]
    if unknown:
        raise InvalidDataError(
            f"{table.source} has no columns {listed(unknown)} to drop; it has "
            f"{listed(list(table.columns))}"
        )
    target = target_of(table, how.target, how.task)
    rows = table.take(target.rows)
    names = [name for name in rows.columns if name != target.name and name not in how.drop]
    encoder, odd = encoder_of(rows, names)
    X, _ = encoder.apply(rows)
    gone = [f"column {name!r} is not used: {why}" for name, why in encoder.left_out.items()]
    rare = _rare(target)
    notes = (*table.notes, *target.notes, *odd, *gone, *rare)
    return Prepared(table, target, encoder, X, _splits(X, target, how), notes)


def train(
    prepared: Prepared, how: How, doing: Callable[[str], object], *, has_line: bool = False
) -> Trained:
    """Fit a network, test it, and fit one to all rows.

    Args:
        prepared: the table.
        how: to learn it.
        doing: told what is done now.
        has_line: whether the loss along the first step is wanted.
    """
    X, y, task = prepared.X, prepared.target.values, prepared.target.task
    estimator: Any = ESTIMATORS[task](random_state=how.seed, **dict(how.options))
    parts: list[Measures] = []
    histories: list[History] = []
    with shared_shapes(len(X)):
        for number, (fitted, tested) in enumerate(prepared.splits, 1):
            stage = f"fold {number} of {how.folds}" if how.folds else "rows to learn from"
            doing(stage)
            estimator.fit(X[fitted], y[fitted])
            histories.append(History.of(stage, estimator, has_line and not histories))
            parts.append(measured(estimator, X[tested], y[tested], tested))
        doing("all rows")
        estimator.fit(X, y)
        histories.append(History.of("all rows", estimator, has_line and not histories))
    tested = Measures.joined(parts) if parts else None
    left_out = Measures.left_out(estimator, y)
    about = {
        "source": prepared.table.source,
        "rows": len(X),
        "tested": tested.scores if tested else None,
        "left_out": left_out.scores if left_out else None,
    }
    model = TableModel(prepared.encoder, estimator, prepared.target.name, task, about)
    return Trained(prepared, model, tested, left_out, histories)


def _splits(X: Values, target: Target, how: How) -> Sequence[tuple[Values, Values]]:
    """Rows to fit and rows to test.

    Raises:
        InvalidDataError: if there are too few.
    """
    count, y = len(X), target.values
    has_classes = target.task == "classification"
    if how.folds:
        fewest = min(np.unique(y.astype(str), return_counts=True)[1]) if has_classes else count
        if how.folds > (fewest if has_classes else count // 2):
            of_what = "rows of the rarest class" if has_classes else "rows"
            raise InvalidDataError(
                f"{how.folds} folds need more rows: there are {fewest} {of_what}; wanted fewer "
                "--folds, or --test SHARE"
            )
        kind: Any = StratifiedKFold if has_classes else KFold
        return list(kind(how.folds, shuffle=True, random_state=how.seed).split(X, y))
    if how.test == 0:
        return []
    size = max(round(how.test * count), 1)
    is_stratified = has_classes and min(size, count - size) >= len(np.unique(y.astype(str)))
    is_stratified = is_stratified and not _rare(target)
    fitted, tested = train_test_split(
        np.arange(count),
        test_size=size,
        random_state=how.seed,
        stratify=y if is_stratified else None,
    )
    if has_classes and len(np.unique(y[fitted].astype(str))) < 2:
        raise InvalidDataError(
            "without the rows set aside there is one class to learn from; wanted a smaller --test"
        )
    return [(np.sort(fitted), np.sort(tested))]


def _rare(target: Target) -> tuple[str, ...]:
    """A note of classes of one row."""
    if target.task != "classification":
        return ()
    classes, counts = np.unique(target.values.astype(str), return_counts=True)
    single = [str(one) for one in classes[counts == 1]]
    return (f"classes of a single row: {listed(single)}",) if single else ()
