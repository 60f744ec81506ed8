"""How tangents and cotangents pass an entry of a tape: in NumPy, or by JAX without a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np

from blockjac.base import compat
from blockjac.checking.tape import Entry, Tape


def pulled(tape: Tape, position: int, place: int, cotangents: Sequence[np.ndarray]) -> np.ndarray:
    """The cotangent of one operand of an entry.

    Args:
        tape: the function at the point.
        position: of the entry.
        place: of the operand, which is active.
        cotangents: of the entry's results.
    """
    entry = tape.entries[position]
    if entry.is_elementwise:
        return tape.slopes[position, place] * cotangents[0]
    rule = PULL.get(entry.name)
    if rule is not None:
        return rule(tape, entry, place, cotangents[0])
    return _by_jax(tape, position)[0](cotangents)[place]


def pushed(tape: Tape, position: int, tangents: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The tangents of an entry's results.

    Args:
        tape: the function at the point.
        position: of the entry.
        tangents: of its operands; None for zeros.
    """
    entry = tape.entries[position]
    active = [(place, t) for place, t in enumerate(tangents) if t is not None]
    if entry.is_elementwise:
        return [_sum([tape.slopes[position, place] * t for place, t in active])]
    rule = PUSH.get(entry.name)
    if rule is not None:
        return [_sum([rule(tape, entry, place, tangent) for place, tangent in active])]
    return _by_jax(tape, position)[1](tangents)


def _sum(arrays: list[np.ndarray]) -> np.ndarray:
    return sum(arrays[1:], arrays[0])


# Products


def product_labels(tape: Tape, entry: Entry) -> tuple[list[int], list[int], list[int]]:
    """The labels of both operands and of the result of a `dot_general`, for `np.einsum`."""
    sums, batches = entry.params["dimension_numbers"]
    lhs_sum, rhs_sum = (tuple[int, ...](axes) for axes in sums)
    lhs_batch, rhs_batch = (tuple[int, ...](axes) for axes in batches)
    lhs_ndim, rhs_ndim = (len(tape.shape(value)) for value in entry.operands)
    lhs = list(range(lhs_ndim))
    rhs = list(range(lhs_ndim, lhs_ndim + rhs_ndim))
    for i, j in zip((*lhs_sum, *lhs_batch), (*rhs_sum, *rhs_batch), strict=True):
        rhs[j] = lhs[i]
    out = [lhs[i] for i in lhs_batch]
    out += [label for i, label in enumerate(lhs) if i not in (*lhs_sum, *lhs_batch)]
    out += [label for j, label in enumerate(rhs) if j not in (*rhs_sum, *rhs_batch)]
    return lhs, rhs, out


def contracted(
    a: np.ndarray, a_labels: list[int], b: np.ndarray, b_labels: list[int], out: list[int]
) -> np.ndarray:
    """Two arrays multiplied, and summed over the labels that the result lacks."""
    return np.einsum(a, a_labels, b, b_labels, out, optimize=a.size * b.size > 2**16)


def product_pulled(
    tape: Tape, entry: Entry, place: int, cotangent: np.ndarray, residual: np.ndarray | None = None
) -> np.ndarray:
    """The cotangent of an operand of a `dot_general`.

    Args:
        tape: the function at the point.
        entry: the product.
        place: of the operand, 0 or 1.
        cotangent: of the result.
        residual: what the other operand is taken to be; itself by default.
    """
    labels = product_labels(tape, entry)
    partner = 1 - place
    array = tape.values[entry.operands[partner]] if residual is None else residual
    return contracted(cotangent, labels[2], array, labels[partner], labels[place])


def _product_pushed(tape: Tape, entry: Entry, place: int, tangent: np.ndarray) -> np.ndarray:
    labels = product_labels(tape, entry)
    array = tape.values[entry.operands[1 - place]]
    return contracted(tangent, labels[place], array, labels[1 - place], labels[2])


# Sums and moves


def _summed_axes(tape: Tape, entry: Entry) -> tuple[int, ...]:
    """The axes of a broadcast's result along which its operand was repeated."""
    shape, dims = entry.params["shape"], entry.params["broadcast_dimensions"]
    operand = tape.shape(entry.operands[0])
    kept = {axis for size, axis in zip(operand, dims, strict=True) if size == shape[axis]}
    return tuple(axis for axis in range(len(shape)) if axis not in kept)


def _broadcast_pushed(_: Tape, entry: Entry, __: int, tangent: np.ndarray) -> np.ndarray:
    shape, dims = entry.params["shape"], entry.params["broadcast_dimensions"]
    wide = [1] * len(shape)
    for size, axis in zip(tangent.shape, dims, strict=True):
        wide[axis] = size
    return np.broadcast_to(tangent.reshape(wide), tuple(shape))


def _broadcast_pulled(tape: Tape, entry: Entry, _: int, cotangent: np.ndarray) -> np.ndarray:
    summed = cotangent.sum(axis=_summed_axes(tape, entry))
    return summed.reshape(tape.shape(entry.operands[0]))


def _sum_pulled(tape: Tape, entry: Entry, _: int, cotangent: np.ndarray) -> np.ndarray:
    shape = tape.shape(entry.operands[0])
    wide = np.expand_dims(cotangent, tuple(entry.params["axes"]))
    return np.broadcast_to(wide, shape)


def _reshape_pulled(tape: Tape, entry: Entry, _: int, cotangent: np.ndarray) -> np.ndarray:
    return cotangent.reshape(tape.shape(entry.operands[0]))


