"""Factorization: a square Block or BlockMatrix, factored once and solved with often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import Shape
from blockjac.base.compat import Tracer
from blockjac.base.trees import tree_structure
from blockjac.blocks import tree_vectors
from blockjac.blocks.known_places import with_known_places
from blockjac.errors import BlockShapeError, BlockTypeError, InvalidOptionError
from blockjac.linear_systems.choose import damped, factored
from blockjac.linear_systems.solver import Solver
from blockjac.terms.block import Block
from blockjac.terms.matrix_interface import MatrixInterface

Assume = Literal["gen", "sym", "pos"]
"""What is promised of a matrix, in the words of `scipy.linalg.solve`."""


@dataclass(frozen=True, eq=False)
class Factorization:
    """The factors of `A + damping * I`, for a square Block or BlockMatrix `A`.

    It is a pytree: one compiled program can make it and another use it. Derivatives of its answers
    are those of the equation, with respect to `A`, the damping and the right-hand side.

    Attributes:
        matrix: `A`.
        damping: added to the diagonal, of shape ().
        solver: the factors.
    """

    matrix: MatrixInterface
    damping: Any
    solver: Solver

    @property
    def method(self) -> str:
        """How the system is solved, in a few words."""
        return self.solver.describe()

    def solve(self, right: Any) -> Any:
        """The solution `x` of `(A + damping * I) x = right`.

        Args:
            right: for a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.

        Raises:
            BlockShapeError: if it does not fit.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> block = blockjac.block_jacobian(lambda x: x**2)(jnp.array([1.0, 2.0]))
            >>> blockjac.factorize(block).solve(jnp.array([2.0, 2.0]))
            Array([1. , 0.5], dtype=float32)
        """
        tree, shapes = vectors_of(self.matrix)
        tree_vectors.check(right, tree, shapes, "solve")
        return with_known_places(_solution, self.matrix, self.solver, self.damping, right)

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The sign of the determinant, and the logarithm of its absolute value.

        Like `jax.numpy.linalg.slogdet`: for a singular matrix the logarithm is -inf.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> block = blockjac.block_jacobian(lambda x: x**2)(jnp.array([-0.5, 0.5]))
            >>> [float(part) for part in blockjac.factorize(block).slogdet()]
            [-1.0, 0.0]
        """
        return _slogdet(self)

    def inverse_diagonal(self) -> Any:
        """The diagonal of the inverse, like the inputs."""
        tree, shapes = vectors_of(self.matrix)
        return tree_vectors.tree(self.solver.inverse_diagonal(), shapes, tree)

    def __repr__(self) -> str:
        return f"Factorization({self.method})"


jax.tree_util.register_dataclass(Factorization, ["matrix", "damping", "solver"], [])


def factorize(
    matrix: MatrixInterface, damping: Any = 0.0, *, assume: Assume = "gen"
) -> Factorization:
    """Factor a square matrix as its structure allows, to solve systems with it.

    The way is chosen when the program is traced, from the structure, by what each would cost, and
    is the `method` of what is returned:

    - variables that no block joins are factored separately; an axis along which every block has a
      delta numbers small systems, which are factored as one batch: a diagonal matrix is divided by;
    - a Kronecker product is factored factor by factor;
    - a diagonal with few outer products is solved by Woodbury's formula;
    - with `assume="pos"`, variables that fall into small systems once the others are known are
      eliminated (Schur's complement), as in an arrow matrix or in bundle adjustment;
    - entries whose places are known fall into separate systems, a band (perhaps reordered, by
      reverse Cuthill-McKee) or a sparse matrix; LAPACK and SuperLU factor the last two on the host;
    - everything else is dense: LU, or Cholesky with `assume="pos"`.

    Args:
        matrix: square, with equal output and input shapes.
        damping: added to the diagonal, not negative; a number or an array of shape ().
        assume: `"pos"` for a symmetric positive definite matrix, `"sym"` for a symmetric one,
            `"gen"` for any other.

    Returns:
        A `Factorization`.

    Raises:
        BlockShapeError: if the matrix is not square.
        BlockTypeError: for something else than a Block or BlockMatrix, and for a batch of blocks.
        InvalidOptionError: for a damping that is not a number, or below 0, and an unknown `assume`.
        DenseTooLargeError: if a dense matrix is all that is left, and does not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> step = lambda x: x - 0.1 * (jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1))
        >>> blockjac.factorize(blockjac.block_jacobian(lambda x: x**3)(jnp.ones(4)))
        Factorization(4 systems: division)
    """
    options = _checked(matrix, damping, assume, "factorize")
    shift = jnp.asarray(damping, matrix.dtype)
    return Factorization(matrix, shift, with_known_places(_solver, matrix, shift, **options))


def solve(
    matrix: MatrixInterface, right: Any, damping: Any = 0.0, *, assume: Assume = "gen"
) -> Any:
    """The solution `x` of `(matrix + damping * I) x = right`, as the structure allows.

    Args:
        matrix: a square Block or BlockMatrix.
        right: for a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.
        damping: as in `factorize`, which also tells the ways in which systems are solved.
        assume: as in `factorize`.

    Raises:
        BlockShapeError: if the matrix is not square, or `right` does not fit.
        BlockTypeError: as `factorize`.
        InvalidOptionError: as `factorize`.
        DenseTooLargeError: as `factorize`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> block = blockjac.block_jacobian(lambda x: jnp.cumsum(x))(jnp.ones(3))
        >>> blockjac.solve(block, jnp.array([1.0, 3.0, 6.0]))
        Array([1., 2., 3.], dtype=float32)
    """
    options = _checked(matrix, damping, assume, "solve")
    tree, shapes = vectors_of(matrix)
    tree_vectors.check(right, tree, shapes, "solve")
    return with_known_places(
        _solution_at_once, matrix, jnp.asarray(damping, matrix.dtype), right, **options
    )


