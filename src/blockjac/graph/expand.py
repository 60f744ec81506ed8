"""Primitives that are written in terms of others before they are differentiated.

A reduction by a function of the user's own is a tree of that function, a product with a sparse
array a gather and a scatter, whose equations then have rules like all others. A function of JAX
whose own rule does not hold everywhere is one with another rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr

from blockjac.base import compat
from blockjac.graph import sparse_operands
from blockjac.graph.determinants import determinant
from blockjac.graph.removable import bessel_i0, sinc, x_log1p_y, x_log_y


def expanded(equation: Any, active: Sequence[bool]) -> Any:
    """The closed jaxpr of an equation in terms of other primitives; None where there is none.

    Args:
        equation: of a jaxpr.
        active: which of its operands are differentiated. A value that a reduction starts from is
            an identity of its function, by which there is no derivative: left to JAX.
    """
    name, params = equation.primitive.name, equation.params
    operands = [variable.aval for variable in equation.invars]
    if name in SPARSE:
        if not sparse_operands.is_covered(name, [one.shape for one in operands]):
            return None
    elif name not in EXPANSIONS or any(active[len(active) // 2 :]):
        return None
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in operands]
    return jax.make_jaxpr(partial(EXPANSIONS[name], **params))(*shapes)


def reduce(*operands: Any, jaxpr: Any, dimensions: Sequence[int], **_: Any) -> list[Any]:
    """Joins neighbours until one entry is left: the function may tell first from second."""
    entries, starts = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    flat = [_in_front(array, dimensions) for array in entries]
    return _joined(flat, starts, lambda *parts: compat.evaluated(jaxpr, parts))


def reduce_window(
    *operands: Any, jaxpr: Any, consts: Sequence[Any], **config: Sequence[Any]
) -> list[Any]:
    """As `reduce`, of the entries of each window: one slice per place, or by doubling.

    Windows of `2 k` places are two of `k` side by side, so that wide windows take a few steps. What
    costs less is taken, counted in entries that are joined.
    """
    entries, starts = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    function = partial(eval_jaxpr, jaxpr, consts)
    sizes = config["window_dimensions"]
    padded = [_padded(array, start, **config) for array, start in zip(entries, starts, strict=True)]
    reach = _reach(padded[0].ndim, **config)
    ends = zip(padded[0].shape, reach, config["window_strides"], strict=True)
    results = math.prod(-(-(size - far) // stride) for size, far, stride in ends)
    doubled = 2 * padded[0].size * sum(max(size, 1).bit_length() - 1 for size in sizes)
    if math.prod(sizes) * results <= doubled or 0 in sizes:
        windows = [
            patches(array, start, **config) for array, start in zip(entries, starts, strict=True)
        ]
        return _joined(windows, starts, function)
    for _ in padded[0].shape:
        function = jax.vmap(function)
    steps = config.get("window_dilation") or (1,) * len(sizes)
    for axis in reversed(range(len(sizes))):
        stride = config["window_strides"][axis]
        padded = _windows_along(padded, axis, sizes[axis], steps[axis], stride, function)
    return list(padded)


def _windows_along(
    arrays: Sequence[Any],
    axis: int,
    size: int,
    step: int,
    stride: int,
    function: Callable[..., Sequence[Any]],
) -> Sequence[Any]:
    """Windows along one axis, of the windows of 1, 2, 4, ... places that make up their size."""
    last = arrays[0].shape[axis] - step * (size - 1)
    joint: Sequence[Any] | None = None
    taken, width = 0, 1
    while True:
        if size & width:
            start = step * taken
            part = [lax.slice_in_dim(one, start, start + last, stride, axis) for one in arrays]
            joint = part if joint is None else function(*joint, *part)
            taken += width
        if joint is not None and taken == size:
            return joint
        far = arrays[0].shape[axis] - step * width
        lower = [lax.slice_in_dim(one, 0, far, 1, axis) for one in arrays]
        upper = [lax.slice_in_dim(one, step * width, None, 1, axis) for one in arrays]
        arrays = function(*lower, *upper)
        width *= 2


SPARSE: dict[str, Callable[..., list[Any]]] = {
    "bcoo_dot_general": sparse_operands.bcoo_dot_general,
    "bcsr_dot_general": sparse_operands.bcsr_dot_general,
    "bcoo_todense": sparse_operands.bcoo_todense,
}
"""Those of sparse arrays, which may be differentiated by every operand."""

EXPANSIONS: dict[str, Callable[..., list[Any]]] = {
    "reduce": reduce,
    "reduce_window": reduce_window,
    **SPARSE,
}
"""The results of a primitive by others, by name: of its operands and parameters."""


REPLACED: dict[str, Callable[..., Any]] = {
    "jax/_src/numpy/linalg.py:_det": determinant,
    "jax/_src/numpy/lax_numpy.py:_i0": bessel_i0,
    "jax/_src/numpy/ufuncs.py:sinc": sinc,
    "jax/_src/scipy/special.py:xlogy": x_log_y,
    "jax/_src/scipy/special.py:xlog1py": x_log1p_y,
}
"""Functions of JAX and what is differentiated instead, by the file and name that a jaxpr has.

