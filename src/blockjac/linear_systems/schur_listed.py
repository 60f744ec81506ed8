"""Schur's complement where each of the eliminated systems meets few of the other unknowns.

As in `schur`, but the coupling is a small matrix for each meeting and not one dense matrix, and the
complement has the structure that the meetings give it. It is a grid of blocks that is solved like
any other: by a band where only neighbours meet the same systems, by a further complement, densely.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.cost import Abstract
from blockjac.base.arrays import Shape
from blockjac.devices import rates
from blockjac.linear_systems.batched import Batched, joined, parted
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.meetings import Meetings
from blockjac.linear_systems.solver import Solver, pytree
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.term import Term

GATHERED = 5
"""How many times longer than to copy a number it takes to gather it with those of its meeting."""


@pytree("shapes", "eliminated", "meetings")
@dataclass(frozen=True, eq=False)
class ListedSchur(Solver):
    """A Hermitian matrix, factored as systems and Schur's complement of what they meet.

    Attributes:
        inner: the solver of the systems `A_ee`.
        outer: the solver of the complement S.
        coupling: `X = A_ee^-1 A_er` at each meeting, `(M, depth, width)`.
        shapes: the shapes of all variables.
        eliminated: which variables are e.
        meetings: who meets whom.
    """

    inner: Batched
    outer: Solver
    coupling: jax.Array
    shapes: tuple[Shape, ...]
    eliminated: tuple[int, ...]
    meetings: Meetings

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Eliminate, solve with the complement, and substitute back."""
        if transposed:  # the transpose of a Hermitian matrix is its conjugate
            return jnp.conj(self.solve(jnp.conj(right)))
        inner, outer = parted(right, self.shapes, self._groups)
        by_system = self.inner.by_system(inner.astype(self.coupling.dtype))
        pushed = self.meetings.adjoint_times(self.coupling, by_system)
        solved = self.outer.solve(outer - pushed)
        pulled = self.inner.flattened(self.meetings.times(self.coupling, solved))
        return joined([self.inner.solve(inner) - pulled, solved], self.shapes, self._groups)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product of the determinants of `A_ee` and S."""
        (sign, logarithm), (sign_left, left) = self.inner.slogdet(), self.outer.slogdet()
        return sign * sign_left, logarithm + left

    def inverse_diagonal(self) -> jax.Array:
        """The diagonal of `A_ee^-1 + X S^-1 X^H`, and that of `S^-1`."""
        units = jnp.eye(self.meetings.rest, dtype=self.coupling.dtype)
        inverse = self.outer.solve_columns(units)
        pulled = self.inner.flattened(self.meetings.forms(self.coupling, inverse))
        inner = self.inner.inverse_diagonal() + pulled
        return joined([inner, cast("jax.Array", jnp.diagonal(inverse))], self.shapes, self._groups)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return sum(map(math.prod, self.shapes))

    def describe(self) -> str:
        """What is eliminated, and how the complement is solved."""
        inner, count = self.inner.describe(), self.meetings.count
        return f"Schur complement: {inner}; {count} meetings; then {self.outer.describe()}"

    @property
    def _groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The variables e, and the variables r."""
        left = tuple(i for i in range(len(self.shapes)) if i not in self.eliminated)
        return self.eliminated, left


def solved(inner: Batched, matrices: jax.Array, meetings: Meetings) -> jax.Array:
    """`A_ee^-1 A_er` at each meeting.

    Where a system meets at least as many unknowns as it has, its inverse takes no longer than the
    solutions for them, and is multiplied by in one pass.
    """

    def solve(solver: Solver, right: jax.Array) -> jax.Array:
        return solver.solve_columns(right)

    def of_meeting(leaf: jax.Array) -> jax.Array:
        return leaf[meetings.system]

    if inner.is_shared:
        return jax.vmap(solve, in_axes=(None, 0))(inner.solver, matrices)
    columns = meetings.count * meetings.unknowns.shape[1]
    if meetings.depth * meetings.systems <= columns:
        units = jnp.eye(meetings.depth, dtype=matrices.dtype)
        inverses = jax.vmap(solve, in_axes=(0, None))(inner.solver, units)
        return jnp.einsum("mpr,mrq->mpq", of_meeting(inverses), matrices)
    return jax.vmap(solve)(jax.tree.map(of_meeting, inner.solver), matrices)


