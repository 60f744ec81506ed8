"""`jax.checkpoint`: the way back first computes the values again, from what the policy saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Body, remembered
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.control_flow.varying_types import barrier
from blockjac.elimination.evaluate import Point
from blockjac.elimination.evaluate import evaluate as evaluate_graph
from blockjac.errors import NoDerivativeError
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import RECOMPUTED
from blockjac.operators.operator import Blocks
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Residuals

SAVED = ("SaveableType", "Offloadable")
"""What a policy may answer, besides True, for a value that is to be kept."""


@remembered
def body_of(equation: Equation, active: Sequence[bool]) -> Body:
    """The function that is checkpointed."""
    return Body(equation.params["jaxpr"], tuple(active), told=equation.told)


def saved_values(body: Body, policy: Any) -> list[int]:
    """The values that the policy saves."""
    if policy is None:
        return []
    graph = body.graph
    return [
        value
        for equation in graph.equations
        if _saves(policy, equation, [graph.aval(operand) for operand in equation.operands])
        for value in equation.results
    ]


def _saves(policy: Any, equation: Equation, avals: Sequence[Any]) -> bool:
    answer = policy(equation.primitive, *avals, **equation.params)
    return answer is True or type(answer).__name__ in SAVED


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results; the way back keeps the operands and what the policy saves."""
    _check_repeatable(equation)
    body = body_of(equation, active)
    point = body.evaluate(inputs)
    saved = saved_values(body, equation.params["policy"])
    back = [list(inputs), [point.values[value] for value in saved]]
    return body.results(point), Residuals(back, (body.kept(point), *body.ahead(point)))


def _check_repeatable(equation: Equation) -> None:
    """Raise an error if the outside world would see the function run twice."""
    effects = compat.io_effects(equation.params["jaxpr"])
    if effects:
        raise NoDerivativeError(
            f"effects not supported in `jax.checkpoint`{compat.at_place(equation.source)}: "
            f"{', '.join(effects)}; its values are computed twice, so call "
            "jax.experimental.io_callback outside of it"
        )


class RecomputedGroup(NestedGroup):
    """A checkpointed function: its own elimination, at a point that is evaluated again."""

    title = "checkpoint"

    @cached_property
    def body(self) -> Body:
        """The function."""
        return body_of(self.equation, self.active)

    @property
    def can_pull(self) -> bool:
        """Whether the body's operators can."""
        return self.body.part.is_reversible

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """At values computed again; a barrier keeps the compiler from reusing the first ones."""
        behind_barrier = backend().select(self._behind_barrier, lambda blocks: ([], [], blocks))
        inputs, saved, cotangents = behind_barrier(list(cotangents))
        edges = self.body.edges_at(lambda: self._point_again(inputs, saved), self.body.structured)
        return self.body.pulled(edges, cotangents)

    def _behind_barrier(self, cotangents: Any) -> tuple[Arrays, Arrays, Blocks]:
        """The operands that the user wants a barrier for, the saved values, and the cotangents."""
        inputs, saved = self.residuals.back
        prevent = self.equation.params["prevent_cse"]
        if not isinstance(prevent, tuple):
            prevent = (prevent,) * len(inputs)
        if not any(prevent):
            return inputs, saved, cotangents
        behind = [array for array, is_behind in zip(inputs, prevent, strict=True) if is_behind]
        leaves, tree = jax.tree.flatten([behind, saved, cotangents])
        # Constants, as the places in lists are, stay known.
        passed = iter(barrier([leaf for leaf in leaves if not isinstance(leaf, np.ndarray)]))
        leaves = [leaf if isinstance(leaf, np.ndarray) else next(passed) for leaf in leaves]
        behind, saved, cotangents = jax.tree.unflatten(tree, leaves)
        operands = iter(behind)
        inputs = [
            next(operands) if is_behind else array
            for array, is_behind in zip(inputs, prevent, strict=True)
        ]
        return inputs, saved, cotangents

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """Alongside the values, which need not be computed again."""
        edges = self.body.edges_at(
            lambda: self.body.restored_ahead(*self.residuals.ahead), self.body.structured
        )
        return self.body.pushed(edges, tangents)

    def _point_again(self, inputs: Arrays, saved: Arrays) -> Point:
        body = self.body
        values = saved_values(body, self.equation.params["policy"])
        known = dict(zip(values, saved, strict=True))
        return evaluate_graph(body.graph, inputs, body.graph.captured, body.part, known)


for _name in RECOMPUTED:
    OPERATOR_RULES[_name] = OperatorRule(
        evaluate,
        RecomputedGroup.rows_of,
        lambda equation, active: body_of(equation, active).part.is_reversible,
    )
