"""Loops and branches as `lax.scan`, `lax.while_loop`, `lax.cond` and `lax.switch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base.compat import scan_counts
from blockjac.explanations.source.builder import Builder, Equation, Result, Translation
from blockjac.explanations.source.expressions import Display, Expression, Text, call, number
from blockjac.explanations.source.loop_facts import input_names, settled_branch, stays, used_carry
from blockjac.explanations.source.loops_numpy import branch_tests, tested
from blockjac.explanations.source.program import OBJECT, Assign, Def, Value

NOTHING = Text("_")


def packed(parts: Sequence[Expression]) -> Expression:
    """One value as it is, several as a tuple."""
    return parts[0] if len(parts) == 1 else Display("(", tuple(parts))


def unpacked(builder: Builder, whole: Value, parts: Sequence[Value]) -> None:
    """Unpack a parameter, at the start of a function's body."""
    if len(parts) > 1:
        target = Display("", tuple(part.ref for part in parts))
        builder.add(Assign(target, whole.ref, tuple(parts)))


def parameter(builder: Builder, parts: Sequence[Value], hint: str) -> Value:
    """The parameter that holds some values."""
    if len(parts) == 1:
        return parts[0]
    return builder.variable((), OBJECT, hint if parts else "_")


def variables(
    builder: Builder, avals: Sequence[Any], names: Sequence[str], hint: str
) -> list[Value]:
    """Variables of some types."""
    return [
        builder.variable(aval.shape, aval.dtype, name or hint)
        for aval, name in zip(avals, names, strict=True)
    ]


def exact(builder: Builder, values: Sequence[Value], avals: Sequence[Any]) -> list[Expression]:
    """Values in the shapes of some types."""
    return [builder.exact(value, aval.shape).ref for value, aval in zip(values, avals, strict=True)]


def assigned(equation: Equation, code: Expression, numbers: Sequence[int]) -> list[Value | None]:
    """The results of a call that returns one value, or a tuple of several."""
    builder = equation.builder
    results: list[Value | None] = [None] * len(equation.outputs)
    for index in numbers:
        out = equation.outputs[index]
        if equation.needed[index]:
            results[index] = builder.variable(out.shape, out.dtype, "result")
    _assign(builder, code, [results[index] for index in numbers])
    return results


def _assign(builder: Builder, code: Expression, results: Sequence[Value | None]) -> None:
    """`x, _ = code`."""
    bound = tuple(value for value in results if value is not None)
    target = _pattern(results)
    if isinstance(target, Display):
        target = Display("", target.items)
    builder.add(Assign(target, code, bound))


def _pattern(results: Sequence[Value | None]) -> Expression:
    """The target of an assignment; what is not needed is `_`."""
    if not any(results):
        return NOTHING
    return packed([NOTHING if value is None else value.ref for value in results])


def scan(equation: Equation) -> Result:
    """`lax.scan` of a step that is defined before it."""
    builder, params = equation.builder, equation.params
    body = params["jaxpr"]
    first, carried = scan_counts(params)
    used = used_carry(body, first, equation.needed)
    names, avals = input_names(body), equation.outputs
    kept = [index for index in range(carried) if used[index]]
    stacked = [index for index in range(carried, len(used)) if used[index]]
    carry = variables(builder, [avals[n] for n in kept], [names[first + n] for n in kept], "state")
    arrays = equation.all_exact()[first + carried :]
    slices = [_Slice(x.shape[1:], v.dtype) for x, v in _typed(equation, first + carried)]
    entries = variables(builder, slices, names[first + carried :], "row")
    function = builder.variable((), OBJECT, "step")
    state = parameter(builder, carry, "carry")
    row = parameter(builder, entries, "rows")
    with builder.inside() as block:
        unpacked(builder, state, carry)
        unpacked(builder, row, entries)
        given: list[Value] = [*equation.operands[:first]]
        nothing = builder.constant(np.zeros(()))
        by_number = dict(zip(kept, carry, strict=True))
        given += [by_number.get(index, nothing) for index in range(carried)]
        results = builder.run(body, [*given, *entries], used)
        new = exact(builder, [results[n] for n in kept], [avals[n] for n in kept])
        rows = exact(
            builder,
            [results[n] for n in stacked],
            [_Slice(avals[n].shape[1:], avals[n].dtype) for n in stacked],
        )
    result = Display("", (_or_none(new), _or_none(rows)))
    builder.add(Def(function, (state, row), block, result))
    inits = [builder.exact(equation.operands[first + n], avals[n].shape).ref for n in kept]
    options: dict[str, Expression] = {}
    if not arrays:
        options["length"] = number(int(params["length"]))
    if params["reverse"]:
        options["reverse"] = Text("True")
    code = call("lax.scan", function.ref, _or_none(inits), _or_none(arrays), **options)
    after: list[Value | None] = [None] * len(used)
    for index in (*kept, *stacked):
        if equation.needed[index]:
            hint = "stacked" if index >= carried else names[first + index]
            after[index] = builder.variable(avals[index].shape, avals[index].dtype, hint or "state")
    bound = tuple(value for value in after if value is not None)
    target = Display(
        "", (_pattern([after[n] for n in kept]), _pattern([after[n] for n in stacked]))
    )
    builder.add(Assign(target, code, bound))
    return after


