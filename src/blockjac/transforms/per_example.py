"""Derivatives of each example of a batch apart, from the structure of the whole batch's Jacobian.

A loss of each example depends on its own data alone, so that the block of all losses by a weight
keeps its factors apart, as `X[n,k] Q[n,h]` for a layer `X W`: the outer products, one an example,
are multiplied out only if someone asks for them. Norms and inner products need not: they contract
the factors of both sides at once, also of weights that are shared over time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import along, dense
from blockjac.algebra.star import chain_along
from blockjac.blocks import Block, add, star
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.arguments import ArgNums, Call
from blockjac.engine.computations import NO_LIMIT, Arrays, Jacobian
from blockjac.errors import BlockShapeError
from blockjac.graph.graph import Graph
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge, Operator
from blockjac.planning import Order, choose_unfinished
from blockjac.transforms.shell import Ask, Asked, Orders, P, Transform, as_found


def per_example_grad(
    losses: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The gradient of each example's loss, in factors where it stays factored.

    Args:
        losses: a JAX function `losses(params, *batch)` of shape `(N,)`, one loss per example. Where
            examples meet, as in batch norm, the answer is the row of the Jacobian: the derivative
            of this example's loss, the batch being what it is.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `losses` returns `(losses, aux)`; the answer is then `(answer, aux)`.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of the parameters, each leaf a `Block`
        of shape `(N, *param.shape)`; `.dense()` gives the array of all gradients.

    Raises:
        ValueError: if the losses are not one array of shape `(N,)`.
        TypeError: for integer and complex parameters or losses.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, W = jnp.ones((8, 3)), jnp.ones((3, 4))
        >>> block = blockjac.per_example_grad(lambda W, X: jnp.sum(jnp.tanh(X @ W), axis=1))(W, X)
        >>> block.shape, block.stored, block.structure
        ((8, 3, 4), 56, 'A[i,k] X[i,j]')
        >>> block.dense().shape
        (8, 3, 4)
    """
    name, what = "per_example_grad", "Per-example gradient"
    return Transform(name, what, losses, argnums, has_aux, order)(_gradients)


def _gradients(call: Call, order: Order) -> Asked:
    _check_losses(call)
    return Jacobian(1, call.smooth, order, dense=False), call.gradient_tree


