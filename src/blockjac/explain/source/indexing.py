"""Reads and writes at computed places; in NumPy by fancy indices, or by helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.explain.source.builder import Equation, Result, Translation
from blockjac.explain.source.expressions import (
    FULL,
    Attribute,
    Display,
    Expression,
    Literal,
    Slice,
    Subscript,
    Text,
    call,
    integers,
    literal,
    method,
    number,
)
from blockjac.explain.source.program import Value

UPDATES = {
    "scatter": ("set", "", "scatter"),
    "scatter-add": ("add", "np.add", "scatter_add"),
    "scatter-sub": ("subtract", "np.subtract", "scatter_sub"),
    "scatter-mul": ("multiply", "np.multiply", "scatter_mul"),
    "scatter-min": ("min", "np.minimum", "scatter_min"),
    "scatter-max": ("max", "np.maximum", "scatter_max"),
}
"""The names of a write: of `x.at[i]`, in NumPy, and in lax."""


def mode_name(mode: Any) -> str:
    """`clip`, `fill_or_drop`, `promise_in_bounds` or `one_hot`."""
    return str(getattr(mode, "name", mode)).lower()


def gather(equation: Equation) -> Result:
    """`x[rows]` where it is one, else a helper or `lax.gather`."""
    numbers = equation.params["dimension_numbers"]
    sizes = tuple(map(int, equation.params["slice_sizes"]))
    mode = mode_name(equation.params["mode"])
    places = _known_places(equation, numbers.start_index_map, sizes)
    shape = equation.shapes[0]
    if places is not None and _is_plain(equation, numbers.collapsed_slice_dims, numbers, sizes):
        items, axes = _items(numbers.start_index_map, places, equation)
        if _is_in_front(axes, numbers.offset_dims, equation):
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
    part = _at(equation, equation.operands[0], index_of(equation, 1), axis)
    if part is None:
        return None
    return equation.builder.reshaped(part, part.shape, tuple(equation.out.shape))


def _at(equation: Equation, x: Value, index: Value, axis: int) -> Value | None:
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


def _known_places(
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


def _is_plain(
    equation: Equation, dropped: Sequence[int], numbers: Any, sizes: Sequence[int]
) -> bool:
    """Whether exactly the axes that are indexed are dropped, and the others whole."""
    axes = getattr(numbers, "start_index_map", None)
    axes = numbers.scatter_dims_to_operand_dims if axes is None else axes
    batch = numbers.operand_batching_dims
    rest = [axis for axis in range(len(sizes)) if axis not in axes]
    return (
        not batch
        and sorted(map(int, dropped)) == sorted(map(int, axes))
        and all(sizes[axis] == equation.shapes[0][axis] for axis in rest)
        and all(sizes[axis] == 1 for axis in axes)
    )


def _items(
    axes: Sequence[int], places: Sequence[np.ndarray[Any, Any]], equation: Equation
) -> tuple[tuple[Expression, ...], list[int]]:
    """The items of a subscript with constant places."""
    by_axis = dict(zip(map(int, axes), places, strict=True))
    items: list[Expression] = [
        _listed(by_axis[axis]) if axis in by_axis else FULL for axis in range(max(by_axis) + 1)
    ]
    if equation.module == "jnp":
        items = [call("jnp.array", x) if isinstance(x, Display) else x for x in items]
    return tuple(items), sorted(by_axis)


def _listed(places: np.ndarray[Any, Any]) -> Expression:
    """Constant places as nested lists, equally spaced ones as they are."""
    if places.ndim == 0:
        return number(int(places))
    return Display("[", tuple(map(_listed, places)))


def _is_in_front(axes: Sequence[int], offsets: Sequence[int], equation: Equation) -> bool:
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
    if len(axes) != 1 or not _is_plain(equation, numbers.collapsed_slice_dims, numbers, sizes):
        return None
    axis = int(axes[0])
    if not _is_in_front([axis], numbers.offset_dims, equation):
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
        _dimension_numbers("lax.GatherDimensionNumbers", numbers, names),
        integers(sizes),
        **options,
    )


def _mode(mode: str) -> str:
    return {"fill_or_drop": "fill"}.get(mode, mode)


def _dimension_numbers(function: str, numbers: Any, names: Sequence[str]) -> Expression:
    """The dimension numbers of a read or write; empty ones of batches are left out."""
    return call(
        function,
        **{
            name: integers(getattr(numbers, name))
            for name in names
            if getattr(numbers, name) or "batching" not in name
        },
    )


def scatter(equation: Equation) -> Result:
    """`x.at[rows].add(updates)`, in NumPy by a helper."""
    numbers = equation.params["dimension_numbers"]
    method_name, ufunc, lax_name = UPDATES[equation.name]
    shape = equation.shapes[0]
    axes = numbers.scatter_dims_to_operand_dims
    sizes = _window_sizes(equation, numbers)
    places = _known_places(equation, axes, sizes)
    x, updates = equation.exact(0), equation.exact(2)
    plain = _is_plain(equation, numbers.inserted_window_dims, numbers, sizes)
    if places is not None and plain:
        items, sorted_axes = _items(axes, places, equation)
        if _is_written_in_front(sorted_axes, numbers.update_window_dims, equation):
            if equation.module == "jnp":
                return method(Subscript(Attribute(x, "at"), items), method_name, updates)
            index = items[0] if len(items) == 1 else Display("(", tuple(map(_as_slice, items)))
            if not ufunc:
                return call("_set_at", x, index, updates)
            return call("_update_at", Text(ufunc), x, index, updates)
    mode = mode_name(equation.params["mode"])
    if equation.module == "jnp":
        names = ["update_window_dims", "inserted_window_dims", "scatter_dims_to_operand_dims"]
        names += ["operand_batching_dims", "scatter_indices_batching_dims"]
        return call(
            f"lax.{lax_name}",
            x,
            equation.exact(1),
            updates,
            _dimension_numbers("lax.ScatterDimensionNumbers", numbers, names),
            mode=Text(f'"{_scatter_mode(mode)}"'),
        )
    del shape
    options: dict[str, Expression] = {}
    if mode == "clip":
        options["clip"] = Text("True")
    if numbers.operand_batching_dims:
        options["batch_axes"] = integers(numbers.operand_batching_dims)
        options["start_batch_axes"] = integers(numbers.scatter_indices_batching_dims)
    return call(
        "_scatter",
        Text(ufunc or "None"),
        x,
        equation.exact(1),
        updates,
        start_axes=integers(axes),
        dropped_axes=integers(numbers.inserted_window_dims),
        window_axes=integers(numbers.update_window_dims),
        **options,
    )


def _scatter_mode(mode: str) -> str:
    return {"fill_or_drop": "drop"}.get(mode, mode)


def _as_slice(item: Expression) -> Expression:
    """A whole axis outside of a subscript."""
    return call("slice", Text("None")) if item is FULL else item


def _window_sizes(equation: Equation, numbers: Any) -> list[int]:
    """How much of each axis of the operand a single update covers."""
    dropped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = iter(equation.shapes[2][axis] for axis in numbers.update_window_dims)
    return [1 if axis in dropped else next(windows) for axis in range(len(equation.shapes[0]))]


def _is_written_in_front(axes: Sequence[int], windows: Sequence[int], equation: Equation) -> bool:
    """Whether the updates have their axes where a subscript with lists has them."""
    return _is_in_front(axes, windows, equation)


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
        part = _at(equation, equation.operands[0], starts[axis], axis) if is_entry else None
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


def sort(equation: Equation) -> Result:
    """`sort(x, axis=0)`; of several arrays, in the order of the first ones."""
    axis, keys = equation.params["dimension"], equation.params["num_keys"]
    builder, module = equation.builder, equation.module
    if len(equation.operands) == 1:
        return call(f"{module}.sort", equation.exact(0), axis=number(axis))
    operands = Display("(", tuple(equation.all_exact()))
    options = {"axis": number(axis), "keys": number(keys)}
    if module == "jnp":
        options = {"dimension": number(axis), "num_keys": number(keys)}
    code = call("_sort" if module == "np" else "lax.sort", operands, **options)
    whole = builder.value(code, (), np.dtype(object), "ordered")
    return parts_of(equation, whole)


def parts_of(equation: Equation, whole: Value) -> list[Value | None]:
    """The entries of a tuple that are used."""
    return [
        equation.builder.value(Subscript(whole.ref, (number(place),)), out.shape, out.dtype)
        if is_needed
        else None
        for place, (out, is_needed) in enumerate(
            zip(equation.outputs, equation.needed, strict=True)
        )
    ]


def top_k(equation: Equation) -> Result:
    """The largest entries and their places."""
    rank = len(equation.shapes[0])
    axis = equation.params.get("axis", equation.params.get("reduction_dimension", rank - 1)) % rank
    options = {} if axis == rank - 1 else {"axis": number(axis)}
    k = number(int(equation.params["k"]))
    is_largest = equation.params.get("is_max_k", True)
    if equation.module == "jnp":
        name = "lax.top_k"
        if equation.name == "approx_top_k":
            name = "lax.approx_max_k" if is_largest else "lax.approx_min_k"
            options = {"reduction_dimension": number(axis)} if options else {}
        code = call(name, equation.exact(0), k, **options)
    else:
        code = call("_top_k" if is_largest else "_bottom_k", equation.exact(0), k, **options)
    whole = equation.builder.value(code, (), np.dtype(object), "largest")
    return parts_of(equation, whole)


INDEXING: dict[str, Translation] = {
    "gather": gather,
    **dict.fromkeys(UPDATES, scatter),
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "sort": sort,
    "top_k": top_k,
    "approx_top_k": top_k,
}
"""Translations by primitive."""
