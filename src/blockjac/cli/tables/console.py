"""What `blockjac train` prints: progress on a terminal, and a summary in the end."""

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from blockjac.cli.progress import OnTerminal
from blockjac.estimators import Progress
from blockjac.tabular.measures import Measures
from blockjac.tabular.training import Prepared, Trained

if TYPE_CHECKING:
    from rich.progress import TaskID

DOUBTFUL = 5
"""Rows that are named in the summary."""


class Console(OnTerminal):
    """Prints lines, and on a terminal, with rich installed, a bar below them.

    Args:
        task: what is predicted, by which losses become scores.
    """

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        self.stage = ""
        self._id: TaskID | None = None
        self._began = time.monotonic()
        self._first = 0

    def doing(self, stage: str) -> None:
        """Name what is done now.

        Args:
            stage: of the training.
        """
        self.stage = stage
        if self._bar is not None:
            if self._id is not None:
                self._bar.remove_task(self._id)
            self._id = self._bar.add_task(stage, total=None)

    def step(self, progress: Progress) -> bool:
        """Show how far a fit is.

        Args:
            progress: of it.
        """
        if self._bar is None or self._id is None:
            return False
        if progress.steps == 1:
            self._began, self._first = time.monotonic(), progress.steps
        is_held = not math.isnan(progress.validation)
        loss = progress.validation if is_held else progress.loss
        nodes = "x".join(map(str, progress.hidden)) or "0"
        words = [
            f"{self.stage}: {nodes} nodes, loss {progress.loss:.4g}",
            f"{'held out ' if is_held else ''}{score(self.task, loss)}",
            f"at most {self._left(progress)} left",
        ]
        self._bar.update(
            self._id,
            description=", ".join(words),
            completed=progress.steps,
            total=progress.max_steps,
        )
        return False

    def _left(self, progress: Progress) -> str:
        made = progress.steps - self._first
        if not made:
            return "?"
        left = (time.monotonic() - self._began) / made * (progress.max_steps - progress.steps)
        return f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"


def score(task: str, loss: float) -> str:
    """A mean loss as people read it.

    Args:
        task: what is predicted.
        loss: the cross-entropy, or half of the squared error over the variance.
    """
    if task == "regression":
        return f"R² {1 - 2 * loss:.3f}"
    return f"probability {math.exp(-loss):.3f}"


def opening(prepared: Prepared) -> list[str]:
    """What was found in the table.

    Args:
        prepared: the table.
    """
    table, target = prepared.table, prepared.target
    used = len(prepared.encoder.used)
    rows, columns = prepared.X.shape
    lines = [
        f"{table.source}: {rows:,} rows, {used} columns to learn from ({columns} numbers), "
        f"{target.name!r} to predict ({target.task})"
    ]
    return lines + [f"  {note}" for note in prepared.notes]


def summary(trained: Trained) -> list[tuple[str, str]]:
    """What came of a training: names and values.

    Args:
        trained: the training.
    """
    estimator, target = trained.model.estimator, trained.prepared.target
    if target.task == "classification":
        said = f"{target.name}, {len(estimator.classes_)} classes"
    else:
        said = f"{target.name}, numbers"
    lines = [("target", said), ("network", trained.model.network)]
    if trained.tested is not None:
        lines += _scores("rows set aside", trained.tested)
    if trained.left_out is not None:
        lines += _scores("each row by the others", trained.left_out)
    return lines


def doubtful(trained: Trained, most: int = DOUBTFUL) -> list[str]:
    """The rows that the others predict worst, in words.

    Args:
        trained: the training.
        most: how many.
    """
    rows = trained.model.estimator.suspicious_rows_[:most]
    words = [doubt(trained, int(row)) for row in rows]
    return [f"{where}: {true}, predicted {guess}" for where, true, guess in words]


def _scores(name: str, found: Measures) -> list[tuple[str, str]]:
    """Scores in words."""
    scores, rows = found.scores, len(found.true)
    name = f"{name} ({rows:,})"
    if found.chances is not None:
        return [
            (
                name,
                f"accuracy {100 * scores['accuracy']:.1f} % ± {100 * scores['standard_error']:.1f} "
                f"(always the most frequent class: {100 * scores['most_frequent_class']:.1f} %), "
                f"log loss {scores['log_loss']:.3f}",
            )
        ]
    error = f" ± {scores['standard_error']:.3f}" if "standard_error" in scores else ""
    said = f"R² {scores['r2']:.3f}{error}, "
    lines = [(name, f"{said}mean absolute error {scores['mean_absolute_error']:.4g}")]
    if found.ends is not None:
        covered = 100 * scores["covered_by_95_percent_intervals"]
        width = scores["mean_width_of_intervals"]
        lines.append(("95 % intervals", f"cover {covered:.1f} %, mean width {width:.4g}"))
    return lines


def doubt(trained: Trained, row: int) -> tuple[str, str, str]:
    """Where a row is, what it has, and what is predicted for it.

    Args:
        trained: the training.
        row: its place among the rows that were fitted.
    """
    true = trained.prepared.target.values[row]
    where, shown = trained.prepared.where(row), trained.shown
    found = np.flatnonzero(shown.rows == row) if shown is not None else np.zeros(0, int)
    if shown is None or not len(found):
        return where, _short(true), "something else"
    guess = shown.predicted[found[0]]
    if shown.chances is None:
        return where, _short(true), _short(guess)
    chance = float(np.max(shown.chances[found[0]]))
    return where, _short(true), f"{_short(guess)} with probability {chance:.2f}"


def _short(value: Any) -> str:
    """A value in few words."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
