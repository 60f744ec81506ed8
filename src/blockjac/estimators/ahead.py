"""Compiling what the end of a fit wants while its steps are compiled, which leave a core idle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager

import jax
import numpy as np

_DONE: set[Hashable] = set()


@contextmanager
def compiled_ahead(key: Hashable, work: Callable[[], None]) -> Generator[None]:
    """Compile in a thread of its own until the end of the `with`, which waits for it.

    Args:
        key: Of what is compiled: nothing happens the second time.
        work: Lowers and compiles functions, so that JAX finds the programs when they are called.
    """
    if key in _DONE:
        yield
        return
    _DONE.add(key)
    is_x64 = jax.dtypes.canonicalize_dtype(float) == np.float64  # each thread has its own flag

    def run() -> None:
        with jax.enable_x64(is_x64):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
