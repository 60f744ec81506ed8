"""Whether a function is being traced here, so that what is emitted will be differentiated."""

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
