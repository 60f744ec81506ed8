"""The elemental Jacobians inside of a step, traced: edges between primitives, and factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from blockjac.base import compat
from blockjac.base.promises import keeping_structure
from blockjac.base.trees import flattened
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.run import structured
from blockjac.explanations.closed_forms.described import described
from blockjac.explanations.closed_forms.form import Helper
from blockjac.explanations.closed_forms.operated import Operated
from blockjac.explanations.program import Program, Step
from blockjac.graph.graph import Equation
from blockjac.graph.trace import trace
from blockjac.operators.operator import Operator
from blockjac.rules.complex_numbers import Holomorphic

WRITTEN = frozenset({"conv_general_dilated"})
"""Primitives that are applied as maps because that is faster, and have a formula."""


@dataclass(frozen=True, eq=False)
class Edges:
    """The elemental Jacobians inside of a step.

    Attributes:
        operands: the values that the step reads, each once.
        inputs: the vertices of the differentiated ones, by the value's number.
        outputs: the vertices of the differentiated results, by the value's number.
        order: the inner vertices, last computed first.
        entering: blocks by head and tail; their arrays are positions among the results of `closed`.
        operated: equations of edges without a block that have a closed form, likewise.
        helpers: arrays that are described by words, by their positions.
        opaque: vertices that an edge with neither leads to.
        closed: a program from the operands to the results of the step and all factors.
        results: the step's results, the first of those of `closed`.
    """

    operands: tuple[int, ...]
    inputs: dict[int, Vertex]
    outputs: dict[int, Vertex]
    order: tuple[Vertex, ...]
    entering: dict[Vertex, dict[Vertex, Block]]
    operated: dict[Vertex, dict[Vertex, Operated]]
    helpers: tuple[Helper, ...]
    opaque: frozenset[Vertex]
    closed: Any
    results: tuple[int, ...]


def edges_of(program: Program, step: Step) -> Edges:
    """Trace the elemental Jacobians of a step; nothing is computed.

    Args:
        program: that the step is of.
        step: with active operands and results.
    """
    operands, tails, heads = step.operands, program.tails(step), program.heads(step)
    others = [own for own in step.equation.results if own not in heads]
    results = [*heads, *others]  # formulas may read results that nothing else does
    function = step.function(results)
    structs = [compat.struct(program.graph.avals[value]) for value in operands]
    inner = structured(trace(function, structs, [operands.index(tail) for tail in tails]))
    active = ActiveGraph.of(inner, inner.outputs[: len(heads)])
    pairs: list[tuple[Vertex, Vertex]] = []
    forms: dict[Equation | None, Operated | None] = {}
    operated: dict[Vertex, dict[Vertex, Operated]] = {}
    opaque: set[Vertex] = set()

    def local(*arrays: Any) -> Any:
        """The results, the blocks of all edges, and what those in closed form read."""
        captured = [np.asarray(array) for array in inner.captured]
        with keeping_structure(True):
            linear = linearize_to_results(active, arrays, captured)
        blocks: list[Block] = []
        helpers: list[Helper] = []
        for tail, leaving in linear.edges.leaving.items():
            for head, edge in leaving.items():
                equation = linear.edges.equations.get(head)
                if isinstance(edge, Block) or _has_block(edge, equation):
                    pairs.append((tail, head))
                    blocks.append(edge if isinstance(edge, Block) else edge.block())
                    helpers += described(edge, blocks[-1], equation, linear.point.values)
                    continue
                if equation not in forms:
                    forms[equation] = Operated.of(equation, linear.point.values)
                own = forms[equation]
                if own is None:
                    opaque.add(head)
                else:
                    operated.setdefault(head, {})[tail] = own
        of_forms = [own.helpers for own in forms.values() if own is not None]
        return linear.results(), blocks, helpers, of_forms

    closed, types = jax.make_jaxpr(local, return_shape=True)(*structs)
    leaves, tree = flattened(types)
    _, blocks, helpers, of_forms = jax.tree.unflatten(tree, range(len(leaves)))
    traced = [own for own in forms.values() if own is not None]
    for own, positions in zip(traced, of_forms, strict=True):
        own.helpers.update(positions)
        helpers += positions.values()
    entering: dict[Vertex, dict[Vertex, Block]] = {}
    for (tail, head), block in zip(pairs, blocks, strict=True):
        entering.setdefault(head, {})[tail] = block
    inputs = {tail: inner.inputs[operands.index(tail)] for tail in tails}
    return Edges(
        operands,
        {tail: vertex for tail, vertex in inputs.items() if vertex in active.vertices},
        {head: ("out", position) for position, head in enumerate(heads)},
        tuple(active.reverse_order),
        entering,
        operated,
        tuple(helpers),
        frozenset(opaque),
        closed,
        tuple(results),
    )


def _has_block(edge: Operator, equation: Equation | None) -> bool:
    """Whether a Jacobian that is applied as a map has a Block in few terms as well."""
    is_written = equation is not None and equation.primitive.name in WRITTEN
    return is_written or isinstance(edge.group, Holomorphic)


def known_variables(edges: Edges) -> Mapping[Any, int]:
    """The variables of a step's traced program that are values of the whole one."""
    jaxpr = compat.open_jaxpr(edges.closed)
    known: dict[Any, int] = {}
    for atom, value in zip(jaxpr.outvars, edges.results, strict=False):
        if compat.is_variable(atom):
            known[atom] = value
    return {**known, **dict(zip(jaxpr.invars, edges.operands, strict=True))}


def atoms_of(edges: Edges) -> Sequence[Any]:
    """What the positions in the blocks stand for: variables and literals of the traced program."""
    return compat.open_jaxpr(edges.closed).outvars


def computed_atoms(edges: Edges) -> Mapping[Any, tuple[str, Sequence[Any]]]:
    """The arrays that closed forms compute: words for that, and the variables it is done from."""
    atoms = atoms_of(edges)
    return {
        atoms[helper.array]: (helper.word, [atoms[source] for source in helper.sources])
        for helper in edges.helpers
        if helper.word and compat.is_variable(atoms[helper.array])
    }
