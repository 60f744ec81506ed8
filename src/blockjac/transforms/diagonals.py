"""Diagonals of Jacobians and Hessians, and their sums, without the rest of the matrix.

The last contraction of an elimination is made at the diagonal alone: of `diag(A B)` each entry is
one product of a row and a column. Which vertex comes last decides what that saves, so that they are
tried, on structure alone, before anything runs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.dense import along, dense
from blockjac.algebra.star import star_along
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.arguments import ArgNums, Call
from blockjac.engine.computations import NO_LIMIT, Arrays
from blockjac.errors import BlockShapeError
from blockjac.graph.graph import Graph
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge
from blockjac.planning import Order, choose_unfinished
from blockjac.planning.directions import has_one_way
from blockjac.transforms.first_order import jacobian
from blockjac.transforms.shell import Ask, Asked, Orders, P, Transform

EFFORT = 24_000
"""What may be spent on trying vertices as the last, see `Cost.effort`: about 0.2 s."""


def jacobian_diagonal(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The diagonal of a Jacobian, `d f(x)[i] / d x[i]`, at the cost of its structure.

    Args:
        fun: any JAX function whose result has the tree and the shapes of the argument.
        argnums: which positional argument to differentiate by: one int.
        has_aux: whether `fun` returns `(value, aux)`; the answer is then `(answer, aux)`.
        order: of elimination, as in `blockjac.jacobian`; with "auto" the last vertex is chosen so
            that the diagonal costs least.

    Returns:
        A function of the same arguments that gives the diagonal in the tree and shapes of the
        argument.

    Raises:
        ValueError: if a result's shape is not that of the argument; both are named.
        TypeError: for integer and complex inputs or results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> blockjac.jacobian_diagonal(lambda x: A @ x**2)(jnp.array([1.0, 10.0]))
        Array([ 2., 80.], dtype=float32)
    """
    options = argnums, has_aux, order
    transform = Transform("jacobian_diagonal", "Jacobian diagonal", fun, *options)
    return transform(_diagonals(_as_input))


