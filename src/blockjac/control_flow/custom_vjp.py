"""Functions with the user's own backward rule: `jax.custom_vjp`, and what is built on it.

The rule is a program from cotangents to cotangents. If it is linear, as a derivative is, the
Jacobian is its transpose and is eliminated by its own edges, which keeps structure. A rule that is
not (one that clips gradients, for example), or that has effects (one that prints them), is run on
each whole cotangent, as JAX does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.losses import BY_RULE, Unknown
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Body
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact, is_linear
from blockjac.operators.opaque import CompleteGroup
from blockjac.operators.operator import Blocks, spread, transposed
from blockjac.rules.fallback import BY_JAX, placed, pulled_back, real_dtype, vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

NOT_LINEAR = Unknown(
    "its backward rule is not seen to be linear in the cotangents, and takes each of them whole",
    "let the rule do nothing to a cotangent but linear operations (no clipping, no printing, no "
    f"loop that looks at it); or {BY_RULE}",
)


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> Rows:
    """The backward rule at these residuals, as an operator that is passed backwards."""
    leaves, tree = jax.tree.flatten(residuals)
    rows = [row for row, out in enumerate(outs) if is_inexact(out)]
    smooth = [outs[row] for row in rows]
    zeros = [
        compat.spread_as(jnp.zeros(vertex_shape(out), real_dtype(out.dtype)), out) for out in smooth
    ]
    columns = [column for column, is_active in enumerate(active) if is_active]
    dtypes = [real_dtype(inputs[column].dtype) for column in columns]

    def rule(*arrays: Any) -> list[Any]:
        pull = jax.tree.unflatten(tree, arrays[: len(leaves)])
        return pulled_back(pull, arrays[len(leaves) :], smooth, dtypes)

    closed = jax.make_jaxpr(rule)(*leaves, *zeros)
    cotangents = (*(False for _ in leaves), *(True for _ in zeros))
    if is_linear(closed, cotangents) and not compat.effects(closed):
        told = None if equation.told is None else ()
        body = Body(closed, cotangents, by_value=True, told=told)
        group = RuleGroup(equation, inputs, outs, [*leaves, *zeros], active, body)
        return group.placed()
    group = CompleteGroup(
        out_shapes=[array.shape for array in zeros],
        wrt_shapes=[vertex_shape(inputs[column]) for column in columns],
        dtypes=dtypes,
        out_dtypes=[array.dtype for array in zeros],
        pull=lambda parts: pulled_back(residuals, parts, smooth, dtypes),
        push=None,
        name=equation.primitive.name,
        structured=True,  # the user's own rule: nothing for the log
        unknown=NOT_LINEAR,
    )
    return placed(group, rows, columns, (len(outs), len(inputs)))


class RuleGroup(NestedGroup):
    """A linear backward rule: cotangents go through its own elimination forwards."""

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Arrays,
        active: Sequence[bool],
        body: Body,
    ) -> None:
        super().__init__(equation, inputs, outs, residuals, active)
        self.body = body

    @property
    def can_push(self) -> bool:
        """A rule is for cotangents: tangents go through by the blocks that it gives."""
        return False

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """`q star J` is the transpose of `bwd star q.T`."""
        body = self.body
        edges = body.edges_at(lambda: body.evaluate(self.residuals), body.structured)
        tangents = transposed([cotangents[row] for row in self.rows])
        pushed = body.pushed(edges, [*[None] * (len(self.residuals) - len(tangents)), *tangents])
        return spread(transposed(pushed), self.columns, self._counts[1])


OPERATOR_RULES["custom_vjp_call"] = OperatorRule(BY_JAX.evaluate, edges)
