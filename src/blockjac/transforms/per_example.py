"""Derivatives of each example of a batch, from the structure of the whole batch's Jacobian.

What is computed of an example depends on its own data alone, so that the block of all results by a
weight keeps its factors unmultiplied, as `X[n,k] Q[n,h]` for losses of a layer `X W`: the outer
products, one per example, are multiplied out only if someone asks for them. Norms and inner
products contract the factors of both sides at once, also for weights that are shared over time.

Gradients are the Jacobians of losses, one number per example.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian
from blockjac.errors import ArgumentError, BlockShapeError
from blockjac.planning import Order
from blockjac.transforms.inner_products import InnerProducts
from blockjac.transforms.shell import Ask, Asked, P, Transform, as_found
from blockjac.transforms.traced_once import Orders


def per_example_jacobian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The Jacobian of each example's result by the parameters, in factors where it stays factored.

    Args:
        fun: a JAX function `fun(params, *batch)`; its result is an array of shape `(N, *out)`, or a
            tree of such arrays, with the examples on the first axis.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns `(value, aux)`; the answer is then `(answer, aux)`.
        batch_axes: how many leading axes of the results count examples: 2 for results of shape
            `(N, T, *out)`.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of `fun`'s result with, in place of
        each leaf, the tree of the parameters, each leaf a `Block` of shape
        `(N, *out, *param.shape)`; `.dense()` gives the array.

    Raises:
        ValueError: if the results do not have the same examples on their leading axes.
        TypeError: for integer and complex parameters or results, and for `batch_axes` other than
            a positive int.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, W = jnp.ones((8, 3)), jnp.ones((3, 4))
        >>> block = blockjac.per_example_jacobian(lambda W, X: jnp.tanh(X @ W))(W, X)
        >>> block.shape, block.stored, block.structure
        ((8, 4, 3, 4), 56, "δ[j,j'] A[i,j] X[i,k]")
    """
    name, description = "per_example_jacobian", "Per-example Jacobian"
    transform = Transform(name, description, fun, argnums, has_aux, order)
    return transform(_jacobians(check_batch_axes(batch_axes)))


def per_example_grad(
    losses: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The gradient of each example's loss, in factors where it stays factored.

    Args:
        losses: a JAX function `losses(params, *batch)` of shape `(N,)`, one loss per example. Where
            examples meet, as in batch norm, the answer is the row of the Jacobian: the derivative
            of this example's loss, the batch being what it is.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `losses` returns `(losses, aux)`; the answer is then `(answer, aux)`.
        batch_axes: how many axes the losses have: 2 for losses of shape `(N, T)`.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of the parameters, each leaf a `Block`
        of shape `(N, *param.shape)`; `.dense()` gives the array of all gradients.

    Raises:
        ValueError: if the losses are not one array of shape `(N,)`.
        TypeError: for integer and complex parameters or losses, and for `batch_axes` other than
            a positive int.

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
    transform = Transform(name, description, losses, argnums, has_aux, order)
    return transform(_jacobians(check_batch_axes(batch_axes), of_losses=True))


def per_example_norms(
    losses: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The Euclidean norm of each example's gradient over all parameters, without the gradients.

    It has no derivative where a norm is 0, as `jnp.linalg.norm` has none.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        has_aux: as in `per_example_grad`.
        batch_axes: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array of the shape of the losses.

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
    transform = Transform(name, description, losses, argnums, has_aux, order)
    return transform(_products(check_batch_axes(batch_axes), norms=True))


def per_example_gram(
    losses: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The inner products of all pairs of examples' gradients, without the gradients.

    Args:
        losses: as in `per_example_grad`.
        argnums: as in `per_example_grad`.
        has_aux: as in `per_example_grad`.
        batch_axes: as in `per_example_grad`.
        order: as in `per_example_grad`.

    Returns:
        A function of the same arguments that gives an array `(N, N)`, the empirical tangent kernel
        of the losses; for losses of shape `(N, T)`, an array `(N, T, N, T)`.

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
    transform = Transform(name, description, losses, argnums, has_aux, order)
    return transform(_products(check_batch_axes(batch_axes), norms=False))


# What is asked


def _jacobians(batch_axes: int, of_losses: bool = False) -> Ask:
    """Asks for the blocks of the results by the parameters."""

    def asked(call: Call, order: Order) -> Asked:
        check_examples(call, batch_axes, of_losses)
        return Jacobian(call.count, call.smooth, order, dense=False), (
            call.gradient_tree if of_losses else call.jacobian_tree
        )

    return asked


def _products(batch_axes: int, norms: bool) -> Ask:
    """Asks for the products of all pairs of gradients, or of each with itself."""

    def asked(call: Call, order: Order) -> Asked:
        check_examples(call, batch_axes, of_losses=True)
        paired = tuple(range(batch_axes)) if norms else ()
        return InnerProducts(
            call.smooth, order, paired=paired, axes=batch_axes, norms=norms
        ), as_found

    return asked


def check_batch_axes(batch_axes: Any) -> int:
    """The number of axes that count examples.

    Raises:
        ArgumentError: for anything but a positive int.
    """
    try:
        number = 0 if isinstance(batch_axes, bool) else operator.index(batch_axes)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(
            f"batch_axes is {batch_axes!r}, but must be the number of leading axes that count "
            "examples: 1 for results of shape (N, ...), 2 for (N, T, ...)"
        )
    return number


def check_examples(call: Call, batch_axes: int, of_losses: bool) -> None:
    """Raise unless all results are real, of real parameters, and have the same examples in front.

    Args:
        call: the traced function.
        batch_axes: how many leading axes count examples.
        of_losses: whether there must be one result without further axes.

    Raises:
        BlockShapeError: says which shapes were found, and what to do.
        DifferentiationTypeError: for integers and complex numbers.
    """
    call.check_real()
    shapes = [tuple(result.shape) for result in call.results]
    axes = ", ".join(("N", "T", "U", "V")[:batch_axes]) if batch_axes < 5 else "N, ..."
    if of_losses and (len(shapes) != 1 or len(shapes[0]) != batch_axes):
        actual = shapes[0] if len(shapes) == 1 else f"{len(shapes)} arrays {shapes}"
        wanted = f"({axes},)" if batch_axes == 1 else f"({axes})"
        raise BlockShapeError(
            f"{call.name} needs one loss per example, an array of shape {wanted}, but "
            f"{call.graph_name!r} gives {actual}; sum over all other axes, and not over the "
            "examples, or say by batch_axes= how many axes count them"
        )
    if any(len(shape) < batch_axes for shape in shapes) or (
        len({shape[:batch_axes] for shape in shapes}) > 1
    ):
        raise BlockShapeError(
            f"{call.name} needs results of shape ({axes}, ...) with the same examples on the first "
            f"axes, but {call.graph_name!r} gives arrays of {shapes}; what has no examples may be "
            "returned as aux, with has_aux=True"
        )
