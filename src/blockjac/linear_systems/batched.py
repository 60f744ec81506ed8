"""Independent systems: numbered by an axis, or listed one after the other."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Solver, pytree
from blockjac.linear_systems.stripped import arrays_of_rows, numbered
from blockjac.terms.block import Block


@pytree("shapes", "axes", "is_shared")
@dataclass(frozen=True, eq=False)
class Batched(Solver):
    """Systems numbered by one axis of each variable.

    Attributes:
        solver: the solver of a system, batched; not batched if all share a matrix.
        shapes: the shapes of the variables.
        axes: the axis of each variable that numbers the systems.
        is_shared: whether all systems have the same matrix.
    """

    solver: Solver
    shapes: tuple[Shape, ...]
    axes: tuple[int, ...]
    is_shared: bool

    @property
    def count(self) -> int:
        """The number of systems."""
        return self.shapes[0][self.axes[0]]

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve all systems at once."""
        vectors = self.by_system(right)
        if self.is_shared:
            return self.flattened(self.solver.solve_columns(vectors.T, transposed).T)

        def solve(solver: Solver, vector: jax.Array) -> jax.Array:
            return solver.solve(vector, transposed)

        return self.flattened(jax.vmap(solve)(self.solver, vectors))

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve each system with all of its columns at once."""
        if self.is_shared:
            return super().solve_columns(right, transposed)
        columns = jax.vmap(self.by_system, in_axes=1, out_axes=2)(right)

        def solve(solver: Solver, matrix: jax.Array) -> jax.Array:
            return solver.solve_columns(matrix, transposed)

        solved = jax.vmap(solve)(self.solver, columns)
        return jax.vmap(self.flattened, in_axes=2, out_axes=1)(solved)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product over all systems."""
        if self.is_shared:
            sign, logarithm = self.solver.slogdet()
            return sign**self.count, self.count * logarithm

        def slogdet(solver: Solver) -> tuple[jax.Array, jax.Array]:
            return solver.slogdet()

        signs, logarithms = jax.vmap(slogdet)(self.solver)
        return jnp.prod(signs), jnp.sum(logarithms)

    def inverse(self, shapes: Sequence[Shape]) -> Rows | None:
        """The inverses of all systems, with a delta along the axes that number them."""
        rests = [
            shape[:axis] + shape[axis + 1 :] for shape, axis in zip(shapes, self.axes, strict=True)
        ]
        inverses: list[Rows | None] = []

        def arrays_of_one(solver: Solver) -> list[jax.Array]:
            """Note the inverse of one system; its arrays."""
            inverses.append(solver.inverse(rests))
            return [] if inverses[-1] is None else arrays_of_rows(inverses[-1])

        arrays = (
            arrays_of_one(self.solver) if self.is_shared else jax.vmap(arrays_of_one)(self.solver)
        )
        if inverses[-1] is None:
            return None
        return numbered(inverses[-1], arrays, self.axes, self.count, self.is_shared)

    @property
    def unknowns(self) -> int:
        """The number of unknowns of all systems."""
        return sum(map(math.prod, self.shapes))

    @property
    def probe_count(self) -> int:
        """As many as for one system."""
        return self._first.probe_count

    def probes(self, numbers: jax.Array) -> jax.Array:
        """The probes of one system, repeated for all systems."""
        probes = self._first.probes(numbers)
        repeated = jnp.broadcast_to(probes, (self.count, *probes.shape))
        return jax.vmap(self.flattened, in_axes=2, out_axes=1)(repeated)

    @property
    def _first(self) -> Solver:
        """The solver of the first system."""
        if self.is_shared:
            return self.solver

        def first(leaf: jax.Array) -> jax.Array:
            return leaf[0]

        return jax.tree.map(first, self.solver)

    def describe(self) -> str:
        """The number of systems, and how each is solved."""
        shared = " with one matrix" if self.is_shared else ""
        return f"{self.count} systems{shared}: {self.solver.describe()}"

    def by_system(self, flat: jax.Array) -> jax.Array:
        """A vector of all variables, rearranged into one vector per system, `(count, rest)`."""
        parts = split(flat, self.shapes)
        return jnp.concatenate(
            [
                jnp.reshape(jnp.moveaxis(part, axis, 0), (self.count, -1))
                for part, axis in zip(parts, self.axes, strict=True)
            ],
            axis=1,
        )

    def flattened(self, vectors: jax.Array) -> jax.Array:
        """The vector of all variables, from one vector per system; the inverse of `by_system`."""
        rests = [
            shape[:axis] + shape[axis + 1 :]
            for shape, axis in zip(self.shapes, self.axes, strict=True)
        ]
        ends = list(itertools.accumulate(map(math.prod, rests)))
        columns = jnp.split(vectors, ends[:-1], axis=1)
        return jnp.concatenate(
            [
                jnp.ravel(jnp.moveaxis(jnp.reshape(part, (self.count, *rest)), 0, axis))
                for part, rest, axis in zip(columns, rests, self.axes, strict=True)
            ]
        )


