"""One row a task: ours against the fastest of JAX's own ways, in time and in memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

import harness
from harness import FLOOR, OURS, Failure, Measured, Measurement, Task

__all__ = [
    "WAYS",
    "Row",
    "compare",
    "line",
    "never_larger",
    "never_slower",
    "reduced",
    "table",
    "ways_of",
]

TIME_LIMIT = 1.05
MEMORY_LIMIT = 1.005
"""Equal, up to what rounding to pages may add."""
WAYS = ("jacfwd", "jacrev", "jax.grad", "jax.hessian", "jax.jvp")
"""What a user of JAX calls; by these names in every task."""


@dataclass(frozen=True)
class Row:
    """A task's figures.

    Attributes:
        name: of the task.
        measured: ours, the floor and JAX's ways.
        ways: the names of JAX's ways.
    """

    name: str
    measured: Measured
    ways: tuple[str, ...]

    @property
    def ours(self) -> Measurement | Failure:
        """What ours takes."""
        return self.measured[OURS]

    @property
    def best(self) -> tuple[str, Measurement] | None:
        """The fastest of JAX's ways; None where none ran."""
        if all(isinstance(self.measured[name], Failure) for name in self.ways):
            return None
        return harness.fastest(self.measured, self.ways)

    @property
    def ratio(self) -> float:
        """Our time over the best; infinite where only ours fails, nan where no other way ran."""
        if self.best is None:
            return math.nan
        if isinstance(self.ours, Failure):
            return math.inf
        return harness.ratio(self.ours, self.best[1])

    @property
    def memory_ratio(self) -> float:
        """Our memory over that of the best in time; nan where one is not known."""
        best = None if self.best is None else self.best[1].memory
        if isinstance(self.ours, Failure) or self.ours.memory is None or best is None:
            return math.nan
        return self.ours.memory / best

    @property
    def floor_ratio(self) -> float:
        """The time to fill the result over the best: nothing can be faster; nan where unknown."""
        floor = self.measured.get(FLOOR)
        if self.best is None or not isinstance(floor, Measurement):
            return math.nan
        return harness.ratio(floor, self.best[1])

    @property
    def failures(self) -> str:
        """Which of JAX's ways did not run, and why."""
        reasons = {name: self.measured[name] for name in self.ways}
        return "; ".join(
            f"{name} {one.reason}" for name, one in reasons.items() if isinstance(one, Failure)
        )


def ways_of(task: Task) -> tuple[str, ...]:
    """JAX's ways among the contenders of a task."""
    return tuple(name for name in WAYS if name in task.contenders)


def reduced(task: Task, ways: Sequence[str]) -> Task:
    """The task with ours and JAX's ways alone, and the floor of the first way's result."""
    return replace(
        task,
        contenders={name: task.contenders[name] for name in (OURS, *ways)},
        uncompiled={},
        others={},
        dense=ways[0] if task.jitted else None,
        alike=tuple(name for name in task.alike if name in (OURS, *ways)),
        claims=(),
    )


def compare(
    name: str,
    task: Task,
    ways: Sequence[str],
    rounds: int,
    contender_seconds: float = harness.CONTENDER_SECONDS,
    again_over: float = math.inf,
) -> Row:
    """Measure a task; once more, with what was measured put together, where the ratio is large."""
    few = reduced(task, ways)
    row = Row(name, harness.measure(few, rounds, contender_seconds), tuple(ways))
    if again_over < row.ratio < math.inf:
        again = harness.measure(few, rounds, contender_seconds)
        row = replace(row, measured=joined(row.measured, again))
    return row


def joined(first: Measured, second: Measured) -> Mapping[str, Measurement | Failure]:
    """The rounds of both, where both were timed."""
    return {
        name: replace(one, rounds=np.concatenate([one.rounds, other.rounds]))
        if isinstance(one, Measurement) and isinstance(other := second[name], Measurement)
        else one
        for name, one in first.items()
    }


def table(rows: Sequence[Row], heading: str = "task") -> str:
    """The rows as markdown; a way that did not run is named with the reason."""
    return "\n".join(
        [
            f"| {heading} | {OURS} | best of JAX | which | ratio | memory | memory, ratio "
            "| floor, ratio | not run |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(line, rows),
            "",
        ]
    )


def line(row: Row) -> str:
    """One row of the table."""
    ours, best = row.ours, row.best
    cells = [
        row.name,
        ours.reason if isinstance(ours, Failure) else harness.duration(ours.quartiles[1]),
        "" if best is None else harness.duration(best[1].quartiles[1]),
        "" if best is None else best[0],
        times(row.ratio, bold=row.ratio > TIME_LIMIT),
        "" if isinstance(ours, Failure) else harness.storage(ours.memory),
        times(row.memory_ratio, bold=row.memory_ratio > MEMORY_LIMIT),
        times(row.floor_ratio),
        row.failures,
    ]
    return f"| {' | '.join(cells)} |"


def times(value: float, bold: bool = False) -> str:
    """A ratio; bold where it misses its limit, nothing where it is not known."""
    if math.isnan(value):
        return ""
    text = "fails" if math.isinf(value) else f"{value:.3g} x"
    return f"**{text}**" if bold else text


def never_slower(rows: Sequence[Row]) -> str:
    """Whether each row keeps to the limit of time, which do not, and the geometric mean."""
    return verdict(rows, "time", lambda row: row.ratio, TIME_LIMIT)


def never_larger(rows: Sequence[Row]) -> str:
    """The same for memory."""
    return verdict(rows, "memory", lambda row: row.memory_ratio, MEMORY_LIMIT)


def verdict(rows: Sequence[Row], what: str, part: Callable[[Row], float], limit: float) -> str:
    """Whether each row keeps to a limit, which do not, and the geometric mean of all."""
    ratios = {row.name: part(row) for row in rows if not math.isnan(part(row))}
    missed = [f"{name} ({times(value)})" for name, value in ratios.items() if value > limit]
    answer = f"**missed** by {len(missed)}: {', '.join(missed)}" if missed else "met"
    mean = harness.geometric_mean([value for value in ratios.values() if math.isfinite(value)])
    return (
        f"- {what}: {OURS} at most {limit:g} x the best of JAX, {len(ratios)} tasks, geometric "
        f"mean {mean:.3g} x: {answer}"
    )
