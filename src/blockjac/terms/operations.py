"""The operations behind the methods of a Block, which belong to the layers above it.

A Block is data, and its methods call operations of the layers above. They are bound here, once,
when `blockjac.blocks` is imported, so that the class lists everything that a Block can do although
modules import only from lower layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Operations(Protocol):
    """The operations that `blockjac.blocks.operations` defines."""

    def tidy(self, term: Any, out_shape: Any, wrt_shape: Any, /) -> Any:
        """A term in the form that blocks keep, or None if it has no entries."""

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
        """The number of positions of the pattern."""
        ...

    def pattern(self, grid: Any, /) -> Any:
        """The sparsity pattern of a grid."""

    def notebook(self, grid: Any, name: str, /) -> str:
        """A grid as HTML."""
        ...

    def to_scipy(self, grid: Any, format: str, /) -> Any:
        """A grid as a sparse array of SciPy."""

    def to_bcoo(self, grid: Any, /) -> Any:
        """A grid as a BCOO."""

    def to_bcsr(self, grid: Any, /) -> Any:
        """A grid as a BCSR."""

    def to_scipy_operator(
        self, matrix: Any, matvec: Callable[[Any], Any], vecmat: Callable[[Any], Any], /
    ) -> Any:
        """A matrix as a linear operator of SciPy."""

    def as_linear_operator(self, matrix: Any, tags: Any, /) -> Any:
        """A matrix as a linear operator of lineax."""

    def solve(
        self,
        matrix: Any,
        right: Any,
        damping: Any,
        /,
        *,
        assume: Any,
        require_structure: bool,
        check: bool,
    ) -> Any:
        """The solution of a linear system."""

    def lstsq(self, matrix: Any, right: Any, damping: Any, /) -> Any:
        """The solution of a least-squares problem."""

    def leverage(self, matrix: Any, damping: Any, /) -> Any:
        """The leverage of each output."""

    def matrix_by_inputs(self, matrix: Any, jacobian: Any, /) -> Any:
        """A tree of blocks by the inputs of a matrix as one matrix."""

    def factorize(self, matrix: Any, damping: Any, /, *, assume: Any) -> Any:
        """The factors of a square matrix."""


_bound: list[Operations] = []


def bind(operations: Operations) -> None:
    """Set the operations behind the methods of blocks; `blockjac.blocks` does it once."""
    _bound[:] = [operations]


def operations() -> Operations:
    """The operations behind the methods of blocks."""
    return _bound[0]
