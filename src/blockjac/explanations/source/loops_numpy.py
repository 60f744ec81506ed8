"""Loops and branches as Python's own `for`, `while` and `if`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base.compat import open_jaxpr, scan_counts
from blockjac.explanations.source.builder import Builder, Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Binary,
    Call,
    Expression,
    Literal,
    Subscript,
    call,
    integers,
    number,
)
from blockjac.explanations.source.loop_facts import (
    counts_up,
    input_names,
    settled_branch,
    stays,
    used_carry,
)
from blockjac.explanations.source.program import Assign, Block, For, If, Update, Value, While


def started(builder: Builder, init: Value, aval: Any, hint: str) -> Value:
    """A variable of a loop with its first value."""
    variable = builder.variable(aval.shape, aval.dtype, hint or init.name or init.hint or "state")
    builder.add(Update((variable,), (builder.exact(init, aval.shape).ref,)))
    return variable


def step(builder: Builder, variables: Sequence[Value], results: Sequence[Value]) -> None:
    """The new values of a loop's variables, at the end of its body."""
    exact = [
        builder.exact(result, variable.shape).ref
        for variable, result in zip(variables, results, strict=True)
    ]
    if variables:
        builder.add(Update(tuple(variables), tuple(exact)))


def counter(builder: Builder, size: int, hint: str = "t") -> Value:
    """The variable of a `for` loop."""
    variable = builder.variable((), np.dtype("int64"), hint)
    variable.bounds = 0, size - 1
    variable.is_python = True
    return variable


def entry(builder: Builder, array: Value, place: Value) -> Value:
    """`array[t]`; of `arange(n)` that is `t`, and of equal entries the entry."""
    if isinstance(array.code, Literal):
        return array
    if isinstance(array.code, Call) and array.code.function == "np.arange":
        return place
    code = Subscript(array.ref, (place.ref,))
    return builder.value(code, array.shape[1:], array.dtype)


def scan(equation: Equation) -> Result:
    """A loop over the first axis; what each step returns is written into arrays."""
    builder, params = equation.builder, equation.params
    body, length = params["jaxpr"], int(params["length"])
    constants, carried = scan_counts(params)
    used = used_carry(body, constants, equation.needed)
    names = input_names(body)
    place = counter(builder, length)
    inputs: list[Value | None] = list(equation.operands[:constants])
    variables: dict[int, Value] = {}
    counters: dict[int, int] = {}
    after: list[Value | None] = [None] * len(used)
    for index in range(carried):
        init, aval = equation.operands[constants + index], equation.outputs[index]
        if not used[index]:
            inputs.append(None)
        elif init.known is not None and counts_up(body, index, constants):
            start = int(init.known)
            place.hint = names[constants + index] or place.hint
            counters[len(inputs)] = start
            inputs.append(None)
            after[index] = builder.constant(np.asarray(start + length, aval.dtype))
            used[index] = False
        else:
            after[index] = variables[index] = started(builder, init, aval, names[constants + index])
            inputs.append(variables[index])
    arrays = [
        value if is_same_everywhere(value, shape) else builder.exact(value, shape)
        for value, shape in zip(
            equation.operands[constants + carried :],
            equation.shapes[constants + carried :],
            strict=True,
        )
    ]
    for index in range(carried, len(used)):
        if used[index]:
            after[index] = _empty(builder, equation.outputs[index])
    with builder.inside() as block:
        for number_of_input, start in counters.items():
            inputs[number_of_input] = shifted(builder, place, start, length)
        entries = [entry(builder, array, place) for array in arrays]
        nothing = builder.constant(np.zeros(()))
        given = [nothing if value is None else value for value in (*inputs, *entries)]
        results = builder.run(
            body, given, [flag or index in variables for index, flag in enumerate(used)]
        )
        for index in range(carried, len(used)):
            target = after[index]
            if used[index] and target is not None:
                source = results[index]
                target.hint = _several(source, target.hint)
                code = source.code if isinstance(source.code, Literal) else source.ref
                builder.add(Assign(Subscript(target.ref, (place.ref,)), code))
        step(builder, list(variables.values()), [results[index] for index in variables])
    numbers = call("range", number(length))
    builder.add(For(place, call("reversed", numbers) if params["reverse"] else numbers, block))
    return after


def is_same_everywhere(value: Value, shape: Sequence[int]) -> bool:
    """Whether all entries along the first axis are the same number."""
    return isinstance(value.code, Literal) and len(shape) > 0


def shifted(builder: Builder, place: Value, start: int, length: int) -> Value:
    """A loop's variable that counts from another number."""
    if start == 0:
        return place
    value = builder.value(Binary("+", place.ref, number(start)), (), place.dtype)
    value.bounds = start, start + length - 1
    value.is_python = True
    return value


def _empty(builder: Builder, aval: Any) -> Value:
    """An array that a loop fills."""
    variable = builder.variable(aval.shape, aval.dtype, "stacked")
    options = builder.dtype_option(aval.dtype, "float64")
    shape: Expression = integers(aval.shape)
    if len(aval.shape) == 1:
        shape = number(int(aval.shape[0]))
    builder.add(Assign(variable.ref, call("np.empty", shape, **options), (variable,)))
    return variable


