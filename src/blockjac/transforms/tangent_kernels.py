"""The empirical tangent kernel of a function: inner products of the Jacobians of two batches."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.engine.arguments import check_callable
from blockjac.engine.auxiliary import value_and_aux
from blockjac.engine.call import Call
from blockjac.engine.computations import Arrays
from blockjac.errors import ArgumentError, BlockShapeError
from blockjac.graph.graph import Graph
from blockjac.graph.trace import named_as
from blockjac.planning import Order
from blockjac.transforms.inner_products import InnerProducts
from blockjac.transforms.shell import Ask, Asked, Transform, as_found, documented
from blockjac.transforms.traced_once import Orders

Axes = int | Sequence[int]
"""Axes of a function's result, the examples' included; negative ones count from the last."""


def ntk(
    fun: Callable[..., Any],
    has_aux: bool = False,
    *,
    trace_axes: Axes = (),
    diagonal_axes: Axes = (),
    order: Orders = "auto",
) -> Callable[..., Any]:
    """The empirical neural tangent kernel `J1 J2'`, contracted over all parameters.

        K[n, m, i, j] = sum over p of  d f(params, x1)[n, i] / d p  *  d f(params, x2)[m, j] / d p

    The Jacobians are not formed. They stay in factors, as `Q[n,i,h] X[n,k]` for a layer, and are
    contracted factor by factor in the order that is predicted to take the least time: inner
    products of `X` and of `Q` come first. Options are named as in
    `neural_tangents.empirical_ntk_fn`; the parameters come first, and by default nothing is traced.

    Args:
        fun: a JAX function `fun(params, x)` of shape `(N, *out)`, params and x arrays or trees.
        has_aux: whether `fun` returns `(value, aux)`; the answer is then `(kernel, aux)`, with a
            pair of aux for two batches.
        trace_axes: axes of the result to average over, at which both sides agree: the trace over
            the axis divided by its size, as in neural-tangents. `-1` averages over the logits.
        diagonal_axes: axes of the result at which both sides agree, and that the answer has once.
            The axis 0 of the examples too, for batches of the same size: then `K[n]` is that of
            each example with itself.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function `(params, x1, x2=None, **keywords)` that gives the kernel, an array
        `(N1, N2, *out, *out)` without the axes that are traced, and without the second of each
        diagonal one: `(N1, N2, *out)` for the diagonal, `(N1, N2)` for the trace. x2 is x1 where it
        is None, which takes half of the work. Keyword arguments are passed to `fun` for both.

    Raises:
        ValueError: if `fun` does not give one array with the examples in front, or for axes that it
            does not have.
        TypeError: for integer and complex parameters or results.

    Source:
        Jacot, Gabriel, Hongler, "Neural tangent kernel", NeurIPS 2018; Novak, Sohl-Dickstein,
        Schoenholz, "Fast finite width neural tangent kernel", ICML 2022.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> f = lambda W, x: x @ W
        >>> W, x1, x2 = jnp.ones((3, 2)), jnp.ones((4, 3)), jnp.ones((5, 3))
        >>> blockjac.ntk(f)(W, x1, x2).shape, blockjac.ntk(f, diagonal_axes=-1)(W, x1, x2).shape
        ((4, 5, 2, 2), (4, 5, 2))
        >>> blockjac.ntk(f, trace_axes=-1)(W, x1[:1])
        Array([[3.]], dtype=float32)
    """
    check_callable(fun, "ntk")
    traced, diagonal = _axes("trace_axes", trace_axes), _axes("diagonal_axes", diagonal_axes)

    def both(params: Any, x1: Any, *x2: Any, **keywords: Any) -> Any:
        """The results for one batch, or for both."""
        answers = [fun(params, x, **keywords) for x in (x1, *x2)]
        if not has_aux:
            return answers
        values, auxiliary = zip(*map(value_and_aux, answers), strict=True)
        return list(values), auxiliary if x2 else auxiliary[0]

    results = named_as(fun, both)
    if compat.is_jitted(fun):  # which then is traced once for its shapes
        results = jax.jit(results)
    transform = Transform("ntk", "Tangent kernel", results, 0, has_aux, order)
    of_batches = transform(_kernel(traced, diagonal))

    def kernel(params: Any, x1: Any, x2: Any = None, **keywords: Any) -> Any:
        """The kernel of one batch, or of two."""
        return of_batches(params, *((x1,) if x2 is None else (x1, x2)), **keywords)

    return documented(kernel, fun, "Tangent kernel", 0)


@dataclass(frozen=True)
class Kernel:
    """Inner products with the axes in the order of a kernel.

    Attributes:
        products: all of them, the axes of the first result before those of the second.
        axes: where the kernel's axes are found among these.
        divisor: what they are divided by.
    """

    products: InnerProducts
    axes: tuple[int, ...]
    divisor: int

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results, and an array."""
        aux, answer = self.products(graph, arguments, captured, extra)
        kernel = jnp.transpose(answer, self.axes)
        return aux, kernel if self.divisor == 1 else kernel / self.divisor


