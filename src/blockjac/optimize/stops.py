"""Why a fit stopped."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from blockjac.base.compat import is_traced


class Stop(IntEnum):
    """Why a fit stopped; the numbers up to 4 mean what they mean in `scipy.optimize`."""

    MAX_STEPS = 0
    """All steps were made, and no tolerance was reached."""
    GTOL = 1
    """The gradient is below `gtol`."""
    FTOL = 2
    """The last step lowered the objective by less than the share `ftol` of it."""
    XTOL = 3
    """The last step was shorter than the share `xtol` of the parameters."""
    FTOL_AND_XTOL = 4
    """Both at once."""
    NO_STEP = 5
    """No step that was tried led to a finite and lower objective."""
    NON_FINITE = 6
    """The objective or its derivatives are infinite or nan where the fit stands."""
    RUNNING = 7
    """A row of a trace that no step was made for; during a fit: it has not stopped."""
    MAX_EVALUATIONS = 8
    """The objective was evaluated `max_evaluations` times."""
    MAX_SECONDS = 9
    """The time was up."""
    CALLBACK = 10
    """The callback asked for it."""

    @property
    def message(self) -> str:
        """What happened, as a sentence to print.

        Examples:
            >>> Stop.GTOL.message
            'the gradient is below gtol'
        """
        return _MESSAGES[self]


def succeeded(status: Any) -> Any:
    """Whether a tolerance was reached: a bool, or one answer for each fit out of `jax.vmap`."""
    success = (status >= Stop.GTOL) & (status <= Stop.FTOL_AND_XTOL)
    return success if is_traced(success) or success.ndim else bool(success)


_MESSAGES = {
    Stop.MAX_STEPS: "max_steps were made, and no tolerance was reached",
    Stop.GTOL: "the gradient is below gtol",
    Stop.FTOL: "the last step lowered the objective by less than ftol of it",
    Stop.XTOL: "the last step was shorter than xtol of the parameters",
    Stop.FTOL_AND_XTOL: "the last step was below ftol and xtol",
    Stop.NO_STEP: "no step that was tried led to a finite and lower objective",
    Stop.NON_FINITE: "the objective or its derivatives are infinite or nan",
    Stop.RUNNING: "no step was made",
    Stop.MAX_EVALUATIONS: "the objective was evaluated max_evaluations times",
    Stop.MAX_SECONDS: "max_seconds were over",
    Stop.CALLBACK: "the callback asked for it",
}