def per_example_norms(
    losses: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The Euclidean norm of each example's gradient over all parameters, without the gradients.

    It has no derivative where a norm is 0, as `jnp.linalg.norm` has none.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        has_aux: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array `(N,)`.

    Raises:
        ValueError: as `per_example_grad`.
        TypeError: as `per_example_grad`.

    Source:
        For a layer `X W` the square is the product of the squared norms of `X[n]` and `Q[n]`:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799, 2015.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.zeros(2)
        >>> blockjac.per_example_norms(lambda w, X: X @ w)(w, X)
        Array([5., 1.], dtype=float32)
    """
    name, what = "per_example_norms", "Per-example norms"
    return Transform(name, what, losses, argnums, has_aux, order)(_products(norms=True))


def per_example_gram(
    losses: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The inner products of all pairs of examples' gradients, without the gradients.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        has_aux: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array `(N, N)`, the empirical tangent kernel
        of the losses.

    Raises:
        ValueError: as `per_example_grad`.
        TypeError: as `per_example_grad`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.zeros(2)
        >>> blockjac.per_example_gram(lambda w, X: X @ w)(w, X)
        Array([[25.,  4.],
               [ 4.,  1.]], dtype=float32)
    """
    name, what = "per_example_gram", "Per-example Gram matrix"
    return Transform(name, what, losses, argnums, has_aux, order)(_products(norms=False))


def _products(norms: bool) -> Ask:
    """Asks for the products of all pairs of gradients, or of each with itself."""

    def asked(call: Call, order: Order) -> Asked:
        _check_losses(call)
        return Products(call.smooth, order, norms), as_found

    return asked


def batch_jacobian(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The Jacobian of each example's result by its own input, without the zeros between examples.

    Args:
        fun: a JAX function whose results and differentiated arguments all have the examples on
            their first axis, and no example's result depends on another's input.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns `(value, aux)`; the answer is then `(answer, aux)`.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of `blockjac.jacobian`, with leaves of
        shape `(N, *out.shape[1:], *in.shape[1:])`.

    Raises:
        ValueError: if the first axes differ, or one example's result depends on another's input.
        TypeError: for integer and complex inputs or results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> W = jnp.array([[1.0, 2.0], [0.0, 1.0]])
        >>> J = blockjac.batch_jacobian(lambda X: (X @ W) ** 2)(jnp.ones((5, 2)))
        >>> J.shape
        (5, 2, 2)
        >>> J[0]
        Array([[ 2.,  0.],
               [12.,  6.]], dtype=float32)
    """
    transform = Transform("batch_jacobian", "Batch Jacobian", fun, argnums, has_aux, order)
    return transform(_batches)


def _batches(call: Call, order: Order) -> Asked:
    call.check_real(complex_results=True)
    _check_examples(call)
    blocks = Jacobian(call.count, call.smooth, order, dense=False)
    return Batches(blocks, call.graph_name), call.jacobian_tree


# The computations


@dataclass(frozen=True)
class Products:
    """Sums over all inputs of `J J'`, or of its diagonal, for a Jacobian of one result `(N,)`.

    Attributes:
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        norms: whether the roots of the diagonal are asked for, and not the matrix.
    """

    wrt: tuple[int, ...]
    order: Order
    norms: bool

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and an array `(N,)` or `(N, N)`."""
        del extra
        outputs = graph.outputs[:1]
        linear = linearize_to_results(ActiveGraph.of(graph, outputs), arguments, captured)
        edges = linear.edges
        order = choose_unfinished(self.order, linear)
        rows = Unmade(edges.leaving, edges.entering, edges.same, found={x: [] for x in self.wrt})
        eliminate(rows, order)
        size = graph.aval(outputs[0]).shape
        zero = Block.zeros(size, () if self.norms else size, graph.avals[self.wrt[0]].dtype)
        squares = [self._squares(found) for found in rows.products() if found]
        total = reduce(jnp.add, (dense(block, max_bytes=NO_LIMIT) for block in squares or [zero]))
        # Terms that cancel may leave less than 0 of a square.
        answer = jnp.sqrt(jnp.maximum(total, 0)) if self.norms else total
        return linear.results()[1:], answer

    def _squares(self, found: Sequence[Product]) -> Block:
        """`J J'` for the sum J of some products, made first or not, whichever takes less time."""
        made = lambda: self._square([(reduce(add, map(_made, found)),)])  # noqa: E731
        if len(found) > FEW or all(len(product) == 1 for product in found):
            return made()
        return _quickest(lambda: self._square(found), made)

    def _square(self, found: Sequence[Product]) -> Block:
        """The sum over all pairs of products of one times the other's transpose."""
        blocks = []
        for place, one in enumerate(found):
            for other in found[: place + 1]:
                chain = [*one, *(block.T for block in reversed(other))]
                block = chain_along(chain, [(0, 0)] if self.norms else [])
                mirrored = block if self.norms else block.T
                blocks += [block] if one is other else [block, mirrored]
        return reduce(add, blocks)


Product = tuple[Block, ...]
"""Blocks to be contracted with each other, one or two."""

FEW = 3
"""Up to so many products of two blocks are tried unmade: each meets each other."""


@dataclass
class Unmade(EliminationGraph):
    """Edges of a graph with one result; the products that lead to it from an input are not made.

    Of weights that are shared over time, as in `sum over t  Q[n,t,h] X[n,t,k]`, a norm may be had
    for less than that sum.

    Attributes:
        found: the products by input; their sum is the Jacobian.
    """

    found: dict[Vertex, list[Product]] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge, or note it if it leads from an input to the result."""
        if tail in self.found and head == RESULT:
            self.found[tail].append((written(edge),))
        else:
            super().add(tail, head, edge)

    def eliminate_vertex(self, vertex: Vertex) -> None:
        """Eliminate a vertex; what leads by it from an input to the result is noted."""
        for tail, right in self.entering.get(vertex, {}).items():
            left = self.leaving.get(vertex, {}).get(RESULT)
            if left is None or tail not in self.found:
                continue
            if isinstance(left, Operator) or isinstance(right, Operator):
                self.found[tail].append((compose(left, right),))
            else:
                is_same = (vertex, RESULT) in self.same
                self.found[tail].append((right,) if is_same else (left, right))
        self.skipped = {(tail, RESULT) for tail in self.found}
        super().eliminate_vertex(vertex)

    def products(self) -> Iterator[list[Product]]:
        """The products of each input, with the edge that was there from the start."""
        for tail, found in self.found.items():
            direct = self.leaving.get(tail, {}).get(RESULT)
            yield found if direct is None else [*found, (written(direct),)]


RESULT = ("out", 0)


def _made(product: Product) -> Block:
    return reduce(star, product)


def _quickest(*ways: Callable[[], Block]) -> Block:
    """What the way gives that is predicted to take the least time, written out."""

    def seconds(way: Callable[[], Block]) -> float:
        with planning() as cost:
            dense(way(), max_bytes=NO_LIMIT)
        return cost.seconds()

    return min(ways, key=seconds)()


@dataclass(frozen=True)
class Batches:
    """The blocks of a Jacobian at the entries of one example each.

    Attributes:
        jacobian: which Jacobian.
        name: of the function, for what the user is told.
    """

    jacobian: Jacobian
    name: str

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and rows of arrays `(N, *out, *in)`."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        return aux, [[self._of(block) for block in row] for row in rows]

    def _of(self, block: Block) -> Any:
        """The entries of a block at one example each, an array; raises where examples meet."""
        for term in block.terms:
            example, other = term.out[0], term.wrt[0]
            if example == other:
                continue
            does = "may depend (its places are run-time values)" if other.lookup else "depends"
            raise BlockShapeError(
                f"batch_jacobian needs examples apart on the first axes, but a result of "
                f"{self.name!r} of shape {block.out_shape} {does} on other examples of an input "
                f"of shape {block.wrt_shape}: {block.structure}; use block_jacobian, which keeps "
                "whatever structure there is"
            )
        return dense(along(block, [(0, 0)]), max_bytes=NO_LIMIT)


def _check_losses(call: Call) -> None:
    """Raise unless the function gives one real loss per example, of real parameters."""
    call.check_real()
    shapes = [tuple(result.shape) for result in call.results]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        found = shapes[0] if len(shapes) == 1 else f"{len(shapes)} arrays {shapes}"
        raise BlockShapeError(
            f"{call.name} needs one loss an example, an array of shape (N,), but "
            f"{call.graph_name!r} gives {found}; sum "
            "over all other axes, and not over the examples"
        )


def _check_examples(call: Call) -> None:
    """Raise unless all results and inputs have the same number of examples on their first axis."""
    shapes = [tuple(aval.shape) for aval in (*call.results, *call.inputs)]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        count = call.count
        raise BlockShapeError(
            "batch_jacobian needs the examples on the first axis of every result and every "
            f"differentiated input, but found results of {shapes[:count]} and inputs of "
            f"{shapes[count:]}"
        )
