"""Complex numbers: the real Jacobian of their parts, in the structure of the complex one.

A complex variable is differentiated as its real and imaginary parts, stacked on a leading axis of
size 2. A holomorphic primitive has a complex Jacobian `J`, which its rule gives as it does for real
numbers; on the parts it is

    [[Re J, -Im J],
     [Im J,  Re J]]

so that what has no complex factor is a Kronecker delta between the parts. What has one is applied
in complex arithmetic, as one product and not as four: a cotangent `q` of the parts is the complex
row `q[0] - i q[1]`, a tangent `t` the complex column `t[0] + i t[1]`. What is not holomorphic
(conj, real, imag, abs) is linear in the parts, and has a rule of its own here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blockjac.algebra.sums import summed
from blockjac.base import compat
from blockjac.blocks import Block, Term, add, star
from blockjac.graph.graph import Equation
from blockjac.graph.primitives import named
from blockjac.operators.operator import Operator, OperatorGroup
from blockjac.rules.complex_linear import REAL_LINEAR, conjugate, part_of, placed_part
from blockjac.rules.complex_parts import (
    as_parts,
    as_row,
    complex_dtype,
    folded,
    is_complex,
    is_complex_term,
    realified,
)
from blockjac.rules.fallback import real_dtype
from blockjac.rules.fourier import FourierTransform
from blockjac.rules.registry import (
    OPERATOR_RULES,
    RULES,
    OperatorRule,
    Rows,
)
from blockjac.rules.running import RunningSum
from blockjac.terms.block import rebuilt

HOLOMORPHIC = named("complex", "holomorphic")
"""Primitives whose rule, written for real numbers, gives the complex Jacobian of complex ones."""


def complex_rule(
    name: str,
    outs: Sequence[Any],
    inputs: Sequence[Any],
    params: dict[str, Any],
    active: Sequence[bool],
) -> Rows | None:
    """The elemental Jacobians of an equation with complex numbers, on their parts.

    Args:
        name: of the primitive.
        outs: the results.
        inputs: the operands.
        params: the primitive's parameters.
        active: which operands are differentiated.

    Returns:
        Blocks and operators, by result and operand; None where the equation is left to JAX.
    """
    if name in REAL_LINEAR:
        return [[REAL_LINEAR[name](outs[0], inputs[0])]]
    if name not in HOLOMORPHIC:
        return None
    rows = RULES[name].apply(outs, inputs, params, active)
    if rows is None:
        return None
    answer: Rows = []
    for out, row in zip(outs, rows, strict=True):
        wanted = [edge if moves else None for edge, moves in zip(row, active, strict=True)]
        edges = [
            None if edge is None else _on_parts(edge, out, operand)
            for edge, operand in zip(_joined(wanted, inputs), inputs, strict=True)
        ]
        if any(edge is NotImplemented for edge in edges):
            return None
        answer.append(edges)
    return answer


def _joined(row: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The blocks with those of one and the same operand, as in `z * z`, added up in its first."""
    first: dict[int, int] = {}
    joined = list(row)
    for position, (edge, operand) in enumerate(zip(row, inputs, strict=True)):
        if isinstance(edge, Block):
            earlier = first.setdefault(id(operand), position)
            if earlier != position:
                joined[earlier], joined[position] = add(joined[earlier], edge), None
    return joined


def _on_parts(edge: Any, out: Any, operand: Any) -> Any:
    """The real edge of a complex one; NotImplemented where it is not known."""
    if is_complex(out) != is_complex(operand):
        return NotImplemented
    if not is_complex(out):
        return edge
    if isinstance(edge, Block):
        jacobian = rebuilt(edge.out_shape, edge.wrt_shape, edge.dtype, map(folded, edge.terms))
        if any(map(is_complex_term, jacobian.terms)):
            return Operator(Holomorphic(jacobian), 0, 0)
        return realified(jacobian)
    if isinstance(edge.group, RunningSum):
        group = edge.group
        (shape,), (dtype,) = group.wrt_shapes, group.dtypes
        return Operator(
            RunningSum((2, *shape), real_dtype(dtype), group.axis + 1, group.from_end), 0, 0
        )
    return NotImplemented


