"""Formulas of linear algebra: Jacobians of what JAX composes of factorizations.

With `Y` the result, `B` an inverse or an adjugate, and the result's axes first:

    inv(A)          -Y[i,k] Y[l,j]
    solve(A, b)     -B[i,k] Y[l,j] by A, B[i,k] delta[j,l] by b
    slogdet(A)[1]   B[l,k]
    det(A)          B[l,k], with the adjugate, which is `det(A) inv(A)` where A has an inverse

The elimination of a step's own primitives would go through its pivots and triangles, and ends in a
map without a formula. What is printed is evaluated and compared as every other formula is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Entry, Expression, Letter, Number, Place
from blockjac.explanations.names import Name
from blockjac.explanations.places import fresh
from blockjac.explanations.program import Program, Step, Variable
from blockjac.graph.graph import Operand
from blockjac.graph.trace import linear_algebra

Compute = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Block:
    """A block that is asked for.

    Attributes:
        matrix: the step's first operand, one square matrix.
        right: the second one; None if there is none, or a number.
        result: the step's result.
        is_last: whether it is the last one of the step.
        rows: letters of the result's axes.
        helper: gives a name to an array, from the word for what computes it from the matrix.
    """

    matrix: Variable
    right: Variable | None
    result: Variable
    is_last: bool
    rows: Sequence[Letter]
    helper: Callable[[str, Variable, Compute], Name]

    def entry(self, *letters: Letter) -> Expression:
        """An entry of the result."""
        return Entry(self.result.name, tuple(map(Place.of, letters)), self.result.shape)

    def helped(self, word: str, compute: Compute) -> Callable[[Letter, Letter], Expression]:
        """Entries of an array that is computed from the matrix."""
        name = self.helper(word, self.matrix, compute)
        return lambda i, j: Entry(name, (Place.of(i), Place.of(j)), self.matrix.shape)

    def by_matrix(self, factors: Callable[[Letter, Letter], Sequence[Expression]]) -> Partial:
        """A term with the two axes of the matrix, of whose letters `factors` are."""
        size = self.matrix.shape[0]
        first, second = fresh(size), fresh(size)
        bound = (first, second) if size != 1 else ()
        places = (Place.of(first), Place.of(second))
        return Partial(tuple(factors(first, second)), places, bound)


def known_terms(
    program: Program,
    step: Step,
    head: int,
    tail: int,
    rows: Sequence[Letter],
    helper: Callable[[str, Variable, Compute], Name],
) -> list[Partial] | None:
    """The block of a result by an operand where linear algebra has a formula for it, else None.

    Args:
        program: that the step is of.
        step: with active operands and results.
        head: number of the result.
        tail: number of the operand.
        rows: letters of the result's axes.
        helper: gives a name to an array, from the word for what computes it from a variable.
    """
    rules = RULES.get(linear_algebra(step.equation))
    if rules is None:
        return None
    operands = [
        program.variables[own.value] if isinstance(own, Operand) else None
        for own in step.equation.operands
    ]
    matrix, right = (*operands, None)[:2]
    if matrix is None or not _is_real_matrix(matrix):
        return None
    result, is_last = program.variables[head], head == step.equation.results[-1]
    block = Block(matrix, right, result, is_last, rows, helper)
    terms = [
        rule(block)
        for rule, own in zip(rules, operands, strict=True)
        if own is not None and own.number == tail
    ]
    complete = [term for term in terms if term is not None]
    return complete if len(complete) == len(terms) else None


def _is_real_matrix(variable: Variable) -> bool:
    """Whether a variable is one real matrix, rather than a stack of them."""
    return len(variable.shape) == 2 and jnp.issubdtype(variable.dtype, jnp.floating)


def _inverse(block: Block) -> Partial:
    """`-Y[i,k] Y[l,j]`."""
    i, j = block.rows
    return block.by_matrix(lambda k, m: (Number(-1), block.entry(i, k), block.entry(m, j)))


def _is_one_system(block: Block) -> bool:
    """Whether a solution is a vector or a matrix of the shape of the right-hand side."""
    shape = block.result.shape
    return block.right is not None and block.right.shape == shape and len(shape) <= 2


def _solution_by_matrix(block: Block) -> Partial | None:
    """`-B[i,k] Y[l,j]`; None for stacks of systems."""
    if not _is_one_system(block):
        return None
    inverse = block.helped("inv", inverse_of)
    i, *rest = block.rows
    return block.by_matrix(lambda k, m: (Number(-1), inverse(i, k), block.entry(m, *rest)))


def _solution_by_right(block: Block) -> Partial | None:
    """`B[i,k]`, and a delta of the columns; None for stacks of systems."""
    if not _is_one_system(block):
        return None
    inverse = block.helped("inv", inverse_of)
    i, *rest = block.rows
    k = fresh(i.size)
    places = (Place.of(k), *map(Place.of, rest))
    return Partial((inverse(i, k),), places, (k,) if i.size != 1 else ())


def _log_determinant(block: Block) -> Partial | None:
    """`B[l,k]`; the sign, which comes first, is left to its own primitives."""
    if not block.is_last:
        return None
    inverse = block.helped("inv", inverse_of)
    return block.by_matrix(lambda k, m: (inverse(m, k),))


def _determinant(block: Block) -> Partial:
    """`B[l,k]`, of the adjugate."""
    adjugate = block.helped("adjugate", adjugate_of)
    return block.by_matrix(lambda k, m: (adjugate(m, k),))


def inverse_of(matrix: Any) -> np.ndarray:
    """The inverse; infinite or nan of a singular matrix, as it is in the program."""
    invert = cast("Callable[[Any], Any]", jnp.linalg.inv)
    return np.asarray(invert(compat.jax_array(matrix)))


def adjugate_of(matrix: Any) -> np.ndarray:
    """The transposed cofactors, of singular matrices too: those of the three factors of an SVD."""
    array: np.ndarray = np.asarray(matrix)
    left, values, right = np.linalg.svd(array)
    others = [float(np.prod(np.delete(values, place))) for place in range(len(values))]
    sign = np.linalg.det(left) * np.linalg.det(right)
    return np.asarray(sign * (right.T * np.asarray(others)) @ left.T)


RULES: dict[str, tuple[Callable[[Block], Partial | None], ...]] = {
    "inv": (_inverse,),
    "solve": (_solution_by_matrix, _solution_by_right),
    "slogdet": (_log_determinant,),
    "det": (_determinant,),
}
"""A rule for each operand, by the names of `jax.numpy.linalg`."""
