"""Functions with the user's own forward rule that is not known to be linear: `jax.custom_jvp`.

A rule that is linear in its tangents is inlined when the function is traced, and does not get here.
Others run on whole tangents, as in JAX: one that clips them, or that iterates until a residual is
small. They can be pulled back only if JAX can transpose what the rule does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.losses import BY_RULE, Unknown
from blockjac.base import compat
from blockjac.control_flow.body import remembered
from blockjac.control_flow.nested_group import Arrays
from blockjac.graph.graph import Equation
from blockjac.operators.opaque import CompleteGroup
from blockjac.rules.fallback import BY_JAX, of_moving
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

NOT_LINEAR = Unknown(
    "this rule is not seen to be linear in the tangents, and takes each of them whole",
    "let the rule do nothing to a tangent but linear operations (no clipping, no loop that looks "
    f"at it); or {BY_RULE}",
)


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[Arrays, Any]:
    """The results, and JAX's pullback if it exists.

    The results are those that the rule computes, as in JAX: that program is differentiated further.
    """
    if has_way_back(equation, active):
        return BY_JAX.evaluate(equation, inputs, active)
    function, point = of_moving(equation, inputs, active)
    zeros = tuple(compat.zeros(jax.typeof(array)) for array in point)
    return jax.jvp(function, tuple(point), zeros, has_aux=True)[2], None


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> Rows:
    """The rule at this point, as an operator that takes whole tangents."""
    rows = BY_JAX.edges(equation, inputs, outs, residuals, active)
    (group,) = {edge.group for row in rows for edge in row if edge is not None} or (None,)
    if group is None:
        return rows
    name = compat.function_source(compat.called(equation.params)).split(" at ")[0]
    push = group.push
    whole = CompleteGroup(
        out_shapes=group.out_shapes,
        wrt_shapes=group.wrt_shapes,
        dtypes=group.dtypes,
        out_dtypes=group.out_dtypes,
        pull=group.pull if has_way_back(equation, active) else None,
        push=lambda tangents: [*map(jnp.asarray, push(tangents))],  # a constant may be a number
        name=f"the custom_jvp rule of {name}" if name else equation.primitive.name,
        place=group.place,
        unknown=NOT_LINEAR,
    )
    operators = whole.edges()
    return [
        [None if edge is None else operators[edge.row][edge.column] for edge in row] for row in rows
    ]


@remembered
def has_way_back(equation: Equation, active: Sequence[bool]) -> bool:
    """Whether JAX can transpose the rule: it tries, on shapes alone."""
    called = compat.open_jaxpr(compat.called(equation.params))
    structs = [compat.struct(variable.aval) for variable in called.invars]

    def pulled(inputs: Arrays) -> Any:
        function, point = of_moving(equation, inputs, active)
        results, pull, _ = jax.vjp(function, *point, has_aux=True)
        return pull(results)

    try:
        jax.eval_shape(pulled, structs)
    except Exception:  # each primitive that cannot be transposed raises its own error
        return False
    return True


OPERATOR_RULES["custom_jvp_call"] = OperatorRule(evaluate, edges, has_way_back)
