"""How many rows or columns of a dense Jacobian are computed at a time, so that it fits."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from blockjac.algebra.dense import check_size
from blockjac.base import compat
from blockjac.devices import in_bytes, memory_limit
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.engine.call import Call
from blockjac.engine.chunked import Chunked
from blockjac.engine.computations import Jacobian
from blockjac.errors import ArgumentError, DenseTooLargeError
from blockjac.graph.graph import Graph
from blockjac.graph.peak_memory import peak_bytes
from blockjac.planning.directions import is_forward
from blockjac.rules.fallback import vertex_shape

ChunkSize = int | Literal["auto"] | None
"""Rows or columns per pass: a number, as many as fit, or all together where they fit."""


CLOSE = 2
"""A program that is predicted to take this many times less than it may is taken to fit."""


TRIALS = 4
"""How many sizes are tried between one row at a time and all."""


def check_dense(call: Call, max_bytes: int | None) -> None:
    """Refuse dense Jacobians over the limit: each leaf, then all together.

    Raises:
        DenseTooLargeError: says what it needs, and which call avoids it.
    """
    inputs = [call.graph.avals[value] for value in call.smooth]
    avoided, name = "blockjac.block_jacobian keeps its structure", call.graph_name
    arrays = [((*out.shape, *leaf.shape), leaf.dtype) for out in call.results for leaf in inputs]
    for shape, dtype in arrays:
        check_size(shape, dtype, max_bytes, f"the dense Jacobian of {name!r}", avoided)
    total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in arrays)
    description = f"the dense Jacobian of {name!r} in {len(arrays)} arrays, together"
    check_size((total,), np.dtype(np.uint8), max_bytes, description, avoided)


def in_chunks(
    computation: Jacobian, call: Call, max_bytes: int | None, chunk_size: ChunkSize
) -> Jacobian | Chunked:
    """The computation in chunks, where it would otherwise take more memory than it may.

    Args:
        computation: a dense Jacobian.
        call: the traced function.
        max_bytes: of arguments, result and all that is stored on the way; None for a share of the
            machine's memory.
        chunk_size: rows or columns in a pass; "auto" for as many as fit, None for all at once
            where they fit and as many as fit otherwise.

    Raises:
        DenseTooLargeError: where the result alone is too large, or even one row or column at a
            time needs more.
        ArgumentError: for a chunk size that is none.
    """
    check_dense(call, max_bytes)
    graph = call.graph
    limit = memory_limit() if max_bytes is None else max_bytes
    sides = _sides(computation, graph)
    if isinstance(chunk_size, int) and not isinstance(chunk_size, bool):
        if chunk_size < 1:
            raise ArgumentError(f"chunk_size is {chunk_size}, but must be at least 1, or 'auto'")
        return Chunked(computation, sides[0], chunk_size)
    if chunk_size not in (None, "auto"):
        raise ArgumentError(
            f"chunk_size is {chunk_size!r}, but must be an int of at least 1, 'auto' or None"
        )
    if max_bytes is None and _at_most(graph, computation) <= limit:
        return computation
    if _fits(computation, graph, limit):
        return computation
    candidates: list[tuple[int, int, Chunked]] = []
    needed: list[int] = []
    for side in sides:
        size, least = _fitting(computation, graph, side, limit)
        needed.append(least)
        while size and not _fits(Chunked(computation, side, size), graph, limit):
            size = size * 2 // 3
        if size:
            passes = sum(-(-length // size) for length in _lengths(computation, graph, side))
            candidates.append((passes, len(candidates), Chunked(computation, side, size)))
    if candidates:
        return min(candidates, key=operator.itemgetter(0, 1))[2]
    raise DenseTooLargeError(
        f"the dense Jacobian of {call.graph_name!r} needs {in_bytes(min(needed))} with arguments "
        f"and result, one row or column at a time, over the limit of {in_bytes(limit)}; "
        "blockjac.block_jacobian keeps its structure, blockjac.vjp and blockjac.jvp give a row or "
        "a column, or raise the limit with max_bytes="
    )


def _sides(computation: Jacobian, graph: Graph) -> list[str]:
    """The directions that there are, the one of fewer passes first."""
    active = ActiveGraph.of(graph, graph.outputs[: computation.count])
    rows, columns = (sum(_lengths(computation, graph, side)) for side in ("rows", "columns"))
    sides = ["rows", "columns"] if rows <= columns else ["columns", "rows"]
    if computation.order in ("reverse", "forward"):
        sides.sort(
            key=lambda side: side == ("columns" if computation.order == "reverse" else "rows")
        )
    if not active.is_reversible:
        sides.remove("rows")
    if not is_forward(active):
        sides.remove("columns")
    return sides


def _at_most(graph: Graph, computation: Jacobian) -> int:
    """Bytes that reverse or forward order does not exceed: a dense Jacobian of every value."""
    rows, columns = (sum(_lengths(computation, graph, side)) for side in ("rows", "columns"))
    values = sum(
        math.prod(aval.shape) * aval.dtype.itemsize
        for aval in graph.avals
        if hasattr(aval.dtype, "itemsize")
    )
    return values * (min(rows, columns) + 1) + rows * columns * 8


def _fits(computation: Jacobian | Chunked, graph: Graph, limit: int) -> bool:
    """Whether a program stays within the limit; where that is close, the compiler is asked."""
    predicted = _peak(computation, graph)
    return predicted <= limit and (
        predicted * CLOSE <= limit or _compiled(computation, graph) <= limit
    )


def _peak(computation: Jacobian | Chunked, graph: Graph) -> int:
    structs = [compat.struct(graph.avals[value]) for value in graph.inputs]
    program = _program(computation, graph)
    return peak_bytes(jax.make_jaxpr(program)(structs, graph.captured), len(structs))


def _compiled(computation: Jacobian | Chunked, graph: Graph) -> int:
    """What the compiler reports; of the arguments not those that the function has captured."""
    structs = [compat.struct(graph.avals[value]) for value in graph.inputs]
    captured = [compat.struct(graph.avals[value]) for value in graph.constants]
    lowered = jax.jit(_program(computation, graph)).lower(structs, captured)
    analysis = lowered.compile().memory_analysis()
    if analysis is None:  # not every backend tells
        return 0
    held = sum(math.prod(struct.shape) * struct.dtype.itemsize for struct in captured)
    own = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - held
    return own + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def _program(computation: Jacobian | Chunked, graph: Graph) -> Callable[[Any, Any], Any]:
    """The computation as a function of arguments and captured arrays."""
    return lambda arguments, captured: computation(graph, arguments, captured, ())


def _lengths(computation: Jacobian, graph: Graph, side: str) -> list[int]:
    """How many rows each result has, or columns each input."""
    if side == "rows":
        avals = [graph.aval(output) for output in graph.outputs[: computation.count]]
    else:
        avals = [graph.avals[leaf] for leaf in computation.wrt]
    return [math.prod(vertex_shape(aval)) for aval in avals]


def _fitting(computation: Jacobian, graph: Graph, side: str, limit: int) -> tuple[int, int]:
    """The largest chunk that fits, about, 0 for none; and what the smallest needs."""

    def peak(size: int) -> int:
        return _peak(Chunked(computation, side, size), graph)

    least = low_peak = peak(1)
    low, high = 1, max(_lengths(computation, graph, side), default=1)
    if least > limit:
        return 0, least
    high_peak = peak(high)
    if high_peak <= limit:
        return high, least
    for _ in range(TRIALS):
        size = low + (high - low) * (limit - low_peak) // max(high_peak - low_peak, 1)
        size = min(max(size, low + 1), high - 1)
        if not low < size < high:
            break
        now = peak(size)
        if now <= limit:
            low, low_peak = size, now
        else:
            high, high_peak = size, now
    return low, least
