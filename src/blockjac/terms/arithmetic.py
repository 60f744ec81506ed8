"""The operators of Python on blocks, and the products of a block with flat vectors."""

from __future__ import annotations

import abc
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape
from blockjac.terms.matrix_interface import MatrixInterface
from blockjac.terms.operations import operations


class BlockArithmetic(MatrixInterface):
    """What a Block does under `@`, `+`, `-`, `*` and `/`, and with flat vectors."""

    __slots__ = ()

    out_shape: Shape
    wrt_shape: Shape

    @abc.abstractmethod
    def matvec(self, tangent: Any) -> jax.Array:
        """The product with a tangent of `wrt_shape`."""

    @abc.abstractmethod
    def vecmat(self, cotangent: Any) -> jax.Array:
        """The product with a cotangent of `out_shape`."""

    def flat_matvec(self, vector: Any) -> jax.Array:
        """The flat product `block @ vector` with a flat vector."""
        return jnp.ravel(self.matvec(jnp.reshape(vector, self.wrt_shape)))

    def flat_vecmat(self, vector: Any) -> jax.Array:
        """The flat product `vector @ block` with a flat vector."""
        return jnp.ravel(self.vecmat(jnp.reshape(vector, self.out_shape)))

    def __matmul__(self, other: Any) -> Any:
        return operations().star(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return operations().star(other, self)

    def __add__(self, other: Any) -> Self:
        if not isinstance(other, BlockArithmetic):
            return NotImplemented
        return operations().add(self, other)

    def __neg__(self) -> Self:
        return operations().scaled(self, -1)

    def __sub__(self, other: Any) -> Self:
        if not isinstance(other, BlockArithmetic):
            return NotImplemented
        return operations().add(self, -other)

    def __mul__(self, scalar: Any) -> Self:
        if not isinstance(scalar, int | float | complex | np.number):
            return NotImplemented
        return operations().scaled(self, scalar)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Self:
        if not isinstance(scalar, int | float | complex | np.number):
            return NotImplemented
        return self * (1 / scalar)

    # numpy must leave `array @ block` to __rmatmul__
    __array_ufunc__ = None
