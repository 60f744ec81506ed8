"""Solver: a factored square matrix, whatever its structure."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.linear_systems import forms
from blockjac.linear_systems.groups import Rows

Assumption = str
"""What the caller promises of a matrix: `"gen"`, `"sym"` or `"pos"`, as in `scipy.linalg.solve`."""

PROBES_AT_ONCE = 256
"""At most how many probes are solved for at once."""


class Solver(abc.ABC):
    """A factored square matrix `A` of n rows, and what is computed from its factors.

    Subclasses are pytrees: their leaves are the arrays that a factorization computes, and all
    other fields are known while the program is traced.
    """

    @abc.abstractmethod
    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """`A^-1 right`, or `A^-T right`, for a vector `(n,)`."""

    @abc.abstractmethod
    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign of the determinant and the logarithm of its absolute value."""

    @property
    @abc.abstractmethod
    def unknowns(self) -> int:
        """The number n of unknowns."""

    @property
    def probe_count(self) -> int:
        """The number of probes; see `probes`."""
        return max(self.unknowns, 1)

    def probes(self, numbers: jax.Array) -> jax.Array:
        """The probes with these numbers `(k,)`: vectors of 0 and 1, `(n, k)`, which add up to 1.

        Two unknowns of the same probe belong to systems that are solved separately. So the
        diagonal of `B = A^-1 C` is `sum_p p * (B p)` for any `C` that falls into the same systems.
        In one system each unknown has a probe of its own, a column of the identity.
        """
        return unit_columns(self.unknowns, numbers)

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe in a few words how the system is solved."""

    def inverse(self, shapes: Sequence[Shape]) -> Rows | None:
        """The inverse as blocks of variables of these shapes; None if it has no structure to keep.

        Its blocks are as structured as those of the matrix: independent systems stay independent.
        """
        return None

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """The diagonal of `L A^-1 R'`: of each output its form `sum_jk L[i,j] A^-1[j,k] R[i,k]`.

        Args:
            left: L, the blocks of some outputs by the variables of `A`.
            right: R, likewise.

        Returns:
            An array of the shape of each output.
        """
        return forms.cheapest(self, left, right)

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """`A^-1 right` for the columns of a matrix `(n, k)`."""

        def solve(column: jax.Array) -> jax.Array:
            return self.solve(column, transposed)

        return jax.vmap(solve, in_axes=1, out_axes=1)(right)

    def inverse_diagonal(self) -> jax.Array:
        """The diagonal of `A^-1`, `(n,)`."""
        return self.sum_over_probes(
            lambda columns: jnp.sum(self.solve_columns(columns) * columns, axis=1)
        )

    def sum_over_probes(self, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """The sum of a function of probes `(n, k)` over all probes, a few hundred at a time."""
        width = min(self.probe_count, PROBES_AT_ONCE)
        count = -(-self.probe_count // width)
        if count == 1:
            return function(self.probes(jnp.arange(width)))

        def add(total: jax.Array, chunk: Any) -> tuple[jax.Array, None]:
            return total + function(self.probes(chunk * width + jnp.arange(width))), None

        shape = jax.eval_shape(lambda: function(self.probes(jnp.arange(width))))
        start = jnp.zeros(shape.shape, shape.dtype)
        return jax.lax.scan(add, start, jnp.arange(count))[0]


Class = TypeVar("Class", bound=type)


def pytree(*meta: str) -> Callable[[Class], Class]:
    """Register a dataclass as a pytree.

    Args:
        meta: the fields that are known while tracing; the others hold arrays.
    """

    def register(cls: Class) -> Class:
        names = [field.name for field in dataclasses.fields(cast("Any", cls))]
        data = [name for name in names if name not in meta]
        return jax.tree_util.register_dataclass(cls, data, list(meta))

    return register


def wide(dtype: Any) -> Any:
    """The dtype to solve a system in: linear algebra libraries do not support 16-bit dtypes."""
    dtype = jnp.dtype(dtype)
    return jnp.dtype(jnp.float32) if dtype.itemsize <= 2 else dtype


def sign_and_log(diagonal: jax.Array, swaps: Any = 0) -> tuple[jax.Array, jax.Array]:
    """The sign and log-determinant from a triangular factor.

    Args:
        diagonal: the diagonal of the factor, `(n,)`.
        swaps: the number of row exchanges.
    """
    magnitude = jnp.abs(diagonal)
    sign = jnp.prod(
        jnp.where(magnitude == 0, 0, diagonal / jnp.where(magnitude == 0, 1, magnitude))
    )
    return jnp.where(swaps % 2 == 1, -sign, sign), jnp.sum(jnp.log(magnitude))


def unit_columns(size: int, numbers: jax.Array) -> jax.Array:
    """Columns of the identity by their numbers, `(n, k)`; zero for a number of n or more."""
    return jax.nn.one_hot(numbers, size, axis=0, dtype=jnp.result_type(float))