@pytree("shapes", "groups")
@dataclass(frozen=True, eq=False)
class Grouped(Solver):
    """Groups of variables that no block joins, each solved separately.

    Attributes:
        solvers: one per group.
        shapes: the shapes of all variables.
        groups: the variables of each group.
    """

    solvers: Sequence[Solver]
    shapes: tuple[Shape, ...]
    groups: tuple[tuple[int, ...], ...]

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve one group after the other."""
        parts = parted(right, self.shapes, self.groups)
        solved = [
            solver.solve(part, transposed) for solver, part in zip(self.solvers, parts, strict=True)
        ]
        return joined(solved, self.shapes, self.groups)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product over all groups."""
        signs, logarithms = zip(*(solver.slogdet() for solver in self.solvers), strict=True)
        return jnp.prod(jnp.stack(signs)), jnp.sum(jnp.stack(logarithms))

    def forms(self, left: Rows, right: Rows) -> list[jax.Array]:
        """The sums over all groups."""
        parts = [
            solver.forms(
                [[row[i] for i in group] for row in left],
                [[row[i] for i in group] for row in right],
            )
            for solver, group in zip(self.solvers, self.groups, strict=True)
        ]
        return [functools.reduce(jnp.add, outputs) for outputs in zip(*parts, strict=True)]

    def inverse(self, shapes: Sequence[Shape]) -> Rows | None:
        """The inverse of each group, and zeros between them."""
        inverses = [
            solver.inverse([shapes[i] for i in group])
            for solver, group in zip(self.solvers, self.groups, strict=True)
        ]
        if any(inverse is None for inverse in inverses):
            return None
        blocks: dict[tuple[int, int], Block] = {}
        for group, rows in zip(self.groups, inverses, strict=True):
            for i, row in zip(group, rows or (), strict=True):
                blocks.update({(i, j): block for j, block in zip(group, row, strict=True)})
        return [
            [blocks.get((i, j), Block.zeros(out, wrt)) for j, wrt in enumerate(shapes)]
            for i, out in enumerate(shapes)
        ]

    @property
    def unknowns(self) -> int:
        """The number of unknowns of all systems."""
        return sum(map(math.prod, self.shapes))

    @property
    def probe_count(self) -> int:
        """As many as for the group that needs the most."""
        return max(solver.probe_count for solver in self.solvers)

    def probes(self, numbers: jax.Array) -> jax.Array:
        """The probes of all groups, side by side."""

        def probe(number: jax.Array) -> jax.Array:
            vectors = [solver.probes(number[None])[:, 0] for solver in self.solvers]
            return joined(vectors, self.shapes, self.groups)

        return jax.vmap(probe, out_axes=1)(numbers)

    def describe(self) -> str:
        """How each group is solved."""
        return " | ".join(solver.describe() for solver in self.solvers)


def parted(
    flat: jax.Array, shapes: Sequence[Shape], groups: Sequence[Sequence[int]]
) -> list[jax.Array]:
    """A vector of all variables, as one vector per group of them."""
    parts = [jnp.ravel(part) for part in split(flat, shapes)]
    return [jnp.concatenate([parts[i] for i in group]) for group in groups]


def joined(
    vectors: Sequence[jax.Array], shapes: Sequence[Shape], groups: Sequence[Sequence[int]]
) -> jax.Array:
    """The vector of all variables, from one vector per group; the inverse of `parted`."""
    tensors: dict[int, jax.Array] = {}
    for vector, group in zip(vectors, groups, strict=True):
        tensors.update(zip(group, split(vector, [shapes[i] for i in group]), strict=True))
    return jnp.concatenate([jnp.ravel(tensors[i]) for i in range(len(shapes))])


def split(flat: jax.Array, shapes: Sequence[Shape]) -> list[jax.Array]:
    """Split a vector into tensors of these shapes."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    parts = jnp.split(flat, ends[:-1])
    return [jnp.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
