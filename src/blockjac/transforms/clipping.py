"""Per-example clipping: the sum of gradients that are each scaled down to a norm, as one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Abstract
from blockjac.algebra.dense import dense
from blockjac.base import compat
from blockjac.blocks import Block, Factor, Index, Label, Term, add, star
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT
from blockjac.errors import ArgumentError
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.terms.block import rebuilt
from blockjac.transforms.batch_inputs import check_apart
from blockjac.transforms.inner_products import InnerProducts, is_better_made
from blockjac.transforms.per_example import check_batch_axes, check_examples
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.traced_once import Orders
from blockjac.transforms.unmade_edges import Product, multiplied
from blockjac.transforms.unmade_products import Question, unmade_rows


def clipped_grad(
    losses: Callable[P, Any],
    max_norm: Any,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    normalize_by: Any = 1.0,
    return_norms: bool = False,
    nan_safe: bool = True,
    batch_argnums: ArgNums | None = None,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The sum of all examples' gradients, each scaled to a norm of at most `max_norm`.

        sum over n of  min(1, max_norm / norm(g[n])) g[n],    g[n] the gradient of losses[n]

    The gradients are not formed: one reverse sweep gives them in factors, as `X[n,k] Q[n,h]` for a
    layer; norms come from the factors, and the sum is one product `X' diag(scale) Q`, as in
    `jax.grad`.

    Args:
        losses: a JAX function `losses(params, *batch)` of shape `(N,)`, one loss per example. The
            loss of an example must depend on its own data alone.
        max_norm: the largest norm over all parameters, a positive number.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `losses` returns `(losses, aux)`; the answer is then `(answer, aux)`.
        normalize_by: what the sum is divided by: the number of examples for their mean.
        return_norms: whether to answer with the norms before clipping too, `(gradient, norms)`.
        nan_safe: whether an example whose gradient is not finite counts as zero. If not, the sum is
            not finite either, and one copy less is made of the factors.
        batch_argnums: which positional arguments hold the examples on their first axes; by default
            all that are not differentiated. Keyword arguments do where their first axis fits.
        batch_axes: how many axes the losses, and all examples, have in front: 2 for losses of shape
            `(N, T)`, each of which is clipped by itself.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the sum in the tree of the parameters.

    Raises:
        ValueError: if the losses are not of shape `(N,)`; and if examples meet, as in batch norm:
            one of them would then move the gradients of the others, by no bounded amount.
        TypeError: for integer and complex parameters or losses, and for options of the wrong type.

    Source:
        Abadi et al., "Deep learning with differential privacy", CCS 2016; Bu et al.,
        "Differentially private optimization on large model at small cost", ICML 2023, for sums
        from factors. The meaning is that of `jax_privacy.clipping.clipped_grad`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 0.5]]), jnp.zeros(2)
        >>> blockjac.clipped_grad(lambda w, X: X @ w, max_norm=1.0)(w, X)
        Array([0.6, 1.3], dtype=float32)
    """
    _check_positive("max_norm", max_norm)
    _check_positive("normalize_by", normalize_by)
    axes = check_batch_axes(batch_axes)
    name, description = "clipped_grad", "Clipped gradient"
    transform = Transform(
        name, description, losses, argnums, has_aux, order, extra=(max_norm, normalize_by)
    )
    return transform(_clips(return_norms, nan_safe, batch_argnums, axes))


def _clips(
    return_norms: bool, nan_safe: bool, batch_argnums: ArgNums | None, batch_axes: int
) -> Ask:
    """Asks for the clipped sum, of losses whose examples do not meet."""

    def asked(call: Call, order: Order) -> Asked:
        check_examples(call, batch_axes, of_losses=True)
        check_apart(call, batch_argnums, batch_axes)
        return Clipped(call.smooth, order, batch_axes, nan_safe), partial(_put, call, return_norms)

    return asked


def _put(call: Call, return_norms: bool, answer: tuple[Any, Any]) -> Any:
    """The sum in the tree of the parameters; with the norms, both."""
    norms, row = answer
    gradient = call.argument_tree(row)
    return (gradient, norms) if return_norms else gradient


def _check_positive(name: str, value: Any) -> None:
    """Raise unless an option is a positive number, or one that only the running program knows.

    Raises:
        ArgumentError: names the option and its value.
    """
    if isinstance(value, jax.Array) and compat.is_traced(value) and value.shape == ():
        return
    is_number = isinstance(value, int | float | jax.Array) or isinstance(
        cast("object", value), np.number | np.ndarray
    )
    if not is_number or isinstance(value, bool) or np.ndim(value) or not value > 0:
        raise ArgumentError(f"{name} is {value!r}, but must be a positive number")


