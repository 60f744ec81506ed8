"""The part of the interface of matrices that solves with them."""

from __future__ import annotations

import abc
from typing import Any

from blockjac.terms.operations import operations


class SystemInterface(abc.ABC):  # noqa: B024  (the matrix that inherits it has the methods)
    """A matrix as the matrix of linear systems and least-squares problems."""

    __slots__ = ()

    def in_blocks(self) -> Any:
        """The matrix with all its blocks computed, of one that computes them when asked."""
        return self

    def own_solver(self, damping: Any, assume: Any) -> Any:
        """A solver for `self + damping * I`, of a matrix that has one better than its blocks have.

        Args:
            damping: added to the diagonal; None for nothing.
            assume: as in `blockjac.factorize`.

        Returns:
            A solver; None to factor the blocks.
        """
        return None

    def solve(
        self,
        right: Any,
        damping: Any = 0.0,
        *,
        assume: Any = "gen",
        require_structure: bool = False,
        check: bool = False,
    ) -> Any:
        """The solution of `(self + damping * I) x = right`; see `blockjac.solve`."""
        return operations().solve(
            self,
            right,
            damping,
            assume=assume,
            require_structure=require_structure,
            check=check,
        )

    def lstsq(self, right: Any, damping: Any = 0.0) -> Any:
        """The least-squares solution of `self x = right`; see `blockjac.lstsq`."""
        return operations().lstsq(self, right, damping)

    def leverage(self, damping: Any = 0.0) -> Any:
        """The leverage of each output: the diagonal of `A (A' A + damping * I)^-1 A'`.

        It is what the prediction for an output changes by when that output alone changes by 1:
        between 0 and 1, and without damping they add up to the number of parameters. The residual
        that an output would have in a fit without it is its residual divided by 1 - leverage.

        Args:
            damping: not negative; a number or an array of shape ().

        Returns:
            For a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.

        Raises:
            BlockTypeError: for a batch of blocks.
            InvalidOptionError: for a damping that is not a number, or below 0.
            DenseTooLargeError: if a dense `A' A` is all that is left, and does not fit.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> x = jnp.array([0.0, 0.0, 3.0])
            >>> line = blockjac.block_jacobian(lambda p: p[0] + p[1] * x)(jnp.zeros(2))
            >>> [round(float(value), 3) for value in line.leverage()]
            [0.5, 0.5, 1.0]
        """
        return operations().leverage(self, damping)

    def slogdet(self, damping: Any = 0.0, *, assume: Any = "gen") -> tuple[Any, Any]:
        """The sign of the determinant of `self + damping * I`, and log of its absolute value.

        Raises:
            BlockShapeError: if the matrix is not square.
        """
        return operations().factorize(self, damping, assume=assume).slogdet()

    def inverse_diagonal(self, damping: Any = 0.0, *, assume: Any = "gen") -> Any:
        """The diagonal of the inverse of `self + damping * I`, like the inputs.

        Raises:
            BlockShapeError: if the matrix is not square.
        """
        return operations().factorize(self, damping, assume=assume).inverse_diagonal()
