"""Laplacians, with value and gradient in the same pass, and diagonals of Hessians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import tree_structure
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.errors import ArgumentError
from blockjac.planning import Order
from blockjac.second_order.computation import SecondOrder, Weighting
from blockjac.transforms.diagonals import second_diagonals
from blockjac.transforms.first_order import jacobian
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.traced_once import Orders


def hessian_diagonal(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The diagonal of a Hessian, `d2 f / d x[i]2`, without the Hessian.

    Args:
        fun: any JAX function.
        argnums: as in `jacobian_diagonal`.
        has_aux: as in `jacobian_diagonal`.
        order: "auto" for one pass over the function, which computes each symmetric product once;
            any other is an order of the elimination of the gradient's graph.

    Returns:
        A function of the same arguments: the tree of the result with, in place of each leaf, the
        tree of the argument, with leaves of shape `out.shape + in.shape`.

    Raises:
        TypeError: for integer and complex inputs and for integer results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.hessian_diagonal(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0]))
        Array([ 6., 12.], dtype=float32)
    """
    names = "hessian_diagonal", "Hessian diagonal"
    options = argnums, has_aux, order
    if not _is_one_pass(order):
        return Transform(*names, fun, *options, derivative=jacobian)(second_diagonals(summed=False))
    return Transform(*names, fun, *options, second=True)(_diagonals)


def laplacian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    weights: Any = None,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The Laplacian `sum_i d2 f / d x[i]2`, the trace of the Hessian: exact, without the Hessian.

    Args:
        fun: any JAX function; of a result of several entries each has its own Laplacian.
        argnums: as in `jacobian_diagonal`; of a tree, over all its leaves.
        has_aux: as in `jacobian_diagonal`.
        weights: a matrix A for `trace(A H A')`, the sum of the second derivatives along the rows of
            A: in the tree of the argument, each leaf with an axis in front for the rows, of one
            length k in all leaves. Leaves of the argument's own shapes are the diagonal of A.
        order: as in `hessian_diagonal`.

    Returns:
        A function of the same arguments that gives what `fun` gives, in tree and shapes.

    Raises:
        TypeError: as `hessian_diagonal`.
        ValueError: for weights that do not fit the argument, and weights with an order other than
            "auto".

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> float(blockjac.laplacian(lambda x: jnp.sum(x**2) ** 2)(jnp.array([1.0, 2.0])))
        80.0

        The second derivative along one direction:

        >>> along = jnp.array([[1.0, -1.0]])
        >>> bilinear = lambda x: x[0] * x[1]
        >>> float(blockjac.laplacian(bilinear, weights=along)(jnp.array([1.0, 2.0])))
        -2.0
    """
    names = "laplacian", "Laplacian"
    if _is_one_pass(order):
        transform = Transform(*names, fun, argnums, has_aux, order, second=True)
        return transform(_laplacian(weights, values=False))
    if weights is not None:
        raise ArgumentError(
            f"laplacian takes weights in one pass over the function, but order is {order!r}, which "
            "is for the gradient's graph; leave out one of the two"
        )
    transform = Transform(*names, fun, argnums, has_aux, order, derivative=jacobian)
    return transform(second_diagonals(summed=True))


def value_grad_laplacian(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, weights: Any = None
) -> Callable[P, tuple[Any, Any, Any]]:
    """The value of a function, its gradient and its Laplacian, in one pass.

    Args:
        fun: any JAX function.
        argnums: as in `jacobian_diagonal`.
        has_aux: whether `fun` returns `(value, aux)`.
        weights: as in `laplacian`.

    Returns:
        A function of the same arguments that gives `(value, gradient, laplacian)`: the gradient in
        the tree of the argument for a result of shape (), and else the Jacobian as
        `blockjac.jacobian` gives it; the Laplacian in the tree of the value. With `has_aux`,
        `((value, aux), gradient, laplacian)`.

    Raises:
        TypeError: as `laplacian`.
        ValueError: as `laplacian`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.value_grad_laplacian(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0]))
        (Array(9., dtype=float32), Array([ 3., 12.], dtype=float32), Array(18., dtype=float32))
    """
    names = "value_grad_laplacian", "Value, gradient and Laplacian"
    options = argnums, has_aux, "auto"
    transform = Transform(*names, fun, *options, with_value=True, second=True)
    return transform(_laplacian(weights, values=True))


def _is_one_pass(order: Any) -> bool:
    """Whether a function is passed once, and not its gradient's graph eliminated in an order."""
    return isinstance(order, str) and order == "auto"


def _diagonals(call: Call, order: Order) -> Asked:
    """Asks for the diagonals of Hessians."""
    del order
    call.check_real(complex_results=True)
    return SecondOrder(call.count, call.smooth, kept=True), call.jacobian_tree


def _laplacian(weights: Any, values: bool) -> Ask:
    """Asks for Laplacians, with the values and the Jacobian too if they are wanted."""

    def asked(call: Call, order: Order) -> Asked:
        del order
        call.check_real(complex_results=True)
        weighting, arrays = _weighting(call, weights)
        computation = SecondOrder(call.count, call.smooth, gradient=values, weighting=weighting)
        return computation, partial(_put, call, values), arrays

    return asked


def _put(call: Call, values: bool, answer: Any) -> Any:
    """The Laplacians in the tree of the function, with its value and Jacobian if they are there."""
    if not values:
        return call.value([laplacian for (laplacian,) in answer])
    outs, rows, seconds = answer
    return call.value(outs), call.jacobian_tree(rows), call.value([own for (own,) in seconds])


def _weighting(call: Call, weights: Any) -> tuple[Weighting, Sequence[Any]]:
    """What weights are for the arguments of a call, and their leaves.

    Raises:
        ArgumentError: says what was found, and what would fit.
    """
    if weights is None:
        return "none", ()
    tree = tree_structure(call.argument_tree(range(len(call.inputs))))
    shapes = [tuple(aval.shape) for aval in call.inputs]
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(weights)]
    found = [tuple(leaf.shape) for leaf in leaves]
    if tree_structure(weights) == tree and jnp.issubdtype(jnp.result_type(*leaves), jnp.floating):
        if found == shapes:
            return "entries", leaves
        lengths = {shape[0] for shape in found if shape}
        if len(lengths) == 1 and [shape[1:] for shape in found] == shapes:
            return "directions", leaves
    raise ArgumentError(
        f"weights of {call.name} have shapes {found} in {tree_structure(weights)}, but the "
        f"argument has {shapes} in {tree}: give real weights in that tree, each of the shape of "
        "its leaf (a factor for each entry) or with one axis of a common length in front "
        "(directions)"
    )
