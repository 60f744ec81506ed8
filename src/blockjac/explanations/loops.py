"""Loops of an explanation: one step of a `lax.scan`, and how its Jacobians go through all steps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.base import compat
from blockjac.elimination.elemental import short_name
from blockjac.explanations.chain_rule import Paths, Rule, Star
from blockjac.explanations.layout import Accumulation, Equation
from blockjac.explanations.names import Derivative, Name, unique
from blockjac.explanations.program import Program, Step
from blockjac.graph.graph import Operand
from blockjac.graph.linearity import is_inexact

BODY = Name("f")
"""What formulas call the body of a loop."""


@dataclass(frozen=True, eq=False)
class Inside:
    """What a step runs, as a function to explain.

    Attributes:
        function: of the values that the step reads.
        shapes: of these.
    """

    function: Callable[..., Any]
    shapes: tuple[Any, ...]

    @property
    def differentiated(self) -> tuple[int, ...]:
        """The positions of the arguments that are floats."""
        return tuple(n for n, shape in enumerate(self.shapes) if is_inexact(shape))


@dataclass(frozen=True, eq=False)
class Loop(Inside):
    """A loop of a program, and its body as a function.

    Attributes:
        step: the loop.
        function: its body, of the values that all steps read, those that are carried, and the
            slices of this step; it gives the carried values and then the slices of the results.
        shapes: of the body's arguments.
        read: names of the values that all steps read.
        carried: names of the carried values.
        taken: names of the slices.
        given: names of the result's slices.
        length: how many steps there are.
        is_reversed: whether the steps go from the last slice to the first.
    """

    step: Step
    read: tuple[Name, ...]
    carried: tuple[Name, ...]
    taken: tuple[Name, ...]
    given: tuple[Name, ...]
    length: int
    is_reversed: bool

    @property
    def arguments(self) -> tuple[Name, ...]:
        """The names of the body's arguments."""
        return (*self.read, *self.carried, *self.taken)

    def title(self) -> str:
        """What a section on the loop is called."""
        direction = ", from the last slice to the first" if self.is_reversed else ""
        return f"Inside of {self.step.name}: one of {self.length:,} steps{direction}"

    def equations(self, is_active: Callable[[int, int], bool]) -> list[Equation]:
        """How the Jacobians of a result go back through the steps.

        Args:
            is_active: whether a result of the body depends on an argument, by their positions.
        """
        equations: list[Equation] = []
        results = (*self.carried, *self.given)

        def paths(argument: int) -> Paths:
            """What arrives at an argument from the results of the same step."""
            name = self.arguments[argument]
            terms: list[Star] = []
            for position, result in enumerate(results):
                if is_active(position, argument):
                    time = "t+1" if position < len(self.carried) else "t"
                    own = BODY.numbered(position + 1) if len(results) > 1 else BODY
                    block = Derivative(own, name)
                    terms.append(Star((Name("q", (result, time)), block)))
            return Paths(tuple(terms))

        for position in self.differentiated:
            name = self.arguments[position]
            through = paths(position)
            if not through.terms:
                continue
            derivative = Derivative(self.step.name, Name(name.base, (*name.below, "t")))
            if position >= len(self.read):
                equations.append(Rule(Name("q", (name, "t")), derivative, through))
            else:
                equations.append(Accumulation(Derivative(self.step.name, name), "t", through))
        return equations


def loops_of(program: Program) -> list[Loop]:
    """The scans of a program that are differentiated."""
    return [
        _loop(program, step)
        for step in program.active_steps
        if step.equation.primitive.name == "scan"
    ]


def _loop(program: Program, step: Step) -> Loop:
    """A scan with names for all that its body reads and gives."""
    params = step.equation.params
    closed = params["jaxpr"]
    jaxpr = compat.open_jaxpr(closed)
    constants, carries = compat.scan_counts(params)
    hints = list(compat.argument_names(closed)) or [""] * len(jaxpr.invars)
    wanted: list[Name] = []
    for position, (hint, operand) in enumerate(zip(hints, step.equation.operands, strict=True)):
        own = short_name(hint) if hint else ""
        if isinstance(operand, Operand) and (position < constants or not own):
            wanted.append(program.variables[operand.value].name)
        else:
            wanted.append(Name.of(own.replace(".", "_") or "c"))
    names = unique(wanted)
    count = len(jaxpr.outvars) - carries
    given = unique([Name("y")] * count, taken=names)
    shapes = tuple(compat.struct(variable.aval) for variable in jaxpr.invars)
    function = _named(closed, [str(name) for name in names])
    return Loop(
        function,
        shapes,
        step,
        tuple(names[:constants]),
        tuple(names[constants : constants + carries]),
        tuple(names[constants + carries :]),
        tuple(given),
        int(params["length"]),
        bool(params["reverse"]),
    )


def inside_of(program: Program, step: Step) -> Inside | None:
    """What a step runs, as a function of its operands; None for a primitive.

    Args:
        program: that the step is of.
        step: a call.
    """
    closed = step.inside
    if closed is None:
        return None
    jaxpr = compat.open_jaxpr(closed)
    hints = list(compat.argument_names(closed)) or [""] * len(jaxpr.invars)
    names: list[Name] = []
    for hint, operand in zip(hints, step.equation.operands, strict=True):
        is_variable = isinstance(operand, Operand)
        known = program.variables[operand.value].name if is_variable else Name("c")
        names.append(Name.of(short_name(hint).replace(".", "_")) if hint else known)
    function = _named(closed, [str(name) for name in unique(names)], only_inexact=True)
    function.__name__ = re.sub(r"\W", "_", step.word)
    return Inside(function, tuple(compat.struct(variable.aval) for variable in jaxpr.invars))


def _named(closed: Any, names: Sequence[str], only_inexact: bool = False) -> Callable[..., Any]:
    """The body as a function whose parameters have these names.

    Args:
        closed: the body.
        names: of its parameters.
        only_inexact: whether results without a derivative, such as indices, are left out.
    """

    def f(*arguments: Any) -> Any:
        """The body."""
        results = compat.evaluated(closed, arguments)
        if only_inexact:
            results = list(filter(is_inexact, results))
        return results[0] if len(results) == 1 else tuple(results)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("".join(n if n.isalnum() else "_" for n in name), kind) for name in names
    ]
    vars(f)["__signature__"] = inspect.Signature(parameters)
    return f
