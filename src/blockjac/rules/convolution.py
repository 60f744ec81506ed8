"""Convolutions: one bilinear map, whose block with respect to each operand is the other one.

On the way of a gradient it is applied, and ends in XLA's own convolution; where its block is asked
for, it is a term that stores the other operand. The cheaper of the two is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.star import star
from blockjac.algebra.sums import summed
from blockjac.algebra.term_product import cast_term
from blockjac.base import compat
from blockjac.blocks import Block, Term
from blockjac.graph.graph import Equation
from blockjac.operators.batched_map import through
from blockjac.operators.linear_map import LinearMap, Side
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import OperatorGroup
from blockjac.rules.building import labels_of, plain
from blockjac.rules.convolution_map import EXAMPLE, Convolution
from blockjac.rules.fallback import BY_JAX
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows
from blockjac.terms.block import delta_pairs, rebuilt


class OneOperand(MapGroup):
    """A convolution as a linear map of one operand.

    An example of the result depends on the same example of the left operand alone.
    """

    def __init__(self, convolution: Convolution, operand: int, other_operand: Any) -> None:
        variable = (convolution.lhs, convolution.rhs)[operand]
        numbers = convolution.params["dimension_numbers"]
        lhs_names = convolution.names(numbers.lhs_spec)
        super().__init__(
            out_shapes=[tuple(convolution.out.shape)],
            wrt_shapes=[tuple(variable.shape)],
            dtypes=[variable.dtype],
            out_dtypes=[convolution.out.dtype],
            pull=self.pulled,
            push=self.pushed,
            name="conv_general_dilated",
            row_axes=[convolution.names(numbers.out_spec)],
            column_axes=[lhs_names if operand == 0 else (None,) * len(variable.shape)],
            structured=True,
        )
        self.convolution, self.operand = convolution, operand
        self.other_operand = other_operand
        self.may: np.ndarray | None = None

    def without_zeros(self, position: int, may: np.ndarray) -> OperatorGroup:
        """The operator that drops the known zeros of the other operand once it is written out."""
        return self.changed(may=may) if position == self.operand else self

    def pushed(self, tangents: Sequence[Any]) -> list[Any]:
        """The convolution of one tangent with the other operand."""
        operands = [*tangents]
        operands.insert(1 - self.operand, self.other_operand)
        return [self.convolution(*operands)]

    def pulled(self, cotangents: Sequence[Any]) -> list[Any]:
        """The transpose of the above, from JAX: again a convolution."""
        variable = (self.convolution.lhs, self.convolution.rhs)[self.operand]
        (backwards,) = jax.linear_transpose(self.pushed, [variable])(list(cotangents))
        return list(backwards)

    def written(self, row: int, column: int) -> Block:
        """The term that stores the other operand."""
        del row, column
        return self.convolution.block(self.operand, self.other_operand, self.may)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        return [None if cotangent is None else self._sent(cotangent, backwards=True)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        return [None if tangent is None else self._sent(tangent.T, backwards=False).T]

    def _sent(self, block: Block, backwards: bool) -> Block:
        """`block star J`, or `block star J.T` forwards; each term in the way that is cheapest."""
        shape, dtype = (
            (self.wrt_shapes[0], self.dtypes[0]) if backwards else (self.out_shapes[0], block.dtype)
        )
        terms: list[Term] = []
        for term in block.terms:
            summand = rebuilt(block.out_shape, block.wrt_shape, block.dtype, [term])
            sent = _cheapest(self._ways(summand, backwards))
            terms += [cast_term(product, dtype) for product in sent.terms]
        return summed(block.out_shape, shape, np.dtype(dtype), terms)

    def _ways(self, block: Block, backwards: bool) -> list[Callable[[], Block]]:
        """How a block may be sent through; that of one number only by a convolution."""
        ways = [lambda: self._applied(block, self._backward() if backwards else self._forward())]
        if math.prod(block.out_shape) == 1:
            return ways
        if backwards and self._keeps_examples(block):
            ways.append(lambda: self._example_by_example(block))
        return [
            *ways,
            lambda: star(block, self.block(0, 0) if backwards else self.block(0, 0).T),
        ]

    def _applied(self, block: Block, linear: LinearMap, moved: int = 0) -> Block:
        """The block by XLA's convolution, which a plan charges for by the entries of the result.

        Args:
            block: what is sent through.
            linear: the convolution as a map of one operand.
            moved: further bytes that are read and written.
        """
        answer = through(block, linear)[0]
        entries = sum(term.factors[-1].numel for term in answer.terms)
        times = entries // max(math.prod(linear.outputs.shapes[0]), 1)
        backend().charge(self.convolution.operations * times, moved * times)
        return answer

    def _keeps_examples(self, block: Block) -> bool:
        """Whether an output axis of the block is a delta of the examples of the convolution."""
        axis = self.convolution.example_axis
        return (
            self.operand == 1
            and self.convolution.examples_are_apart
            and any(j == axis for _, j in delta_pairs(block))
        )

    def _example_by_example(self, block: Block) -> Block:
        """With respect to a kernel for each example, all of which then are the same kernel."""
        convolution = self.convolution
        (out,), (kernel,), (dtype,) = self.out_shapes, self.wrt_shapes, self.dtypes
        examples = out[convolution.example_axis]
        each = Side(((examples, *kernel),), (dtype,), ((EXAMPLE, *(None for _ in kernel)),))

        def pull(parts: Sequence[Any]) -> list[Any]:
            return [convolution.kernel_cotangents(self.other_operand, parts[0])]

        moved = convolution.bytes_of_taps if convolution.has_plain_taps else 0
        answer = self._applied(block, LinearMap(pull, self._results(), each), moved)
        labels = labels_of((examples, *kernel))
        same = Term((), plain(labels), plain(labels[1:]))
        return star(answer, Block((examples, *kernel), kernel, dtype, [same]))


class BothOperands(OperatorGroup):
    """A convolution as a linear map of both operands, each in its own cheapest way."""

    def __init__(self, *parts: OneOperand) -> None:
        super().__init__(
            out_shapes=parts[0].out_shapes,
            wrt_shapes=[shape for part in parts for shape in part.wrt_shapes],
            dtypes=[dtype for part in parts for dtype in part.dtypes],
            out_dtypes=parts[0].out_dtypes,
            name=parts[0].name,
        )
        self.parts = parts

    def written(self, row: int, column: int) -> Block:
        """The term that stores the other operand."""
        return self.parts[column].block(row, 0)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`, for each operand."""
        return [cotangent for part in self.parts for cotangent in part.pullback(cotangents)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`, summed over the operands."""
        total: Block | None = None
        for part, tangent in zip(self.parts, tangents, strict=True):
            (pushed,) = part.pushforward([tangent])
            if pushed is not None:
                total = pushed if total is None else total + pushed
        return [total]


def _cheapest(ways: Sequence[Callable[[], Block]]) -> Block:
    """What the way gives whose plan takes the least time; the first of equals."""
    return (ways[0] if len(ways) == 1 else min(ways, key=_seconds))()


def _seconds(way: Callable[[], Block]) -> float:
    """Of the numbers alone: a contraction that computes none is free."""
    with planning() as cost:
        way()
    return replace(cost, contractions=0).seconds()


def _evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The result, and each operand if the derivative with respect to the other one needs it."""
    if _is_complex(inputs):
        return BY_JAX.evaluate(equation, inputs, active)
    results = compat.bind(equation.primitive, inputs, equation.params)
    return results, [
        operand if wanted else None for operand, wanted in zip(inputs, active[::-1], strict=True)
    ]


def _edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """An operator for each operand."""
    if _is_complex(inputs):
        return BY_JAX.edges(equation, inputs, outs, residuals, active)
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (*inputs, *outs)]
    convolution = Convolution(equation.primitive, equation.params, *shapes)
    parts = [
        OneOperand(convolution, operand, residuals[1 - operand])
        for operand, wanted in enumerate(active)
        if wanted
    ]
    group = parts[0] if len(parts) == 1 else BothOperands(*parts)
    own = iter(group.edges()[0])
    return [[next(own) if wanted else None for wanted in active]]


def _is_complex(inputs: Sequence[Any]) -> bool:
    return any(jnp.issubdtype(operand.dtype, jnp.complexfloating) for operand in inputs)


OPERATOR_RULES["conv_general_dilated"] = OperatorRule(_evaluate, _edges)
