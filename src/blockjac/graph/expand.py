"""Primitives that are rewritten in terms of others before they are differentiated.

A reduction by a function that the user provides becomes a tree of calls to it, and a product with a
sparse array becomes a gather and a scatter. The equations of these have rules like all others.
Functions of JAX whose rules do not hold everywhere are replaced by functions with another rule.
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
from blockjac.graph.determinants import determinant, sign_and_log
from blockjac.graph.removable import bessel_i0, sinc, x_log1p_y, x_log_y


def expanded(equation: Any, active: Sequence[bool]) -> Any:
    """An equation in terms of other primitives, as a closed jaxpr; None if it is not rewritten.

    Args:
        equation: the equation of a jaxpr.
        active: which of its operands are differentiated. A reduction whose initial value is among
            them is left to JAX: it has to be an identity of the function, so it cannot vary.
    """
    name, params = equation.primitive.name, equation.params
    operands = [variable.aval for variable in equation.invars]
    if name in SPARSE:
        if not sparse_operands.is_covered(name, [aval.shape for aval in operands]):
            return None
    elif name not in EXPANSIONS or any(active[len(active) // 2 :]):
        return None
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in operands]
    return jax.make_jaxpr(partial(EXPANSIONS[name], **params))(*shapes)


def reduce(*operands: Any, jaxpr: Any, dimensions: Sequence[int], **_: Any) -> list[Any]:
    """Join neighbors until a single entry is left, since the function may not be commutative."""
    entries, starts = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    flat = [_in_front(array, dimensions) for array in entries]
    return _joined(flat, starts, lambda *parts: compat.evaluated(jaxpr, parts))


def reduce_window(
    *operands: Any, jaxpr: Any, consts: Sequence[Any], **config: Sequence[Any]
) -> list[Any]:
    """Reduce the entries of each window: from one slice per window position, or by doubling.

    A window of `2 k` positions consists of two of `k` side by side, so wide windows take few steps.
    The method that joins fewer entries is used.
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
    """The reductions of windows along one axis, joined from windows of 1, 2, 4, ... positions."""
    last = arrays[0].shape[axis] - step * (size - 1)
    joint: Sequence[Any] | None = None
    covered, width = 0, 1
    while True:
        if size & width:
            start = step * covered
            part = [lax.slice_in_dim(array, start, start + last, stride, axis) for array in arrays]
            joint = part if joint is None else function(*joint, *part)
            covered += width
        if joint is not None and covered == size:
            return joint
        far = arrays[0].shape[axis] - step * width
        lower = [lax.slice_in_dim(array, 0, far, 1, axis) for array in arrays]
        upper = [lax.slice_in_dim(array, step * width, None, 1, axis) for array in arrays]
        arrays = function(*lower, *upper)
        width *= 2


SPARSE: dict[str, Callable[..., list[Any]]] = {
    "bcoo_dot_general": sparse_operands.bcoo_dot_general,
    "bcsr_dot_general": sparse_operands.bcsr_dot_general,
    "bcoo_todense": sparse_operands.bcoo_todense,
}
"""Primitives of sparse arrays, for which any operand may be differentiated."""

EXPANSIONS: dict[str, Callable[..., list[Any]]] = {
    "reduce": reduce,
    "reduce_window": reduce_window,
    **SPARSE,
}
"""The results of primitives from their operands and parameters, in terms of other primitives."""


REPLACED: dict[str, Callable[..., Any]] = {
    "jax/_src/numpy/linalg.py:_det": determinant,
    "jax/_src/numpy/linalg.py:_slogdet_lu": sign_and_log,
    "jax/_src/numpy/lax_numpy.py:_i0": bessel_i0,
    "jax/_src/numpy/ufuncs.py:sinc": sinc,
    "jax/_src/scipy/special.py:xlogy": x_log_y,
    "jax/_src/scipy/special.py:xlog1py": x_log1p_y,
}
"""Functions that are differentiated in place of those of JAX, by the origin that a jaxpr states.

Nothing is imported from JAX by these names: if JAX renames a function, its own rule is used.
"""


def replaced(equation: Any) -> Any:
    """What is differentiated in place of a call to JAX, as a closed jaxpr; None for other calls."""
    called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    function = REPLACED.get(compat.origin(called))
    if function is None:
        return None
    return jax.make_jaxpr(function)(*(compat.struct(variable.aval) for variable in equation.invars))


INSIDE_KERNELS = frozenset({"mosaic"})
"""Platforms of code inside of Pallas kernels, where blockjac never runs."""


def ordinary_branch(params: dict[str, Any]) -> Any:
    """The only possible branch of a choice between platforms, as a closed jaxpr.

    For instance, `jnp.diagonal` is written in two ways, one of them for kernels.

    Args:
        params: the parameters of a `cond`.

    Returns:
        The branch; None if the choice is not between platforms, or if several are possible.
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
    """The array with some axes moved to the front and merged into one."""
    moved = jnp.moveaxis(array, axes, range(len(axes)))
    count = math.prod(moved.shape[: len(axes)])
    return jnp.reshape(moved, (count, *moved.shape[len(axes) :]))


def _joined(
    arrays: Sequence[Any], starts: Sequence[Any], function: Callable[..., Sequence[Any]]
) -> list[Any]:
    """The entries along the first axis joined by a function of scalars, neighbors first."""
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
    """The entries of each window: one slice per position in the window, stacked on a leading axis.

    Args:
        operand: the array.
        outside: the value around and between its entries.
        window_dimensions: size of the window on each axis.
        window_strides: distance between neighboring windows on each axis.
        padding: how many positions to add before and after the entries on each axis.
        base_dilation: distance between neighboring entries, 1 by default.
        window_dilation: distance between neighboring positions in a window, 1 by default.
    """
    dilation = window_dilation or (1,) * operand.ndim
    padded = _padded(operand, outside, padding, base_dilation)
    reach = _reach(operand.ndim, window_dimensions, window_dilation)
    slices = []
    for inside in itertools.product(*map(range, window_dimensions)):
        start = [d * position for d, position in zip(dilation, inside, strict=True)]
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
    """The distance from the first position of a window to the last, on each axis."""
    dilation = window_dilation or (1,) * rank
    return [d * (size - 1) for d, size in zip(dilation, window_dimensions, strict=True)]