class _Slice:
    """The type of an entry along the first axis."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype


def _typed(equation: Equation, first: int) -> list[tuple[Any, Value]]:
    """The types of the arrays that are scanned."""
    return [
        (_Slice(shape, value.dtype), value)
        for shape, value in zip(equation.shapes[first:], equation.operands[first:], strict=True)
    ]


def _or_none(parts: Sequence[Expression]) -> Expression:
    return packed(parts) if parts else Text("None")


def while_(equation: Equation) -> Result:
    """`lax.while_loop` of a test and a step."""
    builder, params = equation.builder, equation.params
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    for_test, for_body = params["cond_nconsts"], params["body_nconsts"]
    constants = equation.operands[: for_test + for_body]
    inits = equation.operands[for_test + for_body :]
    used = used_carry(body, for_body, equation.needed, tested(test, for_test))
    names = input_names(body)[for_body:]
    avals = equation.outputs
    kept = [
        index for index in range(len(inits)) if used[index] and not stays(body, index, for_body)
    ]

    def state() -> tuple[Value, list[Value], list[Value]]:
        own = variables(builder, [avals[n] for n in kept], [names[n] for n in kept], "state")
        by_number = dict(zip(kept, own, strict=True))
        values = [by_number.get(index, init) for index, init in enumerate(inits)]
        return parameter(builder, own, "state"), own, values

    functions: list[Value] = []
    for jaxpr, first, hint in ((test, for_test, "proceeds"), (body, for_body, "step")):
        whole, own, values = state()
        function = builder.variable((), OBJECT, hint)
        given = constants[:for_test] if jaxpr is test else constants[for_test:]
        with builder.inside() as block:
            unpacked(builder, whole, own)
            wanted = [True] if jaxpr is test else [n in kept for n in range(len(inits))]
            results = builder.run(jaxpr, [*given, *values], wanted)
            if jaxpr is test:
                result = builder.exact(results[0], ()).ref
            else:
                news = exact(builder, [results[n] for n in kept], [avals[n] for n in kept])
                result = packed(news)
                if isinstance(result, Display):
                    result = Display("", result.items)
        del first
        builder.add(Def(function, (whole,), block, result))
        functions.append(function)
    start = packed(exact(builder, [inits[n] for n in kept], [avals[n] for n in kept]))
    code = call("lax.while_loop", functions[0].ref, functions[1].ref, start)
    after = assigned(equation, code, kept)
    return [
        init if is_needed and result is None else result
        for init, result, is_needed in zip(inits, after, equation.needed, strict=True)
    ]


def cond(equation: Equation) -> Result:
    """`lax.cond` of two functions without parameters, or `lax.switch` of several."""
    builder = equation.builder
    branches = equation.params["branches"]
    index, *operands = equation.operands
    only = settled_branch(equation.params, index.known)
    if only is not None:
        return builder.run(only, operands, equation.needed)
    numbers = [number for number, is_needed in enumerate(equation.needed) if is_needed]
    avals = [equation.outputs[number] for number in numbers]
    tests, order = branch_tests(builder, index, len(branches))
    is_choice = len(tests) == 2 and order == [1, 0]
    names = ["if_true", "if_false"] if is_choice else [f"case_{n}" for n in order]
    functions: list[Value] = []
    for place, name in zip(order, names, strict=True):
        function = builder.variable((), OBJECT, name)
        with builder.inside() as block:
            values = builder.run(branches[place], operands, equation.needed)
            news = exact(builder, [value for value in values if value is not None], avals)
            result = packed(news)
            if isinstance(result, Display):
                result = Display("", result.items)
        builder.add(Def(function, (), block, result))
        functions.append(function)
    if is_choice and tests[0] is not None:
        code = call("lax.cond", tests[0], *(function.ref for function in functions))
    else:
        listed = Display("[", tuple(function.ref for function in functions))
        code = call("lax.switch", index.ref, listed)
    return assigned(equation, code, numbers)


LOOPS_JAX: dict[str, Translation] = {"scan": scan, "while": while_, "cond": cond}
"""Translations by primitive."""
