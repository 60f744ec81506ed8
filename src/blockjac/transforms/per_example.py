"""Derivatives of each example of a batch, from the structure of the whole batch's Jacobian.

A loss of each example depends on its own data alone, so that the block of all losses by a weight
keeps its factors unmultiplied, as `X[n,k] Q[n,h]` for a layer `X W`: the outer products, one per
example, are multiplied out only if someone asks for them. Norms and inner products contract the
factors of both sides at once, also for weights that are shared over time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockjac.algebra.dense import along, dense
from blockjac.blocks import Block
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.engine.finish import NO_LIMIT
from blockjac.errors import BlockShapeError
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.transforms.shell import Ask, Asked, P, Transform, as_found
from blockjac.transforms.traced_once import Orders
from blockjac.transforms.unmade_products import Products


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
    name, description = "per_example_grad", "Per-example gradient"
    return Transform(name, description, losses, argnums, has_aux, order)(_gradients)


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
    name, description = "per_example_norms", "Per-example norms"
    return Transform(name, description, losses, argnums, has_aux, order)(_products(norms=True))


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
    name, description = "per_example_gram", "Per-example Gram matrix"
    return Transform(name, description, losses, argnums, has_aux, order)(_products(norms=False))


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
class Batches:
    """The blocks of a Jacobian at the entries of one example each.

    Attributes:
        jacobian: which Jacobian.
        name: of the function, for messages to the user.
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
            result_index, input_index = term.out[0], term.wrt[0]
            if result_index == input_index:
                continue
            does = (
                "may depend (its places are run-time values)" if input_index.lookup else "depends"
            )
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
        actual = shapes[0] if len(shapes) == 1 else f"{len(shapes)} arrays {shapes}"
        raise BlockShapeError(
            f"{call.name} needs one loss per example, an array of shape (N,), but "
            f"{call.graph_name!r} gives {actual}; sum "
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
