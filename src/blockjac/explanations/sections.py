"""The sections of an explanation, from its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from blockjac.base import compat
from blockjac.explanations.document import Document, Line, Section, folded, order_items
from blockjac.explanations.equations import Equations
from blockjac.explanations.formulas import Elemental
from blockjac.explanations.layout import Application, Claim, Space
from blockjac.explanations.names import Name
from blockjac.explanations.program import Program, Step
from blockjac.explanations.styles.text import TEXT
from blockjac.graph.graph import Literal
from blockjac.planning import Plan

NO_FORMULA = "no formula is known: {}, whose Jacobian is computed as a linear map"


class Explained(Protocol):
    """What a document is made of: the parts of an explanation, each made when it is asked for."""

    @property
    def program(self) -> Program:
        """The function as named steps."""
        ...

    @property
    def chain_rule(self) -> Equations:
        """In symbols."""
        ...

    @property
    def formulas(self) -> Equations:
        """With indices."""
        ...

    @property
    def steps(self) -> tuple[Elemental, ...]:
        """The elemental Jacobians."""
        ...

    @property
    def simplifications(self) -> tuple[Claim, ...]:
        """Found by numbers."""
        ...

    @property
    def plan(self) -> Plan:
        """The order."""
        ...

    @property
    def checked(self) -> bool | None:
        """Whether the formulas are right."""
        ...


def document_of(explanation: Explained, most: int | None) -> Document:
    """The sections of an explanation.

    Args:
        explanation: what to write.
        most: how many lines a section has at most; None for all.
    """
    program = explanation.program
    title = f"{TEXT.name(program.function)} and its Jacobian by " + ", ".join(
        TEXT.name(variable.name) for variable in program.independents
    )
    sections = [
        Section("Spaces", folded(_spaces(program), "spaces", most)),
        Section("Steps", folded(_steps(program), "steps", most)),
    ]
    rules = [Line(equation) for equation in explanation.chain_rule.equations]
    sections.append(Section("The chain rule", folded(rules, "equations", most)))
    is_large = most is not None and len(program.active_steps) > most
    if is_large:
        note = (
            f"{len(program.active_steps):,} steps: their elemental Jacobians and formulas are left "
            "out; name steps with blockjac.step or jax.jit to see the whole, or ask for most=None"
        )
        sections.append(Section("Elemental Jacobians", (Line(remark=note),)))
    else:
        sections.append(Section("Elemental Jacobians", tuple(_elementals(explanation))))
        sections.append(Section("Backpropagation with indices", tuple(_formulas(explanation))))
        found = [
            Line(claim, "holds at these arguments and two near them; checked there, not proved")
            for claim in explanation.simplifications
        ]
        if found:
            sections.append(Section("Found by numbers", tuple(found)))
    sections.append(Section("The order", order_items(explanation.plan)))
    if not is_large:
        sections.append(Section("Checked", (Line(remark=_verdict(explanation)),)))
    return Document(title, tuple(sections))


def _spaces(program: Program) -> list[Line]:
    """Where the arguments and the captured arrays live."""
    independents = {variable.number for variable in program.independents}
    lines: list[Line] = []
    for variable in program.variables.values():
        if variable.kind == "computed":
            continue
        is_fixed = variable.number not in independents
        remark = "captured" if variable.kind == "captured" else "fixed" if is_fixed else ""
        lines.append(Line(Space(variable.name, variable.shape), remark))
    return lines


def _steps(program: Program) -> list[Line]:
    """What each step computes, with the line of the program."""
    lines: list[Line] = []
    for step in program.steps:
        results = [program.variables[value] for value in step.equation.results]
        equation = Application(
            tuple(result.name for result in results),
            step.name,
            tuple(operands(program, step)),
            tuple(result.shape for result in results),
        )
        source = "" if step.equation.source is None else compat.place(step.equation.source)
        lines.append(Line(equation, source.rpartition("/")[2]))
    return lines


def operands(program: Program, step: Step) -> list[Name | str]:
    """The operands of a step; numbers as they are."""
    operands: list[Name | str] = []
    for operand in step.equation.operands:
        if isinstance(operand, Literal):
            number = operand.array
            operands.append(f"{number:g}" if number.ndim == 0 else "…")
        else:
            operands.append(program.variables[operand.value].name)
    return operands


def _elementals(explanation: Explained) -> list[Line]:
    """The elemental Jacobians with the formulas of their entries."""
    lines: list[Line] = []
    for elemental in explanation.steps:
        entries = math.prod(elemental.shape)
        if elemental.formula is None:
            word = elemental.use.step.word
            name = TEXT.called(elemental.derivative)
            remark = f"{name}, {entries:,} entries: {NO_FORMULA.format(word)}"
            lines.append(Line(remark=remark))
            continue
        lines.append(Line(elemental.formula, _sizes(elemental.shape)))
        lines += [
            Line(definition, "where", depth=1)
            if not isinstance(definition, str)
            else Line(remark=f"where {TEXT.name(name)} is computed by {definition}", depth=1)
            for name, definition in elemental.definitions
        ]
    return lines


def _sizes(shape: Sequence[int]) -> str:
    """How many entries a block has."""
    return f"{math.prod(shape):,} entries"


def _formulas(explanation: Explained) -> list[Line]:
    """Backpropagation with indices."""
    return [Line(equation) for equation in explanation.formulas.equations]


def _verdict(explanation: Explained) -> str:
    """What was checked, in words."""
    match explanation.checked:
        case True:
            return (
                "every formula was evaluated, and gives the Jacobian that the library computes "
                "without them"
            )
        case False:
            return "NOT RIGHT: the formulas do not give the Jacobian here; please report this"
        case None:
            return "not checked: the Jacobian is too large to write out"
