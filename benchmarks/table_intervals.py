"""Intervals of networks for tables: how often they cover, beside jackknife+ with true refits.

MAPIE's jackknife+ fits the same network once without each row. Both see the same halves.
"""

import statistics
import time
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

import harness
from blockjac.estimators import FeedforwardRegressor
from tables import NUMBERS

SPLITS, REFITTED = 20, 5
"""Random halves; and those of them on which MAPIE fits the network once for each row."""

LEVELS = (0.8, 0.95)


def halves(X: Any, y: Any, seed: int) -> Any:
    """Rows to fit and others, with their targets."""
    return train_test_split(X, y, test_size=0.5, random_state=seed)


def ours(network: Any, A: Any, a: Any, B: Any, level: float) -> Any:
    """The intervals of a network, shape `(n, 2)`."""
    return network.fit(A, a).predict_interval(B, level)


def jackknife_plus(network: Any, A: Any, a: Any, B: Any, level: float) -> Any:
    """MAPIE's intervals of the network, shape `(n, 2)`."""
    from mapie.regression import CrossConformalRegressor

    mapie = CrossConformalRegressor(network, confidence_level=level, method="plus", cv=-1)
    mapie.fit_conformalize(A, a)
    return mapie.predict_interval(B)[1][:, :, 0]


def measured(ends: Any, b: Any, y: Any) -> tuple[float, float]:
    """Which share is covered, and the mean width in standard deviations of the targets."""
    low, high = ends.T
    return float(np.mean((low <= b) & (b <= high))), float(np.mean(high - low) / np.std(y))


def coverage(page: harness.Page) -> None:
    """How often intervals cover, over random halves."""
    lines = [
        "## Coverage",
        "",
        f"{SPLITS} random splits, half of the rows for fitting. *Width* is the mean over the rows, "
        "in standard deviations of the targets.",
        "",
        "| table | level | covered | width | fit and intervals |",
        "|---|---|---|---|---|",
    ]
    verdicts = []
    for name, make in NUMBERS.items():
        X, y = make()
        for level in LEVELS:
            found, seconds = [], []
            for seed in range(SPLITS):
                A, B, a, b = halves(X, y, seed)
                started = time.perf_counter()
                ends = ours(FeedforwardRegressor(random_state=0), A, a, B, level)
                seconds.append(time.perf_counter() - started)
                found.append(measured(ends, b, y))
            covered, width = np.mean(found, axis=0)
            lines.append(
                f"| {name} | {level:.0%} | {covered:.1%} | {width:.2f} "
                f"| {harness.duration(statistics.median(seconds))} |"
            )
        is_met = 0.93 <= covered <= 0.97
        verdicts.append(f"- {name}: 95 % intervals cover 93 to 97 %, {verdict(is_met)}")
    page.add("\n".join([*lines, "", *verdicts, ""]))


def verdict(is_met: bool) -> str:
    """A word for a goal."""
    return "met" if is_met else "**missed**"


def refits(page: harness.Page) -> None:
    """Width and time beside MAPIE's jackknife+."""
    lines = [
        "## Beside jackknife+ with true refits",
        "",
        f"95 % intervals on {REFITTED} of these splits, with the width that was chosen. MAPIE fits "
        "that network once without each row. Times are medians, all compiled before.",
        "",
        "| table | covered | jackknife+ | width | jackknife+ | time | jackknife+ | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for name, make in NUMBERS.items():
        X, y = make()
        mine, theirs, seconds, theirs_seconds = [], [], [], []
        for seed in range(REFITTED):
            A, B, a, b = halves(X, y, seed)
            chosen = FeedforwardRegressor(random_state=0).fit(A, a).hidden_layer_sizes_
            hidden = tuple(nodes for nodes in chosen if nodes)
            network = FeedforwardRegressor(hidden, random_state=0)
            ours(network, A, a, B, 0.95)
            started = time.perf_counter()
            ends = ours(network, A, a, B, 0.95)
            between = time.perf_counter()
            others = jackknife_plus(network, A, a, B, 0.95)
            ended = time.perf_counter()
            mine.append(measured(ends, b, y))
            theirs.append(measured(others, b, y))
            seconds.append(between - started)
            theirs_seconds.append(ended - between)
        (covered, width), (covered_2, width_2) = np.mean(mine, axis=0), np.mean(theirs, axis=0)
        fast, slow = statistics.median(seconds), statistics.median(theirs_seconds)
        lines.append(
            f"| {name} | {covered:.1%} | {covered_2:.1%} | {width:.2f} | {width_2:.2f} "
            f"| {harness.duration(fast)} | {harness.duration(slow)} | {slow / fast:.0f} |"
        )
        verdicts += [
            f"- {name}: no wider than jackknife+ (1 % allowed for chance), "
            f"{verdict(width <= 1.01 * width_2)}",
            f"- {name}: at least 50 times less time, {verdict(slow >= 50 * fast)}",
        ]
    page.add("\n".join([*lines, "", *verdicts, ""]))


SECTIONS = {"coverage": coverage, "refits": refits}


def main() -> None:
    """Measure all sections, or some."""
    harness.write_sections("Intervals of networks for tables", SECTIONS)


if __name__ == "__main__":
    main()
