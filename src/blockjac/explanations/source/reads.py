"""Reads and writes at computed places; in NumPy by fancy indices, or by helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    FULL,
    Display,
    Expression,
    Subscript,
    Text,
    call,
    integers,
    literal,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.writer import Writer


def mode_name(mode: Any) -> str:
    """`clip`, `fill_or_drop`, `promise_in_bounds` or `one_hot`."""
    return str(getattr(mode, "name", mode)).lower()


def gather(equation: Equation) -> Result:
    """`x[rows]` where it is one, else a helper or `lax.gather`."""
    numbers = equation.params["dimension_numbers"]
    sizes = tuple(map(int, equation.params["slice_sizes"]))
    mode = mode_name(equation.params["mode"])
    places = known_places(equation, numbers.start_index_map, sizes)
    shape = equation.shapes[0]
    if places is not None and is_plain(equation, numbers.collapsed_slice_dims, numbers, sizes):
        items, axes = items_at(numbers.start_index_map, places, equation)
        if is_in_front(axes, numbers.offset_dims, equation):
            return Subscript(equation.exact(0), items)
    if mode in ("clip", "promise_in_bounds") and len(equation.shapes[1]) == 1:
        entry = _entry(equation, numbers, sizes)
        if entry is not None:
            return entry
    if mode in ("clip", "promise_in_bounds") and equation.module == "np":
        index = _single_index(equation, numbers.start_index_map, numbers, sizes, shape)
        if index is not None:
            return index
    if equation.module == "jnp":
        return _lax_gather(equation, numbers, sizes, mode)
    options: dict[str, Expression] = {}
    if mode not in ("clip", "promise_in_bounds"):
        options["fill"] = _fill(equation)
    if numbers.operand_batching_dims:
        options["batch_axes"] = integers(numbers.operand_batching_dims)
        options["start_batch_axes"] = integers(numbers.start_indices_batching_dims)
    return call(
        "_gather",
        equation.exact(0),
        equation.exact(1),
        integers(sizes),
        start_axes=integers(numbers.start_index_map),
        dropped_axes=integers(numbers.collapsed_slice_dims),
        offset_axes=integers(numbers.offset_dims),
        **options,
    )


def _entry(equation: Equation, numbers: Any, sizes: Sequence[int]) -> Result | None:
    """`x[:, i]` for a read at a single place along one axis."""
    axes, shape = numbers.start_index_map, equation.shapes[0]
    if len(axes) != 1 or numbers.operand_batching_dims:
        return None
    axis = int(axes[0])
    whole = [size == full for size, full in zip(sizes, shape, strict=True)]
    if sizes[axis] != 1 or not all(whole[:axis] + whole[axis + 1 :]):
        return None
    part = entry_at(equation, equation.operands[0], index_of(equation, 1), axis)
    if part is None:
        return None
    return equation.builder.reshaped(part, part.shape, tuple(equation.out.shape))


def entry_at(equation: Equation, x: Value, index: Value, axis: int) -> Value | None:
    """`x[:, i]`, in JAX only for an index that it does not have to count from the end."""
    shape = equation.shapes[0]
    if equation.module == "np":
        code = clipped(index, shape[axis] - 1, equation)
    elif index.bounds is not None and index.bounds[0] >= 0:
        code = index.ref
    elif index.from_end is not None and index.from_end[1] == shape[axis]:
        code = index.from_end[0].ref
    else:
        return None
    whole = equation.builder.exact(x, shape)
    left = (*shape[:axis], *shape[axis + 1 :])
    entry = Subscript(whole.ref, (*(FULL,) * axis, code))
    return equation.builder.value(entry, left, x.dtype)


def _fill(equation: Equation) -> Expression:
    """What stands at places out of bounds."""
    value, dtype = equation.params["fill_value"], np.dtype(equation.out.dtype)
    if value is None:
        if dtype.kind in "fc":
            value = np.nan
        elif dtype.kind == "b":
            value = True
        else:
            value = np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
    text = literal(np.asarray(value, dtype)).text
    return Text(text.replace("np.", f"{equation.module}."))


def known_places(
    equation: Equation, axes: Sequence[int], sizes: Sequence[int]
) -> list[np.ndarray[Any, Any]] | None:
    """The constant places of a read or write for each axis; None if they are not in bounds."""
    known, shape = equation.operands[1].known, equation.shapes[0]
    if known is None:
        return None
    known = np.broadcast_to(known, equation.shapes[1])
    places = [known[..., column].astype(np.int64) for column in range(len(axes))]
    is_inside = all(
        ((place >= 0) & (place <= shape[axis] - sizes[axis])).all()
        for place, axis in zip(places, axes, strict=True)
    )
    return places if is_inside else None


def is_plain(
    equation: Equation, dropped: Sequence[int], numbers: Any, sizes: Sequence[int]
) -> bool:
    """Whether exactly the axes that are indexed are dropped, and the others whole."""
    axes = getattr(numbers, "start_index_map", None)
    axes = numbers.scatter_dims_to_operand_dims if axes is None else axes
    batch = numbers.operand_batching_dims
    places: list[int] = list(map(int, axes))
    rest = [axis for axis in range(len(sizes)) if axis not in places]
    return (
        not batch
        and sorted(map(int, dropped)) == sorted(places)
        and all(sizes[axis] == equation.shapes[0][axis] for axis in rest)
        and all(sizes[axis] == 1 for axis in places)
    )


def items_at(
    axes: Sequence[int], places: Sequence[np.ndarray[Any, Any]], equation: Equation
) -> tuple[tuple[Expression, ...], list[int]]:
    """The items of a subscript with constant places."""
    by_axis = dict(zip(map(int, axes), places, strict=True))
    items = [
        _places_code(by_axis[axis], equation) if axis in by_axis else FULL
        for axis in range(max(by_axis) + 1)
    ]
    return tuple(items), sorted(by_axis)


LONGEST_LIST = 40
"""Places of up to this many characters are written in the subscript."""


def _places_code(places: np.ndarray[Any, Any], equation: Equation) -> Expression:
    """Constant places in a subscript; many are a value of their own, in JAX any are."""
    code = _listed(places)
    if places.ndim == 0:
        return code
    is_short = len(Writer("np", None).text(code)) <= LONGEST_LIST
    if is_short and equation.module == "np":
        return code
    value = equation.builder.constant(places)
    return equation.builder.exact(value, places.shape).ref


def _listed(places: np.ndarray[Any, Any]) -> Expression:
    """Constant places as nested lists, equally spaced ones as they are."""
    if places.ndim == 0:
        return number(int(places))
    return Display("[", tuple(map(_listed, places)))


def is_in_front(axes: Sequence[int], offsets: Sequence[int], equation: Equation) -> bool:
    """Whether the result has its axes where a subscript with lists has them."""
    rank = len(equation.shapes[1]) - 1
    kept = [axis for axis in range(len(equation.shapes[0])) if axis not in axes]
    is_block = list(axes) == list(range(axes[0], axes[0] + len(axes)))
    start = axes[0] if is_block or rank == 0 else 0
    before = [axis for axis in kept if axis < start] if is_block else []
    expected = [
        *range(len(before)),
        *range(len(before) + rank, rank + len(kept)),
    ]
    return list(map(int, offsets)) == expected


def _single_index(
    equation: Equation, axes: Sequence[int], numbers: Any, sizes: Sequence[int], shape: Any
) -> Expression | None:
    """`x[:, np.clip(i, 0, 4)]` for places along one axis."""
    if len(axes) != 1 or not is_plain(equation, numbers.collapsed_slice_dims, numbers, sizes):
        return None
    axis = int(axes[0])
    if not is_in_front([axis], numbers.offset_dims, equation):
        return None
    index = index_of(equation, 1)
    if index.shape != equation.shapes[1][:-1]:
        index = equation.builder.exact(index, equation.shapes[1][:-1])
    code = clipped(index, int(shape[axis]) - 1, equation)
    return Subscript(equation.exact(0), (*(FULL,) * axis, code))


def index_of(equation: Equation, operand: int) -> Value:
    """Starts of one column as places."""
    shape = equation.shapes[operand]
    return equation.builder.reshaped(equation.operands[operand], shape, shape[:-1])


def clipped(index: Value, last: int, equation: Equation) -> Expression:
    """A place that is kept within bounds."""
    if index.known is not None and index.known.ndim == 0:
        return number(int(np.clip(int(index.known), 0, last)))
    if index.bounds is not None and index.bounds[0] >= 0 and index.bounds[1] <= last:
        return index.ref
    return call(f"{equation.module}.clip", index.ref, number(0), number(last))


def _lax_gather(equation: Equation, numbers: Any, sizes: tuple[int, ...], mode: str) -> Expression:
    """The general form in JAX."""
    names = ["offset_dims", "collapsed_slice_dims", "start_index_map"]
    names += ["operand_batching_dims", "start_indices_batching_dims"]
    options: dict[str, Expression] = {"mode": Text(f'"{_mode(mode)}"')}
    if mode == "fill_or_drop":
        options["fill_value"] = _fill(equation)
    return call(
        "lax.gather",
        equation.exact(0),
        equation.exact(1),
        dimension_numbers("lax.GatherDimensionNumbers", numbers, names),
        integers(sizes),
        **options,
    )


def _mode(mode: str) -> str:
    return {"fill_or_drop": "fill"}.get(mode, mode)


def dimension_numbers(function: str, numbers: Any, names: Sequence[str]) -> Expression:
    """The dimension numbers of a read or write; empty ones of batches are left out."""
    return call(
        function,
        **{
            name: integers(getattr(numbers, name))
            for name in names
            if getattr(numbers, name) or "batching" not in name
        },
    )


READS: dict[str, Translation] = {"gather": gather}
"""Translations by primitive."""
