"""Factorization: a square Block or BlockMatrix, factored once and solved with often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks import tree_vectors
from blockjac.blocks.accuracy import checked
from blockjac.blocks.known_places import with_known_places
from blockjac.blocks.system_checks import (
    Assume,
    check_assume,
    check_inputs,
    check_square,
    checked_damping,
)
from blockjac.blocks.systems import (
    Factors,
    forms,
    inverse_diagonal,
    slogdet,
    solution,
    solver_of,
    vectors_of,
)
from blockjac.linear_systems.solver import Solver
from blockjac.terms.matrix_interface import MatrixInterface
from blockjac.terms.operations import operations


@dataclass(frozen=True, eq=False)
class Factorization:
    """The factors of `A + damping * I`, for a square Block or BlockMatrix `A`.

    It is a pytree: one compiled program can make it and another use it. Derivatives of its answers
    are those of the equation, with respect to `A`, the damping and the right-hand side.

    Attributes:
        matrix: `A`.
        damping: added to the diagonal, of shape ().
        solver: the factors.
        note: what it costs that no structure was of use, if so; else "".
        assume: what was promised of `A`, as in `blockjac.factorize`.
    """

    matrix: MatrixInterface
    damping: Any
    solver: Solver
    note: str = ""
    assume: str = "gen"

    @property
    def method(self) -> str:
        """How the system is solved, in a few words."""
        return self.solver.describe()

    @property
    def _factors(self) -> Factors:
        """What answers are computed from."""
        return self.matrix, self.damping, self.solver

    def solve(self, right: Any, *, check: bool = False) -> Any:
        """The solution `x` of `(A + damping * I) x = right`.

        Args:
            right: for a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.
            check: as in `blockjac.solve`.

        Raises:
            BlockShapeError: if it does not fit.
            SingularMatrixError: as `blockjac.solve`.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> block = blockjac.block_jacobian(lambda x: x**2)(jnp.array([1.0, 2.0]))
            >>> blockjac.factorize(block).solve(jnp.array([2.0, 2.0]))
            Array([1. , 0.5], dtype=float32)
        """
        tree, shapes = vectors_of(self.matrix)
        tree_vectors.check(right, tree, shapes, "solve")
        answer = with_known_places(_solution, *self._factors, right)
        return checked(answer, self.matrix, self.damping, right, self.assume) if check else answer

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
        return slogdet(self._factors)

    def inverse_diagonal(self) -> Any:
        """The diagonal of the inverse, like the inputs.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> block = blockjac.block_jacobian(lambda x: x**2)(jnp.array([-0.5, 0.25]))
            >>> blockjac.factorize(block).inverse_diagonal()
            Array([-1.,  2.], dtype=float32)
        """
        tree, shapes = vectors_of(self.matrix)
        return tree_vectors.tree(inverse_diagonal(self._factors), shapes, tree)

    def predictive_variance(self, jacobian: Any) -> Any:
        """The diagonal of `J (A + damping * I)^-1 J'`, for a matrix J by the same inputs.

        If `A` is the precision of the parameters, these are the variances of what is linear in
        them: of a model's outputs, whose Jacobian J is, by the delta method. The matrix between
        the outputs is not made. Where the inverse keeps structure, it is contracted with the
        factors of J; otherwise one system is solved for each output, a few hundred at a time.

        Args:
            jacobian: a Block if `A` is one, or a BlockMatrix with the same inputs; or the tree of
                Blocks that `blockjac.block_jacobian` gives of a function of these inputs.

        Returns:
            An array of J's `out_shape`, or a tree like the outputs of J.

        Raises:
            BlockShapeError: if the inputs of J differ from those of `A`.
            BlockTypeError: if J is something else.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> line = lambda p, x: p[0] + p[1] * x
            >>> data, new = jnp.linspace(-1.0, 1.0, 5), jnp.array([0.0, 2.0])
            >>> J = blockjac.block_jacobian(line)(jnp.zeros(2), data)
            >>> ahead = blockjac.block_jacobian(line)(jnp.zeros(2), new)
            >>> variance = blockjac.factorize(J.T @ J, assume="pos").predictive_variance(ahead)
            >>> [round(float(value), 3) for value in variance]
            [0.2, 1.8]
        """
        jacobian = operations().matrix_by_inputs(self.matrix, jacobian)
        check_inputs(self.matrix, jacobian)
        tree, _ = vectors_of(jacobian, outputs=True)
        pair = (self.matrix, jacobian)
        parts = with_known_places(_variances, pair, self.damping, self.solver)
        return jax.tree.unflatten(tree, parts)

    def __repr__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        return f"Factorization({self.method}{note})"


jax.tree_util.register_dataclass(Factorization, ["matrix", "damping", "solver"], ["note", "assume"])


def factorize(
    matrix: MatrixInterface,
    damping: Any = 0.0,
    *,
    assume: Assume = "gen",
    require_structure: bool = False,
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
    - entries whose places are known fall into separate systems, a block tridiagonal matrix, a band
      (perhaps reordered, by reverse Cuthill-McKee) or a sparse matrix; LAPACK and SuperLU factor
      the last two on the host;
    - everything else is dense: LU, or Cholesky with `assume="pos"`; what is too large for that is
      solved without a matrix, by conjugate gradients (`"pos"`), MINRES (`"sym"`) or GMRES.

    Args:
        matrix: square, with equal output and input shapes.
        damping: added to the diagonal, not negative; a number or an array of shape ().
        assume: `"pos"` for a symmetric positive definite matrix, `"sym"` for a symmetric one,
            `"gen"` for any other.
        require_structure: refuse to write out the whole matrix, as happens where no structure is
            of use; then `note` says what that takes.

    Returns:
        A `Factorization`.

    Raises:
        BlockShapeError: if the matrix is not square.
        BlockTypeError: for something else than a Block or BlockMatrix, and for a batch of blocks.
        InvalidOptionError: for a damping that is not a number, or below 0, and an unknown `assume`.
        DenseTooLargeError: if a dense matrix is all that is left, and does not fit.
        StructureLostError: if it is all that is left, and `require_structure` refuses it.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> step = lambda x: x - 0.1 * (jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1))
        >>> blockjac.factorize(blockjac.block_jacobian(lambda x: x**3)(jnp.ones(4)))
        Factorization(4 systems: division)
    """
    options = _checked(matrix, damping, assume, "factorize")
    matrix = matrix.in_blocks()
    shift = jnp.asarray(damping, matrix.dtype)
    factors = with_known_places(
        solver_of, matrix, shift, require_structure=require_structure, **options
    )
    return Factorization(matrix, shift, factors.solver, factors.note, assume)


