"""What the methods of a Block do. The algebra is built on blocks, and so stands above them.

A Block is data, and its methods are operations of the layers above: they are bound to it here,
once, when `blockjac.blocks` is imported. So the class shows all that can be done with a Block, and
no module has to import one that is built on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Operations(Protocol):
    """The operations, as `blockjac.blocks.operations` has them."""

    def tidy(self, term: Any, out_shape: Any, wrt_shape: Any, /) -> Any:
        """A term as it is kept in a block, or None when it has no entry at all."""

    def star(self, left: Any, right: Any, /) -> Any:
        """The contraction."""

    def add(self, left: Any, right: Any, /) -> Any:
        """The sum of two blocks."""

    def scaled(self, block: Any, scalar: Any, /) -> Any:
        """A block times a number."""

    def dense(self, block: Any, max_bytes: int | None, /) -> Any:
        """The entries as an array."""

    def diagonal(self, block: Any, /) -> Any:
        """The entries of the diagonal."""

    def nnz(self, block: Any, /) -> int:
        """The number of places."""
        ...

    def pattern(self, grid: Any, /) -> Any:
        """The places of a grid."""

    def to_scipy(self, grid: Any, format: str, /) -> Any:
        """A grid as a sparse array of scipy."""

    def to_bcoo(self, grid: Any, /) -> Any:
        """A grid as a BCOO."""

    def to_bcsr(self, grid: Any, /) -> Any:
        """A grid as a BCSR."""

    def to_scipy_operator(
        self, matrix: Any, matvec: Callable[[Any], Any], vecmat: Callable[[Any], Any], /
    ) -> Any:
        """A matrix as a linear operator of scipy."""

    def as_linear_operator(self, matrix: Any, tags: Any, /) -> Any:
        """A matrix as a linear operator of lineax."""


_bound: list[Operations] = []


def bind(operations: Operations) -> None:
    """Say what the methods of blocks do; done once, by `blockjac.blocks`."""
    _bound[:] = [operations]


def operations() -> Operations:
    """What the methods of blocks do."""
    return _bound[0]
