"""Diagonals of second derivatives from the graph of the first derivative.

This is the way of every function, also of one that can be differentiated backwards only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.promises import reading_forwards
from blockjac.engine.computations import Jacobian
from blockjac.graph.graph import Graph
from blockjac.graph.trace import trace
from blockjac.rules.complex_parts import is_complex
from blockjac.second_order.diagonal_computation import Diagonal, Wanted

Rows = list[list[Any]]


def diagonals_by_gradient(
    graph: Graph,
    count: int,
    wrt: Sequence[int],
    arguments: Sequence[Any],
    captured: Sequence[Any],
    directions: Sequence[Any] | None = None,
) -> Rows:
    """The diagonals of the Hessians of results, for each of them by each input.

    Args:
        graph: the traced function.
        count: how many of its results are differentiated.
        wrt: its inputs to differentiate by.
        arguments: values of its inputs.
        captured: values of its constants.
        directions: for each of these inputs an array with an axis more in front. Along that axis
            lie directions, by which the diagonal is then taken, instead of by the inputs.
    """
    results = [graph.aval(output) for output in graph.outputs[:count]]
    size, places = len(graph.inputs), [graph.inputs.index(value) for value in wrt]

    def rows_at(arrays: Sequence[Any]) -> Rows:
        """The first derivatives, of complex results those of both parts, one after the other."""
        jacobian = Jacobian(count, tuple(wrt), "auto", dense=True)
        with reading_forwards(False):
            _, rows = jacobian(graph, arrays[:size], arrays[size:], ())
        parts: Rows = []
        for row, result in zip(rows, results, strict=True):
            parts += [[*map(jnp.real, row)], [*map(jnp.imag, row)]] if is_complex(result) else [row]
        return parts

    def rows(*arrays: Any) -> list[Any]:
        return [block for row in rows_at(arrays) for block in row]

    def rows_along(steps: Any, *arrays: Any) -> list[Any]:
        """The derivatives along the directions, at a point some steps along these."""
        moved = list(arrays)
        for place, direction in zip(places, directions or (), strict=True):
            moved[place] = moved[place] + jnp.tensordot(steps, direction, 1)
        return [sum(map(_along, row, directions or ())) for row in rows_at(moved)]

    arrays = [*arguments, *captured]
    inputs = [graph.avals[value] for value in wrt]
    if directions is not None:
        steps = jnp.zeros(directions[0].shape[0], jnp.result_type(*directions))
        inputs, arrays, places_of = [jax.typeof(steps)], [steps, *arrays], [0]
        derivative = trace(rows_along, arrays, places_of)
    else:
        derivative, places_of = trace(rows, arrays, places), places
    owners = [result for result in results for _ in range(1 + is_complex(result))]
    pairs = tuple(
        Wanted(row * len(inputs) + number, number, len(owner.shape), len(aval.shape))
        for row, owner in enumerate(owners)
        for number, aval in enumerate(inputs)
    )
    by = tuple(derivative.inputs[place] for place in places_of)
    with reading_forwards(True):
        _, diagonals = Diagonal(len(pairs), by, "auto", pairs)(
            derivative, arrays, derivative.captured, ()
        )
    parts = [
        diagonals[start : start + len(inputs)] for start in range(0, len(diagonals), len(inputs))
    ]
    answer: Rows = []
    for result in results:
        row = parts.pop(0)
        if is_complex(result):
            row = [jax.lax.complex(*both) for both in zip(row, parts.pop(0), strict=True)]
        answer.append(row)
    return answer


def _along(block: Any, direction: Any) -> Any:
    """A derivative by an input along directions, their axis last."""
    rank = direction.ndim - 1
    axes = tuple(range(block.ndim - rank, block.ndim)), tuple(range(1, direction.ndim))
    return jnp.tensordot(block, direction, axes)
