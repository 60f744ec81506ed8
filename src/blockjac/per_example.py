"""Derivatives of each example of a batch apart, from the structure of the whole batch's Jacobian.

A loss of each example depends on its own data alone, so that the block of all losses by a weight
keeps its factors apart, as `X[n,k] Q[n,h]` for a layer `X W`: the outer products, one an example,
are multiplied out only if someone asks for them. Norms and inner products need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax.numpy as jnp

from blockjac.answers import NO_LIMIT, Arrays, Jacobian
from blockjac.blocks import Block, star
from blockjac.blocks.dense import along, dense
from blockjac.blocks.star import star_along
from blockjac.call import ArgNums, Call, traced_call
from blockjac.errors import BlockShapeError
from blockjac.graph import Graph
from blockjac.planner import Order, Plan, check_order
from blockjac.plans import fitted, traced_once
from blockjac.transforms import answered, check_callable, documented

Function = Callable[..., Any]
Orders = Order | Plan | Sequence[int]


def per_example_grad(losses: Function, argnums: ArgNums = 0, *, order: Orders = "auto") -> Function:
    """The gradient of each example's loss, in factors where it stays factored.

    Args:
        losses: a JAX function `losses(params, *batch)` of shape `(N,)`, one loss an example.
        argnums: which positional arguments to differentiate by.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of the parameters, each leaf a `Block`
        of shape `(N, *param.shape)`; `.dense()` gives the array of all gradients.

    Raises:
        ValueError: if the losses are not one array of shape `(N,)`.
        TypeError: for integer and complex parameters or losses.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, W = jnp.ones((8, 3)), jnp.ones((3, 4))
        >>> block = blockjac.per_example_grad(lambda W, X: jnp.sum(jnp.tanh(X @ W), axis=1))(W, X)
        >>> block.shape, block.stored, block.structure
        ((8, 3, 4), 56, 'A[i,k] X[i,j]')
        >>> block.dense().shape
        (8, 3, 4)
    """
    wanted = check_order(order)
    check_callable(losses, "per_example_grad")

    def gradients_of(*args: Any, **kwargs: Any) -> Any:
        call, question = _asked("per_example_grad", losses, argnums, wanted, args, kwargs)
        _, (row,) = answered(question, call, call.arguments)
        return call.argument_tree(row)

    made = traced_once(gradients_of, wanted)
    return documented(made, losses, "Per-example gradient", argnums)


def per_example_norms(
    losses: Function, argnums: ArgNums = 0, *, order: Orders = "auto"
) -> Function:
    """The Euclidean norm of each example's gradient over all parameters, without the gradients.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array `(N,)`.

    Raises:
        ValueError: as `per_example_grad`.
        TypeError: as `per_example_grad`.

    Source:
        For a layer `X W` the square is the product of the squared norms of `X[n]` and `Q[n]`:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799, 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.zeros(2)
        >>> blockjac.per_example_norms(lambda w, X: X @ w)(w, X)
        Array([5., 1.], dtype=float32)
    """
    return _products(losses, argnums, order, "per_example_norms", "Per-example norms", Norms)


def per_example_gram(losses: Function, argnums: ArgNums = 0, *, order: Orders = "auto") -> Function:
    """The inner products of all pairs of examples' gradients, without the gradients.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array `(N, N)`, the empirical tangent kernel
        of the losses.

    Raises:
        ValueError: as `per_example_grad`.
        TypeError: as `per_example_grad`.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.zeros(2)
        >>> blockjac.per_example_gram(lambda w, X: X @ w)(w, X)
        Array([[25.,  4.],
               [ 4.,  1.]], dtype=float32)
    """
    return _products(losses, argnums, order, "per_example_gram", "Per-example Gram matrix", Gram)


def batch_jacobian(fun: Function, argnums: ArgNums = 0, *, order: Orders = "auto") -> Function:
    """The Jacobian of each example's result by its own input, without the zeros between examples.

    Args:
        fun: a JAX function whose results and differentiated arguments all have the examples on
            their first axis, and no example's result depends on another's input.
        argnums: which positional arguments to differentiate by.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of `blockjac.jacobian`, with leaves of
        shape `(N, *out.shape[1:], *in.shape[1:])`.

    Raises:
        ValueError: if the first axes differ, or one example's result depends on another's input.
        TypeError: for integer and complex inputs or results.

    Example:
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
    wanted = check_order(order)
    check_callable(fun, "batch_jacobian")

    def batch_of(*args: Any, **kwargs: Any) -> Any:
        call = traced_call("batch_jacobian", fun, argnums, args, kwargs)
        call.check_real_inputs()
        call.check_results(holomorphic=False)
        _check_examples(call)
        blocks = Jacobian(call.count, call.smooth, fitted(wanted, call), dense=False)
        rows = answered(Batches(blocks, call.graph_name), call, call.arguments)
        return call.jacobian_tree(rows)

    return documented(traced_once(batch_of, wanted), fun, "Batch Jacobian", argnums)