def divergence(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The divergence of a vector field, the trace of its Jacobian: exact, no random vectors.

    Args:
        fun: any JAX function whose result has the tree and the shapes of the argument.
        argnums: as in `jacobian_diagonal`.
        has_aux: as in `jacobian_diagonal`.
        order: as in `jacobian_diagonal`.

    Returns:
        A function of the same arguments that gives a number.

    Raises:
        ValueError: as `jacobian_diagonal`.
        TypeError: as `jacobian_diagonal`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> float(blockjac.divergence(lambda x: x * jnp.sum(x))(jnp.array([1.0, 2.0])))
        9.0
    """
    transform = Transform("divergence", "Divergence", fun, argnums, has_aux, order)
    return transform(_diagonals(_summed))


def hessian_diagonal(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The diagonal of a Hessian, `d2 f / d x[i]2`, without the Hessian.

    Args:
        fun: any JAX function.
        argnums: as in `jacobian_diagonal`.
        has_aux: as in `jacobian_diagonal`.
        order: of the elimination of the gradient's graph.

    Returns:
        A function of the same arguments: the tree of the result with, in place of each leaf, the
        tree of the argument, with leaves of shape `out.shape + in.shape`.

    Raises:
        TypeError: for integer and complex inputs or results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.hessian_diagonal(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0]))
        Array([ 6., 12.], dtype=float32)
    """
    options = argnums, has_aux, order
    transform = Transform(
        "hessian_diagonal", "Hessian diagonal", fun, *options, derivative=jacobian
    )
    return transform(_diagonals(_as_result, second=True))


def laplacian(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The Laplacian `sum_i d2 f / d x[i]2`, the trace of the Hessian: exact, without the Hessian.

    Args:
        fun: any JAX function; of a result of several entries each has its own Laplacian.
        argnums: as in `jacobian_diagonal`; of a tree, over all its leaves.
        has_aux: as in `jacobian_diagonal`.
        order: as in `hessian_diagonal`.

    Returns:
        A function of the same arguments that gives what `fun` gives, in tree and shapes.

    Raises:
        TypeError: as `hessian_diagonal`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> float(blockjac.laplacian(lambda x: jnp.sum(x**2) ** 2)(jnp.array([1.0, 2.0])))
        80.0
    """
    options = argnums, has_aux, order
    transform = Transform("laplacian", "Laplacian", fun, *options, derivative=jacobian)
    return transform(_diagonals(_trace, second=True))


Put = Callable[[Call, "Diagonal", Sequence[Any]], Any]
"""Puts the arrays of some diagonals into a tree."""


def _diagonals(put: Put, second: bool = False) -> Ask:
    """Asks for the diagonals of a Jacobian, or of a Hessian, and puts them into a tree."""

    def asked(call: Call, order: Order) -> Asked:
        call.check_real()
        computation = Diagonal(call.count, call.smooth, order, tuple(_pairs(call, second)))
        return computation, partial(put, call, computation)

    return asked


@dataclass(frozen=True)
class Wanted:
    """A result and an input whose block's diagonal is asked for.

    Attributes:
        place: of the result.
        number: of the input among those that are differentiated.
        leading: how many axes of the result come before those that pair with the input's.
        rank: how many axes the input has.
    """

    place: int
    number: int
    leading: int
    rank: int

    @property
    def axes(self) -> list[tuple[int, int]]:
        """The pairs of an output and an input axis that have to agree."""
        return [(self.leading + axis, axis) for axis in range(self.rank)]


def _pairs(call: Call, second: bool) -> Iterator[Wanted]:
    """Each result with the input that it pairs with."""
    inputs, count = call.inputs, len(call.inputs)
    shapes = [tuple(aval.shape) for aval in inputs]
    found = [tuple(result.shape) for result in call.results]
    trees = call.record.out_tree, jax.tree.structure(call.argument_tree(range(count)))
    if not second and (found != shapes or trees[0] != trees[1]):
        raise BlockShapeError(
            f"{call.name} needs a function whose result has the tree and the shapes of what it is "
            f"differentiated by, {shapes} in {trees[1]}, but {call.graph_name!r} gives {found} in "
            f"{trees[0]}; for the diagonal of an axis that both share use batch_jacobian"
        )
    for place, shape in enumerate(found):
        number = place % count
        rank = len(shapes[number])
        yield Wanted(place, number, len(shape) - rank, rank)


# The answers


def _as_input(call: Call, _: Diagonal, diagonals: Sequence[Any]) -> Any:
    return call.argument_tree(diagonals)


def _as_result(call: Call, _: Diagonal, diagonals: Sequence[Any]) -> Any:
    return call.value(diagonals)


def _summed(call: Call, _: Diagonal, diagonals: Sequence[Any]) -> Any:
    return reduce(jnp.add, map(jnp.sum, diagonals))


def _trace(call: Call, computation: Diagonal, diagonals: Sequence[Any]) -> Any:
    """The sums over all inputs, in the tree of the function."""
    sums = [
        jnp.sum(one, axis=tuple(range(pair.leading, pair.leading + pair.rank)))
        for one, pair in zip(diagonals, computation.pairs, strict=True)
    ]
    by_input = jax.tree.structure(call.argument_tree(range(len(call.inputs))))
    return jax.tree.map(
        lambda parts: reduce(jnp.add, jax.tree.leaves(parts)),
        call.value(sums),
        is_leaf=lambda node: jax.tree.structure(node) == by_input,
    )


# The elimination


@dataclass(frozen=True)
class Diagonal:
    """The diagonals of some blocks of a Jacobian, one array each.

    Attributes:
        count: how many results are differentiated.
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        pairs: which blocks.
    """

    count: int
    wrt: tuple[int, ...]
    order: Order
    pairs: tuple[Wanted, ...]

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and the diagonals, of the shapes of the results."""
        del extra
        outputs = graph.outputs[: self.count]
        linear = linearize_to_results(ActiveGraph.of(graph, outputs), arguments, captured)
        edges = linear.edges
        asked = {(self.wrt[pair.number], ("out", pair.place)) for pair in self.pairs}
        every = {(leaf, ("out", place)) for leaf in self.wrt for place in range(self.count)}
        edges.skipped = every - asked
        order = choose_unfinished(self.order, linear)
        if self.order == "auto" and not has_one_way(linear.active):
            order = self._cheapest(edges, order)
        diagonals = self._diagonals(edges, order)
        return linear.results()[self.count :], [
            jnp.zeros(
                graph.aval(outputs[pair.place]).shape, graph.avals[self.wrt[pair.number]].dtype
            )
            if block is None
            else dense(block, max_bytes=NO_LIMIT)
            for pair, block in zip(self.pairs, diagonals, strict=True)
        ]

    def _diagonals(
        self,
        edges: EliminationGraph,
        order: Sequence[Vertex],
        after: Callable[[Sequence[Vertex]], None] | None = None,
    ) -> list[Block | None]:
        """Eliminate all but the last vertex, and that one at the diagonals alone.

        Args:
            edges: the graph; it is used up.
            order: the vertices.
            after: called after each elimination but the last.
        """
        eliminate(edges, order[:-1], after)
        return [self._diagonal(edges, pair, order[-1:]) for pair in self.pairs]

    def _diagonal(
        self, edges: EliminationGraph, pair: Wanted, left: Sequence[Vertex]
    ) -> Block | None:
        """The diagonal of one block, from the edges around the vertex that is left, if one is."""
        tail, head = self.wrt[pair.number], ("out", pair.place)
        parts = []
        direct = edges.leaving.get(tail, {}).get(head)
        if direct is not None:
            parts.append(along(written(direct), pair.axes))
        for vertex in left:  # gone if an operator took it along
            into, out = edges.entering.get(vertex, {}).get(tail), edges.leaving.get(vertex, {})
            if into is not None and head in out:
                parts.append(_contracted(out[head], into, pair))
        return reduce(add, parts) if parts else None

    def _cheapest(self, edges: EliminationGraph, order: list[Vertex]) -> list[Vertex]:
        """The order, or its reverse, with that vertex put last that makes the diagonal cheapest."""
        best, least, effort = order, math.inf, EFFORT
        for candidate in _with_each_last(order):
            cost = self._price(edges, candidate, effort, least)
            effort -= cost.effort
            if effort < 0:
                break
            if cost.seconds() < least:
                best, least = candidate, cost.seconds()
        return best

    def _price(
        self, edges: EliminationGraph, order: list[Vertex], effort: int, bound: float
    ) -> Cost:
        """The predicted cost of the diagonals, or what it has come to when it passes a limit."""

        def check(_: Sequence[Vertex]) -> None:
            if cost.seconds() > bound:
                raise OverBudget

        with planning(effort) as cost, contextlib.suppress(OverBudget):
            for block in self._diagonals(edges.copy(), order, check):
                if block is not None:
                    dense(block, max_bytes=NO_LIMIT)
        return cost


def _contracted(left: Edge, right: Edge, pair: Wanted) -> Block:
    """The product of two edges at the diagonal; an operator, where there is one, is applied."""
    if isinstance(left, Block) and isinstance(right, Block):
        return star_along(left, right, pair.axes)
    return along(compose(left, right), pair.axes)


def _with_each_last(order: list[Vertex]) -> Iterator[list[Vertex]]:
    """The order, then the order and its reverse with other vertices last, from all over it."""
    last = range(len(order) - 1, -1, -1)
    step, tried = len(order), set()
    while step:
        for place in last[::step]:
            if place not in tried:
                tried.add(place)
                others = [*order[:place], *order[place + 1 :]]
                yield [*others, order[place]]
                yield [*others[::-1], order[place]]
        step //= 2
