"""A function linearized at a point: its Jacobian as a linear map, and as blocks when asked.

One evaluation keeps what the elemental Jacobians are built from. A product with a vector is then a
sweep through the graph, forwards or backwards, at the price of a tangent or a cotangent of JAX; the
blocks are eliminated only if someone asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.base.trees import tree_structure
from blockjac.blocks import BlockMatrix
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian, Pullback, Pushforward, Values
from blockjac.engine.keys import graph_key
from blockjac.planning import Order
from blockjac.planning.directions import is_forward
from blockjac.transforms.shell import answered


@dataclass(frozen=True, eq=False)
class Program:
    """What is static of a linearization; two of the same program are equal.

    Attributes:
        call: the traced function, without its arrays.
        order: of elimination.
    """

    call: Call
    order: Order

    @cached_property
    def key(self) -> Any:
        """All that products and blocks depend on."""
        call = self.call
        return graph_key(call.graph), call.wrt, call.wrt_tree, call.record.out_tree, self.order

    @cached_property
    def has_operators(self) -> bool:
        """Whether there are equations that are passed as a whole, such as loops."""
        graph = self.call.graph
        return bool(ActiveGraph.of(graph, graph.outputs[: self.call.count]).passes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class Linearization:
    """A function linearized at a point; a pytree.

    Attributes:
        arguments: the values of the graph's inputs.
        captured: the values of its captured arrays.
        kept: what the elemental Jacobians are built from.
        program: what is static.
    """

    arguments: Sequence[Any]
    captured: Sequence[Any]
    kept: Sequence[Any]
    program: Program

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every array; usually ()."""
        graph = self.program.call.graph
        own = len(graph.avals[graph.inputs[0]].shape)
        shape = tuple(self.arguments[0].shape)
        return shape[: len(shape) - own]

    def pushed(self, tangents: Sequence[Any]) -> list[Any]:
        """The tangents of the results, from those of the differentiated inputs."""
        program, call = self.program, self.program.call
        if program.has_operators:
            # What a loop keeps is for its way back: forwards it runs with its tangents beside it.
            graph = replace(call.graph, captured=list(self.captured))
            computation = Pushforward(call.count, call.smooth)
            return answered(computation, replace(call, graph=graph), self.arguments, tangents)[1]
        computation = Pushforward(call.count, call.smooth, is_restored=True)
        return answered(computation, call, self.kept, tangents)

    def pulled(self, cotangents: Sequence[Any]) -> list[Any]:
        """The cotangents of the differentiated inputs, from those of the results."""
        call = self.program.call
        return answered(Pullback(call.count, call.smooth), call, self.kept, cotangents)

    def blocks(self) -> BlockMatrix:
        """The blocks of the Jacobian."""
        program = self.program
        graph = replace(program.call.graph, captured=list(self.captured))
        call = replace(program.call, graph=graph, arguments=self.arguments)
        return blocks_of(call, program.order)[1]

    @property
    def wrt_tree(self) -> Any:
        """The tree of what is differentiated by."""
        return _wrt_tree(self.program.call)

    @property
    def wrt_shapes(self) -> tuple[Shape, ...]:
        """The shapes of its leaves."""
        return tuple(tuple(aval.shape) for aval in self.program.call.inputs)

    @property
    def dtype(self) -> Any:
        """The dtype of the Jacobian."""
        call = self.program.call
        return jnp.result_type(*(aval.dtype for aval in (*call.results, *call.inputs)))


jax.tree_util.register_dataclass(Linearization, ["arguments", "captured", "kept"], ["program"])


def linearized(call: Call, order: Order) -> tuple[Sequence[Any], Linearization | BlockMatrix]:
    """The results of a traced function, and its Jacobian.

    Returns:
        The Jacobian as a linear map if the function can be passed in both directions, as a loop
        with an unknown number of steps cannot; else in blocks.
    """
    active = ActiveGraph.of(call.graph, call.graph.outputs[: call.count])
    if not call.arguments or not active.is_reversible or not is_forward(active):
        return blocks_of(call, order)
    results, kept = answered(Values(call.count, keep=True), call)
    static = replace(call, arguments=(), graph=replace(call.graph, captured=[]))
    arrays = list(call.arguments), list(call.graph.captured), kept
    return results, Linearization(*arrays, Program(static, order))


def blocks_of(call: Call, order: Order) -> tuple[Sequence[Any], BlockMatrix]:
    """The results of a traced function, and its Jacobian in blocks."""
    computation = Jacobian(call.count, call.smooth, order, dense=False, values=True)
    aux, (values, rows) = answered(computation, call)
    return [*values, *aux], BlockMatrix(rows, call.record.out_tree, _wrt_tree(call))


def _wrt_tree(call: Call) -> Any:
    """The tree of what a call differentiates by."""
    return tree_structure(call.argument_tree(range(len(call.inputs))))
