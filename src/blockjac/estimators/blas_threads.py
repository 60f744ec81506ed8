"""How many threads BLAS uses for the factors of small matrices: one, unless they are large.

JAX takes Cholesky factors from SciPy's BLAS. Its threads wait for each other by spinning: on a
machine whose cores are busy, each of hundreds of small factorizations then waits for the scheduler,
and a fit of a second takes a minute.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

PARAMETERS = 1000
"""After each thousand parameters there is a further thread."""


@contextmanager
def few_threads(parameters: int) -> Generator[None]:
    """Let BLAS use few threads inside of the `with`.

    Args:
        parameters: The order of the matrices.
    """
    libraries = _libraries()
    now = [one["num_threads"] for one in libraries.info()]
    with libraries.limit(limits=min([*now, 1 + parameters // PARAMETERS])):
        yield


@cache
def _libraries() -> Any:
    """The BLAS libraries of this process, found once."""
    import scipy.linalg  # pyright: ignore[reportUnusedImport]  # noqa: F401 - so that its BLAS is there
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
