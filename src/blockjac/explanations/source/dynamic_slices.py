"""Windows at computed places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    FULL,
    Display,
    Expression,
    Literal,
    Slice,
    Subscript,
    Text,
    call,
    integers,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.reads import clipped, entry_at


def dynamic_slice(equation: Equation) -> Result:
    """`x[i]` or `x[i : i + 2]`, with the start kept within bounds."""
    sizes = tuple(map(int, equation.params["slice_sizes"]))
    shape = equation.shapes[0]
    moving = [axis for axis in range(len(shape)) if sizes[axis] != shape[axis]]
    starts = equation.operands[1 : 1 + len(shape)]
    if not moving:
        return equation.operands[0]
    known = all(starts[axis].known is not None for axis in moving)
    if not known:
        axis = moving[0]
        is_entry = len(moving) == 1 and sizes[axis] == 1
        part = entry_at(equation, equation.operands[0], starts[axis], axis) if is_entry else None
        if part is None:
            return _general_slice(equation, starts, sizes)
        return equation.builder.reshaped(part, part.shape, sizes)
    items: list[Expression] = []
    left: list[int] = []
    for axis in range(max(moving) + 1):
        last = shape[axis] - sizes[axis]
        if axis not in moving:
            items.append(FULL)
            left.append(shape[axis])
        elif sizes[axis] == 1:
            items.append(clipped(starts[axis], last, equation))
        else:
            start = int(np.clip(int(starts[axis].known), 0, last))  # pyright: ignore[reportArgumentType]
            stop = start + sizes[axis]
            items.append(
                Slice(
                    number(start) if start else None,
                    number(stop) if stop < shape[axis] else None,
                )
            )
            left.append(sizes[axis])
    left += shape[max(moving) + 1 :]
    part = equation.builder.value(
        Subscript(equation.exact(0), tuple(items)), left, equation.out.dtype
    )
    return equation.builder.reshaped(part, tuple(left), sizes)


def _general_slice(
    equation: Equation, starts: Sequence[Value], sizes: tuple[int, ...]
) -> Expression:
    """A slice whose start is not known."""
    x = equation.exact(0)
    if equation.module == "np":
        return call("_dynamic_slice", x, _starts(starts), integers(sizes))
    options = _as_they_are(starts, equation.shapes[0])
    return call("lax.dynamic_slice", x, _starts(starts), integers(sizes), **options)


def _as_they_are(starts: Sequence[Value], shape: Sequence[int]) -> dict[str, Expression]:
    """That JAX should not count negative starts from the end, where there could be some."""
    for start, size in zip(starts, shape, strict=True):
        is_positive = start.known is not None and start.known >= 0
        is_positive |= start.bounds is not None and start.bounds[0] >= 0
        if not is_positive and (start.from_end is None or start.from_end[1] != size):
            return {"allow_negative_indices": Text("False")}
    return {}


def _starts(starts: Sequence[Value]) -> Expression:
    """The starts as a tuple."""
    are_known = all(start.known is not None for start in starts)
    parts = [
        number(int(start.known))
        if are_known and start.known is not None
        else start.code
        if isinstance(start.code, Literal)
        else start.ref
        for start in starts
    ]
    return Display("(", tuple(parts))


def dynamic_update_slice(equation: Equation) -> Result:
    """A copy with a window overwritten, whose start is kept within bounds."""
    name = "_update_slice" if equation.module == "np" else "lax.dynamic_update_slice"
    starts = equation.operands[2:]
    options = {} if equation.module == "np" else _as_they_are(starts, equation.shapes[0])
    return call(name, equation.exact(0), equation.exact(1), _starts(starts), **options)


DYNAMIC_SLICES: dict[str, Translation] = {
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}
"""Translations by primitive."""
