"""`custom_linear_solve`: `A x = b`, where `A` is a function that is differentiated itself.

    D_b x = A^-1,    D_c x = -A^-1 star D_c (A x)  for the constants c of A.

Both come from the solver that is given; the deltas of `A` (a batch, right-hand sides side by side)
are those of its inverse.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Body, remembered
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.graph.graph import Equation
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import Blocks, added
from blockjac.rules.fallback import BY_JAX
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows
from blockjac.terms.block import delta_pairs


@remembered
def matvec_of(equation: Equation, active: Sequence[bool]) -> Body:
    """The product `A x`, differentiated with respect to the constants of A."""
    consts = equation.params["const_lengths"].matvec
    solution = [False] * (len(active) - sum(equation.params["const_lengths"]))
    return Body(equation.params["jaxprs"].matvec, (*active[:consts], *solution))


@remembered
def names_of(equation: Equation, active: Sequence[bool]) -> tuple[Any, Any] | None:
    """Names for the axes of x and b on which A acts separately; None if there are several x.

    Axis j of x and axis i of b that are one delta of A have the same name.
    """
    lengths, matvec = equation.params["const_lengths"], equation.params["jaxprs"].matvec
    if len(active) - sum(lengths) != 1:
        return None
    body = Body(matvec, [number >= lengths.matvec for number in range(lengths.matvec + 1)])
    aval = body.graph.avals[body.graph.inputs[-1]]
    with planning():
        identity = Block.identity(aval.shape, aval.dtype)
        tangents = [*[None] * lengths.matvec, identity]
        (product,) = body.pushed(body.abstract_edges(whole=True), tangents)
    solution: list[Any] = [None] * len(aval.shape)
    right: list[Any] = [None] * len(aval.shape)
    for i, j in [] if product is None else delta_pairs(product):
        right[i] = solution[j] = (i, j)
    return tuple(solution), tuple(right)


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[Arrays, Any]:
    """The solution; all operands but the right-hand sides are kept."""
    if _is_complex(inputs):
        return BY_JAX.evaluate(equation, inputs, active)
    results = compat.bind(equation.primitive, inputs, equation.params)
    consts = sum(equation.params["const_lengths"])
    return results, [list(inputs[:consts]), results[: len(inputs) - consts]]


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> Rows:
    """The solve as an operator."""
    rows_of = BY_JAX.edges if _is_complex(inputs) else SolveGroup.rows_of
    return rows_of(equation, inputs, outs, residuals, active)


def _is_complex(values: Arrays) -> bool:
    return any(jnp.issubdtype(value.dtype, jnp.complexfloating) for value in values)


class SolveGroup(NestedGroup):
    """A linear solve."""

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Any,
        active: Sequence[bool],
    ) -> None:
        super().__init__(equation, inputs, outs, residuals, active)
        self.consts, self.solution = residuals
        self.matvec = matvec_of(equation, active)
        self.matvec_consts = equation.params["const_lengths"].matvec
        self.auxiliary = len(outs) - len(self.solution)
        self.inverse = self._inverse(names_of(equation, active))

    @property
    def can_pull(self) -> bool:
        """Whether the transposed system can be solved."""
        return self.equation.params["jaxprs"].transpose_solve is not None

    def _inverse(self, names: tuple[Any, Any] | None) -> MapGroup:
        """From right-hand sides to solutions, which have the same shapes."""
        shapes = [tuple(array.shape) for array in self.solution]
        dtypes = [array.dtype for array in self.solution]
        return MapGroup(
            out_shapes=shapes,
            wrt_shapes=shapes,
            dtypes=dtypes,
            out_dtypes=dtypes,
            pull=self._solve_transposed if self.can_pull else None,
            push=self._solve,
            name="custom_linear_solve",
            row_axes=None if names is None else [names[0]],
            column_axes=None if names is None else [names[1]],
            structured=True,
        )

    def _solve(self, right: Arrays) -> list[Any]:
        results = compat.bind(self.equation.primitive, [*self.consts, *right], self.equation.params)
        return results[: len(right)]

    def _solve_transposed(self, right: Arrays) -> list[Any]:
        """The same equation with each function and its transpose exchanged."""
        params = self.equation.params
        lengths, jaxprs = params["const_lengths"], params["jaxprs"]
        ends = list(itertools.accumulate(lengths))
        matvec, vecmat, solve, transpose_solve = (
            self.consts[end - length : end] for length, end in zip(lengths, ends, strict=True)
        )
        flipped = {**params, "const_lengths": lengths.transpose(), "jaxprs": jaxprs.transpose()}
        operands = [*vecmat, *matvec, *transpose_solve, *solve, *right]
        return compat.bind(self.equation.primitive, operands, flipped)[: len(right)]

    def placed(self) -> Rows:
        """Operators for the constants of A and for right-hand sides; none for the solver's."""
        rows = super().placed()
        for row in rows:
            solver = slice(self.matvec_consts, len(self.consts))
            row[solver] = [None] * len(row[solver])
        return rows

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """`q star A^-1` by one transposed solve, then through the constants of A."""
        right = self.inverse.pullback(cotangents[: len(self.solution)])
        shares: list[Block | None] = [None] * len(self.consts)
        if any(self.matvec.active_results):
            negative = [None if block is None else -block for block in right]
            pulled = self.matvec.pulled(self._edges(), negative)
            shares[: self.matvec_consts] = pulled[: self.matvec_consts]
        return [*shares, *right]

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """`A^-1 star (b' - D (A x))`."""
        right = list(tangents[len(self.consts) :])
        if any(self.matvec.active_results):
            consts = tangents[: self.matvec_consts]
            products = self.matvec.pushed(self._edges(), [*consts, *[None] * len(right)])
            right = [
                added([block, None if product is None else -product])
                for block, product in zip(right, products, strict=True)
            ]
        return [*self.inverse.pushforward(right), *[None] * self.auxiliary]

    def _edges(self) -> EliminationGraph:
        inputs = [*self.consts[: self.matvec_consts], *self.solution]
        return self.matvec.edges_at(lambda: self.matvec.evaluate(inputs))


OPERATOR_RULES["custom_linear_solve"] = OperatorRule(evaluate, edges)
