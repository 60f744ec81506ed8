"""Formulas of linear algebra: Jacobians of what JAX composes of factorizations.

With `Y` the result, `B` an inverse or an adjugate, and the result's axes first; of stacks of
matrices each is its own:

    inv(A)          -Y[i,k] Y[l,j]
    solve(A, b)     -B[i,k] Y[l,j] by A, B[i,k] delta[j,l] by b
    slogdet(A)[1]   B[l,k]
    det(A)          B[l,k], with the adjugate, which is `det(A) inv(A)` where A has an inverse
    cholesky(A)     sum_m Y[i,m] phi[m,j] B[m,k] B[j,l], the mean of it and of its transpose by A

The elimination of a step's own primitives would go through its pivots and triangles, and ends in a
map without a formula. What is printed is evaluated and compared as every other formula is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.explanations.closed_forms.form import IN_PAIRS, Factor, Request, turns
from blockjac.explanations.closed_forms.operated import split
from blockjac.explanations.closed_forms.triangular import half_of_diagonal
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Entry, Expression, Letter, Number, Place
from blockjac.explanations.names import Name
from blockjac.explanations.program import Program, Step, Variable
from blockjac.graph.graph import Operand
from blockjac.graph.trace import linear_algebra

RESULT_AXES = {"inv": 2, "solve": 2, "cholesky": 2}
"""How many axes one result of a stack has; a determinant, and its logarithm, has none."""

Compute = Callable[[Any], np.ndarray]

Helper = Callable[[str, Variable, Compute], Name]
"""Gives a name to an array, from the words for what computes it from a variable."""


@dataclass(frozen=True)
class Call:
    """A call of a function of linear algebra.

    Attributes:
        operands: variables.
        result: the result whose Jacobian is asked for.
        axes: how many of the result's last axes are of a matrix or a vector, and not of the stack.
        helper: gives names to what is computed.
    """

    operands: Sequence[Variable]
    result: Variable
    axes: int
    helper: Helper

    def batch(self, variable: Variable, axes: int, rows: Sequence[Place]) -> tuple[Place, ...]:
        """Places on the axes of a variable's stack, of which some are repeated in the result's."""
        own = variable.shape[: len(variable.shape) - axes]
        whole = rows[: len(rows) - self.axes]
        last = whole[len(whole) - len(own) :]
        return tuple(Place() if size == 1 else place for size, place in zip(own, last, strict=True))

    def factors(self, rows: Sequence[Place]) -> dict[str, Factor]:
        """The arrays that rules have entries of."""
        (matrix, *_) = self.operands
        of_matrix = self.batch(matrix, 2, rows)
        of_result = tuple(rows[: len(rows) - self.axes])
        return {
            "inverse": self._computed("inv({})", matrix, inverse_of, of_matrix),
            "adjugate": self._computed("adjugate({})", matrix, adjugate_of, of_matrix),
            "Y": self._computed("", self.result, np.asarray, of_result),
            "inverse of Y": self._computed("inv({})", self.result, inverse_of, of_result),
        }

    def _computed(
        self, word: str, variable: Variable, compute: Compute, batch: tuple[Place, ...]
    ) -> Factor:
        """An array that is computed from a variable, or without a word the variable itself."""
        is_complex = _kind(variable) == "c"
        first = 2 if is_complex else 0

        def entry(*places: Place) -> Expression:
            """An entry; the array gets its name when it is read."""
            name = variable.name
            if is_complex:
                words = IN_PAIRS.format(word or "{}")
                name = self.helper(words, variable, lambda array: np.asarray(turns(compute(array))))
            elif word:
                name = self.helper(word, variable, compute)
            whole = (*places[:first], *batch, *places[first:])
            return Entry(name, whole, (*[2] * first, *variable.shape))

        return Factor(entry, is_complex)


def known_terms(
    program: Program,
    step: Step,
    head: int,
    tail: int,
    rows: Sequence[Letter],
    helper: Helper,
) -> list[Partial] | None:
    """The block of a result by an operand where linear algebra has a formula for it, else None.

    Args:
        program: that the step is of.
        step: with active operands and results.
        head: number of the result.
        tail: number of the operand.
        rows: letters of the result's axes.
        helper: gives a name to an array, from the words for what computes it from a variable.
    """
    name = linear_algebra(step.equation)
    rules = RULES.get(name)
    if rules is None:
        return None
    operands = [
        program.variables[own.value] for own in step.equation.operands if isinstance(own, Operand)
    ]
    result, number = program.variables[head], step.equation.results.index(head)
    if len(operands) < len(rules) or not _has_formula(name, operands, number):
        return None
    is_vector = name == "solve" and len(operands[1].shape) == 1
    axes = 1 if is_vector else RESULT_AXES.get(name, 0)
    call = Call(operands, result, axes, helper)
    phase, places = split(tuple(map(Place.of, rows)), result)
    terms: list[Partial] = []
    for position, (rule, own) in enumerate(zip(rules, operands, strict=True)):
        if own.number != tail:
            continue
        batch = call.batch(own, axes if position == 1 else 2, places)
        request = Request(
            step.equation,
            number,
            position,
            own.shape,
            _kind(own) == "c",
            phase,
            places[len(places) - axes :],
            batch,
            call.factors(places),
        )
        terms += rule(request)
    return terms


def _kind(variable: Variable) -> str:
    """Whether a variable is real, "f", or complex, "c", of half precision too; else ""."""
    if jnp.issubdtype(variable.dtype, jnp.complexfloating):
        return "c"
    return "f" if jnp.issubdtype(variable.dtype, jnp.floating) else ""


def _has_formula(name: str, operands: Sequence[Variable], number: int) -> bool:
    """Whether a block has a formula here; those of others are left to their primitives.

    Args:
        name: of the function.
        operands: of its call.
        number: of the result; of the determinant's sign there is none.
    """
    kinds = set(map(_kind, operands))
    is_right = number == 1 if name == "slogdet" else number == 0
    return is_right and kinds <= ({"f"} if name == "cholesky" else {"f", "c"})


def _inverse(request: Request) -> list[Partial]:
    """`-Y[i,k] Y[l,j]`."""
    i, j = request.rows
    term = request.chain()
    k, m = (term.letter(size) for size in request.shape[-2:])
    return [term.times(Number(-1)).entry("Y", i, k).entry("Y", m, j).by(k, m)]


def _solution_by_matrix(request: Request) -> list[Partial]:
    """`-B[i,k] Y[l,j]`."""
    i, *rest = request.rows
    term = request.chain()
    k, m = (term.letter(size) for size in request.shape[-2:])
    return [term.times(Number(-1)).entry("inverse", i, k).entry("Y", m, *rest).by(k, m)]


def _solution_by_right(request: Request) -> list[Partial]:
    """`B[i,k]`, and a delta of the columns."""
    i, *rest = request.rows
    term = request.chain()
    k = term.letter(request.shape[len(request.shape) - len(request.rows)])
    return [term.entry("inverse", i, k).by(k, *rest)]


def _by_cofactors(name: str, request: Request) -> list[Partial]:
    """`B[l,k]`, of the inverse or of the adjugate."""
    term = request.chain()
    k, m = (term.letter(size) for size in request.shape[-2:])
    return [term.entry(name, m, k).by(k, m)]


def _cholesky(request: Request) -> list[Partial]:
    """`sum_m Y[i,m] phi[m,j] B[m,k] B[j,l]`, and the same of the transposed matrix."""
    i, j = request.rows
    terms: list[Partial] = []
    for is_transposed in (False, True):
        term = request.chain()
        m, k, n = (term.letter(request.shape[-1]) for _ in range(3))
        term.times(Number(0.5)).entry("Y", i, m).times(*half_of_diagonal(m, j))
        term.entry("inverse of Y", m, k).entry("inverse of Y", j, n)
        terms.append(term.by(*((n, k) if is_transposed else (k, n))))
    return terms


def inverse_of(matrix: Any) -> np.ndarray:
    """The inverse; infinite or nan of a singular matrix, as it is in the program."""
    invert = cast("Callable[[Any], Any]", jnp.linalg.inv)
    return np.asarray(invert(compat.jax_array(matrix)))


def adjugate_of(matrix: Any) -> np.ndarray:
    """The transposed cofactors, of singular matrices too: those of the three factors of an SVD."""
    array: np.ndarray = np.asarray(matrix)
    left, values, right = np.linalg.svd(array)
    count = values.shape[-1]
    others = [np.prod(np.delete(values, place, axis=-1), axis=-1) for place in range(count)]
    sign = np.linalg.det(left) * np.linalg.det(right)
    first, last = (np.conj(np.swapaxes(own, -1, -2)) for own in (right, left))
    middle = np.stack(others, axis=-1)[..., None, :]
    return np.asarray(sign[..., None, None] * ((first * middle) @ last))


RULES: dict[str, tuple[Callable[[Request], list[Partial]], ...]] = {
    "inv": (_inverse,),
    "solve": (_solution_by_matrix, _solution_by_right),
    "slogdet": (partial(_by_cofactors, "inverse"),),
    "det": (partial(_by_cofactors, "adjugate"),),
    "cholesky": (_cholesky,),
}
"""A rule for each operand, by the names of `jax.numpy.linalg`."""
