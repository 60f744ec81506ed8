"""Running a graph: inline where the caller is tracing already, else compiled once and found again.

An un-jitted call traces every time, so that closures are always fresh; the compiled program is then
found by the traced program itself: its equations, shapes and literals. Captured arrays are
arguments, so that a fresh lambda of the same text does not compile again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import numpy as np
from jax.extend import core

from blockjac.algebra.losses import recording
from blockjac.base import compat
from blockjac.base.caches import Cache
from blockjac.base.trees import flattened
from blockjac.batching import with_batched_steps
from blockjac.engine.computations import Values
from blockjac.engine.keys import graph_key
from blockjac.errors import Loss
from blockjac.graph.graph import Graph
from blockjac.graph.known_places import with_known_places
from blockjac.graph.loop_fusion import with_fused_loops
from blockjac.graph.open_numbers import with_open_numbers
from blockjac.graph.trace import trace
from blockjac.rules.registry import edition

PROGRAM_BYTES, EQUATION_BYTES = 1_600_000, 9_000
"""About what a compiled program takes, and each equation of its function.

Measured on a CPU by the growth of the process: 1.56, 1.79 and 2.58 MiB for 3, 30 and 120 equations.
"""

_programs: Cache[Callable[..., Any]] = Cache("programs", 512, max_bytes=2**29)

_met: Cache[bool] = Cache("programs but for their numbers", 4096)

Computation = Callable[[Graph, Sequence[Any], Sequence[Any], Sequence[Any]], Any]
"""Emits a computation from a graph, its arguments, its captured and extra arrays; hashable.

It may have `keeps_structure`: whether the answer's structure may depend on constants of the
program; and `takes_any_numbers`: whether the answer is arrays alone, so that Python numbers of the
program may be open. Both are taken to be false where they are missing.
"""


def run(
    computation: Computation, graph: Graph, arguments: Sequence[Any], extra: Sequence[Any] = ()
) -> Any:
    """Run `computation(graph, arguments, captured, extra)`, compiled unless a trace is under way.

    Args:
        computation: what is asked of the graph.
        graph: the traced function.
        arguments: values of the graph's inputs.
        extra: further arrays, such as cotangents.

    Returns:
        What the computation returns.
    """
    if getattr(computation, "keeps_structure", False):
        graph = structured(graph)
    if compat.is_traced((arguments, graph.captured, extra)):
        return emission(computation, graph)(arguments, graph.captured, extra)
    program, captured = _program(computation, graph, extra)
    return program(list(arguments), captured, list(extra))


def _program(
    computation: Computation, graph: Graph, extra: Sequence[Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """The compiled program of a computation, and the arrays that it closes over.

    To find it takes a look at each equation: whoever runs it many times keeps it.
    """
    captured = list(graph.captured)
    shapes = tuple(
        (tuple(np.shape(array)), str(getattr(array, "dtype", type(array).__name__)))
        for array in extra
    )
    # jax.jit itself distinguishes the settings that it depends on, such as matmul precision.
    further = (computation, edition(), shapes)
    key = (further, graph_key(graph))
    if getattr(computation, "takes_any_numbers", False):
        if graph.numbers_are_open is None and key in _programs:
            graph.numbers_are_open = False
        if graph.numbers_are_open is not False:
            opened, numbers = with_open_numbers(graph)
            open_key = (further, graph_key(opened))
            if graph.numbers_are_open is None:
                graph.numbers_are_open = bool(numbers) and open_key in _met
                _met.put(open_key, True)
            if graph.numbers_are_open:
                graph, key, captured = opened, open_key, [*captured, *numbers]
    program = _programs.made(key, partial(_compiled, computation, graph), _program_bytes(graph))
    return program, captured


def _compiled(computation: Computation, graph: Graph) -> Callable[..., Any]:
    """The program of a graph; it outlives a call, whose captured arrays must not be kept."""
    return jax.jit(emission(computation, replace(graph, captured=[])))


def _program_bytes(graph: Graph) -> int:
    return PROGRAM_BYTES + EQUATION_BYTES * len(graph.equations)


_losses: Cache[tuple[Loss, ...]] = Cache("losses of structure", 512)


def structured(graph: Graph) -> Graph:
    """A graph for an answer that keeps its structure: with all that is known of its places."""
    return with_known_places(with_batched_steps(graph))


def losses(computation: Computation, graph: Graph, arguments: Sequence[Any]) -> tuple[Loss, ...]:
    """Where the answer to a computation loses structure; nothing is computed.

    Args:
        computation: what is asked of the graph, of no extra arrays.
        graph: the traced function.
        arguments: values of the graph's inputs.
    """
    if getattr(computation, "keeps_structure", False):
        graph = structured(graph)
    captured = graph.captured

    def program(arguments: Any, captured: Any) -> Any:
        return emission(computation, graph)(arguments, captured, ())

    def recorded_losses() -> tuple[Loss, ...]:
        with recording() as record:
            jax.eval_shape(program, list(arguments), captured)
        return record.losses

    if compat.is_traced((arguments, captured)):
        return recorded_losses()
    return _losses.made((computation, edition(), _places_key(graph)), recorded_losses)


def _places_key(graph: Graph) -> Any:
    """The key of a graph's program, and the lines that its losses are reported at."""
    lines = tuple(
        "" if equation.source is None else compat.place(equation.source)
        for equation in graph.equations
    )
    return graph_key(graph), lines


