"""The Blocks of an explanation's edges at its arguments: their structure and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from blockjac.base import compat
from blockjac.base.promises import keeping_structure
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.run import structured
from blockjac.explanations.numbers import Numbers, can_be_run
from blockjac.explanations.page.step_graph import StepGraph
from blockjac.explanations.program import Step
from blockjac.explanations.styles.text import TEXT
from blockjac.graph.trace import trace
from blockjac.operators.compose import written
from blockjac.terms.block import rebuilt

MOST_WRITTEN = 1_000_000
"""Entries of the dense Jacobian of a map without a Block up to which it is computed."""


@dataclass(frozen=True, eq=False)
class EdgeBlock:
    """The elemental Jacobian of an edge.

    Attributes:
        block: at the arguments; None for a map that is applied and never written down, and whose
            dense Jacobian is too large to compute.
        is_dense: whether the block is dense only because the map has no Block of its own.
    """

    block: Block | None
    is_dense: bool = False


def edge_blocks(graph: StepGraph, numbers: Callable[[], Numbers]) -> list[EdgeBlock]:
    """The Block of every edge, in the order of the graph's edges.

    Where the program is too large to run, Blocks hold shapes in place of arrays.

    Args:
        graph: the graph of the steps.
        numbers: the program at a point.
    """
    program = graph.program
    if can_be_run(program):
        return _at(graph, [compat.jax_array(own) for own in numbers().arguments])
    structs = [compat.struct(program.graph.avals[value]) for value in program.graph.inputs]
    flags: list[bool] = []

    def structure(arguments: Sequence[Any]) -> list[Block | None]:
        """The Blocks of traced arguments; nothing is computed."""
        known = _at(graph, arguments)
        flags[:] = [own.is_dense for own in known]
        return [own.block for own in known]

    blocks = jax.eval_shape(structure, structs)
    return [EdgeBlock(*own) for own in zip(blocks, flags, strict=True)]


def _at(graph: StepGraph, arguments: Sequence[Any]) -> list[EdgeBlock]:
    """The Block of every edge at arguments."""
    program = graph.program
    known: dict[tuple[int, int], EdgeBlock] = {}
    with keeping_structure(True):
        linear = linearize_to_results(program.active, arguments, program.graph.captured)
    for edge in graph.edges:
        pair = edge.use.tail, edge.use.head
        own = linear.edges.leaving.get(pair[0], {}).get(pair[1])
        if isinstance(own, Block):
            known[pair] = EdgeBlock(own)
        elif pair not in known:
            known.update(_inside(graph, edge.use.step, linear.point.values))
    return [known[edge.use.tail, edge.use.head] for edge in graph.edges]


def _inside(
    graph: StepGraph, step: Step, values: Sequence[Any]
) -> Mapping[tuple[int, int], EdgeBlock]:
    """The Blocks of a step, by what it reads and computes: eliminated between its primitives."""
    program, operands = graph.program, step.operands
    tails, heads = program.tails(step), program.heads(step)
    arguments = [compat.jax_array(values[value]) for value in operands]
    positions = [operands.index(tail) for tail in tails]
    traced = structured(trace(step.function(heads), list(map(jax.typeof, arguments)), positions))
    active = ActiveGraph.of(traced, traced.outputs)
    with keeping_structure(True):
        linear = linearize_to_results(active, arguments, traced.captured)
        eliminate(linear.edges, active.reverse_order)
    names = {
        f"arrays.{position}": TEXT.name(program.variables[value].name)
        for position, value in enumerate(operands)
    }
    blocks: dict[tuple[int, int], EdgeBlock] = {}
    for tail, position in zip(tails, positions, strict=True):
        leaving = linear.edges.leaving.get(traced.inputs[position], {})
        for number, head in enumerate(heads):
            shapes = program.variables[head].axes, program.variables[tail].axes
            own = leaving.get(("out", number))
            if own is None:
                blocks[tail, head] = EdgeBlock(Block.zeros(*shapes))
            elif isinstance(own, Block):
                blocks[tail, head] = EdgeBlock(_named(own, names))
            else:
                size = Block.zeros(*shapes).size
                whole = written(own) if size <= MOST_WRITTEN else None
                blocks[tail, head] = EdgeBlock(whole, is_dense=True)
    return blocks


def _named(block: Block, names: Mapping[str, str]) -> Block:
    """A Block whose factors are called as the program calls their arrays."""
    terms = [
        replace(
            term,
            factors=tuple(
                replace(factor, name=names.get(factor.name, factor.name)) for factor in term.factors
            ),
        )
        for term in block.terms
    ]
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)
