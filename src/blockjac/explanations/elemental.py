"""The formula of a step's elemental Jacobians, from its edges by elimination on formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from blockjac.base import compat
from blockjac.elimination.elimination_graph import Vertex
from blockjac.explanations import expressions as ex
from blockjac.explanations.closed_forms.operated import Operated
from blockjac.explanations.contraction import Partial, body, contracted, identity
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.known import Compute, known_terms
from blockjac.explanations.local import (
    Edges,
    atoms_of,
    computed_atoms,
    edges_of,
    known_variables,
)
from blockjac.explanations.names import Name
from blockjac.explanations.places import fresh
from blockjac.explanations.program import Program, Step, Variable
from blockjac.explanations.reading import Reader
from blockjac.explanations.simplify import folded, pulled_out

MOST_TERMS = 12
"""A block of more terms than this is shown as a tensor of its own, and not by a formula."""


@dataclass(eq=False)
class StepJacobian:
    """The elemental Jacobians of one step, by formulas.

    Attributes:
        step: the step.
        edges: between its primitives.
        reader: of its traced program.
        terms: for each result and operand the terms that arrive, as `Partial`s over `rows`; None
            where the block has no formula.
        rows: letters of each result's axes.
        computed: for arrays that formulas of linear algebra read, the variable that each is
            computed from, and how.
    """

    step: Step
    edges: Edges
    reader: Reader
    terms: dict[tuple[int, int], list[Partial] | None] = field(default_factory=dict)
    rows: dict[int, list[Letter]] = field(default_factory=dict)
    computed: dict[Name, tuple[int, Compute]] = field(default_factory=dict)

    def helper(self, word: str, variable: Variable, compute: Compute) -> Name:
        """The name of an array that is computed from a variable, the same for every block."""
        call = word, (variable.name,)
        for name in self.computed:
            if self.reader.words[name] == call:
                return name
        name = self.reader.new_name(None, *call)
        self.computed[name] = variable.number, compute
        return name

    def factor(self, position: Any, places: Sequence[Place]) -> Expression:
        """An entry of a factor."""
        return self.reader.entry(atoms_of(self.edges)[position], places)

    def lookup(self, position: Any, places: Sequence[Place]) -> Expression:
        """An entry of an array of integers, which has a name."""
        return self.reader.named_entry(atoms_of(self.edges)[position], places)

    def formula(self, head: int, tail: int, shape: Sequence[int]) -> ex.Formula | None:
        """The block of a result by an operand; None if it has no formula.

        Args:
            head: number of the result.
            tail: number of the operand.
            shape: of the operand.
        """
        terms = self.terms[head, tail]
        if terms is None:
            return None
        letters = [fresh(size) for size in shape]
        places = (*map(Place.of, self.rows[head]), *map(Place.of, letters))
        shape = (*(letter.size for letter in self.rows[head]), *shape)
        return ex.Formula(Name("#"), places, self.folded(body(terms, letters)), shape)

    def folded(self, expression: Expression) -> Expression:
        """An expression of the step's factors, with results of the step by their names."""
        return pulled_out(folded(expression, self.definitions))

    @cached_property
    def definitions(self) -> list[ex.Formula]:
        """What the results of the step are, where that has a formula."""
        definitions: list[ex.Formula] = []
        for atom in compat.open_jaxpr(self.edges.closed).outvars[: len(self.edges.results)]:
            formula = self.reader.definition(atom) if compat.is_variable(atom) else None
            if formula is not None:
                definitions.append(replace(formula, name=self.reader.names[atom]))
        return definitions


def step_jacobian(program: Program, step: Step) -> StepJacobian:
    """The elemental Jacobians of a step by formulas; nothing is computed.

    Args:
        program: that the step is of.
        step: with active operands and results.
    """
    edges = edges_of(program, step)
    variables = known_variables(edges)
    names = {atom: program.variables[value].name for atom, value in variables.items()}
    jacobian = StepJacobian(step, edges, Reader(edges.closed, names, computed_atoms(edges)))
    for head in program.heads(step):
        rows = [fresh(size) for size in program.variables[head].axes]
        jacobian.rows[head] = rows
        terms: Mapping[Vertex, list[Partial]] | None = None
        for number, tail in enumerate(program.tails(step)):
            known = known_terms(program, step, head, tail, rows, jacobian.helper)
            if known is None and number == 0:
                terms = _eliminated(jacobian, edges.outputs[head], rows)
            arrived = None if terms is None else terms.get(edges.inputs.get(tail), [])
            jacobian.terms[head, tail] = arrived if known is None else known
    return jacobian


def _eliminated(
    jacobian: StepJacobian, output: Vertex, rows: Sequence[Letter]
) -> Mapping[Vertex, list[Partial]] | None:
    """The terms that arrive at each input, going backwards; None where there are too many."""
    edges = jacobian.edges
    terms: dict[Vertex, list[Partial]] = {output: [identity(rows)]}
    for vertex in (output, *edges.order):
        if vertex not in terms:
            continue
        if vertex in edges.opaque:
            return None
        multiply: dict[Vertex, Callable[[Partial], list[Partial]]] = {
            tail: partial(contracted, block=block, arrays=jacobian)
            for tail, block in edges.entering.get(vertex, {}).items()
        }
        for tail, operated in edges.operated.get(vertex, {}).items():
            multiply[tail] = partial(_operated, operated, vertex, tail, jacobian)
        for tail, by_tail in multiply.items():
            products = [term for own in terms[vertex] for term in by_tail(own)]
            terms[tail] = [*terms.get(tail, []), *products]
            if len(terms[tail]) > MOST_TERMS:
                return None
    return terms


def _operated(
    operated: Operated, head: Vertex, tail: Vertex, jacobian: StepJacobian, term: Partial
) -> list[Partial]:
    """A term times a block in closed form."""
    blocks = operated.terms(head, tail, term.axes, jacobian)
    return [
        Partial((*term.factors, *own.factors), own.axes, (*term.bound, *own.bound))
        for own in blocks
    ]
