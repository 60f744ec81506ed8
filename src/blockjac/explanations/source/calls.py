"""Calls of other programs: their bodies are written in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.base.compat import called, evaluated, open_jaxpr, origin
from blockjac.explanations.source.builder import Builder, Equation, Result, Translation
from blockjac.explanations.source.expressions import Binary, Display, Expression, call
from blockjac.explanations.source.loop_facts import input_names
from blockjac.explanations.source.program import OBJECT, Def, Value
from blockjac.explanations.source.sorting import parts_of


def inlined(equation: Equation) -> Result:
    """The body of a call."""
    return equation.builder.run(called(equation.params), _inputs(equation), equation.needed)


_OPERATORS = {"remainder": "%", "floor_divide": "//"}
"""Functions of `jax.numpy` whose programs are longer than what they mean."""


def jitted(equation: Equation) -> Result:
    """The body of a function under `jit`; an operator where that is all that it computes."""
    name = equation.params.get("name", "")
    body = called(equation.params)
    if name in _OPERATORS and len(equation.operands) == 2 and origin(body).endswith(f":{name}"):
        right = equation.operands[1]
        result = equation.elementwise(Binary(_OPERATORS[name], *equation.loose()))
        result.is_python = equation.is_of_python
        if name == "remainder" and right.known is not None and right.known.ndim == 0:
            is_whole = np.issubdtype(result.dtype, np.integer) and right.known > 0
            result.bounds = (0, int(right.known) - 1) if is_whole else None
        return result
    if equation.builder.shared.is_repeated(body):
        results = _shared(equation, body, name)
        if results is not None:
            return results
    return inlined(equation)


def _shared(equation: Equation, body: Any, name: str) -> Result | None:
    """A call of a function of the module; None if the body needs more than its parameters."""
    builder = equation.builder
    shared = builder.shared
    if id(body) not in shared.values:
        shared.values[id(body)] = _defined(builder, body, name)
    function = shared.values[id(body)]
    if function is None:
        return None
    code = call(function.ref, *equation.all_exact())
    if len(equation.outputs) == 1:
        return builder.value(code, equation.out.shape, equation.out.dtype, function.name + "_value")
    whole = builder.value(code, (), OBJECT, function.name + "_values")
    return parts_of(equation, whole)


def _defined(builder: Builder, body: Any, name: str) -> Value | None:
    """A function of the module for a program; None if it reads captured arrays."""
    jaxpr = open_jaxpr(body)
    hints = input_names(body)
    inputs = [
        Value(None, tuple(x.aval.shape), x.aval.dtype, None, hint=hint or "x")
        for x, hint in zip(jaxpr.invars, hints, strict=True)
    ]
    before = len(builder.captured)
    with builder.elsewhere() as block:
        results = [
            builder.exact(result, atom.aval.shape).ref
            for result, atom in zip(builder.run(body, inputs), jaxpr.outvars, strict=True)
        ]
    if len(builder.captured) > before:
        return None
    function = builder.shared.named(name)
    result = results[0] if len(results) == 1 else Display("", tuple(results))
    builder.shared.definitions.append(Def(function, tuple(inputs), block, result))
    return function


def _inputs(equation: Equation) -> list[Value]:
    return list(equation.operands)


def custom_linear_solve(equation: Equation) -> Result:
    """What the given solver computes."""
    jaxprs, counts = equation.params["jaxprs"], equation.params["const_lengths"]
    start = counts.matvec + counts.vecmat
    solve = equation.operands[start : start + counts.solve]
    total = start + counts.solve + counts.transpose_solve
    right = equation.operands[total:]
    if counts.matvec == 1 and len(right) == 1 and _is_product(jaxprs.matvec):
        return _solved(equation, equation.exact(0), equation.exact(total))
    return equation.builder.run(jaxprs.solve, [*solve, *right], equation.needed)


def _is_product(matvec: Any) -> bool:
    """Whether a program is the product of a matrix and a vector, or of a matrix and rows."""
    matrix, vector = open_jaxpr(matvec).invars
    shape: tuple[int, ...] = tuple(matrix.aval.shape)
    right: tuple[int, ...] = tuple(vector.aval.shape)
    if len(shape) != 2 or len(right) not in (1, 2) or right[-1] != shape[0] or 0 in right:
        return False
    random = np.random.default_rng(0)
    a, x = random.normal(size=shape), random.normal(size=right)
    given = [a.astype(matrix.aval.dtype), x.astype(vector.aval.dtype)]
    product = np.asarray(evaluated(matvec, given)[0])
    return product.shape == right and bool(np.allclose(product, x @ a.T, 1e-4, 1e-4))


def _solved(equation: Equation, a: Expression, b: Expression) -> Result:
    """`solve(a, b)`, where the columns of `b` are the rows of the jaxpr's value."""
    name = f"{equation.module}.linalg.solve"
    if len(equation.out.shape) == 1:
        return call(name, a, b)
    builder, shape = equation.builder, tuple(equation.out.shape)
    columns = builder.turned(builder.value(b, shape, equation.out.dtype))
    solution = builder.value(call(name, a, columns.ref), shape[::-1], equation.out.dtype)
    return builder.turned(solution)


def platform_index(equation: Equation) -> Result:
    """The number of a platform, which only a choice between platforms reads."""
    return equation.builder.constant(np.zeros((), np.int32))


def nothing(equation: Equation) -> Result:
    """An array whose entries nobody reads: zeros."""
    return equation.builder.constant(np.zeros((), equation.out.dtype))


CALLS: dict[str, Translation] = {
    **dict.fromkeys(
        [
            "closed_call",
            "core_call",
            "checkpoint",
            "remat",
            "remat2",
            "custom_jvp_call",
            "custom_vjp_call",
            "custom_vjp_call_jaxpr",
            "composite",
        ],
        inlined,
    ),
    "jit": jitted,
    "pjit": jitted,
    "platform_index": platform_index,
    "empty": nothing,
    "empty2": nothing,
    "custom_linear_solve": custom_linear_solve,
}
"""Translations by primitive."""
