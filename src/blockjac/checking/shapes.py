"""What a derivative of the wrong shape may be: guesses, each with the values mended into shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blockjac.checking import deltas
from blockjac.checking.report import Mistake

MAX_RANK = 5
"""Up to this many axes all their orders are tried."""

TRANSPOSED = (
    "the axes of the variable came first; wanted is J[output][variable]: the output's first"
)

AXES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Guess:
    """A mistake that the shape allows.

    Attributes:
        mistake: by name.
        mended: what was given, in the exact shape; None where entries are lost.
        wanted: what the exact derivative would be with this mistake, where entries are lost.
    """

    mistake: Mistake
    mended: np.ndarray | None = None
    wanted: np.ndarray | None = None


def guesses(given: np.ndarray, exact: np.ndarray, out_ndim: int) -> Iterator[Guess]:
    """What a given array of the wrong shape may be, the simplest first."""
    yield from _size_one_axes(given, exact)
    yield from _other_order(given, exact, out_ndim)
    yield from _missing_deltas(given, exact, out_ndim)
    yield from _flattened(given, exact, out_ndim)
    yield from _summed(given, exact, out_ndim)


def plain_shape(given: tuple[int, ...], out: tuple[int, ...], wrt: tuple[int, ...]) -> Mistake:
    """The mistake that is left where nothing is recognized."""
    return Mistake(
        "wrong shape",
        f"a derivative has the axes of the output, {out}, and then those of the variable, {wrt}; "
        f"together {out + wrt}, but {given} was given",
    )


def _size_one_axes(given: np.ndarray, exact: np.ndarray) -> Iterator[Guess]:
    """The given shape has axes of size 1 too many, or too few."""

    def wide(shape: tuple[int, ...]) -> list[int]:
        return [size for size in shape if size != 1]

    if wide(given.shape) == wide(exact.shape):
        hint = (
            f"{given.shape} and {exact.shape} differ in axes of size 1; an output or a variable "
            f"keeps the axes that it has, so reshape to {exact.shape}"
        )
        yield Guess(Mistake("axes of size 1", hint), given.reshape(exact.shape))


def _other_order(given: np.ndarray, exact: np.ndarray, out_ndim: int) -> Iterator[Guess]:
    """The axes were given in another order."""
    wrt_first = (*range(out_ndim, exact.ndim), *range(out_ndim))
    yield from _permuted(given, exact, wrt_first, Mistake("transposed", TRANSPOSED))
    if exact.ndim <= MAX_RANK and sorted(given.shape) == sorted(exact.shape):
        for order in itertools.permutations(range(exact.ndim)):
            mistake = order_mistake(order, out_ndim)
            if order != wrt_first:
                yield from _permuted(given, exact, order, mistake)


def _permuted(
    given: np.ndarray, exact: np.ndarray, order: tuple[int, ...], mistake: Mistake
) -> Iterator[Guess]:
    if tuple(exact.shape[axis] for axis in order) == given.shape:
        yield Guess(mistake, np.transpose(given, np.argsort(order)))


def order_mistake(order: tuple[int, ...], out_ndim: int) -> Mistake:
    """The mistake of giving the axes in another order; of a matrix of a gradient, its transpose."""
    if order == (1, 0) and out_ndim == 0:
        return Mistake("transposed", "the transpose of the gradient was given; use .T", rank=3)
    return Mistake("axes in another order", order_hint(order, out_ndim), rank=4)


def order_hint(order: tuple[int, ...], out_ndim: int) -> str:
    """Which axes were given, in which order.

    Args:
        order: the axes of the exact derivative in the order in which they were given.
        out_ndim: how many of them are the output's.
    """

    def called(axes: tuple[int, ...] | range) -> str:
        inside = ", ".join(AXES[axis] for axis in axes)
        return f"[{inside}]"

    halves = called(range(out_ndim)), called(range(out_ndim, len(order)))
    exact = "".join(half for half in halves if half != "[]")
    back = tuple(int(axis) for axis in np.argsort(order))
    return f"J{exact} was given as {called(order)}; np.transpose(given, {back}) puts it right"


def _missing_deltas(given: np.ndarray, exact: np.ndarray, out_ndim: int) -> Iterator[Guess]:
    """Two axes that a delta joins were given as one."""
    if given.ndim >= exact.ndim:
        return
    axis_pairs = deltas.pairs(exact.shape, out_ndim)
    delta_pairs = [pair for pair in axis_pairs if deltas.is_delta(exact, pair)]
    for chosen in deltas.subsets(delta_pairs):
        mistake = Mistake("missing delta", delta_hint(chosen, out_ndim))
        for kept_side in (0, 1):
            if deltas.compressed(exact, chosen, kept_side).shape == given.shape:
                yield Guess(mistake, deltas.expanded(given, chosen, kept_side, exact.shape))
                break
        whole = deltas.compressed(exact, chosen, 0).shape
        outs = tuple(i for i, _ in chosen)
        if given.shape == tuple(size for axis, size in enumerate(whole) if axis not in outs):
            values = np.broadcast_to(np.expand_dims(given, outs), whole)  # the same all along
            yield Guess(mistake, deltas.expanded(values, chosen, 0, exact.shape))


def delta_hint(chosen: tuple[deltas.Pair, ...], out_ndim: int) -> str:
    """Which deltas are missing, and how they are written."""
    named = " and that on ".join(
        f"axis {i} of the output equals that on axis {j - out_ndim} of the variable"
        for i, j in chosen
    )
    return (
        f"the derivative is 0 unless the index on {named}; "
        "write it with np.eye over these axes (np.diag of a vector), or as a Block"
    )


def _flattened(given: np.ndarray, exact: np.ndarray, out_ndim: int) -> Iterator[Guess]:
    """The output or the variable was flattened."""
    if given.size != exact.size:
        return
    out, wrt = exact.shape[:out_ndim], exact.shape[out_ndim:]
    matrix = math.prod(out), math.prod(wrt)
    hint = (
        f"outputs or variables were numbered through; reshape {given.shape} to {exact.shape}, "
        "the axes of the output and then those of the variable"
    )
    yield Guess(Mistake("flattened", hint), given.reshape(exact.shape))
    if given.shape in {matrix, (exact.size,)}:
        column_hint = f"{hint}, with order='F': they were numbered column by column"
        rows = given.reshape(matrix)
        by_wrt = rows.reshape((*out[::-1], *wrt[::-1]))
        order = (*range(out_ndim - 1, -1, -1), *range(exact.ndim - 1, out_ndim - 1, -1))
        mended = np.transpose(by_wrt, order)
        yield Guess(Mistake("flattened column by column", column_hint), mended)
    if given.shape == matrix[::-1]:
        mistake = Mistake("transposed and flattened", f"{TRANSPOSED}; and {hint}")
        yield Guess(mistake, given.T.reshape(exact.shape))


def _summed(given: np.ndarray, exact: np.ndarray, out_ndim: int) -> Iterator[Guess]:
    """The Jacobian was summed over the output or over the variable."""
    sides = {
        "output": tuple(range(out_ndim)),
        "variable": tuple(range(out_ndim, exact.ndim)),
    }
    for side, axes in sides.items():
        wanted = exact.sum(axis=axes)
        if axes and wanted.shape == given.shape:
            hint = (
                f"the Jacobian was summed over the {side}, as a product with ones does; "
                "each entry is wanted by itself"
            )
            yield Guess(Mistake(f"summed over the {side}", hint), wanted=wanted)