# Complex terms and the parts of them


# Holomorphic maps


class Holomorphic(OperatorGroup):
    """A complex Jacobian that acts on parts, by complex arithmetic; its structure is kept."""

    edge_by_edge = True

    def __init__(self, jacobian: Block) -> None:
        dtype = real_dtype(jacobian.dtype)
        super().__init__(
            out_shapes=[(2, *jacobian.out_shape)],
            wrt_shapes=[(2, *jacobian.wrt_shape)],
            dtypes=[dtype],
            out_dtypes=[dtype],
            name="complex numbers",
        )
        self.jacobian = jacobian

    @property
    def held(self) -> Block:
        """The complex Jacobian."""
        return self.jacobian

    def written(self, row: int, column: int) -> Block:
        """The real block of the parts."""
        del row, column
        return realified(self.jacobian)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        if cotangent is None:
            return [None]
        return [self._through(cotangent, self.dtypes[0], forward=False)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        return [
            None if tangent is None else self._through(tangent.T, tangent.dtype, forward=True).T
        ]

    def _through(self, block: Block, dtype: Any, *, forward: bool) -> Block:
        """`block star J`, or `block star J.T` if `forward`, of the real dtype."""
        sign = 1 if forward else -1
        jacobian = self.jacobian.T if forward else self.jacobian
        jacobian = rebuilt(
            jacobian.out_shape, jacobian.wrt_shape, complex_dtype(dtype), jacobian.terms
        )
        rows = {term: as_row(term, sign, block.dtype) for term in block.terms}
        complex_rows = [row for row in rows.values() if row is not None]
        real_terms = [term for term, row in rows.items() if row is None]
        terms: list[Term] = []
        if complex_rows:
            left = rebuilt(
                block.out_shape, block.wrt_shape[1:], complex_dtype(block.dtype), complex_rows
            )
            product = star(left, jacobian)
            terms += [as_parts(term, sign, product.dtype) for term in product.terms]
        if real_terms:
            left = rebuilt(block.out_shape, block.wrt_shape, block.dtype, real_terms)
            right = self.block(0, 0).T if forward else self.block(0, 0)
            right = rebuilt(right.out_shape, right.wrt_shape, dtype, right.terms)
            terms += star(left, right).terms
        return summed(block.out_shape, (2, *jacobian.wrt_shape), dtype, terms)


# Maps that are linear in the parts


# The Fourier transform


# What is registered


def _evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], None]:
    """The results; a linear map keeps nothing for its derivative."""
    del active
    return compat.bind(equation.primitive, inputs, equation.params), None


def _linear(*edges: Callable[[Equation, Any, Any], Any]) -> OperatorRule:
    """A linear primitive, by its edge `(equation, out, operand)` for each operand."""

    def rows(
        equation: Equation,
        inputs: Sequence[Any],
        outs: Sequence[Any],
        residuals: Any,
        active: Sequence[bool],
    ) -> Rows:
        """One row: the edge of each active operand."""
        del residuals
        return [
            [
                edge(equation, outs[0], operand) if wanted else None
                for edge, operand, wanted in zip(edges, inputs, active, strict=True)
            ]
        ]

    return OperatorRule(_evaluate, rows)


OPERATOR_RULES["real"] = _linear(lambda _, out, operand: part_of(0, out, operand))
OPERATOR_RULES["imag"] = _linear(lambda _, out, operand: part_of(1, out, operand))
OPERATOR_RULES["conj"] = _linear(lambda _, out, operand: conjugate(out, operand))
OPERATOR_RULES["complex"] = _linear(
    lambda _, out, operand: placed_part(0, out, operand),
    lambda _, out, operand: placed_part(1, out, operand),
)
OPERATOR_RULES["fft"] = _linear(
    lambda equation, out, operand: Operator(FourierTransform(equation, out, operand), 0, 0)
)
