"""What is emitted here: a program that will be differentiated, or the step of a loop."""

from __future__ import annotations

import contextvars
from contextlib import AbstractContextManager

from blockjac.base.context import setting

_tracing: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_trace", default=False)


def is_tracing() -> bool:
    """Whether a function is being traced here: what it emits will be differentiated."""
    return _tracing.get()


def tracing() -> AbstractContextManager[None]:
    """Within, `is_tracing()`."""
    return setting(_tracing, True)


_step: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_step", default=False)


def is_in_a_step() -> bool:
    """Whether the step of a loop is emitted: what it carries, the next step reads as it is."""
    return _step.get()


def in_a_step() -> AbstractContextManager[None]:
    """Within, `is_in_a_step()`."""
    return setting(_step, True)
