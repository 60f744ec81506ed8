"""Two edges composed: blocks are contracted, and an operator is applied to the block beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.losses import at_equation, is_following, is_recording, note_excess
from blockjac.algebra.outside import outside_parts
from blockjac.algebra.place_counts import places_of, several
from blockjac.algebra.star import star
from blockjac.operators.operator import (
    Edge,
    Operator,
    OperatorGroup,
    added,
    cheapest,
    present,
    transposed,
)
from blockjac.terms.block import Block


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
    """`left star right` where either may be an operator."""
    if isinstance(right, Operator):
        block = written(left)
        cotangents: list[Block | None] = [None] * len(right.group.out_shapes)
        cotangents[right.row] = block
        answer = pulled_through(right.group, cotangents)[right.column]
        dtype = right.group.dtypes[right.column]
        return Block.zeros(block.out_shape, right.wrt_shape, dtype) if answer is None else answer
    if isinstance(left, Operator):
        tangents: list[Block | None] = [None] * len(left.group.wrt_shapes)
        tangents[left.column] = right
        answer = pushed_through(left.group, tangents)[left.row]
        return (
            Block.zeros(left.out_shape, right.wrt_shape, right.dtype) if answer is None else answer
        )
    return star(left, right)


def pulled_through(group: OperatorGroup, cotangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over outputs of cotangent star J`, whatever index maps the cotangents' outputs have."""
    with at_equation(group.equation):
        found = _by_parts(cotangents, group.pullback, group.whole)
        if is_recording() and not group.whole:
            _note_applied(
                cotangents, found, lambda row, block, column: star(block, group.block(row, column))
            )
    return found


def pushed_through(group: OperatorGroup, tangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over inputs of J star tangent`, whatever index maps the tangents' inputs have."""
    if all(block is None or is_one(block.wrt_shape) for block in tangents):
        return group.pushforward(tangents)
    with at_equation(group.equation):
        found = transposed(
            _by_parts(
                transposed(tangents),
                lambda parts: transposed(group.pushforward(transposed(parts))),
                group.whole,
            )
        )
        if is_recording() and not group.whole:
            _note_applied(
                tangents, found, lambda column, block, row: star(group.block(row, column), block)
            )
    return found


def pulled_in_one(group: OperatorGroup, cotangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over outputs of cotangent star J`, of all index maps of the cotangents at once."""
    with at_equation(group.equation):
        return group.pullback(cotangents)


def pushed_in_one(group: OperatorGroup, tangents: Sequence[Block | None]) -> list[Block | None]:
    """`sum over inputs of J star tangent`, of all index maps that the tangents have at once."""
    with at_equation(group.equation):
        return group.pushforward(tangents)


APPLIED = (
    "it is applied to a basis, so that its result is dense where its own Jacobian is structured"
)


CHOOSE = (
    "another order= may keep the structure; else write the step in operations that are no linear "
    "map (slices, products, sums)"
)


def _note_applied(
    given: Sequence[Block | None],
    found: Sequence[Block | None],
    product: Callable[[int, Block, int], Block],
) -> None:
    """Note where an operator's answer is stored over more places than its blocks would give.

    Args:
        given: what it was applied to.
        found: what came out.
        product: of the number of a block that went in, the block, and the number of a result.
    """
    parts = present(given)
    for place, answer in enumerate(found):
        if answer is None or not (several(answer.out_shape) and several(answer.wrt_shape)):
            continue
        with planning():
            places = sum(places_of(product(own, block, place)) for own, block in parts.items())
        note_excess(places_of(answer), places, APPLIED, CHOOSE)


def is_one(shape: Sequence[int]) -> bool:
    """Whether a tensor of a shape has one entry."""
    return all(size == 1 for size in shape)


def _by_parts(
    blocks: Sequence[Block | None],
    act: Callable[[Sequence[Block | None]], list[Block | None]],
    whole: bool,
) -> list[Block | None]:
    """A linear map of the input axes of blocks, in coordinates that suit their output axes."""
    if all(block is None or is_one(block.out_shape) for block in blocks):
        return act(blocks)
    parts = outside_parts(blocks, whole)
    if all(part.embedding is None for part in parts) or (whole and len(parts) > 1):
        return act(blocks)

    def apart() -> list[Block | None]:
        return [added(each) for each in zip(*(part.through(act) for part in parts), strict=True)]

    return apart() if len(parts) == 1 else cheapest(lambda: act(blocks), apart)