def emission(computation: Computation, graph: Graph) -> Callable[..., Any]:
    """What emits a computation: a function of arguments, captured and extra arrays."""
    return with_fused_loops(partial(computation, graph), graph)


def matmul_precision(graph: Graph) -> str | None:
    """The highest precision that a product of the graph asks for; None if none does.

    Products of the derivative are computed in it, as JAX computes them in that of their equation.
    """
    precisions = [
        precision for equation in graph.equations for precision in _precisions(equation.params)
    ]
    return (
        max(precisions, key=lambda precision: precision.value).name.lower() if precisions else None
    )


def _precisions(params: dict[str, Any]) -> Iterator[jax.lax.Precision]:
    """The precisions that parameters ask for, those of inner programs too, but the default."""
    setting = params.get("precision")
    several = cast("tuple[Any, ...]", setting) if isinstance(setting, tuple) else (setting,)
    for precision in several:
        if isinstance(precision, jax.lax.Precision) and precision is not jax.lax.Precision.DEFAULT:
            yield precision
    for inner in core.jaxprs_in_params(params):
        for equation in inner.eqns:
            yield from _precisions(equation.params)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that traces at every call, and compiles only what it has not compiled before.

    Unlike `jax.jit`, which recognizes the function object, this recognizes what the function does:
    a fresh closure of the same text is found again, one over other values is never taken for it.

    Args:
        function: of trees of arrays, giving a tree of arrays.

    Returns:
        The function of the same arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> print(compiled(lambda x, y: {"sum": x + y})(jnp.ones(2), 1.0))
        {'sum': Array([2., 2.], dtype=float32)}
    """

    def call(*arguments: Any) -> Any:
        """Trace the function, then run its graph."""
        return compiled_at(function, *arguments)(*arguments)

    return call


def compiled_at(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A function that is traced here, once, and found again as by `compiled`.

    Args:
        function: of trees of arrays, giving a tree of arrays.
        *arguments: of the shapes and dtypes that it will be called with.

    Returns:
        The function of such arguments.
    """
    trees: list[Any] = []

    def flat(*parts: Any) -> list[Any]:
        leaves, tree = flattened(function(*parts))
        trees.append(tree)
        return leaves

    graph = trace(flat, arguments, ())
    values = Values(0)
    kept: dict[Any, tuple[Callable[..., Any], list[Any]]] = {}

    def call(*arguments: Any) -> Any:
        """Run the graph."""
        leaves = jax.tree.leaves(arguments)
        if compat.is_traced((leaves, graph.captured)):
            results, _ = run(values, graph, leaves)
        else:
            rules = edition()
            if rules not in kept:
                kept[rules] = _program(values, graph, ())
            program, captured = kept[rules]
            results, _ = program(leaves, captured, [])
        return jax.tree.unflatten(trees[-1], results)

    return call
