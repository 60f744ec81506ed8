"""Pictures of a training on a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from blockjac.cli.tables.console import doubt
from blockjac.optimize import plot_history, plot_line_search
from blockjac.optimize.pictures import blank, check_picture, legend_below, save_picture
from blockjac.optimize.plots import BLUE, GREEN, GREY, ORANGE, RED
from blockjac.tabular.measures import LEVELS, Measures
from blockjac.tabular.table import Values
from blockjac.tabular.training import Trained

MOST_CLASSES = 12
"""Classes of a confusion matrix; of more the most frequent ones are drawn."""

DOUBTFUL = 15
"""Rows in the picture of doubtful ones."""

BINS = 10
"""Of probabilities, with equally many rows each."""


def get_ready() -> None:
    """Draw an empty picture: the first one takes a second, for imports and fonts."""
    figure, _ = blank("", "", "")
    figure.savefig(io.BytesIO(), format="png")


def draw(folder: Path, suffix: str, trained: Trained) -> dict[str, Path]:
    """Draw all pictures of a training.

    Args:
        folder: for the files.
        suffix: "png" or "svg".
        trained: the training.

    Returns:
        The file of each picture by what it shows.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        OutputPathError: if a file cannot be written.
    """

    def file(name: str) -> Path:
        return check_picture(folder / f"{name}.{suffix}")

    history = trained.histories[0]
    what = "cross-entropy (nats)"
    if trained.prepared.target.task == "regression":
        what = "half of the squared error over the variance"
    per = "epoch" if history.solver == "adam" else "step"
    made = {
        f"The mean loss of the fitted rows after each {per}": plot_history(
            file("loss"), history.losses, title="Training loss", quantity=f"mean {what}"
        ),
        f"How far each {per} moved the parameters": plot_history(
            file("step_sizes"),
            history.lengths,
            title=f"Length of each {per}",
            quantity="Euclidean norm",
            log_base=10,
            markers_only=len(history.lengths) > 30,
        ),
    }
    if history.line is not None:
        made["The loss along the first step"] = plot_line_search(
            file("line_search"), history.line, title="The first step"
        )
    shown = trained.shown
    if shown is not None and shown.chances is not None:
        made |= {
            "Which classes are taken for which": _confusion(file("confusion"), shown),
            "How often the predicted classes are right": _calibration(file("calibration"), shown),
        }
    if shown is not None and shown.chances is None:
        made["Predicted and true values"] = _predicted(
            file("predicted"), trained.tested or shown, trained.prepared.target.name
        )
    if trained.tested is not None and trained.tested.covered is not None:
        made["How often intervals cover"] = _coverage(file("calibration"), trained.tested)
    made["The rows that the others predict worst"] = _suspicious(file("suspicious_rows"), trained)
    return made


def _confusion(file: Path, shown: Measures) -> Path:
    """True classes in rows, predicted ones in columns."""
    true, predicted = shown.true.astype(str), shown.predicted.astype(str)
    names, counts = np.unique(true, return_counts=True)
    kept = names[np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])]
    table = np.array(
        [[np.sum((true == row) & (predicted == column)) for column in kept] for row in kept]
    )
    figure, axes = blank("Confusion matrix", "predicted class", "true class")
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    labels = [_short(name) for name in kept]
    turned = 30 if max(map(len, labels)) > 6 else 0
    axes.set_xticks(range(len(kept)), labels, rotation=turned, ha="right" if turned else "center")
    axes.set_yticks(range(len(kept)), labels)
    for row, column in np.ndindex(table.shape):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{table[row, column]}", ha="center", va="center", color=color)
    return save_picture(figure, file)


def _calibration(file: Path, shown: Measures) -> Path:
    """Predicted probabilities beside the shares that came true, of bins of equal numbers."""
    figure, axes = blank("Calibration", "probability of the predicted class", "share that is right")
    chances = np.max(_known(shown.chances), axis=1)
    is_right = shown.predicted.astype(str) == shown.true.astype(str)
    order = np.argsort(chances, kind="stable")
    count = min(BINS, max(len(order) // 10, 1))
    bins: list[Values] = [one for one in np.array_split(order, count) if len(one)]
    x: Values = np.array([float(chances[one].mean()) for one in bins])
    y: Values = np.array([float(is_right[one].mean()) for one in bins])
    errors = np.array([_wilson(int(is_right[one].sum()), len(one)) for one in bins]).T
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as often as predicted")
    spans = np.maximum(np.abs(errors - y), 0)
    axes.errorbar(x, y, spans, fmt="o", color=BLUE, label="rows, with 95 % intervals of the share")
    least = max(min(x.min(), errors[0].min()) - 0.05, 0)
    axes.set_xlim(least, 1.02)
    axes.set_ylim(least, 1.02)
    legend_below(axes)
    return save_picture(figure, file)


def _wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of a share, by E. B. Wilson (JASA 22, 1927)."""
    z = 1.96
    share = hits / count
    middle = share + z**2 / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)