# The questions


@dataclass(frozen=True)
class Norms:
    """The norm of each row of a Jacobian of one result `(N,)`."""

    jacobian: Jacobian

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """An array `(N,)`."""
        _, (row,) = self.jacobian(graph, arguments, captured, extra)
        squares = [dense(star_along(block, block.T, [(0, 0)]), max_bytes=NO_LIMIT) for block in row]
        return jnp.sqrt(jnp.maximum(reduce(jnp.add, squares), 0))


@dataclass(frozen=True)
class Gram:
    """The inner products of the rows of a Jacobian of one result `(N,)`."""

    jacobian: Jacobian

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """An array `(N, N)`."""
        _, (row,) = self.jacobian(graph, arguments, captured, extra)
        products = [dense(star(block, block.T), max_bytes=NO_LIMIT) for block in row]
        return reduce(jnp.add, products)


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
        """Rows of arrays `(N, *out, *in)`."""
        _, rows = self.jacobian(graph, arguments, captured, extra)
        return [[self._of(block) for block in row] for row in rows]

    def _of(self, block: Block) -> Any:
        size = block.out_shape[0]
        if size != 1 and not all(term.has_delta(0, 0, size) for term in block.terms):
            raise BlockShapeError(
                f"batch_jacobian needs examples apart on the first axes, but a result of "
                f"{self.name!r} of shape {block.out_shape} depends on other examples of an input "
                f"of shape {block.wrt_shape}: {block.structure}; use block_jacobian, which keeps "
                "whatever structure there is"
            )
        return dense(along(block, [(0, 0)]), max_bytes=NO_LIMIT)


def _products(
    losses: Function, argnums: ArgNums, order: Orders, name: str, what: str, kind: Any
) -> Function:
    wanted = check_order(order)
    check_callable(losses, name)

    def products_of(*args: Any, **kwargs: Any) -> Any:
        call, question = _asked(name, losses, argnums, wanted, args, kwargs)
        return answered(kind(question), call, call.arguments)

    return documented(traced_once(products_of, wanted), losses, what, argnums)


def _asked(
    name: str, losses: Function, argnums: ArgNums, wanted: Any, args: Any, kwargs: Any
) -> tuple[Call, Jacobian]:
    """The traced losses, checked, and the Jacobian to ask for."""
    call = traced_call(name, losses, argnums, args, kwargs)
    call.check_real_inputs()
    call.check_results(holomorphic=False)
    shapes = [tuple(result.shape) for result in call.results]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise BlockShapeError(
            f"{name} needs one loss an example, an array of shape (N,), but {call.graph_name!r} "
            f"gives {shapes[0] if len(shapes) == 1 else f'{len(shapes)} arrays {shapes}'}; sum "
            "over all other axes, and not over the examples"
        )
    return call, Jacobian(1, call.smooth, fitted(wanted, call), dense=False)


def _check_examples(call: Call) -> None:
    shapes = [tuple(aval.shape) for aval in (*call.results, *call.inputs)]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        count = call.count
        raise BlockShapeError(
            "batch_jacobian needs the examples on the first axis of every result and every "
            f"differentiated input, but found results of {shapes[:count]} and inputs of "
            f"{shapes[count:]}"
        )
