"""Matrices that are diagonal in a Kronecker product of two bases, and systems with them.

`A (x) G + s I` is no Kronecker product, but the eigenvectors of A and G make it diagonal:

    A (x) G + s I = (U (x) V) (a g' + s) (U (x) V)'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.star import star
from blockjac.base.arrays import Shape
from blockjac.linear_systems.forms import with_inverse
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Solver, pytree, sign_and_log
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


class AxisGroups:
    """What falls into two groups of axes, and axes of both.

    Attributes:
        left_axes: the first group.
        right_axes: the second.
        both_axes: those of both.
    """

    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]
    both_axes: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes, group by group."""
        return self.both_axes + self.left_axes + self.right_axes

    @property
    def order(self) -> list[int]:
        """Where each axis is among those of the groups."""
        return [self.axes.index(axis) for axis in range(len(self.axes))]


@pytree("shape", "left_axes", "right_axes", "both_axes")
@dataclass(frozen=True, eq=False)
class Eigenbasis(AxisGroups):
    """`U (x) V` over two groups of the axes of one variable, or one such for each place of others.

    Attributes:
        left: U, orthogonal, `(places, p, p)`; None for the identity.
        right: V, `(places, q, q)`; None for the identity.
        shape: the shape of the variable.
        left_axes: its axes that belong to U.
        right_axes: those that belong to V.
        both_axes: those with bases of their own for each place.
    """

    left: jax.Array | None
    right: jax.Array | None
    shape: Shape
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]
    both_axes: tuple[int, ...] = ()

    @property
    def coordinates_shape(self) -> Shape:
        """Places, p and q."""
        groups = self.both_axes, self.left_axes, self.right_axes
        return tuple(math.prod(self.shape[axis] for axis in group) for group in groups)

    def coordinates(self, variable: jax.Array) -> jax.Array:
        """`U' Y V`, of `coordinates_shape`, from a variable of `shape` or flat."""
        moved = jnp.transpose(jnp.reshape(variable, self.shape), self.axes)
        return self._turned(jnp.reshape(moved, self.coordinates_shape), is_back=False)

    def variable(self, coordinates: jax.Array) -> jax.Array:
        """`U C V'`, of `shape`."""
        return self._moved_back(self._turned(coordinates, is_back=True))

    def diagonal(self, values: jax.Array) -> jax.Array:
        """The diagonal of the matrix with some eigenvalues: `sum_ab U[i,a]^2 V[h,b]^2 values`."""
        if self.left is not None:
            values = jnp.square(self.left) @ values
        if self.right is not None:
            values = values @ jnp.swapaxes(jnp.square(self.right), 1, 2)
        return self._moved_back(values)

    def rotation(self) -> Block:
        """The variable by its coordinates, in factors; the places keep their axes."""
        rows = {axis: Label(self.shape[axis]) for axis in self.axes}
        places = [rows[axis] for axis in self.both_axes]
        factors: list[Factor] = []
        columns: list[Index] = []
        sides = (self.left, self.left_axes), (self.right, self.right_axes)
        for (vectors, group), size in zip(sides, self.coordinates_shape[1:], strict=True):
            own = [rows[axis] for axis in group]
            if vectors is None:
                columns.append(_raveled(own))
                continue
            column = Label(size)
            labels = (*places, *own, column)
            array = jnp.reshape(vectors, tuple(label.size for label in labels))
            factors.append(Factor(array, labels))
            columns.append(Index.of(column))
        out = tuple(Index.of(rows[axis]) for axis in range(len(self.shape)))
        term = Term(tuple(factors), out, (*map(Index.of, places), *columns))
        wrt_shape = (*(label.size for label in places), *self.coordinates_shape[1:])
        return Block(self.shape, wrt_shape, self.dtype, [term])

    @property
    def dtype(self) -> Any:
        """The dtype of the bases."""
        arrays = [array for array in (self.left, self.right) if array is not None]
        return jnp.result_type(*arrays) if arrays else jnp.result_type(float)

    def _turned(self, array: jax.Array, is_back: bool) -> jax.Array:
        """`U' Y V`, or `U Y V'`, at each place."""
        if self.left is not None:
            array = (self.left if is_back else jnp.swapaxes(self.left, 1, 2)) @ array
        if self.right is not None:
            array = array @ (jnp.swapaxes(self.right, 1, 2) if is_back else self.right)
        return array

    def _moved_back(self, array: jax.Array) -> jax.Array:
        """The axes of the variable in their own order."""
        moved = jnp.reshape(array, tuple(self.shape[axis] for axis in self.axes))
        return jnp.transpose(moved, self.order)


def _raveled(labels: list[Label]) -> Index:
    """The index that counts through all values of some labels, the last fastest."""
    strides: list[tuple[Label, int]] = []
    weight = 1
    for label in reversed(labels):
        if label.size != 1:
            strides.insert(0, (label, weight))
        weight *= label.size
    return Index(0, tuple(strides))


@pytree()
@dataclass(frozen=True, eq=False)
class Eigen(Solver):
    """A symmetric matrix that is diagonal in a Kronecker product of bases.

    Attributes:
        basis: the eigenvectors.
        values: the eigenvalues, `(places, p, q)`.
    """

    basis: Eigenbasis
    values: jax.Array

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Rotate, divide, and rotate back; the matrix is symmetric."""
        basis = self.basis
        return jnp.ravel(basis.variable(basis.coordinates(right) / self.values))

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """From the eigenvalues."""
        return sign_and_log(jnp.ravel(self.values))

    def inverse_diagonal(self) -> jax.Array:
        """From the squares of the eigenvectors."""
        return jnp.ravel(self.basis.diagonal(1 / self.values))

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """Contracted with the rotated blocks, which keep what structure they have."""
        rotation = self.basis.rotation()
        turned = [[[star(row[0], rotation)] for row in rows] for rows in (left, right)]
        inverse = jnp.reshape(1 / self.values, rotation.wrt_shape)
        return with_inverse([[Block.diag(inverse)]], *turned)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return math.prod(self.basis.shape)

    def describe(self) -> str:
        """The sizes of the two factors."""
        places, p, q = self.basis.coordinates_shape
        return f"eigenvectors of {p} and {q}" + (f", {places} times" if places > 1 else "")


def eigenvectors(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The eigenvalues and eigenvectors of symmetric matrices, `(places, n, n)`."""
    eigh = cast("Callable[[Any], tuple[jax.Array, jax.Array]]", jnp.linalg.eigh)
    return eigh(matrix)
