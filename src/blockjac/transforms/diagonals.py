"""Diagonals of Jacobians, and their sums, without the rest of the matrix.

The last contraction of an elimination is made at the diagonal alone: of `diag(A B)` each entry is
one product of a row and a column. Which vertex comes last decides what that saves, so that they are
tried, on structure alone, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import mapped, tree_structure
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.errors import BlockShapeError
from blockjac.planning import Order
from blockjac.second_order.diagonal_computation import Diagonal, Wanted
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.traced_once import Orders


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


Put = Callable[[Call, "Diagonal", Sequence[Any]], Any]
"""Puts the arrays of some diagonals into a tree."""


def second_diagonals(summed: bool) -> Ask:
    """Asks a first derivative for the diagonals of Hessians, or for their sums: Laplacians."""
    return _diagonals(_trace if summed else _as_result, second=True)


def _diagonals(put: Put, second: bool = False) -> Ask:
    """Asks for the diagonals of a Jacobian, or of a Hessian, and puts them into a tree."""

    def asked(call: Call, order: Order) -> Asked:
        call.check_real()
        computation = Diagonal(call.count, call.smooth, order, tuple(_pairs(call, second)))
        return computation, partial(put, call, computation)

    return asked


def _pairs(call: Call, second: bool) -> Iterator[Wanted]:
    """Each result with the input that it pairs with."""
    inputs, count = call.inputs, len(call.inputs)
    shapes = [tuple(aval.shape) for aval in inputs]
    result_shapes = [tuple(result.shape) for result in call.results]
    trees = call.record.out_tree, tree_structure(call.argument_tree(range(count)))
    if not second and (result_shapes != shapes or trees[0] != trees[1]):
        raise BlockShapeError(
            f"{call.name} needs a function whose result has the tree and the shapes of what it is "
            f"differentiated by, {shapes} in {trees[1]}, but {call.graph_name!r} gives "
            f"{result_shapes} in {trees[0]}; for the diagonal of an axis that both share "
            "use batch_jacobian"
        )
    for position, shape in enumerate(result_shapes):
        number = position % count
        rank = len(shapes[number])
        yield Wanted(position, number, len(shape) - rank, rank)


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
        jnp.sum(diagonal, axis=tuple(range(pair.leading, pair.leading + pair.rank)))
        for diagonal, pair in zip(diagonals, computation.pairs, strict=True)
    ]
    by_input = tree_structure(call.argument_tree(range(len(call.inputs))))
    return mapped(
        lambda parts: reduce(jnp.add, jax.tree.leaves(parts)),
        call.value(sums),
        is_leaf=lambda node: tree_structure(node) == by_input,
    )