Nothing of JAX's is called or imported by that name: where JAX renames one, its own rule is used.
"""


def replaced(equation: Any) -> Any:
    """The closed jaxpr that a call of a function of JAX is differentiated by; None for others."""
    called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    function = REPLACED.get(compat.origin(called))
    if function is None:
        return None
    return jax.make_jaxpr(function)(*(compat.struct(one.aval) for one in equation.invars))


INSIDE_KERNELS = frozenset({"mosaic"})
"""Platforms of code inside the kernels of Pallas: no program of an array's computation."""


def ordinary_branch(params: dict[str, Any]) -> Any:
    """The branch, a closed jaxpr, of a choice between platforms of which one alone is possible.

    `jnp.diagonal` is written in two ways, one of them for kernels.

    Args:
        params: of a `cond`.

    Returns:
        None where the choice is not one between platforms, or is open.
    """
    platforms = params.get("branches_platforms")
    if platforms is None:
        return None
    possible = [
        branch
        for branch, names in zip(params["branches"], platforms, strict=True)
        if names is None or not INSIDE_KERNELS.issuperset(names)
    ]
    return possible[0] if len(possible) == 1 else None


def _in_front(array: Any, axes: Sequence[int]) -> Any:
    """The array with some axes moved to the front, and joined to one."""
    moved = jnp.moveaxis(array, axes, range(len(axes)))
    count = math.prod(moved.shape[: len(axes)])
    return jnp.reshape(moved, (count, *moved.shape[len(axes) :]))


def _joined(
    arrays: Sequence[Any], starts: Sequence[Any], function: Callable[..., Sequence[Any]]
) -> list[Any]:
    """The entries along the first axis joined by a function of scalars, neighbours first."""
    for _ in arrays[0].shape:
        function = jax.vmap(function)
    while arrays[0].shape[0] > 1:
        odd = arrays[0].shape[0] % 2
        padding = [(0, odd, 0), *[(0, 0, 0)] * (arrays[0].ndim - 1)]
        even = [lax.pad(array, start, padding) for array, start in zip(arrays, starts, strict=True)]
        lower, upper = [array[::2] for array in even], [array[1::2] for array in even]
        arrays = function(*lower, *upper)
    if arrays[0].shape[0] == 0:
        return [
            jnp.full(array.shape[1:], start) for array, start in zip(arrays, starts, strict=True)
        ]
    return [array[0] for array in arrays]


def patches(
    operand: Any,
    outside: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """The entries of each window: one slice per place in the window, stacked on a leading axis.

    Args:
        operand: the array.
        outside: the value around and between its entries.
        window_dimensions: size of the window on each axis.
        window_strides: steps from one window to the next.
        padding: places before and after the entries.
        base_dilation: steps from one entry to the next, 1 if not given.
        window_dilation: steps from one place in the window to the next, 1 if not given.
    """
    dilation = window_dilation or (1,) * operand.ndim
    padded = _padded(operand, outside, padding, base_dilation)
    reach = _reach(operand.ndim, window_dimensions, window_dilation)
    slices = []
    for inside in itertools.product(*map(range, window_dimensions)):
        start = [d * place for d, place in zip(dilation, inside, strict=True)]
        stop = [s - r + low for s, r, low in zip(padded.shape, reach, start, strict=True)]
        slices.append(lax.slice(padded, start, stop, window_strides))
    return jnp.stack(slices)


def _padded(
    operand: Any,
    outside: Any,
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    **_: Any,
) -> Any:
    """An array with a value around and between its entries."""
    steps = base_dilation or (1,) * operand.ndim
    config = [(low, high, step - 1) for (low, high), step in zip(padding, steps, strict=True)]
    return lax.pad(operand, jnp.asarray(outside, operand.dtype), config)


def _reach(
    rank: int,
    window_dimensions: Sequence[int],
    window_dilation: Sequence[int] | None = None,
    **_: Any,
) -> list[int]:
    """From the first place of a window to the last, on each axis."""
    dilation = window_dilation or (1,) * rank
    return [d * (size - 1) for d, size in zip(dilation, window_dimensions, strict=True)]