def complement(left: Rows, products: Sequence[Any], meetings: Meetings) -> list[list[Block]]:
    """`A_rr` less the products of all pairs of meetings, as a grid of blocks.

    A group that is met by itself alone, or by all groups of a variable, gives a term with a delta:
    what they have in common is solved as a batch again.

    Args:
        left: the blocks of the variables that are left.
        products: of each bucket, `(k, width, width)`; arrays, or `Abstract` ones in a plan.
        meetings: who meets whom.
    """
    grid = [list(row) for row in left]
    sizes = [math.prod(row[0].out_shape) for row in left]
    starts = list(itertools.accumulate(sizes, initial=0))
    variable = np.searchsorted(starts[1:], meetings.unknowns[:, 0], side="right")
    first = np.concatenate([bucket.first for bucket in meetings.buckets])
    second = np.concatenate([bucket.second for bucket in meetings.buckets])
    for i, j in itertools.product(range(len(grid)), repeat=2):
        own = (variable[first] == i) & (variable[second] == j)
        itself = np.flatnonzero(own & (first == second))
        others = np.flatnonzero(own & (first != second))
        if len(itself):  # of groups that nobody meets it is zero
            groups = np.flatnonzero(variable == i)
            position = np.full(len(variable), len(first))
            position[first[itself]] = itself
            places = _within(meetings.unknowns[groups], starts, i)
            values = _taken(products, position[groups], (places, places))
            grid[i][j] = _with(grid[i][j], values, places, places)
        if len(others):
            rows = _within(meetings.unknowns[first[others]], starts, i)
            columns = _within(meetings.unknowns[second[others]], starts, j)
            values = _taken(products, others, (rows, columns))
            grid[i][j] = _with(grid[i][j], values, rows, columns)
            grid[j][i] = _with(grid[j][i], _adjoint(values), columns, rows)
    return grid


def seconds(meetings: Meetings) -> float:
    """About how long it takes beside the systems and the complement."""
    device, width, depth = rates(), meetings.unknowns.shape[1], meetings.depth
    padded = sum(bucket.left.size for bucket in meetings.buckets)
    gathered = (2 * padded + 3 * meetings.count) * depth * width
    products = 2 * padded * depth * width**2 + 2 * meetings.count * depth**2 * width
    moved = 8 * GATHERED * gathered / device.bytes_per_second
    return products / device.operations_per_second + moved + 5e-5


def abstract_products(meetings: Meetings, dtype: Any) -> list[Abstract]:
    """The products of all pairs in a plan."""
    width = meetings.unknowns.shape[1]
    return [Abstract((len(bucket.first), width, width), dtype) for bucket in meetings.buckets]


def _within(unknowns: np.ndarray, starts: Sequence[int], variable: int) -> np.ndarray:
    """The unknowns of groups of one variable, numbered within it, without the padding."""
    width = int(np.sum(unknowns[0] < starts[variable + 1]))
    return unknowns[:, :width] - starts[variable]


def _taken(products: Sequence[Any], chosen: np.ndarray, places: tuple[np.ndarray, ...]) -> Any:
    """Some of the products of all buckets, negative; zero for a number past the last."""
    out, wrt = (part.shape[1] for part in places)
    if isinstance(products[0], Abstract):
        return Abstract((len(chosen), out, wrt), products[0].dtype)
    every = jnp.concatenate([*products, jnp.zeros_like(products[0][:1])])
    return -every[chosen, :out, :wrt]


def _adjoint(values: Any) -> Any:
    """The adjoints of a batch of matrices."""
    if isinstance(values, Abstract):
        return Abstract((values.shape[0], *values.shape[:0:-1]), values.dtype)
    return jnp.conj(jnp.swapaxes(values, 1, 2))


def _with(block: Block, values: Any, rows: np.ndarray, columns: np.ndarray) -> Block:
    """The block with one term more, of values `(k, width, width)` at rows and columns."""
    number, out, wrt = (Label(size) for size in values.shape)
    labels = tuple(label for label in (number, out, wrt) if label.size != 1)
    shape = tuple(label.size for label in labels)
    array = (
        Abstract(shape, values.dtype)
        if isinstance(values, Abstract)
        else jnp.reshape(values, shape)
    )
    sides = [
        _indices(part, sizes, (number, label))
        for part, sizes, label in ((rows, block.out_shape, out), (columns, block.wrt_shape, wrt))
    ]
    term = Term((Factor(array, labels, "meetings"),), *sides)
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, [*block.terms, term])


def _indices(flat: np.ndarray, shape: Shape, labels: tuple[Label, Label]) -> tuple[Index, ...]:
    """The index of each axis of a variable from flat positions over two labels."""
    parts = np.unravel_index(flat, shape) if shape else ()
    return tuple(_index(part, labels) for part in parts)


def _index(values: np.ndarray, labels: tuple[Label, Label]) -> Index:
    """An index from its values over two labels: a label if it is one, else a lookup."""
    if np.all(values == values.flat[0]):
        return Index(int(values.flat[0]))
    for axis, label in enumerate(labels):
        along = np.moveaxis(values, axis, 0)[:, 0]
        if np.array_equal(np.broadcast_to(np.expand_dims(along, 1 - axis), values.shape), values):
            is_label = np.array_equal(along, np.arange(label.size))
            return Index.of(label) if is_label else _lookup(along, (label,))
    return _lookup(values, labels)


def _lookup(values: np.ndarray, labels: tuple[Label, ...]) -> Index:
    """A lookup of constant values."""
    bounds = (int(values.min()), int(values.max()))
    return Index(0, (), Lookup(values, labels, bounds, constant=True))
