"""What `minimize` found: parameters, why it stopped, and a trace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from blockjac.base.compat import is_traced
from blockjac.errors import ArgumentError
from blockjac.optimize.stops import Stop, succeeded


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["loss", "gradient_norm", "step_norm", "trials", "metrics"],
    meta_fields=[],
)
@dataclass(frozen=True)
class MinimizeTrace:
    """What happened in each step: arrays with one row per step."""

    loss: Array
    """The loss after the step."""
    gradient_norm: Array
    """The largest absolute entry of the gradient before the step; nan if the solver has none."""
    step_norm: Array
    """The Euclidean length of the step."""
    trials: Array
    """How often the loss was evaluated to find the step."""
    metrics: Any
    """What `metrics` gave after the step, each leaf with a first axis over the steps."""

    def __len__(self) -> int:
        return len(self.loss)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "params",
        "loss",
        "initial_loss",
        "gradient_norm",
        "status",
        "evaluations",
        "steps",
        "trace",
        "state",
    ],
    meta_fields=[],
)
@dataclass(frozen=True)
class MinimizeResult:
    """The best parameters that a solver found, why it stopped, and its trace."""

    params: Any
    """The parameters of the lowest loss seen."""
    loss: Array
    """The loss at `params`."""
    initial_loss: Array
    """The loss at the parameters given."""
    gradient_norm: Array
    """The largest absolute entry of the gradient where the solver stands; nan if it has none."""
    status: Array
    """A number of `Stop`: 1 to 4 where a tolerance was reached."""
    evaluations: Array
    """How often the loss was evaluated, with a gradient or without."""
    steps: Array
    """How many steps were made, those before a resumption included."""
    trace: MinimizeTrace
    """One row a step of this run."""
    state: Any
    """What the solver stood at, to go on with: `minimize(..., resume=result)`."""

    @property
    def success(self) -> bool | Array:
        """Whether a tolerance was reached."""
        return succeeded(self.status)

    @property
    def message(self) -> str:
        """How the search went, as a sentence to print.

        Raises:
            ArgumentError: inside `jit` and other transforms, where nobody knows it yet.
        """
        if is_traced(self.status) or np.ndim(self.status):
            raise ArgumentError(
                "how a search went is not known while it is traced, and there is one message for "
                "each of a batch: look at the numbers in status, outside of jit and vmap"
            )
        return f"stopped after {int(self.steps)} steps: {Stop(int(self.status)).message}"
