"""Axes of size 1: views that add and remove them, and what NumPy broadcasts by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from blockjac.explanations.source.expressions import FULL, NEW_AXIS, Expression, Subscript, number

Shape = tuple[int, ...]


def stripped(shape: Sequence[int]) -> Shape:
    """A shape without the axes of size 1 in front."""
    shape = tuple(shape)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def padded(shape: Sequence[int], rank: int) -> Shape:
    """A shape with axes of size 1 in front."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def joint(shapes: Sequence[Shape]) -> Shape:
    """What arrays of these shapes are broadcast to."""
    rank = max(map(len, shapes), default=0)
    columns = zip(*(padded(shape, rank) for shape in shapes), strict=True)
    return tuple(next((size for size in column if size != 1), 1) for column in columns)


def without_ones(shape: Sequence[int]) -> Shape:
    """The sizes other than 1."""
    return tuple(size for size in shape if size != 1)


def same_size(one: Shape, two: Shape) -> bool:
    """Whether two shapes have equally many entries."""
    return math.prod(one) == math.prod(two)


def unit_view(of: Expression, old: Shape, new: Shape) -> Expression:
    """`of[:, None]`: the shapes differ by axes of size 1 alone.

    Examples:
        >>> from blockjac.explanations.source.expressions import Text
        >>> from blockjac.explanations.source.writer import Writer
        >>> write = Writer("np", None).text
        >>> write(unit_view(Text("x"), (9,), (9, 1)))
        'x[:, None]'
        >>> write(unit_view(Text("x"), (9, 1, 4), (9, 4)))
        'x[:, 0]'
    """
    if old == new:
        return of
    items: list[Expression] = []
    old_gaps, new_gaps = _gaps(old), _gaps(new)
    for place, (before, after) in enumerate(zip(old_gaps, new_gaps, strict=True)):
        items += [FULL] * min(before, after)
        items += [NEW_AXIS] * max(after - before, 0) + [number(0)] * max(before - after, 0)
        if place < len(old_gaps) - 1:
            items.append(FULL)
    if NEW_AXIS not in items:
        while items[-1] is FULL:
            items.pop()
    return Subscript(of, tuple(items))


def _gaps(shape: Shape) -> list[int]:
    """How many axes of size 1 stand before each other axis, and at the end."""
    gaps = [0]
    for size in shape:
        if size == 1:
            gaps[-1] += 1
        else:
            gaps.append(0)
    return gaps


def moved(actual: Shape, old: Shape, new: Shape) -> Shape | None:
    """The shape after a reshape of a value that is broadcast along some axes.

    Args:
        actual: what it has.
        old: what it is broadcast to.
        new: what that is reshaped to.

    Returns:
        None if the reshape does more than add and remove axes of size 1.
    """
    if without_ones(old) != without_ones(new):
        return None
    sizes = iter(
        size for size, full in zip(padded(actual, len(old)), old, strict=True) if full != 1
    )
    return stripped([1 if size == 1 else next(sizes) for size in new])
