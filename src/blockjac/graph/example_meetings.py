"""Whether the examples of a batch meet on the way to a result of a program, and where."""

from __future__ import annotations

from collections.abc import Mapping

from blockjac.graph.example_states import Apart, Meeting
from blockjac.graph.examples import Walk
from blockjac.graph.graph import Graph, Literal


def meeting_of(
    graph: Graph, examples: Mapping[int, int], count: int, axis: int, number: int = 0
) -> Meeting | None:
    """Where the examples of a program meet on the way to one of its results; None if nowhere.

    Derivative rules of the user's own are part of the way.

    Args:
        graph: the traced function.
        examples: by input, the axis that holds its examples; the others are the same for all.
        count: how many examples there are.
        axis: the axis of the result that holds them.
        number: of the result.
    """
    if count < 2:
        return None
    inputs = [Apart(examples[value], 1) if value in examples else None for value in graph.inputs]
    output = graph.outputs[number]
    if isinstance(output, Literal):
        return None
    states = Walk(graph, count).states(inputs)
    for value in (output.value, output.vertex):
        state = None if value is None else states.get(value)
        if isinstance(state, Meeting):
            return state
        if state is not None and state != Apart(axis, 1):
            return Meeting("a reordering", "")
    return None
