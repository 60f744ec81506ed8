"""The memory that a traced program will take, foretold from its equations.

The compiler fuses what moves numbers and computes entry by entry into what consumes it, so that
most values of a program are never stored. What is stored: operands and results of products, of
loops and of library calls; results of reductions; and a value that several consumers need and that
is dear to compute again. A stored value lives from where it is computed to its last use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend import core

from blockjac import compat

INLINED = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_jvp_call"})

ALIASES = frozenset({"reshape", "squeeze", "expand_dims", "stop_gradient", "copy"})
"""What gives the same numbers in the same order: no new array."""

MOVING = frozenset(
    {
        "broadcast_in_dim",
        "concatenate",
        "convert_element_type",
        "gather",
        "iota",
        "pad",
        "rev",
        "select_n",
        "slice",
        "split",
        "transpose",
    }
)
"""What is fused into its consumers, however many there are."""

CHEAP = frozenset(
    {
        "abs",
        "add",
        "add_any",
        "and",
        "clamp",
        "conj",
        "eq",
        "ge",
        "gt",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "not",
        "or",
        "real",
        "sign",
        "square",
        "sub",
    }
)
"""What is computed entry by entry, and again rather than stored."""

DEAR = frozenset(
    {
        "acos",
        "asin",
        "atan",
        "atan2",
        "cbrt",
        "cos",
        "cosh",
        "div",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "logistic",
        "pow",
        "rem",
        "rsqrt",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
    }
)
"""What is computed entry by entry, and stored where more than one needs it."""

REDUCING = frozenset({"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"})
"""What takes its operand fused, and stores its result."""

FUSED = MOVING | CHEAP | DEAR | ALIASES


@dataclass(eq=False)
class _Value:
    """A value of the program.

    Attributes:
        size: bytes.
        maker: the operation that computes it; None for an argument.
        users: operations that read it.
        is_result: whether the program returns it.
    """

    size: int
    maker: _Operation | None = None
    users: list[_Operation] = field(default_factory=list)
    is_result: bool = False


@dataclass(eq=False)
class _Operation:
    name: str
    operands: list[_Value]
    results: list[_Value] = field(default_factory=list)
    inside: int = 0


def peak_bytes(jaxpr: Any) -> int:
    """Bytes of arguments, results and what is stored at the same time on the way.

    Args:
        jaxpr: of the whole program, open or closed.

    Returns:
        What the compiler will report as arguments plus results plus temporaries, about.
    """
    program = _Program(jaxpr)
    return program.fixed + program.temporaries()


class _Program:
    def __init__(self, jaxpr: Any) -> None:
        opened = compat.open_jaxpr(jaxpr)
        self.operations: list[_Operation] = []
        arguments = [_Value(_bytes(one.aval)) for one in (*opened.invars, *opened.constvars)]
        results = self._read(opened, arguments)
        for value in results:
            value.is_result = True
        self._drop_unused()
        # The compiler keeps no argument that nothing reads; constants of the trace are arguments.
        used = [value for value in arguments if value.users or value.is_result]
        self.fixed = sum(value.size for value in used)
        self.fixed += sum(value.size for value in dict.fromkeys(results))

    def _read(self, jaxpr: Any, arguments: Sequence[_Value]) -> list[_Value]:
        known: dict[Any, _Value] = dict(
            zip((*jaxpr.invars, *jaxpr.constvars), arguments, strict=True)
        )

        def read(atom: Any) -> _Value:
            return _Value(0) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            inner = list(core.jaxprs_in_params(equation.params))
            if name in INLINED and inner:
                called = compat.open_jaxpr(inner[0])
                constants = [_Value(_bytes(one.aval)) for one in called.constvars]
                made = self._read(called, [*operands, *constants])
            else:
                made = self._append(name, equation, operands, inner)
            known.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _append(
        self, name: str, equation: Any, operands: list[_Value], inner: Sequence[Any]
    ) -> list[_Value]:
        operation = _Operation(name, operands)
        if name not in FUSED and name not in REDUCING and name not in ("scatter", "scatter-add"):
            operation.inside = max((_Program(one).temporaries() for one in inner), default=0)
        operation.results = [_Value(_bytes(one.aval), operation) for one in equation.outvars]
        for value in operands:
            value.users.append(operation)
        self.operations.append(operation)
        return operation.results

    def _drop_unused(self) -> None:
        kept = []
        for operation in reversed(self.operations):
            if any(value.users or value.is_result for value in operation.results):
                kept.append(operation)
            else:
                for value in operation.operands:
                    value.users.remove(operation)
        self.operations = kept[::-1]

    def temporaries(self) -> int:
        """The most bytes that are stored at once, arguments and results apart."""
        stored = {value for one in self.operations for value in one.results if _is_stored(value)}
        last: dict[_Value, int] = {}
        for place, operation in enumerate(self.operations):
            if operation.name in FUSED and not any(one in stored for one in operation.results):
                continue
            for value in _sources(operation, stored):
                last[value] = place
        live = most = 0
        for place, operation in enumerate(self.operations):
            made = [one for one in operation.results if one in stored and not one.is_result]
            dying = [value for value, end in last.items() if end == place and not value.is_result]
            live += sum(one.size for one in made)
            most = max(most, live + operation.inside)
            live -= sum(value.size for value in dying if value in stored)
            live -= sum(one.size for one in made if one not in last)
        return most


def _is_stored(value: _Value) -> bool:
    maker = value.maker
    if maker is None or maker.name in ALIASES:
        return False
    if maker.name not in FUSED or value.is_result:
        return True
    users = _users(value)
    if any(user.name not in FUSED and user.name not in REDUCING for user in users):
        return True
    return len(set(users)) > 1 and maker.name in DEAR


def _users(value: _Value) -> list[_Operation]:
    """The operations that read a value, under whatever shape."""
    found: list[_Operation] = []
    for user in value.users:
        found += _users(user.results[0]) if user.name in ALIASES else [user]
    return found


def _sources(operation: _Operation, stored: set[_Value]) -> Iterable[_Value]:
    """The stored values that an operation reads, what is fused into it included."""
    seen: set[_Value] = set()
    pending = list(operation.operands)
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in stored or value.maker is None:
            yield value
        else:
            pending += value.maker.operands
    return


def _bytes(aval: Any) -> int:
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return math.prod(getattr(aval, "shape", ())) * itemsize
