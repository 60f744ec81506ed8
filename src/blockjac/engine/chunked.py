"""A dense Jacobian a few rows or columns at a time, so that what is stored on the way stays small.

Each chunk is one backward pass for some rows, or one forward pass for some columns; the function
and its local derivatives are evaluated once for all. Chunks are written into the result in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.linearize import LinearizedGraph, lead_to_results, linearize
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.engine.finish import NO_LIMIT, finished
from blockjac.graph.graph import Graph, Operand
from blockjac.planning.directions import check_backwards, check_forwards
from blockjac.rules.fallback import real_dtype, vertex_shape


@dataclass(frozen=True)
class Chunked:
    """The answer of a dense `Jacobian`, some rows or columns at a time.

    Attributes:
        computation: what is asked.
        side: "rows" (backwards) or "columns" (forwards).
        size: how many in a pass; the last pass repeats some so that it is as large.
    """

    computation: Jacobian
    side: str
    size: int

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results and the answer, as the `Jacobian` gives them."""
        del extra
        computation = self.computation
        outputs = graph.outputs[: computation.count]
        active = ActiveGraph.of(graph, outputs)
        (check_backwards if self.side == "rows" else check_forwards)(active)
        linear = linearize(active, arguments, captured)
        dense_rows = (_by_rows if self.side == "rows" else _by_columns)(self, linear)
        rows = [
            [
                finished(array, graph.aval(output), graph.avals[leaf], computation.holomorphic)
                for array, leaf in zip(row, computation.wrt, strict=True)
            ]
            for row, output in zip(dense_rows, outputs, strict=True)
        ]
        return computation.beside_results(linear.results(), rows)


Part = Callable[[Any, int], list[jax.Array]]
"""Some rows or columns: from the first, how many."""


def _by_rows(chunked: Chunked, linear: LinearizedGraph) -> list[list[jax.Array]]:
    """The Jacobian of each result by each input, of real vertices."""
    wrt, graph, active = chunked.computation.wrt, linear.graph, linear.active
    rows: list[list[jax.Array]] = []
    for output in active.outputs:
        shape = vertex_shape(graph.aval(output))
        length = math.prod(shape)
        arrays = _zeros(graph, wrt, (length,))
        if isinstance(output, Operand) and active.is_active(output):
            part = partial(_rows, linear, output, wrt)
            arrays = _filled(arrays, part, length, chunked.size, 0)
        rows.append([jnp.reshape(array, (*shape, *array.shape[1:])) for array in arrays])
    return rows


def _rows(
    linear: LinearizedGraph, output: Operand, wrt: Sequence[int], start: Any, count: int
) -> list[jax.Array]:
    """Rows of the Jacobian of one result by every input."""
    seeds = _unit_vectors(start, count, linear.graph.aval(output))
    own = linear.copy()
    own.edges.add(output.vertex, "rows", Block.from_dense(seeds, 1))
    eliminate(own.edges, own.active.reverse_order)
    blank = _zeros(linear.graph, wrt, (count,))
    blocks = [own.block(leaf, "rows") for leaf in wrt]
    return [_dense_like(block, zeros) for block, zeros in zip(blocks, blank, strict=True)]


def _by_columns(chunked: Chunked, linear: LinearizedGraph) -> Any:
    """The Jacobian of each result by each input, of real vertices."""
    graph, outputs = linear.graph, linear.active.outputs
    lead_to_results(linear.active, linear.edges)
    shapes = [vertex_shape(graph.aval(output)) for output in outputs]
    columns: list[list[jax.Array]] = []
    for leaf in chunked.computation.wrt:
        shape = vertex_shape(graph.avals[leaf])
        length = math.prod(shape)
        dtype = real_dtype(graph.avals[leaf].dtype)
        arrays = [jnp.zeros((*own, length), dtype) for own in shapes]
        part = partial(_columns, linear, leaf, shapes)
        arrays = _filled(arrays, part, length, chunked.size, -1)
        columns.append([jnp.reshape(array, (*array.shape[:-1], *shape)) for array in arrays])
    return [[column[position] for column in columns] for position in range(len(outputs))]


def _columns(
    linear: LinearizedGraph, leaf: int, shapes: Sequence[tuple[int, ...]], start: Any, count: int
) -> list[jax.Array]:
    """Columns of the Jacobian of every result by one input."""
    seeds = jnp.moveaxis(_unit_vectors(start, count, linear.graph.avals[leaf]), 0, -1)
    own = linear.copy()
    own.edges.add("columns", leaf, Block.from_dense(seeds, seeds.ndim - 1))
    eliminate(own.edges, [*own.graph.independents, *own.active.forward_order])
    blocks = [own.block("columns", ("out", position)) for position in range(len(shapes))]
    blank = [jnp.zeros((*shape, count), seeds.dtype) for shape in shapes]
    return [_dense_like(block, zeros) for block, zeros in zip(blocks, blank, strict=True)]


def _dense_like(block: Block | None, zeros: jax.Array) -> jax.Array:
    return zeros if block is None else block.dense(max_bytes=NO_LIMIT).astype(zeros.dtype)


def _zeros(graph: Graph, wrt: Sequence[int], first: tuple[int, ...]) -> list[jax.Array]:
    """Zeros with an axis for rows, then those of each input."""
    avals = [graph.avals[leaf] for leaf in wrt]
    return [jnp.zeros((*first, *vertex_shape(aval)), real_dtype(aval.dtype)) for aval in avals]


def _unit_vectors(start: Any, count: int, aval: Any) -> jax.Array:
    """Unit vectors `start` to `start + count - 1` of a vertex's space, along the first axis."""
    shape = vertex_shape(aval)
    wanted = start + lax.iota(jnp.int32, count)
    flat = wanted[:, None] == lax.iota(jnp.int32, math.prod(shape))[None, :]
    return jnp.reshape(flat.astype(real_dtype(aval.dtype)), (count, *shape))


def _filled(
    targets: list[jax.Array],
    some: Part,
    total: int,
    size: int,
    axis: int,
) -> list[jax.Array]:
    """Write chunk after chunk into the targets along an axis."""
    size = min(size, total)
    if not size:
        return targets

    def step(number: Any, arrays: list[jax.Array]) -> list[jax.Array]:
        start = jnp.minimum(number * size, total - size)
        return [
            lax.dynamic_update_slice_in_dim(array, part, start, axis % array.ndim)
            for array, part in zip(arrays, some(start, size), strict=True)
        ]

    return cast("list[jax.Array]", lax.fori_loop(0, -(-total // size), step, targets))


# How much at a time
