"""Parts of expressions that the builder writes, and which equations it needs at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base.compat import is_variable
from blockjac.explanations.source.expressions import (
    FULL,
    Expression,
    Literal,
    Slice,
    Subscript,
    Text,
    integers,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.views import Shape, unit_view


def shape_code(shape: Shape) -> Expression:
    """A shape as an argument: a single size is written as a number."""
    return Text(str(shape[0])) if len(shape) == 1 else integers(shape)


def sizes_code(shape: Shape) -> Sequence[Expression]:
    """A shape as arguments of `reshape`."""
    return [Text(str(size)) for size in shape] if shape else [integers(())]


def is_finite_real(digits: Literal) -> bool:
    """Whether a literal is a finite real number other than -0.0."""
    text = digits.text
    return "np." not in text and "complex" not in text and text not in ("-0.0", "True", "False")


def live_equations(jaxpr: Any, needed: Sequence[bool]) -> list[tuple[Any, list[bool]]]:
    """The equations that the needed results depend on, each with which of its results are."""
    used = {
        atom
        for atom, is_needed in zip(jaxpr.outvars, needed, strict=True)
        if is_needed and is_variable(atom)
    }
    live: list[tuple[Any, list[bool]]] = []
    for equation in reversed(jaxpr.eqns):
        flags = [variable in used for variable in equation.outvars]
        if any(flags):
            live.append((equation, flags))
            used.update(atom for atom in equation.invars if is_variable(atom))
    return live[::-1]


def indexed(source: Value, shape: Shape) -> Expression:
    """A view that drops axes of size 1: `x[1:2][0]` is `x[1]`."""
    view = unit_view(source.ref, source.shape, shape)
    code = source.code
    if not isinstance(view, Subscript) or not isinstance(code, Subscript) or source.name:
        return view
    items = list(code.items)
    for axis, item in enumerate(view.items):
        if item == number(0) and axis < len(items) and isinstance(items[axis], Slice):
            start = items[axis].children()[0] if _has_start(items[axis]) else number(0)
            items[axis] = start
        elif item is not FULL:
            return view
    is_static = all(isinstance(item, Slice) for item in code.items)
    return Subscript(code.of, tuple(items)) if is_static else view


def _has_start(item: Expression) -> bool:
    return isinstance(item, Slice) and item.start is not None


def is_uniform(entries: np.ndarray[Any, Any]) -> bool:
    """Whether all entries are equal."""
    first = entries.reshape(-1)[0]
    return bool(np.all(entries == first)) and not np.any(
        np.signbit(entries) if (entries.dtype.kind == "f" and first == 0) else False
    )