def _predicted(file: Path, shown: Measures, name: str) -> Path:
    """True values by predicted ones, with intervals where there are any."""
    figure, axes = blank("Predicted and true values", f"predicted {name}", f"true {name}")
    x, y = shown.predicted, shown.true
    if shown.ends is None:
        axes.plot(x, y, "o", color=BLUE, markersize=3.5, alpha=0.7, label="each row by the others")
    else:
        inside = (shown.ends[:, 0] <= y) & (y <= shown.ends[:, 1])
        half = (shown.ends[:, 1] - shown.ends[:, 0]) / 2
        axes.errorbar(
            x, x, half, fmt="none", color="#c9d8ea", linewidth=1, label="95 % interval", zorder=1
        )
        kinds = ((inside, BLUE, "inside of it"), (~inside, RED, "outside"))
        for rows, color, label in kinds:
            axes.plot(x[rows], y[rows], "o", color=color, markersize=3.5, label=label)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=GREY, linestyle=":", label="as predicted")
    legend_below(axes)
    return save_picture(figure, file)


def _coverage(file: Path, tested: Measures) -> Path:
    """How often intervals of each level cover the rows that were set aside."""
    figure, axes = blank("Coverage of intervals", "level", "share of the rows set aside")
    count = len(tested.true)
    bounds = np.array([_wilson(round(level * count), count) for level in LEVELS]).T
    axes.fill_between(LEVELS, *bounds, color="#dddddd", label="chance, 95 %")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as often as said")
    axes.plot(LEVELS, _known(tested.covered), color=ORANGE, linewidth=2, label="intervals")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    legend_below(axes)
    return save_picture(figure, file)


def _suspicious(file: Path, trained: Trained) -> Path:
    """How badly the others predict the rows at the top of the list."""
    rows = [int(row) for row in trained.model.estimator.suspicious_rows_[:DOUBTFUL]]
    figure, axes = blank("Rows to look at", "", "")
    sizes = _doubts(trained, rows)
    axes.set_xlabel(
        "|error| over the spread of the target"
        if trained.prepared.target.task == "regression"
        else "minus the logarithm of the probability of its class"
    )
    places = np.arange(len(rows))[::-1]
    axes.grid(visible=False)
    axes.barh(places, sizes, color=GREEN)
    words = [doubt(trained, row) for row in rows]
    axes.set_yticks(places, [f"{where}: {_short(true)}" for where, true, _ in words])
    for place, size, (_, _, guess) in zip(places, sizes, words, strict=True):
        axes.text(size, place, f" {_short(guess)}", va="center", fontsize=8, color=GREY)
    axes.margins(x=0.35)
    axes.set_xlim(0, None)
    return save_picture(figure, file)


def _doubts(trained: Trained, rows: list[int]) -> Values:
    """How badly rows are predicted that were not fitted; 0 where nobody knows."""
    shown = trained.shown
    if shown is None:
        return np.zeros(len(rows))
    if shown.chances is None:
        sizes = np.abs(shown.true - shown.predicted) / np.std(shown.true)
    else:
        places = np.argmax(shown.classes.astype(str) == shown.true.astype(str)[:, None], axis=1)
        sizes = -np.log(np.maximum(shown.chances[np.arange(len(places)), places], 1e-300))
    found = dict(zip(shown.rows.tolist(), sizes.tolist(), strict=True))
    return np.array([found.get(row, 0.0) for row in rows])


def _short(text: Any, most: int = 28) -> str:
    """Text that fits beside an axis."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _known(values: Values | None) -> Values:
    """Values that are there."""
    return np.zeros((0, 0)) if values is None else values
