"""A linear solver of lineax that finds the structure of the operators that it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.blocks import Block, factorize, tree_vectors
from blockjac.blocks.systems import solver_of
from blockjac.errors import ArgumentError, MissingExtraError
from blockjac.interop.lineax_operators import Vectors, matrix_of
from blockjac.linear_systems import banded, direct
from blockjac.linear_systems.solver import Solver
from blockjac.terms.matrix_interface import MatrixInterface

try:
    import equinox
    import lineax
except ImportError as error:
    raise MissingExtraError(
        "StructuredSolver is a solver of lineax, which is not installed: pip install lineax"
    ) from error


SOLVES = 10
"""How often a client is expected to solve with the same factors: an implicit step of diffrax does
so in each iteration of each stage."""


class FactoredOperator(equinox.Module):
    """What `StructuredSolver.init` gives: a pytree, which loops may carry.

    Attributes:
        solver: the factors of the operator, or of its normal equations.
        matrix: of a least squares problem the operator, transposed if it has fewer outputs than
            inputs; else None.
        inputs: what the operator takes.
        outputs: what it gives.
        is_wide: whether `matrix` is the transpose of the operator.
        is_transposed: whether it is the transpose that is solved with.
        is_conjugated: whether it is the conjugate.
        note: what it costs that no structure was of use, if so; else "".
    """

    solver: Solver
    matrix: MatrixInterface | None
    inputs: Vectors = equinox.field(static=True)
    outputs: Vectors = equinox.field(static=True)
    is_wide: bool = equinox.field(static=True, default=False)
    is_transposed: bool = equinox.field(static=True, default=False)
    is_conjugated: bool = equinox.field(static=True, default=False)
    note: str = equinox.field(static=True, default="")

    def solve(self, right: jax.Array) -> jax.Array:
        """The solution for a flat vector."""
        if self.is_conjugated:
            return jnp.conj(replace(self, is_conjugated=False).solve(jnp.conj(right)))
        if self.matrix is None:
            return self.solver.solve(right, self.is_transposed)
        return self._shortest(right) if self.is_wide != self.is_transposed else self._least(right)

    def _least(self, right: jax.Array) -> jax.Array:
        """The x that makes `|A x - right|` least, corrected once as in `blockjac.lstsq`."""
        matrix = cast("Any", self.matrix)
        x = self.solver.solve(matrix.flat_vecmat(right))
        return x + self.solver.solve(matrix.flat_vecmat(right - matrix.flat_matvec(x)))

    def _shortest(self, right: jax.Array) -> jax.Array:
        """The shortest x of all with `A' x = right`, corrected likewise."""
        matrix = cast("Any", self.matrix)
        z = self.solver.solve(right)
        rest = right - matrix.flat_vecmat(matrix.flat_matvec(z))
        return matrix.flat_matvec(z + self.solver.solve(rest))

    def describe(self) -> str:
        """How systems are solved, in a few words."""
        way = self.solver.describe()
        way = way if self.matrix is None else f"least squares by the normal equations: {way}"
        return f"{way}; {self.note}" if self.note else way


class StructuredSolver(lineax.AbstractLinearSolver[FactoredOperator]):
    """A solver for clients of lineax, such as diffrax and optimistix, that finds structure itself.

    It traces the operator, which is linear, and factors its matrix as `blockjac.factorize` does: in
    separate systems, as a band, as a sparse matrix, densely where no structure is of use. Nothing
    has to be declared. What lineax knows of an operator is used too: that it is diagonal,
    tridiagonal or triangular; `positive_semidefinite_tag` promises a positive definite matrix.

    Operators with more outputs than inputs, as those of Levenberg and Marquardt, are solved in the
    sense of least squares, by normal equations that keep the structure, corrected once; those with
    fewer give the shortest solution. They must be of full rank.

    Complex operators, whose structure is not sought, are solved densely if they are square.

    A singular operator gives numbers that are not finite, which `lineax.linear_solve` reports.

    Attributes:
        require_structure: whether to refuse to write out the whole matrix; see `factorize`.

    Raises:
        MissingExtraError: without lineax.
        ArgumentError: for an operator whose `mv` is not linear, and for one that is complex and not
            square.
        StructureLostError: as `require_structure` says.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import lineax
        >>> from blockjac import interop
        >>> def cells(y):
        ...     a, b = y.reshape(2, -1)
        ...     return jnp.concatenate([a * b, a + b**2])
        >>> operator = lineax.JacobianLinearOperator(lambda y, args: cells(y), jnp.ones(200))
        >>> solver = interop.StructuredSolver()
        >>> solver.describe(operator)
        'separate systems: 100 of 2'
        >>> solution = lineax.linear_solve(operator, 3 * jnp.ones(200), solver)
        >>> solution.value[:1], solution.value[-1:]
        (Array([3.], dtype=float32), Array([0.], dtype=float32))
    """

    require_structure: bool = False

    def init(self, operator: Any, options: dict[str, Any]) -> FactoredOperator:
        """Find the structure of an operator, and factor it."""
        inputs, outputs = Vectors.of(operator.in_structure()), Vectors.of(operator.out_structure())
        declared = _declared(operator)
        if declared is not None:
            return FactoredOperator(declared, None, inputs, outputs)
        if inputs.is_complex or outputs.is_complex:
            return FactoredOperator(_of_complex(operator), None, inputs, outputs)
        matrix = matrix_of(operator, inputs, outputs)
        rows, columns = matrix.matrix_shape
        if rows == columns:
            solver, note = self._factors(matrix, _promise(operator))
            if note and (is_lower := lineax.is_lower_triangular(operator)) | (
                lineax.is_upper_triangular(operator)
            ):
                solver, note = direct.Triangular(operator.as_matrix(), is_lower, rows), ""
            return FactoredOperator(solver, None, inputs, outputs, note=note)
        is_wide = rows < columns
        tall = matrix.T if is_wide else matrix
        solver, note = self._factors(tall.T @ tall, "pos")
        return FactoredOperator(solver, tall, inputs, outputs, is_wide, note=note)

    def _factors(self, matrix: Any, promise: Any) -> tuple[Solver, str]:
        """The factors of a square matrix, and a note if no structure was of use."""
        factors = solver_of(
            matrix.in_blocks(),
            0.0,
            assume=promise,
            is_damped=False,
            require_structure=self.require_structure,
            solves=0 if self.require_structure else SOLVES,
        )
        return factors.solver, factors.note

    def compute(
        self, state: FactoredOperator, vector: Any, options: dict[str, Any]
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Solve for a tree of arrays."""
        solution = state.solve(tree_vectors.flat(vector))
        unknowns = state.outputs if state.is_transposed else state.inputs
        return unknowns.rebuilt(solution), lineax.RESULTS.successful, {}

    def transpose(
        self, state: FactoredOperator, options: dict[str, Any]
    ) -> tuple[FactoredOperator, dict[str, Any]]:
        """The same factors, for the transposed operator."""
        return replace(state, is_transposed=not state.is_transposed), {}

    def conj(
        self, state: FactoredOperator, options: dict[str, Any]
    ) -> tuple[FactoredOperator, dict[str, Any]]:
        """The same factors, for the conjugated operator."""
        is_complex = any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(state.solver))
        return replace(state, is_conjugated=is_complex != state.is_conjugated), {}

    # How lineax asks about ranks: 0.1 at once, older versions by rows and columns

    def assume_full_rank(self) -> bool:
        """Whether operators are taken to be of full rank."""
        return True

    def allow_dependent_columns(self, operator: Any) -> bool:
        """Whether columns may depend on each other."""
        rows, columns = operator.out_size(), operator.in_size()
        return columns > rows

    def allow_dependent_rows(self, operator: Any) -> bool:
        """Whether rows may depend on each other."""
        rows, columns = operator.out_size(), operator.in_size()
        return rows > columns

    def describe(self, operator: Any) -> str:
        """How systems with an operator are solved, in a few words, without solving one."""
        words: list[str] = []

        def note(operator: Any) -> None:
            words.append(self.init(operator, {}).describe())

        equinox.filter_eval_shape(note, operator)
        return words[0]


def _declared(operator: Any) -> Solver | None:
    """The factors of an operator that lineax knows to be diagonal or tridiagonal; else None."""
    if operator.in_size() != operator.out_size() or operator.in_size() < 2:
        return None
    if lineax.is_diagonal(operator):
        return factorize(Block.diag(lineax.diagonal(operator))).solver
    if lineax.is_tridiagonal(operator):
        main, lower, upper = lineax.tridiagonal(operator)
        band = jnp.stack([jnp.pad(upper, (1, 0)), main, jnp.pad(lower, (0, 1))])
        return banded.tridiagonal(band, None, lineax.is_positive_semidefinite(operator))
    return None


def _of_complex(operator: Any) -> Solver:
    """The factors of a complex operator, which is written out."""
    if operator.in_size() != operator.out_size():
        raise ArgumentError(
            f"a complex operator of {operator.out_size()} outputs and {operator.in_size()} inputs "
            "has no structured least squares; lineax.QR() solves it densely"
        )
    return direct.factored(operator.as_matrix(), "gen")


def _promise(operator: Any) -> str:
    """What the tags of an operator promise."""
    if lineax.is_positive_semidefinite(operator):
        return "pos"
    return "sym" if lineax.is_symmetric(operator) else "gen"
