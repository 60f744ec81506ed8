"""Equations that are applied and never written down: second derivatives, direction by direction.

Loops, branches and factorizations have operators for elemental Jacobians, of which no coefficients
are known. The second derivative along a direction is the pushforward of their pushforward; all
directions are one batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.curved import Kept
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import Vertex
from blockjac.engine.computations import Pushforward
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact
from blockjac.graph.trace import trace
from blockjac.rules.fallback import packed, unpacked, vertex_shape
from blockjac.second_order.at_point import AtPoint
from blockjac.second_order.narrow import Directions
from blockjac.second_order.tangents import Tangents


@dataclass(frozen=True, eq=False)
class Swept(AtPoint):
    """An equation at a point, whose second derivative is swept over all directions.

    Attributes:
        equation: the equation.
    """

    equation: Equation

    def curvatures(self, directions: Directions, kept: bool) -> dict[Vertex, dict[Any, Block]]:
        """What the equation adds at each of its results; see `AtPoint`."""
        sums: dict[Vertex, dict[Any, Block]] = {}
        tangents = self._of_operands(directions.tangents)
        partners = self._of_operands(directions.partners)
        for source in dict.fromkeys(source for own in tangents for source in own):
            blocks, others = ([own.get(source) for own in by] for by in (tangents, partners))
            stays = directions.kept(source, kept)
            for head, block in self._along(blocks, others, stays).items():
                sums.setdefault(head, {})[source] = block
        return sums

    def _of_operands(self, by_vertex: Mapping[Vertex, Tangents]) -> list[Tangents]:
        """The Jacobians of the operands, empty for those that do not vary."""
        nothing: Tangents = {}
        return [nothing if tail is None else by_vertex.get(tail, nothing) for tail in self.tails]

    def _along(
        self, blocks: Sequence[Block | None], others: Sequence[Block | None], kept: Kept
    ) -> dict[Vertex, Block]:
        """The second derivatives of the results along two directions each, summed or separate."""
        moving = [number for number, block in enumerate(blocks) if block is not None]
        smooth = [number for number, result in enumerate(self.results) if is_inexact(result)]
        point = [self.operands[number] for number in moving]

        def function(*parts: Any) -> list[Any]:
            """The results that have derivatives, of the operands that move."""
            operands = list(self.operands)
            for number, part in zip(moving, parts, strict=True):
                operands[number] = part
            results = compat.bind(self.equation.primitive, operands, self.equation.params)
            return [results[number] for number in smooth]

        shape = next(block.wrt_shape for block in blocks if block is not None)
        dtype = next(block.dtype for block in blocks if block is not None)
        columns, partners = (
            [
                _columns(block, operand)
                for block, operand in zip(sides, self.operands, strict=True)
                if block is not None
            ]
            for sides in (blocks, others)
        )
        along = partial(second_rates, function, point)
        if kept == "both":
            of_pairs = jax.vmap(jax.vmap(along, (None, 0)), (0, None))
            rates = [rate.reshape(-1, *rate.shape[2:]) for rate in of_pairs(columns, partners)]
            shape = (*shape, *shape)
        else:
            rates = jax.vmap(along)(columns, partners)
        found: dict[Vertex, Block] = {}
        for number, rate in zip(smooth, rates, strict=True):
            head = self.heads[number]
            if head is None:
                continue
            array = jax.vmap(packed)(rate).astype(dtype)
            rank = array.ndim - 1
            if kept == "none":
                found[head] = Block.from_dense(jnp.sum(array, axis=0), rank)
                continue
            array = jnp.moveaxis(array, 0, -1).reshape(*array.shape[1:], *shape)
            found[head] = Block.from_dense(array, rank)
        return found


def _columns(block: Block, operand: Any) -> Any:
    """The tangents of an operand, one for each direction along the first axis."""
    array = block.dense(max_bytes=NO_LIMIT)
    shape, count = vertex_shape(operand), math.prod(block.wrt_shape)
    array = jnp.moveaxis(array.reshape(*shape, count), -1, 0)
    return jax.vmap(partial(unpacked, dtype=operand.dtype))(array)


def second_rates(
    function: Any, point: Sequence[Any], tangents: Sequence[Any], others: Sequence[Any]
) -> list[Any]:
    """The second derivatives of a function's results along two directions.

    Args:
        function: of arrays, gives a list of arrays, all floats or complex.
        point: the arrays.
        tangents: one direction, of their shapes.
        others: the other one.
    """
    first, second = (
        [jnp.asarray(part, operand.dtype) for part, operand in zip(parts, point, strict=True)]
        for parts in (tangents, others)
    )

    def rates(*parts: Any) -> list[Any]:
        return _pushed(function, parts, first)

    return _pushed(rates, point, second)


def _pushed(function: Any, point: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """The derivatives of a function's results along a direction."""
    graph = trace(function, point, range(len(point)))
    pushforward = Pushforward(len(graph.outputs), graph.independents)
    return list(pushforward(graph, point, graph.captured, tangents)[1])
