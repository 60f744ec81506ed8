"""`custom_linear_solve`: `A x = b`, where `A` is a function that is differentiated itself.

    D_b x = A^-1,    D_c x = -A^-1 star D_c (A x)  for what A is made of.

Both come from the solver that is given; the deltas of `A` (a batch, right-hand sides side by side)
are those of its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks, Body, remembered
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.graph.graph import Equation
from blockjac.operators.map_group import MapGroup
from blockjac.rules.fallback import BY_JAX
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule
from blockjac.terms.block import delta_pairs

Arrays = Sequence[Any]


def _matvec_of(equation: Equation, active: Sequence[bool]) -> Body:
    """The product `A x`, differentiated by what A is made of."""
    consts = equation.params["const_lengths"].matvec
    solution = [False] * (len(active) - sum(equation.params["const_lengths"]))
    return Body(equation.params["jaxprs"].matvec, (*active[:consts], *solution))


def _names_of(equation: Equation, active: Sequence[bool]) -> tuple[Any, Any] | None:
    """Names for the axes of x and of b on which A acts apart; None where several x are solved for.

    Axis j of x and axis i of b that are one delta of A have the same name.
    """
    lengths, matvec = equation.params["const_lengths"], equation.params["jaxprs"].matvec
    if len(active) - sum(lengths) != 1:
        return None
    body = Body(matvec, [place >= lengths.matvec for place in range(lengths.matvec + 1)])
    with planning():
        shape = body.graph.avals[body.graph.inputs[-1]].shape
        tangents: list[Block | None] = [None] * lengths.matvec
        identity = Block.identity(shape, body.graph.avals[body.graph.inputs[-1]].dtype)
        (product,) = body.pushed(body.abstract_edges(whole=True), [*tangents, identity])
    pairs = [] if product is None else delta_pairs(product)
    solution: list[Any] = [None] * len(shape)
    right: list[Any] = [None] * len(shape)
    for i, j in pairs:
        right[i] = solution[j] = (i, j)
    return tuple(solution), tuple(right)


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[Arrays, Any]:
    """The solution; kept is all but the right-hand sides."""
    if _is_complex(inputs):
        return BY_JAX.evaluate(equation, inputs, active)
    results = compat.bind(equation.primitive, inputs, equation.params)
    made_of = sum(equation.params["const_lengths"])
    return results, [list(inputs[:made_of]), results[: len(inputs) - made_of]]


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The solve as an operator."""
    if _is_complex(inputs):
        return BY_JAX.edges(equation, inputs, outs, residuals, active)
    return SolveGroup(equation, inputs, outs, residuals, active).placed()


def _is_complex(values: Arrays) -> bool:
    return any(jnp.issubdtype(value.dtype, jnp.complexfloating) for value in values)


class SolveGroup(NestedGroup):
    """A linear solve."""

    def __init__(
        self, equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Any
    ) -> None:
        super().__init__("custom_linear_solve", outs, inputs, active)
        self.equation = equation
        self.made_of, self.solution = residuals
        self.matvec: Body = remembered(equation, active, _matvec_of)
        self.auxiliary = len(outs) - len(self.solution)
        self.inverse = self._inverse(remembered(equation, active, _names_of))

    @property
    def can_pull(self) -> bool:
        """Whether the transposed system can be solved."""
        return self.equation.params["jaxprs"].transpose_solve is not None

    def _inverse(self, names: tuple[Any, Any] | None) -> MapGroup:
        """From right-hand sides to solutions, which have the same shapes."""
        shapes = [tuple(one.shape) for one in self.solution]
        dtypes = [one.dtype for one in self.solution]
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
        found = compat.bind(self.equation.primitive, [*self.made_of, *right], self.equation.params)
        return found[: len(right)]

    def _solve_transposed(self, right: Arrays) -> list[Any]:
        params = self.equation.params
        lengths, jaxprs = params["const_lengths"], params["jaxprs"]
        parts, start = [], 0
        for length in lengths:
            parts.append(self.made_of[start : start + length])
            start += length
        matvec, vecmat, solve, transpose_solve = parts
        turned = {**params, "const_lengths": lengths.transpose(), "jaxprs": jaxprs.transpose()}
        made_of = [*vecmat, *matvec, *transpose_solve, *solve]
        return compat.bind(self.equation.primitive, [*made_of, *right], turned)[: len(right)]

    def placed(self) -> list[list[Any]]:
        """Operators for what A is made of and for right-hand sides; none for the solver itself."""
        rows = super().placed()
        first = self.equation.params["const_lengths"].matvec
        for row in rows:
            row[first : len(self.made_of)] = [None] * (len(self.made_of) - first)
        return rows

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """`q star A^-1` by one transposed solve, then through what A is made of."""
        right = self.inverse.pullback(cotangents[: len(self.solution)])
        shares = self._through_matrix([None if one is None else -one for one in right])
        return [*shares, *right]

    def _through_matrix(self, cotangents: Blocks) -> list[Block | None]:
        others: list[Block | None] = [None] * len(self.made_of)
        if not any(self.matvec.moving):
            return others
        found = self.matvec.pulled(self._edges(), cotangents)[: -len(self.solution)]
        return [*found, *others[len(found) :]]

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """`A^-1 star (b' - D (A x))`."""
        right = list(tangents[len(self.made_of) :])
        if any(self.matvec.moving):
            consts = tangents[: self.equation.params["const_lengths"].matvec]
            moved = self.matvec.pushed(self._edges(), [*consts, *[None] * len(right)])
            right = [_difference(one, other) for one, other in zip(right, moved, strict=True)]
        return [*self.inverse.pushforward(right), *[None] * self.auxiliary]

    def _edges(self) -> Any:
        consts = self.made_of[: self.equation.params["const_lengths"].matvec]
        return self.matvec.edges_at(lambda: self.matvec.evaluate([*consts, *self.solution]))


def _difference(one: Block | None, other: Block | None) -> Block | None:
    if other is None:
        return one
    return -other if one is None else one - other


OPERATOR_RULES["custom_linear_solve"] = OperatorRule(evaluate, edges)
