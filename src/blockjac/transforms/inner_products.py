"""Products `J1 J2'` of Jacobians by the same parameters, from Jacobians kept in factors.

They are contracted over the parameters, factor by factor, in the order that is predicted to take
the least time: for a layer `X W` the inner products of `X` and of what arrives from above come
first, and no array of the parameters' size is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import dense
from blockjac.algebra.star import chain_along
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, add
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.terms.axes import beside, rearranged
from blockjac.transforms.unmade_edges import Product, multiplied
from blockjac.transforms.unmade_products import Question, unmade_rows

FEW = 3
"""Up to this many products of two blocks are tried unmade: each meets each other."""


@dataclass(frozen=True)
class InnerProducts:
    """The sum over all inputs of `J1 J2'`, for the Jacobians of the first and the last result.

    Attributes:
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        count: how many results are differentiated: two, or one for `J J'`.
        paired: axes of the results at which both must agree; the answer has them once.
        traced: axes of the results to sum over, at which both must agree.
        axes: how many leading axes of the results count examples.
        norms: whether the roots are asked for.
    """

    wrt: tuple[int, ...]
    order: Order
    count: int = 1
    paired: tuple[int, ...] = ()
    traced: tuple[int, ...] = ()
    axes: int = 1
    norms: bool = False

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and an array: axes of the first result, then of the last."""
        del extra
        outputs = graph.outputs[: self.count]
        asked = Question(graph, arguments, captured, self.wrt, self.count, self.axes)
        rows = unmade_rows(asked, self.order)
        shapes = [graph.aval(output).shape for output in (outputs[0], outputs[-1])]
        out, wrt = self._kept(shapes[0]), self._kept(shapes[1], alone=True)
        blocks = [Block.zeros(out, wrt, graph.avals[self.wrt[0]].dtype)]
        for left, right in zip(rows.products[0], rows.products[-1], strict=True):
            if left and right:
                blocks.append(self.of(left, None if self.count == 1 else right))
        total = reduce(
            jnp.add, (dense(block, max_bytes=NO_LIMIT) for block in blocks[1:] or blocks)
        )
        # Terms that cancel may leave less than 0 of a square.
        answer = jnp.sqrt(jnp.maximum(total, 0)) if self.norms else total
        return rows.values[self.count :], answer

    def _kept(self, shape: Shape, alone: bool = False) -> Shape:
        """The axes of a result that the answer has; or only those that it has for both results."""
        removed = {*self.traced, *(self.paired if alone else ())}
        return tuple(size for axis, size in enumerate(shape) if axis not in removed)

    def of(self, left: Sequence[Product], right: Sequence[Product] | None) -> Block:
        """`J1 J2'` for two sums of products, `J1 J1'` for None; or of the sums, made first.

        Terms that store as much as their sum does densely may be added into one array, because
        each of them meets each other. Whichever way is predicted to take the least time.
        """
        several = [products for products in (left, right) if products is not None]

        def sums() -> list[Block]:
            return [reduce(add, map(multiplied, products)) for products in several]

        def of_sums(blocks: Sequence[Block]) -> Block:
            products = [[(block,)] for block in blocks]
            return self.of_all(products[0], None if right is None else products[-1])

        ways = [lambda: of_sums(sums())]
        with planning():
            has_large_terms = any(map(is_best_added, sums()))
        if has_large_terms:
            ways.append(lambda: of_sums([written_if_best(block) for block in sums()]))
        if not any(map(is_better_made, several)):
            ways.append(lambda: self.of_all(left, right))
        return quickest(*ways)

    def of_all(self, left: Sequence[Product], right: Sequence[Product] | None) -> Block:
        """The sum over all pairs of products of one times the other's transpose."""
        if right is not None:
            return reduce(add, [self._of_two(one, other) for one in left for other in right])
        blocks: list[Block] = []
        for number, one in enumerate(left):
            for other in left[: number + 1]:
                block = self._of_two(one, other)
                blocks += [block] if one is other else [block, self._mirrored(block)]
        return reduce(add, blocks)

    def _of_two(self, one: Product, other: Product) -> Block:
        """One product times the transpose of another."""
        first, second = (contracting(product, self.traced) for product in (one, other))
        ranks = [len(product[0].out_shape) for product in (one, other)]
        places = [_places(rank, self.traced) for rank in ranks]
        pairs = [(places[0][axis], places[1][axis]) for axis in self.paired]
        return chain_along([*first, *(block.T for block in reversed(second))], pairs)

    def _mirrored(self, block: Block) -> Block:
        """The transpose of `J J'`, whose paired axes stay where they are."""
        places = _places(len(block.out_shape) + len(self.traced), self.traced)
        paired = {places[axis] for axis in self.paired}
        free = [axis for axis in range(len(block.out_shape)) if axis not in paired]
        rank = len(block.out_shape)
        out = list(range(rank))
        for number, axis in enumerate(free):
            out[axis] = rank + number
        return rearranged(block, out, free)


def is_better_made(products: Sequence[Product]) -> bool:
    """Whether nothing is gained by trying these products unmade."""
    return len(products) > FEW or all(len(product) == 1 for product in products)


def is_best_added(block: Block) -> bool:
    """Whether the terms of a sum store about as much as its dense array."""
    return len(block.terms) > 1 and 2 * block.stored >= block.size


def written_if_best(block: Block) -> Block:
    """A sum of terms as one array, where they store about as much as that."""
    if not is_best_added(block):
        return block
    return Block.from_dense(dense(block, max_bytes=NO_LIMIT), len(block.out_shape))


def _places(rank: int, removed: Sequence[int]) -> dict[int, int]:
    """The number of each axis among those that are not removed."""
    rest = [axis for axis in range(rank) if axis not in removed]
    return {axis: number for number, axis in enumerate(rest)}


def contracting(product: Product, axes: Sequence[int]) -> Product:
    """A product with some output axes made input axes, so that they are contracted too."""
    if not axes:
        return product
    first, *others = product
    sizes = [first.out_shape[axis] for axis in axes]
    rank = len(first.out_shape)
    stay = [axis for axis in range(rank) if axis not in axes]
    start = rearranged(first, stay, [*axes, *range(rank, len(first.shape))])
    return (start, *(beside(block, sizes) for block in others))


def quickest(*ways: Callable[[], Block]) -> Block:
    """What the way gives that is predicted to take the least time, written out."""
    if len(ways) == 1:
        return ways[0]()
    return min(ways, key=lambda way: seconds(lambda: [way()]))()


def seconds(way: Callable[[], Sequence[Block]]) -> float:
    """The predicted time of some blocks, written out."""
    with planning() as cost:
        for block in way():
            dense(block, max_bytes=NO_LIMIT)
    return cost.seconds()
