"""Functions with a backward rule of the user: `jax.custom_vjp`, and what is made of it.

The rule is a program from cotangents to cotangents. Where it is linear, as a derivative is, the
Jacobian is its transpose and is eliminated by its own edges, so that structure is kept. A rule that
is not (one that clips gradients, for example), or that has effects (one that prints them), is run
on each whole cotangent, as JAX does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.losses import BY_RULE, Unknown
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks, Body
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact, is_linear
from blockjac.operators.opaque import CompleteGroup
from blockjac.rules.fallback import (
    BY_JAX,
    placed,
    pulled_back,
    real_dtype,
    vertex_shape,
)
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule

Arrays = Sequence[Any]

NOT_LINEAR = Unknown(
    "its backward rule is not seen to be linear in the cotangents, and takes each of them whole",
    "let the rule do nothing to a cotangent but linear operations (no clipping, no printing, no "
    f"loop that looks at it); or {BY_RULE}",
)


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The backward rule at these residuals, as an operator that is passed backwards."""
    leaves, tree = jax.tree.flatten(residuals)
    smooth = [out for out in outs if is_inexact(out)]
    cotangents = [
        compat.spread_as(jnp.zeros(vertex_shape(out), real_dtype(out.dtype)), out) for out in smooth
    ]

    columns = [place for place, wanted in enumerate(active) if wanted]
    dtypes = [real_dtype(inputs[place].dtype) for place in columns]

    def rule(*arrays: Any) -> list[Any]:
        pull = jax.tree.unflatten(tree, arrays[: len(leaves)])
        return pulled_back(pull, arrays[len(leaves) :], smooth, dtypes)

    closed = jax.make_jaxpr(rule)(*leaves, *cotangents)
    chosen = (*(False for _ in leaves), *(True for _ in cotangents))
    if is_linear(closed, chosen) and not compat.effects(closed):
        told = None if equation.told is None else ()
        body = Body(closed, chosen, by_value=True, told=told)
        return RuleGroup(body, leaves, cotangents, outs, inputs, active).placed()
    rows = [place for place, out in enumerate(outs) if is_inexact(out)]
    group = CompleteGroup(
        out_shapes=[one.shape for one in cotangents],
        wrt_shapes=[vertex_shape(inputs[place]) for place in columns],
        dtypes=dtypes,
        out_dtypes=[one.dtype for one in cotangents],
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
        body: Body,
        residuals: Arrays,
        zeros: Arrays,
        outs: Arrays,
        inputs: Arrays,
        active: Sequence[bool],
    ) -> None:
        super().__init__("custom_vjp_call", outs, inputs, active)
        self.body, self.residuals = body, residuals
        self.zeros = zeros

    @property
    def can_push(self) -> bool:
        """A rule is for cotangents: tangents go through by the blocks that it gives."""
        return False

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """`q star J` is the transpose of `bwd star q.T`."""
        body, given = self.body, [cotangents[row] for row in self.rows]
        point_edges = body.edges_at(
            lambda: body.evaluate([*self.residuals, *self.zeros]), body.structured
        )
        tangents = [None if block is None else block.T for block in given]
        found = body.pushed(point_edges, [*(None for _ in self.residuals), *tangents])
        answers: list[Block | None] = [None] * self._counts[1]
        for column, block in zip(self.columns, found, strict=True):
            answers[column] = None if block is None else block.T
        return answers


OPERATOR_RULES["custom_vjp_call"] = OperatorRule(BY_JAX.evaluate, edges)
