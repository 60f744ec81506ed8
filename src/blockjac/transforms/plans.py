"""`plan`: what a Jacobian will cost, and in which order it comes, before anything runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import keeping_lines, recording
from blockjac.base import compat
from blockjac.base.promises import keeping_structure
from blockjac.blocks import BlockMatrix
from blockjac.blocks.system_checks import Assume, check_assume, check_square
from blockjac.devices import in_bytes, kind
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.evaluate import evaluate
from blockjac.elimination.linearize import LinearizedGraph, lead_to_results, linearize
from blockjac.engine.arguments import ArgNums, check_argnums, check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian
from blockjac.engine.run import emission, structured
from blockjac.errors import BlockjacError
from blockjac.graph.graph import Graph
from blockjac.graph.peak_memory import peak_bytes
from blockjac.graph.trace import named_as
from blockjac.linear_systems import choose
from blockjac.operators.operator import Edge, Operator
from blockjac.planning import Order, Search, check_order, choose_order
from blockjac.planning.fingerprint import fingerprint
from blockjac.planning.jaxpr_cost import operations
from blockjac.planning.plan import Figures, Plan, Step
from blockjac.planning.price import price
from blockjac.transforms.dense_passes import counts_of, dense_passes, figures_of
from blockjac.transforms.shell import fitted, formerly_third
from blockjac.transforms.traced_once import Orders

COMPARED: tuple[Order, ...] = ("reverse", "forward", "greedy", "auto")
"""The orders that a plan is compared with."""


@formerly_third("order")
def plan(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    order: Orders = "auto",
    dense: bool = True,
    solve: Assume | None = None,
) -> Callable[..., Plan]:
    """What the Jacobian of a function will cost, and by which order; nothing is computed.

    Args:
        fun: any JAX function of real arrays and trees of them.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        order: "auto" (the cheapest in predicted time of those that are tried), "reverse",
            "forward", "greedy", "search", a `Search`, another `Plan`, vertices, or a function that
            finds them.
        dense: whether the answer is written out, as by `jacobian`; False for `block_jacobian`.
        solve: the `assume` of `blockjac.solve`, such as "gen", to say how a linear system with the
            Jacobian would be solved, and what its factors take; None to leave that out.

    Returns:
        A function of the same arguments, arrays or `jax.ShapeDtypeStruct`s in their place, that
        gives a `Plan`: it prints as a table, has the figures as attributes, is saved and loaded,
        and is an `order=` of the transforms.

    Raises:
        TypeError: for integer inputs and results.
        ValueError: for `argnums` that do not fit the arguments, an order that does not exist, and
            for `solve` if the Jacobian is not square.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> x = jnp.ones(400)
        >>> plan = blockjac.plan(lambda x: jnp.sum(jnp.sin(x) * x))(x)
        >>> plan.multiplications, plan.additions, plan.order
        (400, 400, (3, 2, 1))
        >>> blockjac.jacobian(lambda x: jnp.sum(jnp.sin(x) * x), order=plan)(x).shape
        (400,)
    """
    wanted = check_order(order)
    check_callable(fun, "plan")
    check_argnums(argnums)
    if solve is not None:
        check_assume(solve)

    def plan_of(*args: Any, **kwargs: Any) -> Plan:
        with keeping_lines():
            call = traced_call("plan", fun, argnums, args, kwargs, has_aux=has_aux, abstract=True)
        call.check_results(complex_of_real=True)
        plan = _planned(call, fitted(wanted, call), _method(order), dense)
        return plan if solve is None else replace(plan, system=_system(call, plan, solve))

    return named_as(fun, plan_of)


def _method(order: Any) -> str:
    if isinstance(order, Plan):
        return order.method
    if isinstance(order, str | Search):
        return str(order)
    return getattr(order, "__name__", type(order).__name__) if callable(order) else "given"


@dataclass
class _Draft:
    """What is found out while the program is traced."""

    order: list[Vertex] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    steps: list[Step] = field(default_factory=list)
    comparison: dict[str, Figures] = field(default_factory=dict)


def _planned(call: Call, order: Order, method: str, dense: bool) -> Plan:
    """The plan of a traced function: its Jacobian is traced for its costs, and never run."""
    graph, wrt = (
        call.graph if dense else structured(call.graph),
        call.smooth,
    )
    active = ActiveGraph.of(graph, graph.outputs[: call.count])
    structs = [compat.struct(graph.avals[value]) for value in graph.inputs]
    draft = _Draft()

    def values(arguments: Any, captured: Any) -> Any:
        point = evaluate(graph, arguments, captured)
        return [point.values[value] for value in _computed(graph)]

    def local(arguments: Any, captured: Any) -> Any:
        """The local derivatives; the plan is drawn up from them on the way."""
        linear = linearize(active, arguments, captured)
        elementals = [
            edge.group.held if isinstance(edge, Operator) else edge
            for heads in linear.edges.leaving.values()
            for edge in heads.values()
        ]
        lead_to_results(active, linear.edges)
        with keeping_structure(not dense):
            _draw_up(draft, linear, order, dense, method)
        return [linear.point.values[value] for value in _computed(graph)], elementals

    own = operations(jax.make_jaxpr(values)(structs, graph.captured))
    derivatives = operations(jax.make_jaxpr(local)(structs, graph.captured))
    computation = Jacobian(call.count, wrt, tuple(draft.order), dense)
    with contextlib.nullcontext() if dense else recording() as record:
        emitted = jax.make_jaxpr(emission(computation, graph), return_shape=True)
        traced, (_, blocks) = emitted(structs, graph.captured, ())
    if record is None:
        block_computation = Jacobian(call.count, wrt, tuple(draft.order), dense=False)
        with recording() as record:
            _, blocks = jax.eval_shape(
                partial(block_computation, graph), structs, graph.captured, ()
            )
    figures = figures_of(draft.cost, peak_bytes(traced, len(structs)))
    return Plan(
        function=call.graph_name,
        inputs=tuple(
            f"{graph.names.get(value, 'input')}: {_type(graph.avals[value])}" for value in wrt
        ),
        results=tuple(map(_type, call.results)),
        dense=dense,
        method=method,
        order=tuple(draft.order),
        figures=figures,
        values=own.flops,
        derivatives=max(derivatives.flops - own.flops, 0),
        steps=tuple(draft.steps),
        comparison={**draft.comparison, f"this plan ({method})": figures},
        fingerprint=fingerprint(graph),
        losses=record.losses,
        device=kind(),
        blocks=call.jacobian_tree(blocks),
    )


def _system(call: Call, plan: Plan, assume: Assume) -> str:
    """How a linear system with the Jacobian would be solved, in words.

    Raises:
        BlockShapeError: if the Jacobian is not square.
    """
    graph = structured(call.graph)
    computation = Jacobian(call.count, call.smooth, plan.order, dense=False)
    structs = [compat.struct(graph.avals[value]) for value in graph.inputs]
    told: list[str] = []

    def factor(arguments: Any, captured: Any) -> None:
        """Trace the factorization, and note what it is."""
        _, rows = computation(graph, arguments, captured, ())
        check_square(BlockMatrix(rows), "solve")
        way = choose.way(rows, assume)
        factors = choose.factored(rows, assume)
        stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(factors))
        note = f"; {factors.note}" if factors.note else ""
        told.append(
            f"{factors.solver.describe()}; the factors take {in_bytes(stored)}, and about "
            f"{way.seconds:.2g} s{note}"
        )

    jax.eval_shape(factor, structs, graph.captured)
    return told[0]


def _computed(graph: Graph) -> list[int]:
    return [value for equation in graph.equations for value in equation.results]


def _draw_up(
    draft: _Draft, linear: LinearizedGraph, order: Order, dense: bool, method: str
) -> None:
    """Choose the order, price it step by step, and price others beside it."""
    edges = linear.edges
    draft.order = choose_order(order, linear, dense)
    draft.cost = price(edges, draft.order, dense)
    draft.steps = _steps(linear.graph, edges, draft.order)
    for name in COMPARED:
        if name == method:
            continue
        with contextlib.suppress(BlockjacError):  # a loop that has no way back, say
            alternative = choose_order(name, linear, dense)
            draft.comparison[str(name)] = figures_of(price(edges, alternative, dense))
    draft.comparison |= dense_passes(linear)


def _steps(graph: Graph, edges: EliminationGraph, order: Sequence[Vertex]) -> list[Step]:
    """What the elimination of each vertex costs, and the structure of the edges around it."""
    producers = {value: equation for equation in graph.equations for value in equation.results}
    left = edges.copy()
    steps: list[Step] = []
    with planning() as cost:
        before = counts_of(cost)
        around: dict[Vertex, tuple[tuple[str, ...], tuple[str, ...]]] = {}

        def look(vertex: Vertex) -> None:
            around[vertex] = (
                tuple(map(_structure, left.entering.get(vertex, {}).values())),
                tuple(map(_structure, left.leaving.get(vertex, {}).values())),
            )

        def note(done: Sequence[Vertex]) -> None:
            """Note the steps of an elimination, with what it cost since the last one."""
            nonlocal before
            now = counts_of(cost)
            for position, vertex in enumerate(done):
                spent = (
                    [b - a for a, b in zip(before, now, strict=True)] if not position else [0] * 5
                )
                equation = producers[vertex]
                source = "" if equation.source is None else compat.place(equation.source)
                entering, leaving = around.get(vertex, ((), ()))
                steps.append(
                    Step(vertex, equation.primitive.name, source, entering, leaving, *spent)
                )
            before = now

        eliminate(left, order, note, look)
    return steps


def _structure(edge: Edge) -> str:
    return f"{edge.group.name} (operator)" if isinstance(edge, Operator) else edge.structure


def _type(aval: Any) -> str:
    return f"{np.dtype(aval.dtype).name}[{','.join(map(str, aval.shape))}]"
