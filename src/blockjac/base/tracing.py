"""The kind of program being emitted: one to differentiate, or a step of a loop."""

from __future__ import annotations

import contextvars
from contextlib import AbstractContextManager

from blockjac.base.context import setting

_tracing: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_trace", default=False)


def is_tracing() -> bool:
    """Whether a function is being traced in order to be differentiated."""
    return _tracing.get()


def tracing() -> AbstractContextManager[None]:
    """Within the context, `is_tracing()` is true."""
    return setting(_tracing, True)


_step: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_step", default=False)


def is_in_a_step() -> bool:
    """Whether a step of a loop is being emitted, whose carry the next step reads unchanged."""
    return _step.get()


def in_a_step() -> AbstractContextManager[None]:
    """Within the context, `is_in_a_step()` is true."""
    return setting(_step, True)