def _checked(matrix: Any, damping: Any, assume: Any, name: str) -> dict[str, Any]:
    """The options of a factorization, once the arguments are found to fit."""
    if not isinstance(matrix, MatrixInterface):
        raise BlockTypeError(
            f"{name} takes a Block or a BlockMatrix, but found {type(matrix).__name__}; for an "
            "array use jax.numpy.linalg.solve"
        )
    check_assume(assume)
    tree_vectors.check_damping(damping)
    check_square(matrix, name)
    if matrix.grid[0][0].batch_shape:
        raise BlockTypeError(
            f"{name} takes one matrix, but this is a batch of them out of jax.vmap: call {name} "
            "inside of it"
        )
    is_damped = isinstance(damping, Tracer) or float(damping) != 0
    return {"assume": assume, "is_damped": is_damped}


def check_assume(assume: Any) -> None:
    """Raise unless an assumption is one of those that are known."""
    if assume not in get_args(Assume):
        raise InvalidOptionError(f"assume must be 'gen', 'sym' or 'pos', but is {assume!r}")


def check_square(matrix: Any, name: str) -> None:
    """Raise unless outputs and inputs have the same shapes.

    Raises:
        BlockShapeError: names both.
    """
    out = tuple(row[0].out_shape for row in matrix.grid)
    wrt = tuple(block.wrt_shape for block in matrix.grid[0])
    if out != wrt:
        raise BlockShapeError(
            f"{name} needs a square matrix, of equal output and input shapes, but found {out} and "
            f"{wrt}"
        )


def vectors_of(matrix: Any) -> tuple[Any, tuple[Shape, ...]]:
    """The tree of the inputs of a square matrix, and the shapes of its leaves."""
    if isinstance(matrix, Block):
        return tree_structure(0), (matrix.wrt_shape,)
    return matrix.wrt_tree, matrix.wrt_shapes


def _solver(matrix: MatrixInterface, shift: Any, *, assume: str, is_damped: bool) -> Solver:
    """Factor; derivatives do not go through the factors."""
    stopped, number = jax.tree.map(_stopped, (matrix, shift))
    grid = damped(stopped.grid, number) if is_damped else stopped.grid
    return factored(grid, assume)


def _stopped(array: Any) -> Any:
    """The array without its derivative; constants stay what they are."""
    is_constant = isinstance(array, np.ndarray)
    return cast("Any", array) if is_constant else jax.lax.stop_gradient(array)


def _solution(matrix: Any, solver: Solver, shift: Any, right: Any) -> Any:
    """The solution; its derivative is that of the equation."""
    tree, shapes = vectors_of(matrix)
    vector = tree_vectors.flat(right)
    dtype = jnp.result_type(matrix.dtype, vector, shift)
    vector, shift = vector.astype(dtype), shift.astype(dtype)

    def product(x: jax.Array) -> jax.Array:
        return (matrix.flat_matvec(x.astype(dtype)) + shift * x).astype(dtype)

    def solve(_: Any, y: jax.Array) -> jax.Array:
        return solver.solve(y).astype(dtype)

    def solve_transposed(_: Any, y: jax.Array) -> jax.Array:
        return solver.solve(y, transposed=True).astype(dtype)

    solution = jax.lax.custom_linear_solve(product, vector, solve, solve_transposed)
    return tree_vectors.tree(solution, shapes, tree)


def _solution_at_once(
    matrix: MatrixInterface, shift: Any, right: Any, *, assume: str, is_damped: bool
) -> Any:
    """The solution, with factors that nobody keeps."""
    solver = _solver(matrix, shift, assume=assume, is_damped=is_damped)
    return _solution(matrix, solver, shift, right)


@jax.custom_jvp
def _slogdet(factors: Factorization) -> tuple[jax.Array, jax.Array]:
    """The sign and the logarithm of the absolute value of the determinant."""
    return factors.solver.slogdet()


@_slogdet.defjvp
def _slogdet_jvp(primals: Any, tangents: Any) -> Any:
    """`d log |det A| = trace(A^-1 dA)`, by probes of the systems that A falls into."""
    (factors,), (moved,) = primals, tangents
    solver = factors.solver

    def pushed(column: jax.Array) -> jax.Array:
        """`dA column`."""

        def applied(matrix: Any, shift: Any) -> jax.Array:
            return matrix.flat_matvec(column) + shift * column

        primal = factors.matrix, factors.damping
        return jax.jvp(applied, primal, (moved.matrix, moved.damping))[1]

    def part(columns: jax.Array) -> jax.Array:
        """`sum_p (A^-T p)' dA p`, in which nothing is linear in dA but `dA p`."""
        weights = solver.solve_columns(columns, transposed=True)
        return jnp.sum(weights * jax.vmap(pushed, in_axes=1, out_axes=1)(columns))

    sign, logarithm = solver.slogdet()
    trace = solver.sum_over_probes(part)
    return (sign, logarithm), (jnp.zeros_like(sign), trace.real.astype(logarithm.dtype))
