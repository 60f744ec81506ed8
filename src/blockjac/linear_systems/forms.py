"""Forms `diag(L A^-1 R')`: variances and leverages, without the matrix `L A^-1 R'`.

Each is a sum over two variables of products of three blocks, of which the contraction engine makes
the diagonal alone. That takes an inverse whose blocks keep their structure. Where there is none, or
few outputs, one system is solved for each output.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import jax
import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import dense
from blockjac.algebra.star import chain_along, star
from blockjac.algebra.sums import add
from blockjac.base.arrays import Shape
from blockjac.devices import rates
from blockjac.linear_systems.groups import Rows
from blockjac.terms.block import Block

OUTPUTS_AT_ONCE = 256
"""For at most how many outputs systems are solved at once."""


class Solvable(Protocol):
    """What of a `Solver` forms are computed from; a pytree."""

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        ...

    @property
    def probe_count(self) -> int:
        """The number of probes."""
        ...

    def inverse(self, shapes: Sequence[Shape]) -> Rows | None:
        """The inverse as blocks, if it has structure to keep."""
        ...

    def solve_columns(self, right: jax.Array) -> jax.Array:
        """`A^-1 right` for the columns of a matrix."""
        ...


def cheapest(solver: Solvable, left: Rows, right: Rows) -> list[jax.Array]:
    """The forms, in the way that is predicted to take less time; see `Solver.forms`."""
    shapes = [block.wrt_shape for block in left[0]]
    outputs = sum(math.prod(row[0].out_shape) for row in left)
    column = _seconds_a_column(solver)
    inverse_seconds = solver.probe_count * column
    by_columns = functools.partial(_by_columns, solver, left, right)
    if inverse_seconds > outputs * column:
        return by_columns()
    seconds: list[float] = []

    def priced(solver: Solvable) -> None:
        """Note what the contractions with the inverse would cost."""
        inverse = solver.inverse(shapes)
        if inverse is not None:
            with planning() as cost:
                with_inverse(inverse, left, right)
            seconds.append(inverse_seconds + cost.seconds())

    jax.eval_shape(priced, solver)
    if not seconds or seconds[0] > outputs * column:
        return by_columns()
    inverse = solver.inverse(shapes)
    return by_columns() if inverse is None else with_inverse(inverse, left, right)


def _seconds_a_column(solver: Solvable) -> float:
    """About how long it takes to solve for one column: all factors are read once."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(solver)) + solver.unknowns
    return 2 * numbers / rates().operations_per_second


def with_inverse(inverse: Rows, left: Rows, right: Rows) -> list[jax.Array]:
    """The forms from the blocks of the inverse."""
    return [
        _form(inverse, left_row, right_row) for left_row, right_row in zip(left, right, strict=True)
    ]


def columns_of(rows: Rows, matrix: jax.Array) -> list[jax.Array]:
    """The products of each output's blocks with a dense matrix `(n, k)`, `(outputs, k)` each."""
    sizes = [math.prod(block.wrt_shape) for block in rows[0]]
    parts = jnp.split(matrix, list(itertools.accumulate(sizes))[:-1], axis=0)
    columns = matrix.shape[1]

    def product(row: Sequence[Block]) -> jax.Array:
        products = (
            star(block, _tall(part, block.wrt_shape))
            for block, part in zip(row, parts, strict=True)
        )
        return jnp.reshape(dense(functools.reduce(add, products)), (-1, columns))

    return [product(row) for row in rows]


def _tall(part: jax.Array, shape: Shape) -> Block:
    """The rows of a dense matrix that belong to a variable, as a block."""
    return Block.from_dense(jnp.reshape(part, (*shape, part.shape[1])), len(shape))


def _form(inverse: Rows, left: Sequence[Block], right: Sequence[Block]) -> jax.Array:
    """The form of one output."""
    pairs = [(axis, axis) for axis in range(len(left[0].out_shape))]
    products = [
        chain_along([left_block, middle, right_block.T], pairs)
        for left_block, row in zip(left, inverse, strict=True)
        for middle, right_block in zip(row, right, strict=True)
        if not (left_block.is_zero or middle.is_zero or right_block.is_zero)
    ]
    if not products:
        return jnp.zeros(left[0].out_shape, left[0].dtype)
    return dense(functools.reduce(add, products))


def _by_columns(solver: Solvable, left: Rows, right: Rows) -> list[jax.Array]:
    """The forms, by one system for each entry of each output."""

    def solve(columns: jax.Array) -> jax.Array:
        return solver.solve_columns(columns)

    return by_columns(solve, left, right)


def by_columns(solve: Callable[[jax.Array], jax.Array], left: Rows, right: Rows) -> list[jax.Array]:
    """The forms, by one system for each entry of each output, a few hundred at a time.

    Args:
        solve: `A^-1 C` for a matrix C `(n, k)`.
        left: as for `Solver.forms`.
        right: as for `Solver.forms`.
    """

    def form(left_row: Sequence[Block], right_row: Sequence[Block]) -> jax.Array:
        """The form of one output, entry by entry."""
        shape = left_row[0].out_shape
        size = math.prod(shape)
        width = max(1, min(size, OUTPUTS_AT_ONCE))

        def chunk(first: jax.Array) -> jax.Array:
            numbers = first + jnp.arange(width)
            columns = _rows_of(right_row, numbers)
            same = all(a is b for a, b in zip(left_row, right_row, strict=True))
            weights = columns if same else _rows_of(left_row, numbers)
            return jnp.sum(weights * solve(columns), axis=0)

        starts = jnp.arange(0, size, width)
        results = cast("jax.Array", jax.lax.map(chunk, starts))
        return jnp.reshape(jnp.ravel(results)[:size], shape)

    return [form(a, b) for a, b in zip(left, right, strict=True)]


def _rows_of(blocks: Sequence[Block], numbers: jax.Array) -> jax.Array:
    """Rows of one output's matrix by their numbers, as the columns of a matrix `(n, k)`."""
    shape, dtype = blocks[0].out_shape, jnp.result_type(*(block.dtype for block in blocks))

    def row(number: jax.Array) -> jax.Array:
        unit = jnp.zeros((math.prod(shape),), dtype).at[number].set(1, mode="drop")
        cotangent = jnp.reshape(unit, shape)
        return jnp.concatenate([jnp.ravel(block.vecmat(cotangent)) for block in blocks])

    return jax.vmap(row, out_axes=1)(numbers)
