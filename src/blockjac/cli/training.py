"""A training while it runs: its numbers step by step, and the lines that are printed."""

import argparse
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from blockjac import nn
from blockjac.cli.progress import Reporter
from blockjac.optimize import DescentResult, Status

TRAINING_ROWS = 400


@dataclass
class Training:
    """A training while it runs: what was printed, and the parameters before chosen steps."""

    options: argparse.Namespace
    reporter: Reporter
    before: dict[int, nn.NetworkParams]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, part: DescentResult) -> None:
        """Print the steps since the last pause, and keep what the pictures need."""
        trace, first = jax.device_get(part.trace), len(self.rows)
        for index in np.flatnonzero(trace.status == Status.FOUND):
            self.rows.append(
                {
                    "step": len(self.rows),
                    "loss": float(trace.loss[index]),
                    "gradient_norm": float(trace.gradient_norm[index]),
                    "step_size": float(trace.step[index]),
                    "trials": int(trace.trials[index]),
                    "training_accuracy_percent": percent(trace.metrics[index], TRAINING_ROWS),
                }
            )
        if len(self.rows) in self.options.line_search_steps:
            self.before[len(self.rows)] = part.params
        self.reporter.lines([line(row) for row in self.rows[first:]])


def percent(mistakes: Any, rows: int) -> float:
    """The share of rows that are classified correctly.

    Args:
        mistakes: How many are.
        rows: How many there are, at least 1.

    Returns:
        A number from 0 to 100.

    Examples:
        >>> percent(1, 4)
        75.0
    """
    return 100 * (1 - int(mistakes) / rows)


def line(row: dict[str, Any]) -> str:
    """A step as the lecture prints it.

    Args:
        row: The step's numbers by name.

    Returns:
        The line, without its end.

    Examples:
        >>> numbers = {"loss": 0.5, "gradient_norm": 2.0, "training_accuracy_percent": 92.25}
        >>> line({"step": 3, **numbers}).partition(", Gradient")[0]
        'Step: 3, Avg Cross Entropy: 0.500000'
    """
    return (
        f"Step: {row['step']}, Avg Cross Entropy: {row['loss']:.6f}, "
        f"Gradient Norm: {row['gradient_norm']:.6f}, "
        f"Training Accuracy: {row['training_accuracy_percent']:.1f} percent"
    )