def _kernel(trace_axes: tuple[int, ...], diagonal_axes: tuple[int, ...]) -> Ask:
    """Asks for the kernel of one result, or of two."""

    def asked(call: Call, order: Order) -> Asked:
        """The inner products at the axes that are asked for, in the order of a kernel."""
        call.check_real()
        shapes = _shapes(call)
        rank = len(shapes[0])
        traced = _within("trace_axes", trace_axes, shapes[0])
        paired = _within("diagonal_axes", diagonal_axes, shapes[0])
        for axis in (*traced, *paired):
            if (traced + paired).count(axis) > 1 or shapes[0][axis] != shapes[-1][axis]:
                raise BlockShapeError(
                    f"ntk needs each axis once in trace_axes={trace_axes} and "
                    f"diagonal_axes={diagonal_axes}, and the same size of it for both batches, but "
                    f"{call.graph_name!r} gives {shapes[0]} and {shapes[-1]}"
                )
        first = [(0, axis) for axis in range(rank) if axis not in traced]
        second = [(1, axis) for axis in range(rank) if axis not in (*traced, *paired)]
        wanted = sorted([*first, *second], key=lambda side_axis: side_axis[1] != 0)
        axes = tuple([*first, *second].index(side_axis) for side_axis in wanted)
        products = InnerProducts(call.smooth, order, call.count, paired, traced)
        divisor = math.prod(shapes[0][axis] for axis in traced)
        return Kernel(products, axes, divisor), as_found

    return asked


def _shapes(call: Call) -> list[tuple[int, ...]]:
    """The shapes of the function's result, for one batch or for both.

    Raises:
        BlockShapeError: if it is not one array each, with the examples in front.
    """
    shapes = [tuple(result.shape) for result in call.results]
    if call.record.out_tree not in _ONE_OR_TWO or not all(shapes):
        raise BlockShapeError(
            f"ntk needs a function whose result is one array of shape (N, *out), but "
            f"{call.graph_name!r} gives {jax.tree.unflatten(call.record.out_tree, shapes)[0]}; "
            "select one array of a tree, or concatenate several"
        )
    if len({shape[1:] for shape in shapes}) > 1:
        raise BlockShapeError(
            f"ntk needs results that differ in the number of examples alone, but "
            f"{call.graph_name!r} gives {shapes[0]} and {shapes[1]} for the two batches"
        )
    return shapes


_ONE_OR_TWO: Any = [jax.tree.structure([0] * count) for count in (1, 2)]


def _axes(name: str, axes: Any) -> tuple[int, ...]:
    """Axes as a tuple.

    Raises:
        ArgumentError: for anything but ints.
    """
    is_one = not isinstance(axes, Sequence) or isinstance(axes, str)
    several = [cast("Any", axes)] if is_one else [*cast("Sequence[Any]", axes)]
    try:
        if any(isinstance(axis, bool) for axis in several):
            raise TypeError
        return tuple(operator.index(axis) for axis in several)
    except TypeError:
        raise ArgumentError(
            f"{name} is {axes!r}, but must be an axis of the function's result, or several"
        ) from None


def _within(name: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes counted from the first.

    Raises:
        BlockShapeError: for axes that there are not.
    """
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise BlockShapeError(
            f"{name}={axes} names an axis that the function's result of shape {shape} does not have"
        )
    return tuple(axis % len(shape) for axis in axes)