@dataclass(frozen=True)
class Clipped:
    """The norms of all examples' gradients, and the sum of the gradients that are clipped.

    Attributes:
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        batch_axes: how many axes the losses have.
        nan_safe: whether an example whose gradient is not finite counts as zero.
    """

    wrt: tuple[int, ...]
    order: Order
    batch_axes: int
    nan_safe: bool

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and the norms and a row of arrays."""
        max_norm, normalize_by = extra
        asked = Question(graph, arguments, captured, self.wrt, 1, self.batch_axes)
        rows = unmade_rows(asked, self.order)
        loss = graph.aval(graph.outputs[0])
        row = [self._cheapest(products, loss) for products in rows.products[0]]
        squares = [dense(self._squares(products), NO_LIMIT) for products in row if products]
        total = reduce(jnp.add, squares or [jnp.zeros(loss.shape, loss.dtype)])
        total = jnp.maximum(total, 0)  # terms that cancel may leave less than 0 of a square
        scale = _scale(total, jnp.asarray(max_norm, total.dtype))
        scale = scale / jnp.asarray(normalize_by, total.dtype)
        gradients = [
            self._sum(products, scale, graph.avals[leaf])
            for products, leaf in zip(row, self.wrt, strict=True)
        ]
        return rows.values[1:], (jnp.sqrt(total), gradients)

    def _squares(self, products: Sequence[Product]) -> Block:
        """The squared norms of the sum of some products."""
        paired = tuple(range(self.batch_axes))
        return InnerProducts(self.wrt, self.order, paired=paired).of_all(products, None)

    def _cheapest(self, products: list[Product], loss: Any) -> list[Product]:
        """The products as they are, or made and added up, if norms and sum then take less time."""

        def made() -> list[Product]:
            return [(reduce(add, map(multiplied, products)),)]

        def seconds(way: Callable[[], list[Product]]) -> float:
            with planning() as cost:
                chosen = way()
                dense(self._squares(chosen), NO_LIMIT)
                dense(_weighted(chosen, _abstract_row(loss)), NO_LIMIT)
            return cost.seconds()

        if not products or all(len(product) == 1 for product in products):
            return made() if len(products) > 1 else products
        if is_better_made(products):
            return made()
        return min((lambda: products, made), key=seconds)()

    def _sum(self, products: Sequence[Product], scale: Any, leaf: Any) -> Any:
        """The weighted sum of the gradients by one leaf."""
        if not products:
            return jnp.zeros(leaf.shape, leaf.dtype)
        if self.nan_safe:
            products = [tuple(map(_finite, product)) for product in products]
        return dense(_weighted(products, Block.from_dense(scale, 0)), NO_LIMIT).astype(leaf.dtype)


def _abstract_row(loss: Any) -> Block:
    """A weight for each loss, as a plan sees it."""
    labels = tuple(map(Label, loss.shape))
    factor = Factor(Abstract(tuple(loss.shape), loss.dtype), labels)
    term = Term((factor,), (), tuple(map(Index.of, labels)))
    return Block((), loss.shape, loss.dtype, [term])


def _weighted(products: Sequence[Product], row: Block) -> Block:
    """The row times the sum of some products, from the left."""
    return reduce(add, [reduce(star, product, row) for product in products])


def _finite(block: Block) -> Block:
    """The block with 0 in place of numbers that are not finite.

    They belong to examples of weight 0, of which 0 times infinity would make nan.
    """

    def finite(factor: Factor) -> Factor:
        array = factor.array
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            return factor
        return Factor(jnp.where(jnp.isfinite(array), array, 0), factor.labels, factor.name)

    terms = [replace(term, factors=tuple(map(finite, term.factors))) for term in block.terms]
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _scale(squares: Any, max_norm: Any) -> Any:
    """`min(1, max_norm / norm)`, and 0 where the norm is not finite.

    Its derivative exists at a norm of 0 too, where none of the branches divides.
    """
    is_clipped = squares > max_norm**2
    inverse = jax.lax.rsqrt(jnp.where(is_clipped, squares, 1))
    scale = jnp.where(is_clipped, max_norm * inverse, 1)
    return jnp.where(jnp.isfinite(squares), scale, 0)
