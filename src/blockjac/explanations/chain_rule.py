"""The chain rule of a program in symbols: products of elemental Jacobians, and sums over paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.program import Program, Step, Variable


@dataclass(frozen=True)
class Star:
    """A contraction of Jacobians, output side first; without factors, the identity.

    Attributes:
        factors: each an elemental Jacobian, or the name of a shared product.
    """

    factors: tuple[Derivative | Name, ...]


@dataclass(frozen=True)
class Paths:
    """A sum over paths; without any, zero."""

    terms: tuple[Star, ...]


@dataclass(frozen=True)
class Rule:
    """One equation: a Jacobian and what it is.

    Attributes:
        name: what the equation defines: a shared product `q`; None for the Jacobian itself.
        derivative: the Jacobian, of a result by a variable.
        paths: what it is.
    """

    name: Name | None
    derivative: Derivative
    paths: Paths


@dataclass(frozen=True, eq=False)
class Use:
    """That a step reads a variable and computes another from it.

    Attributes:
        step: the step.
        tail: number of the variable that it reads.
        head: number of the one that it computes.
    """

    step: Step
    tail: int
    head: int


class ChainRule:
    """The chain rule of one result of a program, going backwards from it.

    Attributes:
        program: the program.
        result: the result, whose Jacobian is asked for.
        uses: by variable, the steps that the result depends on and that read it.
    """

    def __init__(self, program: Program, result: Variable) -> None:
        """Find the paths to a result."""
        self.program, self.result = program, result
        reached = {result.number}
        uses: dict[int, list[Use]] = {}
        for step in reversed(program.active_steps):
            for head in program.heads(step):
                if head not in reached:
                    continue
                for tail in program.tails(step):
                    uses.setdefault(tail, []).append(Use(step, tail, head))
                    reached.add(tail)
        self.uses: dict[int, list[Use]] = {tail: own[::-1] for tail, own in uses.items()}

    @property
    def function(self) -> Name:
        """What the result's Jacobian is of: the name of the result."""
        results = self.program.results
        return self.program.function if len(results) == 1 else self.result.name

    @cached_property
    def intermediates(self) -> list[int]:
        """The variables between the arguments and the result, last computed first."""
        independents = {variable.number for variable in self.program.independents}
        return sorted(
            (own for own in self.uses if own not in independents and own != self.result.number),
            reverse=True,
        )

    def derivative(self, variable: int) -> Derivative:
        """The Jacobian of the result by a variable."""
        return Derivative(self.function, self.program.variables[variable].name)

    def elemental(self, use: Use) -> Derivative:
        """The elemental Jacobian of a step."""
        heads = self.program.heads(use.step)
        result = self.program.variables[use.head].name if len(heads) > 1 else None
        return Derivative(use.step.name, self.program.variables[use.tail].name, result)

    def adjoint(self, variable: int) -> Name:
        """The name of the Jacobian by an intermediate: `q` with the variable as its subscript.

        Where there are several results, that of which it is the Jacobian comes first.
        """
        own = self.program.variables[variable].name
        several = len(self.program.results) > 1
        return Name("q", (self.result.name, own) if several else (own,))

    def name(self, variable: int) -> Name | Derivative:
        """What the Jacobian by a variable is called: `q` if it is an intermediate."""
        is_shared = variable in self._intermediates
        return self.adjoint(variable) if is_shared else self.derivative(variable)

    @cached_property
    def _intermediates(self) -> frozenset[int]:
        return frozenset(self.intermediates)

    def backpropagation(self) -> list[Rule]:
        """The Jacobian by every intermediate, each from those after it, and then by the arguments.

        This is backpropagation: what is shared is named and computed once.
        """
        rules = [
            Rule(self.adjoint(number), self.derivative(number), self._by_names(number))
            for number in self.intermediates
        ]
        return [*rules, *self._of_arguments(self._by_names)]

    def written_out(self, most: int = 12) -> list[Rule]:
        """The Jacobian by each argument as products along paths.

        A variable that lies on several paths, and whose own Jacobian is a sum, is named once.

        Args:
            most: a product of more factors than this starts with the name of its first part.
        """
        products: dict[int, Paths] = {}
        rules: list[Rule] = []

        def prefix(head: int) -> tuple[Derivative | Name, ...]:
            """What stands in front of the Jacobian of a step with this result."""
            if head == self.result.number:
                return ()
            paths = products[head]
            if len(paths.terms) == 1 and len(paths.terms[0].factors) < most:
                return paths.terms[0].factors
            if head not in named:
                named.add(head)
                rules.append(Rule(self.adjoint(head), self.derivative(head), paths))
            return (self.adjoint(head),)

        def paths_of(number: int) -> Paths:
            """The paths to a variable."""
            return Paths(
                tuple(
                    Star((*prefix(use.head), self.elemental(use)))
                    for use in self.uses.get(number, ())
                )
            )

        named: set[int] = set()
        for number in self.intermediates:
            products[number] = paths_of(number)
        arguments = self._of_arguments(paths_of)
        return [*rules, *arguments]

    def _of_arguments(self, paths_of: Callable[[int], Paths]) -> list[Rule]:
        """The rule of each argument."""
        rules: list[Rule] = []
        for variable in self.program.independents:
            number = variable.number
            paths = paths_of(number)
            if number == self.result.number:
                paths = Paths((*paths.terms, Star(())))
            rules.append(Rule(None, self.derivative(number), paths))
        return rules

    def _by_names(self, number: int) -> Paths:
        """The paths to a variable, each from the name of what is shared."""
        terms: list[Star] = []
        for use in self.uses.get(number, ()):
            is_last = use.head == self.result.number
            prefix: Sequence[Name] = () if is_last else (self.adjoint(use.head),)
            terms.append(Star((*prefix, self.elemental(use))))
        return Paths(tuple(terms))


def uses_of(rules: Sequence[ChainRule]) -> list[tuple[ChainRule, Use]]:
    """Every use that some result depends on, once, by head and tail; with a rule that has it."""
    uses: dict[tuple[int, int], tuple[ChainRule, Use]] = {}
    for rule in rules:
        for own in rule.uses.values():
            for use in own:
                uses.setdefault((use.head, use.tail), (rule, use))
    return [uses[pair] for pair in sorted(uses)]
