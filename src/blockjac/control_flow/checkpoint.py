"""`jax.checkpoint`: the way back starts with the values once more, from what the policy saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks, Body, remembered
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.control_flow.varying_types import barrier
from blockjac.elimination.evaluate import Point
from blockjac.elimination.evaluate import evaluate as evaluate_graph
from blockjac.errors import NoDerivativeError
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import RECOMPUTED
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Residuals

Arrays = Sequence[Any]

SAVED = ("SaveableType", "Offloadable")
"""What a policy may answer, beside True, for a value that is to be kept."""


def _body_of(equation: Equation, active: Sequence[bool]) -> Body:
    return Body(equation.params["jaxpr"], tuple(active), told=equation.told)


def saved_values(body: Body, policy: Any) -> list[int]:
    """The values that the policy lets keep."""
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
    body: Body = remembered(equation, active, _body_of)
    point = body.evaluate(inputs)
    saved = saved_values(body, equation.params["policy"])
    back = [list(inputs), [point.values[value] for value in saved]]
    return body.results(point), Residuals(back, (body.kept(point), *body.ahead(point)))


def _check_repeatable(equation: Equation) -> None:
    """Raise where the outside world would see the function run twice."""
    effects = compat.io_effects(equation.params["jaxpr"])
    if effects:
        raise NoDerivativeError(
            f"effects not supported in `jax.checkpoint`{compat.at_place(equation.source)}: "
            f"{', '.join(effects)}; its values are computed twice, so call "
            "jax.experimental.io_callback outside of it"
        )


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The checkpointed function as an operator."""
    return RecomputedGroup(equation, inputs, outs, residuals, active).placed()


class RecomputedGroup(NestedGroup):
    """A checkpointed function: its own elimination, at a point that is evaluated once more."""

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Any,
        active: Sequence[bool],
    ) -> None:
        super().__init__("checkpoint", outs, inputs, active)
        self.equation, self.inputs, self.residuals = equation, inputs, residuals
        self.body: Body = remembered(equation, active, _body_of)

    @property
    def can_pull(self) -> bool:
        """Whether the body's operators can be."""
        return self.body.reversible

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """After the values once more; a barrier keeps the compiler from reusing the first ones."""
        behind_barrier = backend().select(self._behind_barrier, self._as_they_are)
        inputs, saved, behind = behind_barrier(list(cotangents))
        edges = self.body.edges_at(lambda: self._point_again(inputs, saved), self.body.structured)
        return self.body.pulled(edges, behind)

    def _as_they_are(self, cotangents: Blocks) -> tuple[Arrays, Arrays, Blocks]:
        """What a plan has in place of what stands behind a barrier."""
        return [], [], cotangents

    def _behind_barrier(self, cotangents: Any) -> tuple[Arrays, Arrays, Blocks]:
        """The operands that the user wants a barrier for, the saved values, and the cotangents."""
        inputs, saved = self.residuals.back
        prevent = self.equation.params["prevent_cse"]
        wanted = prevent if isinstance(prevent, tuple) else (prevent,) * len(inputs)
        if not any(wanted):
            return inputs, saved, cotangents
        chosen = [one for one, own in zip(inputs, wanted, strict=True) if own]
        arrays, tree = jax.tree.flatten([chosen, saved, cotangents])
        # Constants, as the places in lists are, stay known.
        passed = iter(barrier([one for one in arrays if not isinstance(one, np.ndarray)]))
        arrays = [one if isinstance(one, np.ndarray) else next(passed) for one in arrays]
        chosen, saved, cotangents = jax.tree.unflatten(tree, arrays)
        behind = iter(chosen)
        inputs = [next(behind) if own else one for one, own in zip(inputs, wanted, strict=True)]
        return inputs, saved, cotangents

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """Alongside the values, which need not be computed again for it."""
        edges = self.body.edges_at(
            lambda: self.body.restored_ahead(*self.residuals.ahead), self.body.structured
        )
        return self.body.pushed(edges, tangents)

    def _point_again(self, inputs: Arrays, saved: Arrays) -> Point:
        body = self.body
        values = saved_values(body, self.equation.params["policy"])
        known = dict(zip(values, saved, strict=True))
        return evaluate_graph(body.graph, inputs, body.graph.captured, body.part, known)


def reversible(equation: Equation, active: Sequence[bool]) -> bool:
    """Whether the function is."""
    body: Body = remembered(equation, active, _body_of)
    return body.reversible


for _name in RECOMPUTED:
    OPERATOR_RULES[_name] = OperatorRule(evaluate, edges, reversible)
