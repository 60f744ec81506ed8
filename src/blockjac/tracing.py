"""Whether a function is being traced here, so that what is emitted will be differentiated."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_tracing: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_trace", default=False)


def is_tracing() -> bool:
    """Whether a function is being traced here: what it emits will be differentiated."""
    return _tracing.get()


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Within, `is_tracing()`."""
    token = _tracing.set(True)
    try:
        yield
    finally:
        _tracing.reset(token)
