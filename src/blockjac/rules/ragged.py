"""Ragged products: rows in groups, each group multiplied by a matrix of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.graph.graph import Equation
from blockjac.operators.map_group import MapGroup
from blockjac.rules.fallback import BY_JAX, placed
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

GROUP = "group"
"""The name of the axis of groups."""


@dataclass(frozen=True)
class Axes:
    """The axes of a ragged product by name: equal names are one loop index.

    Attributes:
        left: of the first operand.
        right: of the second.
        out: of the result.
        ragged: the axis that the groups divide; None where they make no difference.
    """

    left: tuple[Hashable, ...]
    right: tuple[Hashable, ...]
    out: tuple[Hashable, ...]
    ragged: Hashable | None


def _axes(dimensions: Any, left_rank: int, right_rank: int) -> Axes:
    """The named axes from JAX's dimension numbers: contracted and batch axes share their names."""
    (left_sum, right_sum), (left_batch, right_batch) = dimensions.dot_dimension_numbers
    (divided,) = dimensions.lhs_ragged_dimensions
    left = [("left", axis) for axis in range(left_rank)]
    right: list[Hashable] = [("right", axis) for axis in range(right_rank)]
    for left_axis, right_axis in (
        *zip(left_sum, right_sum, strict=True),
        *zip(left_batch, right_batch, strict=True),
    ):
        right[right_axis] = left[left_axis]
    for axis in dimensions.rhs_group_dimensions:
        right[axis] = GROUP
    batch = [left[axis] for axis in left_batch]
    summed = [left[axis] for axis in left_sum]
    free = [name for name in left if name not in batch and name not in summed]
    right_free = [name for name in right if name not in left and name != GROUP]
    first = [GROUP] if divided in left_sum else []
    ragged = None if divided in left_batch else left[divided]
    return Axes(tuple(left), tuple(right), (*first, *batch, *free, *right_free), ragged)


def _product(axes: Axes, left: Any, right: Any, sizes: Any, dtype: Any) -> Any:
    """The product by a mask over (group, position), which `vmap` and derivatives accept."""
    number = {
        name: index for index, name in enumerate(dict.fromkeys((*axes.left, *axes.right, GROUP)))
    }

    def over(names: Sequence[Hashable]) -> list[int]:
        return [number[name] for name in names]

    factors = [left, over(axes.left), right, over(axes.right)]
    if axes.ragged is not None:
        positions = jnp.arange(left.shape[axes.left.index(axes.ragged)])
        ends = jnp.cumsum(sizes)[:, None]
        within = (positions >= ends - sizes[:, None]) & (positions < ends)
        factors += [within.astype(dtype), over((GROUP, axes.ragged))]
    return jnp.einsum(*factors, over(axes.out)).astype(dtype)


def _is_plain(inputs: Sequence[Any]) -> bool:
    """Whether the numbers are real, and the groups the same in every batch."""
    return inputs[2].ndim == 1 and not any(map(jnp.iscomplexobj, inputs[:2]))


def evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The product; its operands are all that a derivative needs."""
    if not _is_plain(inputs):
        return BY_JAX.evaluate(equation, inputs, active)
    return compat.bind(equation.primitive, inputs, equation.params), list(inputs)


def edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """Rows and columns of the result are deltas of those of the operands."""
    if not _is_plain(inputs):
        return BY_JAX.edges(equation, inputs, outs, residuals, active)
    moving = [position for position in (0, 1) if active[position]]
    group = RaggedProduct(equation, residuals, outs[0], moving)
    return placed(group, [0], moving, (1, len(inputs)))


def _maps(
    function: Callable[[Any, Any], Any], operands: Sequence[Any], moving: Sequence[int]
) -> dict[str, Any]:
    """The backward and the forward map of a bilinear function by some of its operands."""
    left, right = operands[:2]
    along = (lambda factor: function(factor, right), lambda factor: function(left, factor))

    def pull(cotangents: Sequence[Any]) -> list[Any]:
        return [
            jax.linear_transpose(along[position], operands[position])(*cotangents)[0]
            for position in moving
        ]

    def push(tangents: Sequence[Any]) -> list[Any]:
        directions = zip(moving, tangents, strict=True)
        return [sum(along[position](tangent) for position, tangent in directions)]

    return {"pull": pull, "push": push}


class RaggedProduct(MapGroup):
    """A ragged product by its operands.

    JAX batches no ragged product, so that a single derivative is a ragged product again, and
    several at once are products with a mask of the groups.
    """

    def __init__(
        self, equation: Equation, operands: Sequence[Any], out: Any, moving: Sequence[int]
    ) -> None:
        """Make the operator.

        Args:
            equation: the ragged product.
            operands: both factors, and the sizes of the groups.
            out: the result.
            moving: which of the two factors are differentiated.
        """
        left, right, sizes = operands
        axes = _axes(equation.params["ragged_dot_dimension_numbers"], left.ndim, right.ndim)
        point = [operands[position] for position in moving]

        def by_mask(left: Any, right: Any) -> Any:
            return _product(axes, left, right, sizes, out.dtype)

        def as_it_is(left: Any, right: Any) -> Any:
            return compat.bind(equation.primitive, [left, right, sizes], equation.params)[0]

        names = [axes.left, axes.right]
        super().__init__(
            out_shapes=[tuple(out.shape)],
            wrt_shapes=[tuple(operand.shape) for operand in point],
            dtypes=[operand.dtype for operand in point],
            out_dtypes=[out.dtype],
            **_maps(by_mask, operands, moving),
            name="ragged_dot_general",
            row_axes=[axes.out],
            column_axes=[names[position] for position in moving],
            structured=True,
        )
        self.alone = MapGroup(
            self.out_shapes,
            self.wrt_shapes,
            self.dtypes,
            self.out_dtypes,
            # JAX does not know the other derivatives of sums over groups.
            **_maps(by_mask if axes.out[:1] == (GROUP,) else as_it_is, operands, moving),
            name=self.name,
            structured=True,
        )

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`: for one number as a ragged product."""
        (cotangent,) = cotangents
        if cotangent is not None and not cotangent.out_shape:
            return self.alone.pullback(cotangents)
        return super().pullback(cotangents)

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: along one direction as a ragged product."""
        if all(tangent is None or not tangent.wrt_shape for tangent in tangents):
            return self.alone.pushforward(tangents)
        return super().pushforward(tangents)


OPERATOR_RULES["ragged_dot_general"] = OperatorRule(evaluate, edges)
