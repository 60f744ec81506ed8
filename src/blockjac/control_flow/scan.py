"""`scan`: cotangents are carried backwards, tangents forwards, by the body's own elimination.

With `s` the carry, one step is `(s', y) = f(c, s, x)`. Backwards, the carried block is the final
result's Jacobian with respect to the carry,

    q  <-  q star D_s s'  +  Y star D_s y,

and each step leaves its shares `q star D_x s' + Y star D_x y`, and the same for the constants,
which are summed. Forwards it is the carry's Jacobian with respect to the variable. The values that
the steps need of the way there are stacked while the loop runs; forwards the two loops then become
one, which stacks nothing (see `blockjac.graph.loop_fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.control_flow.kept import run_keeping
from blockjac.control_flow.loop import loop_of
from blockjac.control_flow.nested_group import Arrays
from blockjac.control_flow.scan_group import ScanGroup
from blockjac.control_flow.sweep import THREAD
from blockjac.graph.graph import Equation
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Residuals


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results, and what the steps need on their way, back and ahead."""
    loop = loop_of(equation, active)
    body, (consts, init, xs) = loop.body, loop.parted(inputs)
    structs = [compat.struct(body.graph.avals[value]) for value in body.graph.inputs]
    _, *types = loop.parted(structs)

    def step(carry: Arrays, slices: Arrays) -> Any:
        point = body.evaluate([*consts, *carry, *slices])
        results = [*body.results(point), THREAD]
        return results[: loop.carry], results[loop.carry :], (body.kept(point), body.ahead(point))

    init = [jnp.asarray(value, struct.dtype) for value, struct in zip(init, types[0], strict=True)]
    final, (*ys, thread), (back, ahead) = run_keeping(
        lambda lean: loop.run(lean, init, xs), step, types, xs
    )
    return [*final, *ys], Residuals(back, (ahead, thread))


OPERATOR_RULES["scan"] = OperatorRule(
    evaluate,
    ScanGroup.rows_of,
    lambda equation, active: loop_of(equation, active).body.part.is_reversible,
)
