"""Primitives that move entries and compute none, in both targets."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    FULL,
    Attribute,
    Call,
    Display,
    Expression,
    Literal,
    Ref,
    Slice,
    Subscript,
    Text,
    call,
    integers,
    method,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.views import (
    padded,
    stripped,
    unit_view,
    without_ones,
)


def broadcast_in_dim(equation: Equation) -> Result:
    """Axes that NumPy adds by itself are not written."""
    value = equation.operands[0]
    if isinstance(value.code, Literal):
        return value
    axes, rank = equation.params["broadcast_dimensions"], len(equation.out.shape)
    sizes = [1] * rank
    for axis, size in zip(axes, padded(value.shape, len(axes)), strict=True):
        sizes[axis] = size
    return _with_units(equation, value, stripped(sizes))


def _with_units(equation: Equation, value: Value, shape: tuple[int, ...]) -> Value:
    """A value with axes of size 1 added and removed."""
    builder = equation.builder
    source = builder.views.get(value, value)
    if source.shape == shape:
        return source
    if without_ones(source.shape) != without_ones(shape):
        source = value
    view = builder.value(unit_view(source.ref, source.shape, shape), shape, value.dtype)
    builder.same_entries(view, source)
    return view


def reshape(equation: Equation) -> Result:
    """`x.reshape(2, 3)`."""
    value, old = equation.operands[0], equation.shapes[0]
    order: Sequence[int] | None = equation.params.get("dimensions")
    if order is not None and tuple(order) != tuple(range(len(old))):
        value = _transposed(equation, value, old, tuple(order))
        old = tuple(old[axis] for axis in order)
    return equation.builder.reshaped(value, old, tuple(equation.out.shape))


def squeeze(equation: Equation) -> Result:
    """`x[0]`."""
    return equation.builder.reshaped(
        equation.operands[0], equation.shapes[0], tuple(equation.out.shape)
    )


def transpose(equation: Equation) -> Result:
    """`x.T`."""
    order = tuple(equation.params["permutation"])
    return _transposed(equation, equation.operands[0], equation.shapes[0], order)


def _transposed(
    equation: Equation, value: Value, old: tuple[int, ...], order: tuple[int, ...]
) -> Value:
    """A value with its axes in another order."""
    if isinstance(value.code, Literal):
        return value
    builder = equation.builder
    before = padded(value.shape, len(old))
    sizes = tuple(before[axis] for axis in order)
    if [axis for axis in order if before[axis] != 1] == [
        axis for axis in range(len(old)) if before[axis] != 1
    ]:
        return _with_units(equation, value, stripped(sizes))
    source = builder.value(unit_view(value.ref, value.shape, before), before, value.dtype)
    if len(order) == 2:
        return builder.turned(source)
    match source.code:
        case Call(Attribute(Ref(inner), "transpose"), before) if not source.name:
            first = [int(place.text) for place in before if isinstance(place, Text)]
            return _transposed(equation, inner, inner.shape, tuple(first[axis] for axis in order))
        case _:
            pass
    code = method(source.ref, "transpose", *map(number, order))
    return builder.value(code, sizes, value.dtype)


def slice_(equation: Equation) -> Result:
    """`x[1:, ::2]`; an axis that the value is broadcast along stays so."""
    value, old = equation.operands[0], equation.shapes[0]
    if isinstance(value.code, Literal):
        return value
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(old)
    items: list[Expression] = []
    sizes: list[int] = []
    lacking = len(old) - len(value.shape)
    for axis in range(lacking, len(old)):
        start, stop, step = int(starts[axis]), int(limits[axis]), int(steps[axis])
        size, full = value.shape[axis - lacking], old[axis]
        if size == 1 and full != 1 and equation.out.shape[axis] > 0:
            items.append(FULL)
            sizes.append(1)
            continue
        if size == 1 and full != 1:
            return slice_of(equation, starts, limits, steps)
        items.append(_slice(start, stop, step, full))
        sizes.append(equation.out.shape[axis])
    if 0 in equation.out.shape and 0 not in sizes:
        return slice_of(equation, starts, limits, steps)
    while items and items[-1] == FULL:
        items.pop()
    if not items:
        return value
    return equation.builder.value(Subscript(value.ref, tuple(items)), sizes, value.dtype)


def slice_of(equation: Equation, starts: object, limits: object, steps: object) -> Result:
    """A slice of a value that has to be broadcast first, as nothing of it is left."""
    del starts, limits, steps
    shape = tuple(equation.out.shape)
    options = equation.builder.dtype_option(equation.out.dtype, "float64")
    return call(f"{equation.module}.zeros", integers(shape), **options)


def _slice(start: int, stop: int, step: int, size: int) -> Slice:
    """The shortest way to write a slice."""
    count = len(range(start, stop, step))
    reaches_end = count > 0 and (stop >= size or start + count * step >= size)
    return Slice(
        number(start) if start else None,
        None if reaches_end and count else number(stop),
        number(step) if step != 1 else None,
    )


def rev(equation: Equation) -> Result:
    """`x[::-1]`."""
    value, old = equation.operands[0], equation.shapes[0]
    if isinstance(value.code, Literal):
        return value
    before = padded(value.shape, len(old))
    lacking = len(old) - len(value.shape)
    axes = [axis for axis in equation.params["dimensions"] if before[axis] != 1]
    if not axes:
        return value
    backward = Slice(None, None, Text("-1"))
    items = [backward if axis in axes else FULL for axis in range(lacking, max(axes) + 1)]
    return equation.builder.value(Subscript(value.ref, tuple(items)), value.shape, value.dtype)


def pad(equation: Equation) -> Result:
    """`pad(x, ((1, 2), (0, 0)))`; with gaps between the entries, or cut, by a helper or by lax."""
    config = [tuple(map(int, part)) for part in equation.params["padding_config"]]
    module = equation.module
    if all(part == (0, 0, 0) for part in config):
        return equation.operands[0]
    fill = equation.operands[1]
    if any(min(low, high) < 0 or gap for low, high, gap in config):
        name = "_pad" if module == "np" else "lax.pad"
        widths = Display("(", tuple(map(integers, config)))
        return call(name, equation.exact(0), equation.exact(1), widths)
    widths = Display("(", tuple(integers(part[:2]) for part in config))
    if len(config) == 1:
        widths = integers(config[0][:2])
    if fill.known is not None and fill.known == 0:
        return call(f"{module}.pad", equation.exact(0), widths)
    value = fill.code.loose() if isinstance(fill.code, Literal) else fill.ref
    return call(f"{module}.pad", equation.exact(0), widths, constant_values=value)


def concatenate(equation: Equation) -> Result:
    """`concatenate([x, y], axis=1)`."""
    axis = equation.params["dimension"]
    parts = Display("[", tuple(equation.all_exact()))
    options = {"axis": number(axis)} if axis else {}
    return call(f"{equation.module}.concatenate", parts, **options)


def stack(equation: Equation) -> Result:
    """`stack([x, y], axis=1)`."""
    axis = equation.params["axis"]
    parts = Display("[", tuple(equation.all_exact()))
    options = {"axis": number(axis)} if axis else {}
    return call(f"{equation.module}.stack", parts, **options)


def split(equation: Equation) -> Result:
    """Slices, `x[:, 0:2]`, of those parts that are used."""
    start = 0
    axis: int = equation.params["axis"]
    whole = equation.builder.exact(equation.operands[0], equation.shapes[0])
    size = equation.shapes[0][axis]
    results: list[Value | None] = []
    for length, out, is_needed in zip(
        equation.params["sizes"], equation.outputs, equation.needed, strict=True
    ):
        stop = start + int(length)
        items = (*(FULL,) * axis, _slice(start, stop, 1, size))
        code = Subscript(whole.ref, items) if int(length) != size else whole.ref
        result = equation.builder.value(code, out.shape, out.dtype) if is_needed else None
        results.append(result)
        start = stop
    return results


def unstack(equation: Equation) -> Result:
    """`x[:, 0]`, `x[:, 1]`, ..., of those that are used."""
    axis = equation.params["axis"]
    whole = equation.exact(0)
    return [
        equation.builder.value(
            Subscript(whole, (*(FULL,) * axis, number(place))), out.shape, out.dtype
        )
        if is_needed
        else None
        for place, (out, is_needed) in enumerate(
            zip(equation.outputs, equation.needed, strict=True)
        )
    ]


def tile(equation: Equation) -> Result:
    """`tile(x, (2, 3))`."""
    repeats = tuple(equation.params["reps"])
    return call(f"{equation.module}.tile", equation.exact(0), integers(repeats))


def iota(equation: Equation) -> Result:
    """`arange(n)`, with its axis where it belongs."""
    axis: int = equation.params["dimension"]
    shape: tuple[int, ...] = tuple(equation.out.shape)
    size, dtype = shape[axis], equation.out.dtype
    usual = ("int64",)
    counted = call(
        f"{equation.module}.arange",
        number(size),
        **equation.builder.dtype_option(dtype, *usual),
    )
    value = equation.builder.value(counted, (size,), dtype, "numbers")
    value.bounds = 0, max(size - 1, 0)
    return equation.builder.reshaped(value, (size,), (size, *(1,) * (len(shape) - axis - 1)))


def bitcast(equation: Equation) -> Result:
    """`x.view(dtype)`."""
    dtype = equation.builder.dtype(equation.out.dtype)
    if equation.module == "jnp":
        return call("lax.bitcast_convert_type", equation.exact(0), dtype)
    return method(equation.exact(0), "view", dtype)


SHAPES: dict[str, Translation] = {
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": reshape,
    "squeeze": squeeze,
    "expand_dims": squeeze,
    "transpose": transpose,
    "slice": slice_,
    "rev": rev,
    "pad": pad,
    "concatenate": concatenate,
    "stack": stack,
    "split": split,
    "unstack": unstack,
    "tile": tile,
    "iota": iota,
    "bitcast_convert_type": bitcast,
}
"""Translations by primitive."""
