"""The sections of an explanation, from its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.errors import DenseTooLargeError, InvalidOptionError
from blockjac.explanations.chain_rule import ChainRule
from blockjac.explanations.document import Document, Line, Section, Table, folded, order_items
from blockjac.explanations.equations import Equations
from blockjac.explanations.expressions import Formula
from blockjac.explanations.formulas import Elemental
from blockjac.explanations.layout import Application, Claim, Space
from blockjac.explanations.loops import BODY, Loop
from blockjac.explanations.names import Name
from blockjac.explanations.own_rules import steps_without_a_jacobian
from blockjac.explanations.program import Program, Step
from blockjac.explanations.reading import CONSTANT
from blockjac.explanations.styles.text import TEXT
from blockjac.graph.graph import Literal
from blockjac.planning import Plan

NO_FORMULA = "no formula is known: {}, whose Jacobian is computed as a linear map"


@dataclass(frozen=True)
class Parts:
    """What a document is made of; each part is computed when it is asked for.

    Attributes:
        program: the function as named steps.
        value: what a primitive step computes, by a formula.
        chain_rule: in symbols.
        steps: the elemental Jacobians.
        formulas: backpropagation with indices.
        simplifications: found by numbers.
        plan: the order.
        rules: the chain rule of each result.
        checked: whether the formulas are right.
        loops: the loops that are differentiated.
        explain: the parts of the explanation of a loop's body.
    """

    program: Program
    value: Callable[[Step], Formula | None]
    chain_rule: Callable[[], Equations]
    steps: Callable[[], tuple[Elemental, ...]]
    formulas: Callable[[], Equations]
    simplifications: Callable[[], tuple[Claim, ...]]
    plan: Callable[[], Plan]
    rules: Callable[[], Sequence[ChainRule]]
    checked: Callable[[], bool | None]
    loops: Callable[[], Sequence[Loop]]
    explain: Callable[[Loop], Parts]


def document_of(parts: Parts, most: int | None) -> Document:
    """The sections of an explanation.

    Args:
        parts: what to write.
        most: how many lines a section has at most; None for all.

    Raises:
        InvalidOptionError: for a negative number of lines.
    """
    if most is not None and (type(most) is not int or most < 0):
        raise InvalidOptionError(
            f"most={most!r}; wanted how many lines of a section are shown, 0 or more, or None for "
            "all"
        )
    program = parts.program
    sections = [
        Section("Spaces", folded(_spaces(program), "spaces", most)),
        Section("Steps", _folded_steps(parts, most)),
    ]
    rules = [Line(equation) for equation in parts.chain_rule().equations]
    if not parts.rules():
        none = "no result is computed from the arguments: every derivative is 0"
        rules = [Line(remark=none)]
    sections.append(Section("The chain rule", folded(rules, "equations", most)))
    is_large = has_more_steps(program, most)
    if is_large:
        note = (
            f"{len(program.active_steps):,} steps: their elemental Jacobians and formulas are left "
            "out; name steps with blockjac.step or jax.jit to see the whole, or ask for most=None"
        )
        sections.append(Section("Elemental Jacobians", (Line(remark=note),)))
    else:
        sections.append(Section("Elemental Jacobians", tuple(_elementals(parts))))
        sections.append(Section("Backpropagation with indices", tuple(_formulas(parts))))
        for loop in parts.loops():
            sections.append(_loop_section(loop, parts.explain(loop), most))
        found = [
            Line(claim, "holds at these arguments and two near them; checked there, not proved")
            for claim in parts.simplifications()
        ]
        if found:
            sections.append(Section("Found by numbers", tuple(found)))
    sections.append(Section("The order", _order(parts)))
    if not is_large:
        sections.append(Section("Checked", (Line(remark=_verdict(parts)),)))
    return Document(title_of(program), tuple(sections))


def _order(parts: Parts) -> tuple[Line | Table, ...]:
    """The order with its costs; why there is none where even blocks are too large."""
    try:
        return order_items(parts.plan())
    except DenseTooLargeError as error:
        return (Line(remark=f"no order is planned: {error}"),)


def title_of(program: Program) -> str:
    """What an explanation is of."""
    by = ", ".join(TEXT.name(variable.name) for variable in program.independents)
    return f"{TEXT.name(program.function)} and its Jacobian by {by}"


def has_more_steps(program: Program, most: int | None) -> bool:
    """Whether a program has more steps than are shown with their formulas; None shows all."""
    return most is not None and len(program.active_steps) > most


def _spaces(program: Program) -> list[Line]:
    """Where the arguments and the captured arrays live."""
    independents = {variable.number for variable in program.independents}
    lines: list[Line] = []
    for variable in program.variables.values():
        if variable.kind == "computed":
            continue
        is_fixed = variable.number not in independents
        remark = "captured" if variable.kind == "captured" else "fixed" if is_fixed else ""
        if jnp.issubdtype(variable.dtype, jax.dtypes.prng_key):
            keys = (
                "a random key" if not variable.shape else f"random keys of shape {variable.shape}"
            )
            lines.append(Line(remark=f"{TEXT.name(variable.name)}: {keys}, {remark}"))
            continue
        lines.append(Line(Space(variable.name, variable.shape), remark))
    return lines


def _folded_steps(parts: Parts, most: int | None) -> tuple[Line, ...]:
    """What each step computes, with its name and the line of the program."""
    program = parts.program
    lines: list[Line] = []
    for step in program.steps[:most]:
        formula = parts.value(step)
        source = "" if step.equation.source is None else compat.place(step.equation.source)
        line = source.rpartition("/")[2]
        if formula is not None:
            lines.append(Line(formula, f"{TEXT.name(step.name)}, {line}"))
            continue
        lines.append(Line(application_of(program, step), line))
    if most is None or len(program.steps) <= most:
        return tuple(lines)
    left = len(program.steps) - most
    return (*lines, Line(remark=f"… and {left:,} more steps, folded; most=None shows all"))


def application_of(program: Program, step: Step) -> Application:
    """What a step computes, as an equation."""
    results = [program.variables[value] for value in step.equation.results]
    return Application(
        tuple(result.name for result in results),
        step.name,
        tuple(_operands(program, step)),
        tuple(result.shape for result in results),
    )


def _operands(program: Program, step: Step) -> list[Name | str]:
    """The operands of a step; numbers as they are."""
    operands: list[Name | str] = []
    for operand in step.equation.operands:
        if isinstance(operand, Literal):
            number = operand.array
            operands.append(f"{number:g}" if number.ndim == 0 else "…")
        else:
            operands.append(program.variables[operand.value].name)
    return operands


def _elementals(parts: Parts) -> list[Line]:
    """The elemental Jacobians with the formulas of their entries."""
    lines: list[Line] = []
    for elemental in parts.steps():
        if elemental.formula is None:
            word = elemental.use.step.word
            name = TEXT.called(elemental.derivative)
            remark = f"{name}, {_sizes(elemental.shape)}: {NO_FORMULA.format(word)}"
            lines.append(Line(remark=remark))
            continue
        lines.append(Line(elemental.formula, _sizes(elemental.shape)))
        lines += [
            Line(definition, "where", depth=1)
            if not isinstance(definition, str)
            else Line(remark=f"where {TEXT.name(name)} is {_origin(definition)}", depth=1)
            for name, definition in elemental.definitions
        ]
    return lines


def _origin(word: str) -> str:
    """Where an array without a formula comes from."""
    return "a constant of the program" if word == CONSTANT else f"computed by {word}"


def _sizes(shape: Sequence[int]) -> str:
    """How many entries a block has."""
    entries = math.prod(shape)
    return f"{entries:,} entries" if entries != 1 else "1 entry"


def _formulas(parts: Parts) -> list[Line]:
    """Backpropagation with indices."""
    return [Line(equation) for equation in parts.formulas().equations]


def _loop_section(loop: Loop, body: Parts, most: int | None) -> Section:
    """One step of a loop, and how Jacobians go back through all of them."""
    results = body.program.results
    numbers = dict(
        zip(loop.differentiated, (own.number for own in body.program.independents), strict=True)
    )
    reached = {
        (rule.result.number, number)
        for rule in body.rules()
        for number in numbers.values()
        if rule.uses.get(number) or rule.result.number == number
    }

    def is_active(result: int, argument: int) -> bool:
        """Whether a result of the body depends on an argument."""
        own = results[result]
        return own is not None and (own.number, numbers.get(argument)) in reached

    application = Application(
        (*loop.carried, *loop.given),
        BODY,
        loop.arguments,
        tuple(variable.shape if variable else () for variable in results),
    )
    head = Line(application, "carried on, then the results of the step, where")
    lines = [Line(equation, "back through the steps") for equation in loop.equations(is_active)]
    lines += [Line(equation) for equation in body.chain_rule().equations]
    lines += [Line(equation) for equation in body.formulas().equations]
    steps = _folded_steps(body, most)
    return Section(loop.title(), (head, *steps, *folded(lines, "equations", most)))


def _verdict(parts: Parts) -> str:
    """What was checked, in words."""
    if not parts.rules():
        return "there is nothing to check: no result is computed from the arguments"
    match parts.checked():
        case True:
            return (
                "every formula was evaluated, and gives the Jacobian that the library computes "
                "without them"
            )
        case False:
            rules = ", ".join(own.word for own in steps_without_a_jacobian(parts.program))
            if not rules:
                return "NOT RIGHT: the formulas do not give the Jacobian here; please report this"
            return (
                f"NOT the chain rule: the backward rule that {rules} has of its own is not seen to "
                "be linear in the cotangents, so that what reverse mode computes, and the library, "
                "is no product of Jacobians, and the formulas do not give it"
            )
        case None:
            return "not checked: the program or its Jacobian is too large to compute here"