def _several(value: Value, otherwise: str) -> str:
    """A name for the values of all steps."""
    name = value.name or (value.hint if value.code is None else "")
    return f"{name}s" if name and name != "state" else otherwise


def while_(equation: Equation) -> Result:
    """`while test:`, or `for i in range(first, last):` where it counts."""
    builder, params = equation.builder, equation.params
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    for_test, for_body = params["cond_nconsts"], params["body_nconsts"]
    test_constants = equation.operands[:for_test]
    body_constants = equation.operands[for_test : for_test + for_body]
    inits = equation.operands[for_test + for_body :]
    names = input_names(body)[for_body:]
    counted = _counted(equation, for_test, for_body)
    read = set[int]() if counted else tested(test, for_test)
    needed = list(equation.needed)
    used = used_carry(body, for_body, needed, read)
    place: Value | None = None
    values: list[Value] = []
    variables: dict[int, Value] = {}
    for index, (init, aval) in enumerate(zip(inits, equation.outputs, strict=True)):
        if counted and index == counted[0]:
            place = counter(builder, 0, names[index] or "i")
            place.bounds = None
            if init.known is not None and int(init.known) >= 0:
                place.bounds = int(init.known), 2**31 - 1
            values.append(place)
            used[index] = False
        elif not used[index] or stays(body, index, for_body):
            values.append(init)
        else:
            variables[index] = started(builder, init, aval, names[index])
            values.append(variables[index])
    with builder.inside() as before:
        found = None if counted else builder.run(test, [*test_constants, *values])[0]
    with builder.inside() as block:
        results = builder.run(
            body, [*body_constants, *values], [index in variables for index in range(len(values))]
        )
        step(builder, list(variables.values()), [results[index] for index in variables])
    if place is not None and counted:
        first, last = inits[counted[0]], (test_constants + inits)[counted[1]]
        bounds = [_plain(first), _plain(last)]
        if isinstance(bounds[0], Literal) and bounds[0].text == "0":
            del bounds[0]
        builder.add(For(place, call("range", *bounds), block))
    elif found is not None:
        builder.add(While(before, found.ref, block))
    return [values[index] if equation.needed[index] else None for index in range(len(values))]


def _plain(value: Value) -> Expression:
    """A bound of a range."""
    return value.code.loose() if isinstance(value.code, Literal) else value.ref


def tested(test: Any, constants: int) -> set[int]:
    """The carried values that a test reads."""
    jaxpr = open_jaxpr(test)
    read = {id(atom) for equation in jaxpr.eqns for atom in equation.invars}
    read |= {id(atom) for atom in jaxpr.outvars}
    return {number for number, x in enumerate(jaxpr.invars[constants:]) if id(x) in read}


def _counted(equation: Equation, for_test: int, for_body: int) -> tuple[int, int] | None:
    """The carried counter of a loop, and its bound among the test's inputs; None if it has none."""
    test, body = open_jaxpr(equation.params["cond_jaxpr"]), equation.params["body_jaxpr"]
    if len(test.eqns) != 1 or test.eqns[0].primitive.name != "lt":
        return None
    left, right = test.eqns[0].invars
    places = {id(variable): number for number, variable in enumerate(test.invars)}
    if id(left) not in places or id(right) not in places:
        return None
    number, bound = places[id(left)] - for_test, places[id(right)]
    if number < 0 or equation.needed[number] or not counts_up(body, number, for_body):
        return None
    if bound >= for_test and not stays(body, bound - for_test, for_body):
        return None
    return number, bound


def cond(equation: Equation) -> Result:
    """`if`, `elif`, `else`."""
    builder = equation.builder
    branches = equation.params["branches"]
    index, *operands = equation.operands
    only = settled_branch(equation.params, index.known)
    if only is not None:
        return builder.run(only, operands, equation.needed)
    results = [
        builder.variable(out.shape, out.dtype, "result") if is_needed else None
        for out, is_needed in zip(equation.outputs, equation.needed, strict=True)
    ]
    variables = [result for result in results if result is not None]
    tests, order = branch_tests(builder, index, len(branches))
    bodies: list[Block] = []
    for number_of_branch in order:
        with builder.inside() as block:
            values = builder.run(branches[number_of_branch], operands, equation.needed)
            step(builder, variables, [value for value in values if value is not None])
        bodies.append(block)
    builder.add(If(tuple(tests), tuple(bodies)))
    return results


def branch_tests(
    builder: Builder, index: Value, count: int
) -> tuple[list[Expression | None], list[int]]:
    """The tests of the branches, and the branches in the order of the tests."""
    truth = index.truth
    if count == 2 and truth is not None:
        return [truth.ref, None], [1, 0]
    tests: list[Expression | None] = [
        Binary("==" if place else "<=", index.ref, number(place)) for place in range(count - 1)
    ]
    return [*tests, None], list(range(count))


LOOPS_NUMPY: dict[str, Translation] = {"scan": scan, "while": while_, "cond": cond}
"""Translations by primitive."""
