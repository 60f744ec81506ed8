"""Hessians by symmetric elimination, where that is predicted to be faster.

A Hessian is asked of the graph of the gradient. The function itself is traced beside it only where
nothing is known of that graph yet, or where symmetric elimination has been found to be faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.dense import dense
from blockjac.base import compat
from blockjac.base.caches import Cache
from blockjac.base.promises import keeping_structure
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.arguments import traced_call
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian
from blockjac.engine.finish import NO_LIMIT
from blockjac.engine.keys import graph_key
from blockjac.engine.run import Computation, structured
from blockjac.planning import choose_order
from blockjac.planning.orders import BUDGET, MARGIN
from blockjac.planning.price import price
from blockjac.rules.registry import edition
from blockjac.second_order.symmetric import NotSymmetricError, SymmetricHessian
from blockjac.transforms.separate_examples import looks_up
from blockjac.transforms.shell import Transform

_ways: Cache[bool] = Cache("ways of Hessians", 1024)
"""For the graph of a gradient whether symmetric elimination is faster."""


def symmetric_way(
    transform: Transform, call: Call, usual: Computation, args: Sequence[Any], kwargs: Any
) -> tuple[Call, Computation] | None:
    """The function itself, traced, and what is asked of it; None where the gradient is cheaper.

    Args:
        transform: that gives a Hessian.
        call: the traced gradient.
        usual: what would be asked of it.
        args: of the call.
        kwargs: of the call.
    """
    if not isinstance(usual, Jacobian) or usual.order != "auto" or not usual.symmetric:
        return None
    is_batch = any(map(compat.is_batched, call.arguments))
    key = graph_key(call.graph), usual, is_batch, edition()
    known = _ways.get(key)
    if known is False or len(call.wrt) != call.count:
        return None
    own = traced_call(
        transform.name,
        transform.fun,
        transform.argnums,
        args,
        kwargs,
        has_aux=transform.has_aux,
        second=True,
    )
    asked = SymmetricHessian(own.smooth, usual.dense, usual.unasked)
    if known is None:
        known = _fits(own, call) and _is_faster(own, asked, call, usual, is_batch)
        _ways.put(key, known)
    return (own, asked) if known else None


def _fits(own: Call, call: Call) -> bool:
    """Whether a function gives a real number, and beside it what its gradient has beside."""
    if own.record.out_tree != jax.tree.structure(0):
        return False
    (result,), beside = own.results, len(own.graph.outputs) - own.count
    has_same_beside = beside == len(call.graph.outputs) - call.count
    is_alike = bool(np.dtype(result.dtype) == np.dtype(call.results[0].dtype))
    return not result.shape and is_alike and has_same_beside


def _is_faster(
    own: Call, asked: SymmetricHessian, call: Call, usual: Jacobian, is_batch: bool
) -> bool:
    """Whether symmetric elimination takes clearly less time, as far as that is predicted.

    What it takes to start a contraction counts once for a whole batch, and hardly there.
    """
    costs: list[Cost] = []

    own_graph = structured(own.graph)
    graph = call.graph if usual.dense else structured(call.graph)

    def symmetric(arguments: Any, captured: Any) -> None:
        """Note the cost of the symmetric elimination."""
        with planning(BUDGET) as cost:
            _, blocks = asked.blocks(own_graph, arguments, captured)
            if not asked.dense and any(map(looks_up, blocks.values())):
                raise NotSymmetricError  # the gradient's graph knows more of the zeros there
            for block in blocks.values() if asked.dense else ():
                dense(block, max_bytes=NO_LIMIT)
        costs.append(cost)

    def by_gradient(arguments: Any, captured: Any) -> None:
        """Note the cost of the elimination of the gradient's graph."""
        active = ActiveGraph.of(graph, graph.outputs[: call.count])
        with keeping_structure(usual.keeps_structure):
            linear = linearize_to_results(active, arguments, captured)
            linear.edges.skipped = usual.skipped
            order = choose_order(usual.order, linear, usual.dense)
            costs.append(price(linear.edges, order, usual.dense))

    try:
        for way, traced in ((symmetric, own_graph), (by_gradient, graph)):
            structs = [compat.struct(traced.avals[value]) for value in traced.inputs]
            jax.eval_shape(way, structs, traced.captured)
    except (NotSymmetricError, OverBudget):
        return False
    if is_batch:
        costs = [replace(cost, contractions=0) for cost in costs]
    own_seconds, usual_seconds = (cost.seconds() for cost in costs)
    return own_seconds < MARGIN * usual_seconds
