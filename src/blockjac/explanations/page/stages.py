"""The lecture's stage form of a chain: stages hand on parameters, and have block matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.page.step_graph import Edge, StepGraph
from blockjac.explanations.styles.mathml import MATHML, operator, row
from blockjac.explanations.styles.text import TEXT

MOST_STAGES, MOST_COLUMNS = 12, 12
"""A longer chain, or one of more parameters, is not written as matrices."""


@dataclass(frozen=True)
class Stage:
    """A step and the parameters that are handed on.

    Attributes:
        name: of the step.
        reads: names of its inputs: the state, if it depends on an argument, and parameters.
        gives: names of its outputs.
        blocks: for each output and each input a Jacobian, True for the identity, or None for zero.
    """

    name: Name
    reads: tuple[Name, ...]
    gives: tuple[Name, ...]
    blocks: tuple[tuple[Derivative | bool | None, ...], ...]


def stages_of(graph: StepGraph) -> list[Stage]:
    """The stages of a chain with parameters; none for a graph that is not one.

    Every step reads the result of the step before and arguments that no other step reads.
    """
    computed = [n for n, vertex in enumerate(graph.vertices) if vertex.step is not None]
    entering: dict[int, list[Edge]] = {}
    readers: dict[int, int] = {}
    for edge in graph.edges:
        entering.setdefault(edge.head, []).append(edge)
        readers[edge.tail] = readers.get(edge.tail, 0) + 1
    is_chain = 2 <= len(computed) <= MOST_STAGES and all(n == 1 for n in readers.values())
    before: int | None = None
    for vertex in computed:
        states = [e.tail for e in entering[vertex] if graph.vertices[e.tail].step is not None]
        if states != ([] if before is None else [before]):
            is_chain = False
        before = vertex
    parameters = [
        [e.tail for e in entering.get(vertex, ()) if graph.vertices[e.tail].step is None]
        for vertex in computed
    ]
    if not is_chain or not 2 <= sum(map(len, parameters)) <= MOST_COLUMNS:
        return []
    stages: list[Stage] = []
    before = None
    for number, vertex in enumerate(computed):
        left = [tail for own in parameters[number:] for tail in own]
        handed = [tail for own in parameters[number + 1 :] for tail in own]
        reads = ([] if before is None else [before]) + left
        own = {edge.tail: edge.derivative for edge in entering[vertex]}
        first = tuple(own.get(tail) for tail in reads)
        others = tuple(tuple(True if to == tail else None for tail in reads) for to in handed)
        step = graph.vertices[vertex].step
        if step is not None:
            stages.append(
                Stage(
                    step.name,
                    _names(graph, reads),
                    _names(graph, [vertex, *handed]),
                    (first, *others),
                )
            )
        before = vertex
    return stages


def _names(graph: StepGraph, positions: Sequence[int]) -> tuple[Name, ...]:
    """The names of vertices."""
    return tuple(graph.vertices[position].variable.name for position in positions)


def stage_section(stages: Sequence[Stage]) -> str:
    """The matrices as HTML; nothing for no stages."""
    if not stages:
        return ""
    product = operator("⋆").join(
        f"<msub><mi>M</mi>{MATHML.name(stage.name)}</msub>" for stage in reversed(stages)
    )
    items = "".join(
        f'<div class="equation stage"><math>{_matrix(stage)}</math>'
        f'<span class="remark">{_caption(stage)}</span></div>'
        for stage in stages
    )
    return (
        "<section>\n<h2>The stages as block matrices</h2>\n"
        "<p>Each step becomes a stage that also hands on the parameters of the later ones. Its "
        "Jacobian is then a block matrix, and the Jacobian of all is the product of the matrices, "
        f'last stage first:</p>\n<div class="equation"><math><mi>M</mi>{operator("=")}{product}'
        f"</math></div>\n{items}\n</section>\n"
    )


def _caption(stage: Stage) -> str:
    """What a stage maps to what."""
    reads = ", ".join(map(TEXT.name, stage.reads))
    gives = ", ".join(map(TEXT.name, stage.gives))
    return f"({reads}) ↦ ({gives})"


def _matrix(stage: Stage) -> str:
    """`M_phi = [D_Z phi, D_W phi, 0; 0, 0, I]`."""
    rows = "".join(
        f"<mtr>{''.join(f'<mtd>{_cell(own)}</mtd>' for own in cells)}</mtr>"
        for cells in stage.blocks
    )
    table = row(operator("["), f"<mtable>{rows}</mtable>", operator("]"))
    return f"<msub><mi>M</mi>{MATHML.name(stage.name)}</msub>{operator('=')}{table}"


def _cell(own: Derivative | bool | None) -> str:
    """A block of a matrix."""
    if isinstance(own, Derivative):
        return MATHML.derivative(own)
    return MATHML.identity() if own else MATHML.digits("0")
