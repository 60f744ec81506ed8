"""Norms of gradients kept in factors, and the sum of the gradients, each scaled to a norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.cost import Abstract
from blockjac.algebra.dense import dense
from blockjac.blocks import Block, Factor, Index, Label, Term, add, star
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.terms.block import rebuilt
from blockjac.transforms.inner_products import InnerProducts, is_better_made, seconds
from blockjac.transforms.unmade_edges import Product, multiplied
from blockjac.transforms.unmade_products import Question, unmade_rows


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

        def both(way: Callable[[], list[Product]]) -> list[Block]:
            chosen = way()
            return [self._squares(chosen), _weighted(chosen, _abstract_row(loss))]

        if not products or all(len(product) == 1 for product in products):
            return made() if len(products) > 1 else products
        if is_better_made(products):
            return made()
        return min((lambda: products, made), key=lambda way: seconds(lambda: both(way)))()

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