def solve(
    matrix: MatrixInterface,
    right: Any,
    damping: Any = 0.0,
    *,
    assume: Assume = "gen",
    require_structure: bool = False,
    check: bool = False,
) -> Any:
    """The solution `x` of `(matrix + damping * I) x = right`, as the structure allows.

    A singular matrix gives inf or nan, as `jax.numpy.linalg.solve` does, unless it is checked.

    Args:
        matrix: a square Block or BlockMatrix.
        right: for a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.
        damping: as in `factorize`, which also tells the ways in which systems are solved.
        assume: as in `factorize`.
        require_structure: as in `factorize`.
        check: whether to raise where the solution is not finite, or is so inaccurate that it
            leaves a residual above the root of the rounding error. Not under `jit`, `vmap` and
            `grad`.

    Raises:
        BlockShapeError: if the matrix is not square, or `right` does not fit.
        BlockTypeError: as `factorize`.
        InvalidOptionError: as `factorize`; and for `check` while JAX traces.
        DenseTooLargeError: as `factorize`.
        StructureLostError: as `factorize`.
        SingularMatrixError: if `check` finds the solution to be useless, or the matrix not to be
            what `assume` promises; it says why.

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
    matrix = matrix.in_blocks()
    shift = jnp.asarray(damping, matrix.dtype)
    answer = with_known_places(
        _solution_at_once, matrix, shift, right, require_structure=require_structure, **options
    )
    return checked(answer, matrix, shift, right, assume) if check else answer


def _solution(matrix: MatrixInterface, shift: Any, solver: Solver, right: Any) -> Any:
    """The solution from the factors."""
    return solution((matrix, shift, solver), right)


def _solution_at_once(matrix: MatrixInterface, shift: Any, right: Any, **options: Any) -> Any:
    """The solution, with factors that nobody keeps."""
    return solution((matrix, shift, solver_of(matrix, shift, **options).solver), right)


def _variances(
    pair: tuple[MatrixInterface, MatrixInterface], shift: Any, solver: Solver
) -> list[jax.Array]:
    """The diagonal of `J A^-1 J'` for a pair of `A` and J."""
    matrix, jacobian = pair
    return forms((matrix, shift, solver), jacobian, jacobian)


def _checked(matrix: Any, damping: Any, assume: Any, name: str) -> dict[str, Any]:
    """The options of a factorization, once the arguments are found to fit."""
    is_damped = checked_damping(matrix, damping, name)
    check_assume(assume)
    check_square(matrix, name)
    return {"assume": assume, "is_damped": is_damped}
