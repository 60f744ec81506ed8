"""Two edges composed: blocks are contracted, and an operator is applied to the block beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.losses import at_equation, is_following, is_recording, note_excess
from blockjac.algebra.outside import outside_parts
from blockjac.algebra.place_counts import places_of, several
from blockjac.algebra.star import star
from blockjac.operators.operator import (
    Blocks,
    Edge,
    Operator,
    OperatorGroup,
    added,
    cheapest,
    present,
    spread,
    transposed,
)
from blockjac.terms.block import Block

APPLIED = (
    "it is applied to a basis, so that its result is dense where its own Jacobian is structured"
)

CHOOSE = (
    "another order= may keep the structure; else write the step in operations with rules of their "
    "own (slices, products, sums)"
)


def written(edge: Edge) -> Block:
    """An edge as a block."""
    if not isinstance(edge, Operator):
        return edge
    if not is_following():
        return edge.block()
    with at_equation(edge.group.equation):
        edge.group.note_unknown()
        return edge.block()


def compose(left: Edge, right: Edge) -> Block:
    """`left star right`, where either may be an operator."""
    if isinstance(right, Operator):
        group, left = right.group, written(left)
        cotangents = spread([left], [right.row], len(group.out_shapes))
        block, dtype = pulled_through(group, cotangents)[right.column], group.dtypes[right.column]
    elif isinstance(left, Operator):
        tangents = spread([right], [left.column], len(left.group.wrt_shapes))
        block, dtype = pushed_through(left.group, tangents)[left.row], right.dtype
    else:
        return star(left, right)
    return Block.zeros(left.out_shape, right.wrt_shape, dtype) if block is None else block


def pulled_through(group: OperatorGroup, cotangents: Blocks) -> list[Block | None]:
    """`sum over outputs of cotangent star J`, whatever index maps the cotangents' outputs have."""
    with at_equation(group.equation):
        pulled = _by_parts(cotangents, group.pullback, group.whole)
        if is_recording() and not group.whole:
            _note_applied(
                cotangents, pulled, lambda row, block, column: star(block, group.block(row, column))
            )
    return pulled


def pushed_through(group: OperatorGroup, tangents: Blocks) -> list[Block | None]:
    """`sum over inputs of J star tangent`, whatever index maps the tangents' inputs have."""
    if all(block is None or is_one(block.wrt_shape) for block in tangents):
        return group.pushforward(tangents)

    def push(blocks: Blocks) -> list[Block | None]:
        return transposed(group.pushforward(transposed(blocks)))

    with at_equation(group.equation):
        pushed = transposed(_by_parts(transposed(tangents), push, group.whole))
        if is_recording() and not group.whole:
            _note_applied(
                tangents, pushed, lambda column, block, row: star(group.block(row, column), block)
            )
    return pushed


def _note_applied(
    entering: Blocks, results: Blocks, product: Callable[[int, Block, int], Block]
) -> None:
    """Note where an operator's result is stored over more places than its blocks would give.

    Args:
        entering: the blocks that it was applied to.
        results: the blocks that it gave.
        product: of the number of an entering block, that block, and the number of a result.
    """
    nonzero = present(entering)
    for number, result in enumerate(results):
        if result is None or not (several(result.out_shape) and several(result.wrt_shape)):
            continue
        with planning():
            places = sum(places_of(product(n, block, number)) for n, block in nonzero.items())
        note_excess(places_of(result), places, APPLIED, CHOOSE)


def is_one(shape: Sequence[int]) -> bool:
    """Whether a tensor of a shape has one entry."""
    return all(size == 1 for size in shape)


def _by_parts(
    blocks: Blocks, act: Callable[[Blocks], list[Block | None]], whole: bool
) -> list[Block | None]:
    """A linear map of the input axes of blocks, in coordinates that suit their output axes."""
    if all(block is None or is_one(block.out_shape) for block in blocks):
        return act(blocks)
    parts = outside_parts(blocks, whole)
    if all(part.embedding is None for part in parts) or (whole and len(parts) > 1):
        return act(blocks)

    def separately() -> list[Block | None]:
        return [added(each) for each in zip(*(part.through(act) for part in parts), strict=True)]

    return separately() if len(parts) == 1 else cheapest(lambda: act(blocks), separately)
