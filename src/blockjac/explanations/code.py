"""A function and its derivative as a module that runs without this library.

The derivative is traced once more, with the names and formulas of the explanation tied to the
values that they belong to, by equations that do nothing (`jax.ad_checkpoint.checkpoint_name`). The
printer turns these into the names and comments of the module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import jax

from blockjac.base import compat
from blockjac.base.trees import flattened
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.engine.arguments import parameter_names
from blockjac.engine.computations import Jacobian
from blockjac.engine.leaves import TRACED
from blockjac.explanations.chain_rule import ChainRule
from blockjac.explanations.expressions import Formula
from blockjac.explanations.formulas import Formulas
from blockjac.explanations.layout import pieces
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.program import Program
from blockjac.explanations.source import COMMENT_TAG, NAME_TAG, Parameter, TracedFunction
from blockjac.explanations.styles.text import TEXT
from blockjac.explanations.ties import identifier, is_tie, tagged, tied
from blockjac.graph.graph import Graph, Operand
from blockjac.graph.trace import trace
from blockjac.planning import choose_order
from blockjac.planning.directions import goes_forwards
from blockjac.terms.block import rebuilt

LONGEST_COMMENT = 160
"""A longer formula is left out of the comment, which gives the shape alone."""

MOST_STEPS = 200
"""Of a program of more steps, formulas are left out of the comments."""


@dataclass(frozen=True, eq=False)
class Module:
    """What a module is traced from.

    Attributes:
        program: the function as named steps.
        formulas: of the program.
        rules: the chain rule of each active result.
        plain: the traced function that the order is of.
        order: of elimination, the vertices of the function as a plan numbers them.
    """

    program: Program
    formulas: Formulas
    rules: Sequence[ChainRule]
    plain: Callable[[], Graph]
    order: tuple[int, ...]

    def functions(self, fun: Callable[..., Any], args: Any, kwargs: Any) -> list[TracedFunction]:
        """The function and its derivative.

        Args:
            fun: the function.
            args: its positional arguments, arrays or shapes.
            kwargs: its keyword arguments.
        """
        call, program = self.program.call, self.program
        structs = [compat.struct(program.graph.avals[value]) for value in program.graph.inputs]
        parameters = _parameters(fun, args, kwargs)
        own_values = tagged(program)
        name = identifier(program.function)
        value = jax.make_jaxpr(own_values)(*structs)
        leaves = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in call.results]
        results = jax.tree.unflatten(call.record.out_tree, leaves)
        derivative = jax.make_jaxpr(self._derivative(own_values, structs))(*structs)
        rows = [[object() for _ in call.smooth] for _ in call.results]
        by = ", ".join(TEXT.name(variable.name) for variable in program.independents)
        title = f"The Jacobian of {name} by {by}, output axes first."
        if len(call.results) == 1 and call.results[0].shape == ():
            title = f"The gradient of {name} by {by}."
        own = TracedFunction(
            name, value, parameters, f"The function {name}.", results, self._captured(value)
        )
        return [
            own,
            TracedFunction(
                f"D_{name}",
                derivative,
                parameters,
                title,
                call.jacobian_tree(rows),
                self._captured(derivative),
            ),
        ]

    def _captured(self, closed: Any) -> list[str]:
        """What the captured arrays of a traced program are called; "" where that is not known."""
        graph, names = self.program.graph, {}
        for value, array in zip(graph.constants, graph.captured, strict=True):
            names[id(array)] = identifier(self.program.variables[value].name)
        return [names.get(id(array), "") for array in compat.constants(closed)]

    def _derivative(
        self, tagged: Callable[..., list[Any]], structs: Sequence[Any]
    ) -> Callable[..., list[Any]]:
        """The function that computes all blocks, row by row, with names and comments tied to them.

        Args:
            tagged: the function of its leaves, with names.
            structs: their types.
        """
        program, call = self.program, self.program.call
        positions = [program.graph.inputs.index(value) for value in call.smooth]
        graph = trace(tagged, structs, positions)
        wrt = [graph.inputs[position] for position in positions]
        active = ActiveGraph.of(graph, graph.outputs[: call.count])
        named = {
            vertex: number
            for vertex, number in self._named(graph).items()
            if vertex in active.vertices
        }

        computation = Jacobian(call.count, tuple(wrt), "auto", dense=True)
        planned = self._order(graph, active)

        def rows(*arrays: Any) -> list[Any]:
            """The dense blocks."""
            if goes_forwards(active):
                return self._answers(computation(graph, arrays, graph.captured, ())[1])
            linear = linearize_to_results(active, arrays, graph.captured)
            order = choose_order("auto", linear, True) if planned is None else planned

            def name(vertex: Any) -> None:
                """Tie the name of an adjoint to what has arrived at a variable."""
                if vertex in named:
                    self._name_adjoints(linear, vertex, named[vertex])

            eliminate(linear.edges, order, before=name)
            return self._answers(computation.rows(linear))

        return rows

    def _order(self, graph: Graph, active: ActiveGraph) -> list[int] | None:
        """The planned order for the traced function with names, each just before what it names.

        None where the equations are not those of the plan, as those of a program that inlines
        otherwise.
        """
        plain = self.plain()
        own = [equation for equation in graph.equations if not is_tie(equation)]
        if [e.primitive for e in plain.equations] != [e.primitive for e in own]:
            return None
        vertices = {
            before: after
            for theirs, ours in zip(plain.equations, own, strict=True)
            for before, after in zip(theirs.results, ours.results, strict=True)
        }
        names: dict[int, list[int]] = {}
        for equation in filter(is_tie, graph.equations):
            (operand,), (result,) = equation.operands, equation.results
            if isinstance(operand, Operand) and result in active.vertices:
                names.setdefault(operand.value, []).append(result)

        def tied_to(vertex: int) -> list[int]:
            """The names of a vertex, and of these, the last first."""
            later = [own for name in names.get(vertex, ()) for own in tied_to(name)]
            return [*later, vertex]

        order = [own for vertex in self.order for own in tied_to(vertices.get(vertex, -1))]
        return order if sorted(order) == sorted(active.reverse_order) else None

    def _named(self, graph: Graph) -> dict[int, int]:
        """The vertices of a traced program that are variables, with the numbers of these."""
        numbers = {
            NAME_TAG + identifier(variable.name): number
            for number, variable in self.program.variables.items()
        }
        return {
            equation.results[0]: numbers[equation.params["name"]]
            for equation in graph.equations
            if equation.primitive.name == "name" and equation.params["name"] in numbers
        }

    def _name_adjoints(self, linear: LinearizedGraph, vertex: int, number: int) -> None:
        """Name the Jacobians of results by a variable, where each is one array."""
        leaving = linear.edges.leaving.get(vertex, {})
        for head, edge in list(leaving.items()):
            if not (isinstance(head, tuple) and head[0] == "out" and isinstance(edge, Block)):
                continue
            position = cast("tuple[str, int]", head)[1]
            rule = self._rule(position)
            factor = _only_factor(edge)
            if rule is None or factor is None:
                continue
            array = tied(factor.array, COMMENT_TAG + self._comment(rule, number))
            array = tied(array, NAME_TAG + identifier(rule.adjoint(number)))
            term = replace(edge.terms[0], factors=(replace(factor, array=array),))
            block = rebuilt(edge.out_shape, edge.wrt_shape, edge.dtype, (term,))
            leaving[head] = linear.edges.entering[head][vertex] = block

    def _rule(self, position: int) -> ChainRule | None:
        """The chain rule of a result."""
        variable = self.program.results[position]
        return next((rule for rule in self.rules if rule.result is variable), None)

    def _answers(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """The blocks of the answer, row by row."""
        return [
            self._answer(array, position, column)
            for position, row in enumerate(rows)
            for column, array in enumerate(row)
        ]

    def _answer(self, array: Any, position: int, column: int) -> Any:
        """A block of the answer, with its formula as a comment."""
        rule = self._rule(position)
        variable = self.program.independents[column]
        if rule is None:
            return array
        array = tied(array, COMMENT_TAG + self._comment(rule, variable.number))
        return tied(array, f"{NAME_TAG}D_{identifier(variable.name)}")

    @cached_property
    def _shown(self) -> dict[Name | Derivative, Formula]:
        """The formulas that the explanation shows, by what they define."""
        return {
            formula.name: formula
            for rule in self.rules
            for formula in self.formulas.backpropagation(rule)
        }

    def _comment(self, rule: ChainRule, number: int) -> str:
        """The formula of an adjoint, and its shape."""
        shape = (*rule.result.axes, *self.program.variables[number].axes)
        head = f"{TEXT.called(rule.name(number))}, shape {shape}"
        if len(self.program.active_steps) > MOST_STEPS:
            return head
        shown = self._shown.get(rule.name(number))
        if shown is None:  # it is written where it is read
            shown = self.formulas.shown(self.formulas.adjoint(rule, number)[0], None)
        formula = " ".join(pieces(shown, TEXT))
        return f"{formula}, shape {shape}" if len(formula) <= LONGEST_COMMENT else head


def _only_factor(block: Block) -> Any:
    """The factor that a block is, axis by axis; None where it is more than one array."""
    if len(block.terms) != 1 or len(block.terms[0].factors) != 1:
        return None
    (term,) = block.terms
    (factor,) = term.factors
    sizes = [size for size in block.shape if size != 1]
    is_plain = all(
        index.is_plain(size) for index, size in zip(term.indices, block.shape, strict=True)
    )
    is_whole = [label.size for label in factor.labels] == sizes and len(term.labels) == len(sizes)
    labels = [index.strides[0][0] for index in term.indices if index.strides]
    is_one = term.coefficient == 1 and list(factor.labels) == labels
    return factor if is_plain and is_whole and is_one else None


def _parameters(fun: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Parameter, ...]:
    """The parameters with arrays in them, in the order of their leaves."""
    names = [*parameter_names(fun, len(args))[: len(args)], *kwargs]  # the others have defaults
    trees = [*args, *kwargs.values()]
    parameters: list[Parameter] = []
    for name, tree in zip(names, trees, strict=True):
        kept = jax.tree.map(_array, tree)
        if flattened(kept)[0]:
            parameters.append(Parameter(re.sub(r"\W+", "_", name).strip("_"), kept))
    return tuple(parameters)


def _array(leaf: Any) -> Any:
    """A leaf that the program takes; None for one that is fixed in it."""
    return cast("Any", leaf) if isinstance(leaf, (*TRACED, jax.ShapeDtypeStruct)) else None
