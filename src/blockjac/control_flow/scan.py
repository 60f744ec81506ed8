"""`scan`: cotangents are carried backwards, tangents forwards, by the body's own elimination.

With `s` the carry, one step is `(s', y) = f(c, s, x)`. Backwards, the carried block is the final
result's Jacobian with respect to the carry,

    q  <-  q star D_s s'  +  Y star D_s y,

and each step leaves its shares `q star D_x s' + Y star D_x y`, and the same for the constants,
which are summed. Forwards it is the carry's Jacobian with respect to the variable. What the steps
need of the way there is stacked while the loop runs for its values; forwards the two loops then
become one, which stacks nothing (see `blockjac.graph.loop_fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.control_flow.kept import run_keeping
from blockjac.control_flow.loop import loop_of
from blockjac.control_flow.scan_group import THREAD, ScanGroup
from blockjac.graph.graph import Equation
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Residuals

Arrays = Sequence[Any]


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results, and what the steps need on their way, back and ahead."""
    loop = loop_of(equation, active)
    consts, init, xs = loop.parted(inputs)
    inputs_of_step = [compat.struct(loop.body.graph.avals[one]) for one in loop.body.graph.inputs]
    _, of_carry, of_slices = loop.parted(inputs_of_step)

    def step(carry: Arrays, slices: Arrays) -> Any:
        point = loop.body.evaluate([*consts, *carry, *slices])
        results = [*loop.body.results(point), THREAD]
        kept = loop.body.kept(point), loop.body.ahead(point)
        return results[: loop.carry], results[loop.carry :], kept

    init = [jnp.asarray(one, dtype) for one, dtype in zip(init, loop.carry_dtypes(), strict=True)]
    final, (*ys, thread), (back, ahead) = run_keeping(
        lambda lean: loop.run(lean, init, xs), step, (of_carry, of_slices), xs
    )
    return [*final, *ys], Residuals(back, (ahead, thread))


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The loop as an operator."""
    return ScanGroup(loop_of(equation, active), inputs, outs, residuals, active).placed()


def reversible(equation: Equation, active: Sequence[bool]) -> bool:
    """Whether one step is."""
    return loop_of(equation, active).body.reversible


OPERATOR_RULES["scan"] = OperatorRule(evaluate, edges, reversible)
