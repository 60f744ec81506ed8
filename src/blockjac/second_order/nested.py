"""Derivatives of higher order by derivatives of derivatives, for what has no coefficients.

Loops, branches and factorizations are pushed forwards along each coordinate in turn, of the Taylor
polynomials of their operands. A function that can be differentiated backwards only has its Jacobian
traced and differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import Vertex
from blockjac.engine.computations import Jacobian, Pushforward
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.graph.linearity import is_inexact
from blockjac.graph.trace import trace
from blockjac.rules.fallback import packed, real_dtype, unpacked
from blockjac.second_order.directions import Swept
from blockjac.second_order.multi_indices import MultiIndex

Function = Callable[..., list[Any]]

Way = Callable[..., list[Any]]
"""Gives the derivative of a function by the argument of a number, at some arguments."""


def rates_along(
    equation: Swept, derivatives: Sequence[Mapping[MultiIndex, Block]], index: MultiIndex
) -> dict[Vertex, Block]:
    """What an equation adds to a derivative of its results, from those of lower order.

    Args:
        equation: the equation.
        derivatives: of each operand.
        index: which derivative of the results.
    """
    moving = [number for number, own in enumerate(derivatives) if own]
    if not moving:
        return {}
    smooth = [number for number, result in enumerate(equation.results) if is_inexact(result)]
    polynomials = [
        {
            lower: unpacked(block.dense(max_bytes=NO_LIMIT), equation.operands[number].dtype)
            for lower, block in derivatives[number].items()
            if lower != index and all(a <= b for a, b in zip(lower, index, strict=True))
        }
        for number in moving
    ]

    def results_of(*steps: Any) -> list[Any]:
        """The results, some steps along each coordinate."""
        operands = list(equation.operands)
        for number, polynomial in zip(moving, polynomials, strict=True):
            operands[number] = _moved(operands[number], polynomial, steps)
        results = compat.bind(equation.equation.primitive, operands, equation.equation.params)
        return [results[number] for number in smooth]

    dtype = real_dtype(equation.operands[moving[0]].dtype)
    rates = _differentiated(results_of, index, dtype, _pushed)
    found: dict[Vertex, Block] = {}
    for number, rate in zip(smooth, rates, strict=True):
        head = equation.heads[number]
        if head is not None:
            array = packed(rate).astype(real_dtype(equation.results[number].dtype))
            found[head] = Block.from_dense(array, array.ndim)
    return found


def derivatives_by_jacobian(
    graph: Graph,
    count: int,
    seeds: Sequence[Mapping[int, Block]],
    arguments: Sequence[Any],
    captured: Sequence[Any],
    index: MultiIndex,
) -> list[Any]:
    """A derivative of a function's results, by its Jacobian and derivatives of that.

    Args:
        graph: the traced function.
        count: how many of its results are differentiated.
        seeds: for each coordinate, how the inputs move along it.
        arguments: values of its inputs.
        captured: values of its constants.
        index: which derivative, of the first order at least.
    """
    last = next(number for number, entry in enumerate(index) if entry)
    wrt = tuple(dict.fromkeys(vertex for own in seeds for vertex in own))
    places = {vertex: graph.inputs.index(vertex) for vertex in wrt}
    directions = [
        {vertex: block.dense(max_bytes=NO_LIMIT) for vertex, block in own.items()} for own in seeds
    ]

    def rates_at(*steps: Any) -> list[Any]:
        """The first derivatives by one coordinate, some steps along each."""
        inputs = list(arguments)
        for step, own in zip(steps, directions, strict=True):
            for vertex, direction in own.items():
                place = places[vertex]
                start = inputs[place]
                inputs[place] = (start + step * direction).astype(start.dtype)
        _, rows = Jacobian(count, wrt, "auto", dense=False)(graph, inputs, captured, ())
        found: list[Any] = []
        for row, output in zip(rows, graph.outputs, strict=False):
            parts = [
                block.matvec(directions[last][vertex]).reshape(block.out_shape)
                for vertex, block in zip(wrt, row, strict=True)
                if vertex in directions[last]
            ]
            found.append(unpacked(sum(parts), graph.aval(output).dtype))
        return found

    dtype = jnp.result_type(*(own.dtype for direction in directions for own in direction.values()))
    rest = tuple(entry - (number == last) for number, entry in enumerate(index))
    return _differentiated(rates_at, rest, dtype, _pulled)


def _moved(value: Any, polynomial: Mapping[MultiIndex, Any], steps: Sequence[Any]) -> Any:
    """A value, some steps along each coordinate, by its Taylor polynomial."""
    for index, derivative in polynomial.items():
        factor = math.prod(
            step**entry / math.factorial(entry)
            for step, entry in zip(steps, index, strict=True)
            if entry
        )
        value = value + (derivative * factor).astype(value.dtype)
    return value


def _differentiated(function: Function, index: MultiIndex, dtype: Any, way: Way) -> list[Any]:
    """A derivative at zero of a function of one number for each coordinate."""
    for coordinate in (number for number, entry in enumerate(index) for _ in range(entry)):
        function = partial(way, function, coordinate)
    return function(*(jnp.zeros((), dtype) for _ in index))


def _pushed(function: Function, coordinate: int, *steps: Any) -> list[Any]:
    """The derivative of a function by one of its arguments, forwards."""
    graph = trace(function, steps, [coordinate])
    pushforward = Pushforward(len(graph.outputs), graph.independents)
    return list(pushforward(graph, steps, graph.captured, [jnp.ones_like(steps[coordinate])])[1])


def _pulled(function: Function, coordinate: int, *steps: Any) -> list[Any]:
    """The derivative of a function by one of its arguments, in the direction that there is."""
    graph = trace(function, steps, [coordinate])
    jacobian = Jacobian(len(graph.outputs), graph.independents, "auto", dense=True)
    return [rate for (rate,) in jacobian(graph, steps, graph.captured, ())[1]]
