"""Every formula with indices of an explanation: of elemental Jacobians, of q, of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import blockjac.explanations.movements  # pyright: ignore[reportUnusedImport]  # noqa: F401
from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import ChainRule, Use
from blockjac.explanations.contraction import Partial, arriving, body, identity, with_places
from blockjac.explanations.elemental import StepJacobian, step_jacobian
from blockjac.explanations.expressions import Letter, Place
from blockjac.explanations.letters import Alphabet
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.places import fresh
from blockjac.explanations.program import Program, Step
from blockjac.explanations.simplify import inlined, pulled_out
from blockjac.explanations.styles.text import TEXT
from blockjac.explanations.traversal import entries, parts, renamed, size

SHORT_ADJOINT = 10
"""An adjoint of more parts than this is named, so that what reads it stays readable."""

HELPERS = "ABCEFGHKLMNOPSTUVWRQXYZ"
"""Names of what formulas read beside the variables."""


@dataclass(frozen=True)
class Elemental:
    """An elemental Jacobian as it is shown.

    Attributes:
        use: the step, what it reads and what it computes.
        derivative: its name.
        formula: its entries; None where it has no formula.
        definitions: of helpers that the formula reads, by formulas, or by the word for what
            computes them.
        shape: result axes first.
    """

    use: Use
    derivative: Derivative
    formula: ex.Formula | None
    definitions: tuple[tuple[Name, ex.Formula | str], ...]
    shape: tuple[int, ...]


Adjoint = tuple[ex.Formula, tuple[tuple[Name, ex.Formula | str], ...]]
"""The formula of a Jacobian by a variable, and the helpers that it reads."""


class Formulas:
    """The formulas of one program.

    Attributes:
        program: the program.
        helpers: names given to what formulas read beside variables, by step and own name.
    """

    def __init__(self, program: Program) -> None:
        """Prepare; formulas are made when they are asked for."""
        self.program = program
        names = [variable.name for variable in program.variables.values()]
        self.taken = {str(name) for name in names}
        letters = {name.base for name in names} | {program.function.base}
        self.alphabet = Alphabet(frozenset(own for own in letters if len(own) == 1))
        for variable in program.variables.values():
            for axis in variable.shape:
                if axis != 1:
                    self.alphabet.letter(axis)
        self.helpers: dict[tuple[Step, Name], Name] = {}
        self._steps: dict[Step, StepJacobian] = {}
        self._adjoints: dict[tuple[int, int], Adjoint] = {}

    def step(self, step: Step) -> StepJacobian:
        """The elemental Jacobians of a step."""
        if step not in self._steps:
            self._steps[step] = step_jacobian(self.program, step)
        return self._steps[step]

    def elemental(self, use: Use, derivative: Derivative) -> Elemental:
        """The elemental Jacobian of a use, with its helpers."""
        jacobian = self.step(use.step)
        tail = self.program.variables[use.tail]
        head = self.program.variables[use.head]
        formula = jacobian.formula(use.head, use.tail, tail.axes)
        shape = (*head.axes, *tail.axes)
        if formula is None:
            return Elemental(use, derivative, None, (), shape)
        shown = self.shown(replace(formula, name=derivative), use.step)
        return Elemental(use, derivative, shown, self.definitions(formula.body, use.step), shape)

    def value(self, step: Step) -> ex.Formula | None:
        """What a step of one result computes by its operands; None if it has no short formula."""
        if step.is_named or len(step.equation.results) != 1 or not self.program.heads(step):
            return None
        jacobian = self.step(step)
        if not jacobian.definitions:
            return None
        (formula,) = jacobian.definitions
        if any(entry.name in jacobian.reader.definitions for entry in entries(formula.body)):
            return None
        return self.shown(formula, step)

    def shown(self, formula: ex.Formula, step: Step | None) -> ex.Formula:
        """A formula with the letters and names that a reader sees."""
        named = formula
        if step is not None:
            body_ = renamed(formula.body, lambda name: self._helper(name, step))
            named = replace(formula, body=body_)
        return self.alphabet.lettered(named)

    def _helper(self, name: Any, step: Step) -> Any:
        """The name of a helper of a step; other names stay."""
        if not isinstance(name, Name) or not name.base.startswith("#"):
            return name
        if (step, name) not in self.helpers:
            numbers = (Name(own) for own in HELPERS)
            free = [own for own in numbers if str(own) not in self.taken]
            own = free[0] if free else Name("A", (str(len(self.helpers) + 1),))
            self.taken.add(str(own))
            self.helpers[step, name] = own
        return self.helpers[step, name]

    def definitions(
        self, expression: ex.Expression, step: Step
    ) -> tuple[tuple[Name, ex.Formula | str], ...]:
        """The helpers that a formula of a step reads, those first that others read."""
        reader = self.step(step).reader
        found: dict[Name, ex.Formula | str] = {}

        def visit(own: Name | Derivative) -> None:
            """Add an array, and before it what it is computed from."""
            if not isinstance(own, Name) or own not in reader.definitions or own in found:
                return
            formula, (word, of) = reader.definitions[own], reader.words[own]
            for name in of if formula is None else (part.name for part in entries(formula.body)):
                visit(name)
            names = [TEXT.name(self._helper(name, step)) for name in of]
            found[own] = word.format(*names) if formula is None else formula

        for entry in entries(expression):
            visit(entry.name)
        return tuple(
            (
                self._helper(name, step),
                formula
                if isinstance(formula, str)
                else self.shown(replace(formula, name=self._helper(name, step)), step),
            )
            for name, formula in found.items()
        )

    def adjoint(self, rule: ChainRule, number: int) -> Adjoint:
        """The Jacobian of the result by a variable, from those by the variables after it.

        Args:
            rule: of the result.
            number: of the variable.

        Returns:
            The formula over letters that occur nowhere else, and the helpers that it reads.
        """
        key = rule.result.number, number
        if key not in self._adjoints:
            self._adjoints[key] = self._adjoint(rule, number)
        return self._adjoints[key]

    def _adjoint(self, rule: ChainRule, number: int) -> Adjoint:
        """The formula of an adjoint and its helpers, worked out."""
        variables, result = self.program.variables, rule.result
        shape = variables[number].axes
        rows = [fresh(size) for size in result.axes]
        wrt = [fresh(size) for size in shape]
        terms: list[ex.Expression] = []
        definitions: dict[Name, ex.Formula | str] = {}
        if number == rule.result.number:  # the argument itself is the result
            terms.append(body([identity(rows)], wrt))
        for use in rule.uses.get(number, ()):
            partials = self._through(rule, use, rows)
            jacobian = self.step(use.step)
            expression = jacobian.folded(body(partials, wrt))
            definitions |= dict(self.definitions(expression, use.step))
            step = use.step
            terms.append(renamed(expression, lambda own, step=step: self._helper(own, step)))
        places = (*map(Place.of, rows), *map(Place.of, wrt))
        whole = (*result.axes, *shape)
        formula = ex.Formula(rule.name(number), places, ex.total(terms), whole)
        return formula, tuple(definitions.items())

    def backpropagation(self, rule: ChainRule) -> list[ex.Formula]:
        """The formulas of all adjoints of a result, and of the helpers that they read.

        What is a number or another adjoint, or belongs to the result of a primitive and is short
        and read once, is written where it is read.
        """
        arguments = [variable.number for variable in self.program.independents]
        shown: dict[ex.Formula, None] = {}
        written: dict[Name | Derivative, ex.Formula] = {}
        for number in (*rule.intermediates, *arguments):
            raw, definitions = self.adjoint(rule, number)
            formula = replace(raw, body=pulled_out(inlined(raw.body, written)))
            helpers = (own for _, own in definitions if isinstance(own, ex.Formula))
            shown.update(dict.fromkeys(helpers))
            if number not in arguments and self._is_repeated(rule, number, formula.body):
                written[formula.name] = formula
                continue
            shown[self.shown(formula, None)] = None
        return list(shown)

    def _is_repeated(self, rule: ChainRule, number: int, own: ex.Expression) -> bool:
        """Whether an adjoint is written where it is read."""
        if size(own) <= 2:
            return True
        readers = sum(use.head == number for uses in rule.uses.values() for use in uses)
        is_short = size(own) <= SHORT_ADJOINT and not any(
            isinstance(part, ex.Over) for part in parts(own)
        )
        return self.program.variables[number].is_numbered and readers == 1 and is_short

    def _through(self, rule: ChainRule, use: Use, rows: Sequence[Letter]) -> list[Partial]:
        """What arrives at a step's result, contracted with the step's Jacobian."""
        jacobian, variables = self.step(use.step), self.program.variables
        own = jacobian.terms[use.head, use.tail]
        head = variables[use.head]
        is_last = use.head == rule.result.number
        start = tuple(map(Place.of, rows))
        shape = (*rule.result.axes, *head.axes)
        name = rule.adjoint(use.head)
        if own is None:  # no formula: the Jacobian as a tensor of its own
            tail = variables[use.tail]
            block = rule.elemental(use)
            letters = [fresh(size) for size in tail.axes]
            places = tuple(map(Place.of, letters))
            bound = tuple(letter for letter in letters if letter.size != 1)
            if is_last:
                entry = ex.Entry(block, (*start, *places), (*shape[: len(rows)], *tail.axes))
                return [Partial((entry,), places, bound)]
            middle = arriving(lambda at: ex.Entry(name, (*start, *at), shape), head.axes)
            entry = ex.Entry(block, (*middle.axes, *places), (*head.axes, *tail.axes))
            return [Partial((*middle.factors, entry), places, (*middle.bound, *bound))]
        letters = jacobian.rows[use.head]
        if is_last:
            inner = {letter: Place.of(row) for letter, row in zip(letters, rows, strict=True)}
            return [with_places(partial, inner) for partial in own]
        entry = ex.Entry(name, (*start, *map(Place.of, letters)), shape)
        bound = tuple(letter for letter in letters if letter.size != 1)
        return [
            Partial((entry, *partial.factors), partial.axes, (*bound, *partial.bound))
            for partial in own
        ]