def _reshape_pushed(tape: Tape, entry: Entry, _: int, tangent: np.ndarray) -> np.ndarray:
    return tangent.reshape(tape.shape(entry.results[0]))


def _slices(entry: Entry) -> tuple[slice, ...]:
    params = entry.params
    strides = params["strides"] or (1,) * len(params["start_indices"])
    return tuple(map(slice, params["start_indices"], params["limit_indices"], strides))


def _slice_pulled(tape: Tape, entry: Entry, _: int, cotangent: np.ndarray) -> np.ndarray:
    full = np.zeros(tape.shape(entry.operands[0]))
    full[_slices(entry)] = cotangent
    return full


def _span(tape: Tape, entry: Entry, place: int) -> tuple[slice, ...]:
    """Where an operand of a concatenation lies in the result."""
    axis = int(entry.params["dimension"])
    sizes = [tape.shape(value)[axis] for value in entry.operands]
    start = sum(sizes[:place])
    before = (slice(None),) * axis
    return (*before, slice(start, start + sizes[place]))


def _concatenate_pulled(tape: Tape, entry: Entry, place: int, cotangent: np.ndarray) -> np.ndarray:
    return cotangent[_span(tape, entry, place)]


def _concatenate_pushed(tape: Tape, entry: Entry, place: int, tangent: np.ndarray) -> np.ndarray:
    full = np.zeros(tape.shape(entry.results[0]))
    full[_span(tape, entry, place)] = tangent
    return full


def _transpose_pulled(_: Tape, entry: Entry, __: int, cotangent: np.ndarray) -> np.ndarray:
    return np.transpose(cotangent, np.argsort(entry.params["permutation"]))


def _reversed(_: Tape, entry: Entry, __: int, array: np.ndarray) -> np.ndarray:
    return np.flip(array, entry.params["dimensions"])


Rule = Callable[[Tape, Entry, int, np.ndarray], np.ndarray]

PULL: dict[str, Rule] = {
    "dot_general": product_pulled,
    "broadcast_in_dim": _broadcast_pulled,
    "reduce_sum": _sum_pulled,
    "reshape": _reshape_pulled,
    "squeeze": _reshape_pulled,
    "expand_dims": _reshape_pulled,
    "transpose": _transpose_pulled,
    "rev": _reversed,
    "slice": _slice_pulled,
    "concatenate": _concatenate_pulled,
}
"""The cotangent of an operand, by primitive."""

PUSH: dict[str, Rule] = {
    "dot_general": _product_pushed,
    "broadcast_in_dim": _broadcast_pushed,
    "reduce_sum": lambda _, entry, __, t: t.sum(axis=tuple(entry.params["axes"])),
    "reshape": _reshape_pushed,
    "squeeze": _reshape_pushed,
    "expand_dims": _reshape_pushed,
    "transpose": lambda _, entry, __, t: np.transpose(t, entry.params["permutation"]),
    "rev": _reversed,
    "slice": lambda _, entry, __, t: t[_slices(entry)],
    "concatenate": _concatenate_pushed,
}
"""The part of a result's tangent that is due to one operand, by primitive."""


# Everything else


def _by_jax(tape: Tape, position: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pullback and the pushforward of an entry at the tape's point, compiled once for all."""
    entry = tape.entries[position]
    if position not in tape.compiled:
        tape.compiled[position] = _compiled(tape, entry)
    back, forth = tape.compiled[position]
    places = [place for place, value in enumerate(entry.operands) if value in tape.active]
    outs = [n for n, value in enumerate(entry.results) if value in tape.active]
    point = [
        tape.opaque[v] if v in tape.opaque else np.asarray(tape.values[v], tape.avals[v].dtype)
        for v in entry.operands
    ]

    def pull(cotangents: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        typed = [np.asarray(cotangents[n], tape.avals[entry.results[n]].dtype) for n in outs]
        pulled_back = back(point, typed)
        return {place: np.asarray(c, float) for place, c in zip(places, pulled_back, strict=True)}

    def push(tangents: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The tangents of all results; None stands for zeros."""
        typed = [
            np.zeros(aval.shape, aval.dtype) if t is None else np.asarray(t, aval.dtype)
            for t, aval in ((tangents[n], tape.avals[entry.operands[n]]) for n in places)
        ]
        moved = iter(forth(point, typed))
        return [
            np.asarray(next(moved), float) if n in outs else np.zeros(tape.shape(value))
            for n, value in enumerate(entry.results)
        ]

    return pull, push


def _compiled(tape: Tape, entry: Entry) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Pullback and pushforward of an entry, of the operands' values and of what is passed."""
    places = [place for place, value in enumerate(entry.operands) if value in tape.active]
    outs = [n for n, value in enumerate(entry.results) if value in tape.active]

    def of_active(point: Sequence[Any]) -> Callable[..., list[Any]]:
        """The active results as a function of the active operands."""

        def run(*active: Any) -> list[Any]:
            changed = dict(zip(places, active, strict=True))
            operands = [changed.get(place, array) for place, array in enumerate(point)]
            results = compat.bind(entry.primitive, operands, entry.params)
            return [results[n] for n in outs]

        return run

    def pulled_back(point: Sequence[Any], cotangents: Any) -> Any:
        primals = [point[place] for place in places]
        return cast("Callable[..., Any]", jax.vjp(of_active(point), *primals)[1])(cotangents)

    def pushed_forward(point: Sequence[Any], tangents: Any) -> Any:
        primals = [point[place] for place in places]
        return jax.jvp(of_active(point), primals, tangents)[1]

    return cast("Any", jax.jit(pulled_back)), cast("Any", jax.jit(pushed_forward))
