"""The memory that a traced program will take, predicted from its equations.

A stored value (see `blockjac.graph.stored_values`) lives from the operation that computes it to the
last one that reads it. The peak is the largest sum of the values that live at the same time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from blockjac.base import compat
from blockjac.graph.primitives import CALLS
from blockjac.graph.stored_values import (
    CHEAP,
    DEAR,
    FUSED,
    IN_PLACE,
    REDUCING,
    RELAYOUT,
    Operation,
    Value,
    distinct,
    is_stored,
    sources,
)

INLINED = CALLS | {"custom_jvp_call"}


def peak_bytes(jaxpr: Any, arguments: int | None = None) -> int:
    """Bytes of the arguments, the results, and what is stored at the same time in between.

    Args:
        jaxpr: the whole program, open or closed.
        arguments: how many of its inputs are arguments. The inputs after these are captured, and
            are not counted, since the compiler treats them as constants. None counts all inputs.

    Returns:
        Roughly what the compiler will report as arguments plus results plus temporaries.
    """
    program = _Program(jaxpr, arguments)
    return program.fixed + program.temporaries()


class _Program:
    """The operations of a program that store something, in the order in which they run.

    Attributes:
        operations: these operations.
        results: the values that the program returns.
        stored: the values that are stored.
        fixed: bytes of arguments and results.
    """

    def __init__(self, jaxpr: Any, count: int | None = None) -> None:
        """Read a jaxpr, of which only the first inputs count as arguments if `count` is given."""
        opened = compat.open_jaxpr(jaxpr)
        self.operations: list[Operation] = []
        self.literals: dict[str, Value] = {}
        self.same: dict[Any, list[Value]] = {}
        arguments = [_value(variable) for variable in (*opened.invars, *opened.constvars)]
        self.results = distinct(self._read(opened, arguments))
        for value in self.results:
            value.is_result = True
        self._drop_unused()
        self.stored = {
            value
            for operation in self.operations
            for value in operation.results
            if is_stored(value)
        }
        self.operations = self._scheduled()
        # The compiler does not keep arguments that nothing reads.
        used = [value for value in arguments[:count] if value.users or value.is_result]
        self.fixed = sum(value.size for value in {*used, *self.results})

    def _read(self, jaxpr: Any, arguments: Sequence[Value]) -> list[Value]:
        """Append the operations of a jaxpr, with its calls inlined; returns its results."""
        variables = (*jaxpr.invars, *jaxpr.constvars)
        values: dict[Any, Value] = dict(zip(variables, arguments, strict=True))

        def read(atom: Any) -> Value:
            if not hasattr(atom, "val"):
                return values[atom]
            return self.literals.setdefault(repr((atom.val, str(atom.aval))), Value(0))

        uses = Counter(
            atom
            for atoms in (*(equation.invars for equation in jaxpr.eqns), jaxpr.outvars)
            for atom in atoms
            if not hasattr(atom, "val")
        )
        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            inner = list(core.jaxprs_in_params(equation.params))
            if name in INLINED and inner:
                called = compat.open_jaxpr(inner[0])
                results = self._read(called, [*operands, *map(_value, called.constvars)])
            elif name == "transpose" and _is_matrix_product(operands[0], uses[equation.invars[0]]):
                results = operands  # the compiler exchanges the matrices instead
            else:
                results = self._append(name, equation, operands, inner)
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _append(
        self, name: str, equation: Any, operands: list[Value], inner: Sequence[Any]
    ) -> list[Value]:
        """Append one operation, unless the same is there already; returns its results."""
        # The compiler computes equal expressions once.
        key = (name, tuple(map(id, operands)), repr(sorted(equation.params.items(), key=str)))
        if not inner and not equation.effects and key in self.same:
            return self.same[key]
        if name == "dot_general":
            operands = self._laid_out(equation, operands)
        operation = Operation(name, operands)
        if name not in FUSED | REDUCING | IN_PLACE:
            operation.inside = max((_Program(jaxpr).temporaries() for jaxpr in inner), default=0)
        operation.results = [_value(variable, operation) for variable in equation.outvars]
        if name.startswith("cum"):  # partial results of windows are kept beside the whole
            operation.inside = sum(value.size for value in operation.results)
        for value in operands:
            value.users.append(operation)
        self.operations.append(operation)
        self.same[key] = operation.results
        return operation.results

    def _laid_out(self, equation: Any, operands: Sequence[Value]) -> list[Value]:
        """The operands of a product, copied if their axes are not in the order it reads them.

        That is batch axes first, and then the summed axes and the others, each kept together.
        """
        contracting, batch = equation.params["dimension_numbers"]
        laid_out = []
        for value, atom, summed, first in zip(
            operands, equation.invars, contracting, batch, strict=True
        ):
            rank = len(atom.aval.shape)
            rest = [axis for axis in range(rank) if axis not in first and axis not in summed]
            ready = (*first, *sorted(summed), *rest), (*first, *rest, *sorted(summed))
            if tuple(range(rank)) not in ready and value.size:
                operation = Operation(RELAYOUT, [value])
                value.users.append(operation)
                self.operations.append(operation)
                value = Value(value.size, operation)
                operation.results = [value]
            laid_out.append(value)
        return laid_out

    def _drop_unused(self) -> None:
        """Drop the operations that the results of the program do not depend on."""
        needed = []
        for operation in reversed(self.operations):
            if any(value.users or value.is_result for value in operation.results):
                needed.append(operation)
            else:
                for value in operation.operands:
                    value.users.remove(operation)
        self.operations = needed[::-1]

    def _scheduled(self) -> list[Operation]:
        """The operations that store something, in the order in which the compiler runs them.

        That is breadth first: an operation runs as soon as its operands are there, so that
        independent operations can run side by side.
        """
        storing = [
            operation
            for operation in self.operations
            if operation.name not in FUSED
            or any(value in self.stored for value in operation.results)
        ]
        waiting: dict[Operation, int] = {}
        readers: dict[Value, list[Operation]] = {}
        for operation in storing:
            read = sources(operation, self.stored)
            operation.reads = [value for value in read if value in self.stored]
            waiting[operation] = sum(value.maker is not operation for value in operation.reads)
            for value in operation.reads:
                readers.setdefault(value, []).append(operation)
        queue = [operation for operation in storing if not waiting[operation]]
        for operation in queue:
            for value in operation.results:
                for reader in readers.get(value, ()):
                    waiting[reader] -= 1
                    if not waiting[reader]:
                        queue.append(reader)
        return queue

    def temporaries(self) -> int:
        """The most bytes that are stored at once, besides arguments and results.

        A value that is dead before a result is written may use the memory of that result, and a
        value that is read for the last time, entry by entry, is overwritten.
        """
        lives = self._lives()
        overwritten = self._overwritten(lives)
        lives = {
            value: (first, last - 1 if value in overwritten else last)
            for value, (first, last) in lives.items()
        }
        # The memory of each result until it is written: its size, and from when on it is free.
        slots = {first: [value.size, 0] for value, (first, _) in lives.items() if value.is_result}
        events: dict[int, int] = {}
        spans = [(value.size, *span) for value, span in lives.items() if not value.is_result]
        for size, first, last in sorted(spans, key=lambda span: (-span[0], span[1])):
            fitting = [
                end
                for end, (space, free_from) in slots.items()
                if free_from <= first and last < end and space >= size
            ]
            if fitting:
                slots[min(fitting)][1] = last + 1
                continue
            events[first] = events.get(first, 0) + size
            events[last + 1] = events.get(last + 1, 0) - size
        inside = {step: operation.inside for step, operation in enumerate(self.operations)}
        live = peak = 0
        for step in sorted({*events, *inside}):
            live += events.get(step, 0)
            peak = max(peak, live + inside.get(step, 0))
        return peak

    def _overwritten(self, lives: Mapping[Value, tuple[int, int]]) -> set[Value]:
        """Stored values overwritten by a result of the same size when they are last read."""
        overwritten: set[Value] = set()
        for step, operation in enumerate(self.operations):
            if operation.name not in CHEAP | DEAR | IN_PLACE:
                continue
            is_in_place = operation.name in IN_PLACE
            for result in operation.results:
                if result not in lives:
                    continue
                for value in operation.operands[:1] if is_in_place else operation.reads:
                    last = lives.get(value, (0, -1))[1]
                    if last == step and value.size == result.size and not value.is_result:
                        overwritten.add(value)
                        break
        return overwritten

    def _lives(self) -> dict[Value, tuple[int, int]]:
        """The step at which each stored value is computed, and that at which it is last read."""
        lives: dict[Value, tuple[int, int]] = {}
        for step, operation in enumerate(self.operations):
            for value in operation.results:
                if value in self.stored:
                    lives[value] = (step, step)
            for value in operation.reads:
                lives[value] = (lives[value][0], step)
        return lives


def _value(variable: Any, maker: Operation | None = None) -> Value:
    """The value of a variable of a jaxpr."""
    dtype = getattr(variable.aval, "dtype", None)
    shape = getattr(variable.aval, "shape", ())
    return Value(math.prod(shape) * getattr(dtype, "itemsize", 0), maker)


def _is_matrix_product(value: Value, readers: int) -> bool:
    """Whether a value is a product of matrices that nothing else reads."""
    return readers == 1 and value.maker is not None and value.maker.name == "dot_general"
