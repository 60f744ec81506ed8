"""What is computed from the factors of a system, with the derivatives of the equation.

Factors are made without derivatives. Each answer has the derivative that the equation gives it, by
further systems with the same factors.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape
from blockjac.base.trees import tree_structure
from blockjac.blocks import tree_vectors
from blockjac.linear_systems.choose import Factored, damped, factored
from blockjac.linear_systems.forms import by_columns
from blockjac.linear_systems.solver import Solver
from blockjac.terms.block import Block
from blockjac.terms.matrix_interface import MatrixInterface

Factors = tuple[MatrixInterface, Any, Solver]
"""A matrix, what is added to its diagonal, and the solver for the sum."""


def vectors_of(matrix: Any, outputs: bool = False) -> tuple[Any, tuple[Shape, ...]]:
    """The tree of a matrix's inputs, or of its outputs, and the shapes of its leaves."""
    if isinstance(matrix, Block):
        return tree_structure(0), (matrix.out_shape if outputs else matrix.wrt_shape,)
    if outputs:
        return matrix.out_tree, matrix.out_shapes
    return matrix.wrt_tree, matrix.wrt_shapes


def solver_of(
    matrix: MatrixInterface,
    shift: Any,
    *,
    assume: str = "gen",
    is_damped: bool = True,
    require_structure: bool = False,
    solves: int = 0,
) -> Factored:
    """Factor `matrix + shift * I`; derivatives do not go through the factors.

    The way is chosen for the number of further solutions that are expected of the factors.
    """
    stopped, number = jax.tree.map(_stopped, (matrix, shift))
    own = stopped.own_solver(number if is_damped else None, assume)
    if own is not None:
        return Factored(own)
    grid = damped(stopped.grid, number) if is_damped else stopped.grid
    return factored(grid, assume, require_structure, solves)


def _stopped(array: Any) -> Any:
    """The array without its derivative; constants stay what they are."""
    is_constant = isinstance(array, np.ndarray)
    return cast("Any", array) if is_constant else jax.lax.stop_gradient(array)


def solution(factors: Factors, right: Any) -> Any:
    """The solution, a tree like the inputs, of a tree like the outputs."""
    tree, shapes = vectors_of(factors[0])
    return tree_vectors.tree(flat_solution(factors, tree_vectors.flat(right)), shapes, tree)


def flat_solution(factors: Factors, vector: jax.Array) -> jax.Array:
    """The solution for a flat right-hand side; its derivative is that of the equation."""
    matrix, shift, solver = factors
    dtype = jnp.result_type(matrix.dtype, vector, shift)
    vector, shift = vector.astype(dtype), shift.astype(dtype)

    def product(x: jax.Array) -> jax.Array:
        return (matrix.flat_matvec(x.astype(dtype)) + shift * x).astype(dtype)

    def solve(_: Any, y: jax.Array) -> jax.Array:
        return solver.solve(y).astype(dtype)

    def solve_transposed(_: Any, y: jax.Array) -> jax.Array:
        return solver.solve(y, transposed=True).astype(dtype)

    return jax.lax.custom_linear_solve(product, vector, solve, solve_transposed)


def _solved_columns(factors: Factors, columns: jax.Array) -> jax.Array:
    """The solutions for the columns of a matrix, each with the derivative of the equation."""

    def solve(column: jax.Array) -> jax.Array:
        return flat_solution(factors, column)

    return jax.vmap(solve, in_axes=1, out_axes=1)(columns)


@jax.custom_jvp
def slogdet(factors: Factors) -> tuple[jax.Array, jax.Array]:
    """The sign and the logarithm of the absolute value of the determinant."""
    return factors[2].slogdet()


@slogdet.defjvp
def _slogdet_jvp(primals: Any, tangents: Any) -> Any:
    """`d log |det A| = trace(A^-1 dA)`, by probes of the systems that A falls into."""
    ((matrix, shift, solver),), ((moved_matrix, moved_shift, _),) = primals, tangents

    def pushed(column: jax.Array) -> jax.Array:
        """`dA column`."""

        def applied(matrix: Any, shift: Any) -> jax.Array:
            return matrix.flat_matvec(column) + shift * column

        return jax.jvp(applied, (matrix, shift), (moved_matrix, moved_shift))[1]

    def part(columns: jax.Array) -> jax.Array:
        """`sum_p (A^-T p)' dA p`, in which nothing is linear in dA but `dA p`."""
        weights = solver.solve_columns(columns, transposed=True)
        return jnp.sum(weights * jax.vmap(pushed, in_axes=1, out_axes=1)(columns))

    sign, logarithm = solver.slogdet()
    trace = solver.sum_over_probes(part)
    return (sign, logarithm), (jnp.zeros_like(sign), trace.real.astype(logarithm.dtype))


@jax.custom_jvp
def inverse_diagonal(factors: Factors) -> jax.Array:
    """The diagonal of the inverse, flat."""
    return factors[2].inverse_diagonal()


@inverse_diagonal.defjvp
def _inverse_diagonal_jvp(primals: Any, tangents: Any) -> Any:
    """`d diag(A^-1) = -diag(A^-1 dA A^-1)`, by probes of the systems that A falls into."""
    ((matrix, shift, solver),), ((moved_matrix, moved_shift, _),) = primals, tangents

    def by_probes(matrix: Any, shift: Any) -> jax.Array:
        """The same, by solutions that have a derivative."""

        def part(columns: jax.Array) -> jax.Array:
            return jnp.sum(columns * _solved_columns((matrix, shift, solver), columns), axis=1)

        return solver.sum_over_probes(part)

    diagonal = solver.inverse_diagonal()
    moved = jax.jvp(by_probes, (matrix, shift), (moved_matrix, moved_shift))[1]
    return diagonal, moved.astype(diagonal.dtype)


@jax.custom_jvp
def forms(factors: Factors, left: MatrixInterface, right: MatrixInterface) -> list[jax.Array]:
    """The diagonal of `L A^-1 R'`: an array of the shape of each output of L and R."""
    return factors[2].forms(left.grid, right.grid)


@forms.defjvp
def _forms_jvp(primals: Any, tangents: Any) -> Any:
    """The derivative of the forms, by one system for each entry of each output."""
    (matrix, shift, solver), left, right = primals
    (moved_matrix, moved_shift, _), *moved = tangents

    def one_by_one(matrix: Any, shift: Any, left: Any, right: Any) -> list[jax.Array]:
        def solve(columns: jax.Array) -> jax.Array:
            return _solved_columns((matrix, shift, solver), columns)

        return by_columns(solve, left.grid, right.grid)

    answer = solver.forms(left.grid, right.grid)
    arguments = (matrix, shift, left, right), (moved_matrix, moved_shift, *moved)
    derivative = jax.jvp(one_by_one, *arguments)[1]
    return answer, [
        part.astype(value.dtype) for part, value in zip(derivative, answer, strict=True)
    ]
