"""A program cut where as many numbers are alive as it has inputs: a chain of square stages.

The Jacobian of such a program is the product of those of its stages, and its determinant the
product of their determinants. What passes a stage unchanged takes no part in it: of a coupling
layer that is the half which the other is scaled by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blockjac.base import compat
from blockjac.graph.linearity import RECOMPUTED, is_inexact
from blockjac.graph.primitives import CALLS


@dataclass(frozen=True, eq=False)
class Step:
    """An equation of a program without calls; its values are numbered.

    Attributes:
        primitive: what it applies.
        params: of the primitive.
        operands: the numbers of its operands.
        results: the numbers of its results.
        place: of the user's code, as in " at file:line (function)".
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    place: str


@dataclass(eq=False)
class Program:
    """A program without calls.

    Attributes:
        avals: the type of each value, by number.
        constants: the values that are known, by number.
        steps: in order.
        inputs: the numbers of its inputs.
        outputs: the numbers of its results.
    """

    avals: list[Any] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    @staticmethod
    def of(closed: Any) -> Program:
        """The program of a closed jaxpr."""
        program, jaxpr = Program(), compat.open_jaxpr(closed)
        program.inputs = tuple(program._new(variable.aval) for variable in jaxpr.invars)
        program.outputs = program._inline(closed, program.inputs, "")
        program.steps = program.needed(program.outputs)
        return program

    def needed(self, values: Sequence[int]) -> list[Step]:
        """The steps that some values are computed by, in order."""
        needed, chosen = set(values), list[Step]()
        for step in reversed(self.steps):
            if needed.intersection(step.results):
                chosen.append(step)
                needed.update(step.operands)
        return chosen[::-1]

    def _new(self, aval: Any, value: Any = None) -> int:
        self.avals.append(aval)
        if value is not None:
            self.constants[len(self.avals) - 1] = value
        return len(self.avals) - 1

    def _inline(self, closed: Any, operands: Sequence[int], place: str) -> tuple[int, ...]:
        """Add the equations of a jaxpr; the numbers of its results."""
        jaxpr = compat.open_jaxpr(closed)
        numbers: dict[Any, int] = dict(zip(jaxpr.invars, operands, strict=True))
        for variable, array in zip(jaxpr.constvars, compat.constants(closed), strict=True):
            numbers[variable] = self._new(variable.aval, array)

        def number(atom: Any) -> int:
            return numbers[atom] if compat.is_variable(atom) else self._new(atom.aval, atom.val)

        for equation in jaxpr.eqns:
            own = tuple(map(number, equation.invars))
            name, params = equation.primitive.name, equation.params
            here = compat.at_place(equation.source_info) or place
            if name in CALLS or name in RECOMPUTED:
                results = self._inline(compat.called(params), own, here)
            else:
                results = tuple(self._new(variable.aval) for variable in equation.outvars)
                self.steps.append(Step(equation.primitive, params, own, results, here))
            numbers.update(zip(equation.outvars, results, strict=True))
        return tuple(map(number, jaxpr.outvars))

    def size(self, values: set[int]) -> int:
        """How many numbers some values hold together."""
        return sum(math.prod(self.avals[value].shape) for value in values)

    def dependent(self, values: Sequence[int], steps: Sequence[Step] | None = None) -> set[int]:
        """The values that are computed from some, and these themselves."""
        found = set(values)
        for step in self.steps if steps is None else steps:
            if found.intersection(step.operands):
                found.update(step.results)
        return found


@dataclass(frozen=True, eq=False)
class Stage:
    """Some steps of a program that map as many numbers as they give.

    Attributes:
        steps: in order.
        old: the values that end with the stage.
        new: the values that begin with it.
    """

    steps: list[Step]
    old: list[int]
    new: list[int]


def square_stages(program: Program, inputs: Sequence[int], outputs: Sequence[int]) -> list[Stage]:
    """The stages of a program between values that hold as many numbers.

    Args:
        program: cut wherever the values that are still needed are as many numbers as the inputs.
        inputs: the values to differentiate by.
        outputs: the results, of as many numbers.
    """
    active = {v for v in program.dependent(inputs) if is_inexact(program.avals[v])}
    needed = {step.results for step in program.needed(outputs)}
    last = {
        operand: number
        for number, step in enumerate(program.steps)
        for operand in step.operands
        if operand in active and step.results in needed
    }
    last.update(dict.fromkeys(outputs, len(program.steps)))
    count, alive, before = program.size(set(inputs)), set(inputs), set(inputs)
    stages: list[Stage] = []
    steps: list[Step] = []
    for number, step in enumerate(program.steps):
        steps.append(step)
        alive |= active.intersection(step.results)
        alive = {value for value in alive if last.get(value, -1) > number}
        is_end = number == len(program.steps) - 1
        if (alive != before and program.size(alive) == count) or (is_end and alive != before):
            stages.append(Stage(steps, sorted(before - alive), sorted(alive - before)))
            before, steps = set(alive), []
    if steps and stages:
        stages[-1].steps.extend(steps)
    elif steps:
        stages.append(Stage(steps, [], []))
    return stages
