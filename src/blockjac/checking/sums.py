"""Sums that a derivative of the wrong shape has too few or too many of, and over the wrong axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blockjac.checking.compare import same
from blockjac.checking.report import Mistake
from blockjac.checking.shapes import Guess
from blockjac.checking.tape_rules import contracted, product_labels

if TYPE_CHECKING:
    from blockjac.checking.passes import Passes

MAX_RANK = 6
"""Up to this many axes all choices of them are tried."""

MAX_SUMMED = 2**20
"""Up to this many entries the terms of a sum are written out."""


@dataclass(frozen=True)
class Axes:
    """Which axes of the arguments have which size, to name an axis by.

    Attributes:
        shapes: of the arguments, by name.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def named(self, size: int) -> str:
        """An axis in words: its size, and an argument that has an axis of this size."""
        owners = [
            f"axis {axis} of {name}"
            for name, shape in self.shapes.items()
            for axis, length in enumerate(shape)
            if length == size > 1
        ]
        if not owners:
            return f"of size {size}"
        return f"of size {size}, as {' and '.join(owners[:2])}"


def sums(given: np.ndarray, exact: np.ndarray, axes: Axes, limit: float) -> Iterator[Guess]:
    """The sums that are missing in a given array, or too many, those first that are sure.

    Args:
        given: of the wrong shape.
        exact: the exact derivative.
        axes: of the arguments.
        limit: how far equal numbers may differ.
    """
    missing = list(_missing(given, exact, axes))
    yield from sorted(missing, key=lambda own: not _is_mended(own, exact, limit * given.size))
    yield from _too_many(given, exact, axes)


def _is_mended(guess: Guess, exact: np.ndarray, limit: float) -> bool:
    """Whether what was given is right once it is mended."""
    return guess.mended is not None and same(guess.mended, exact, limit)


def _missing(given: np.ndarray, exact: np.ndarray, axes: Axes) -> Iterator[Guess]:
    """Axes were kept that should be summed over; the rest may be in another order."""
    extra = given.ndim - exact.ndim
    if given.ndim > MAX_RANK:
        return
    if extra == 0:
        yield from _missing_in_place(given, exact, axes)
    if extra <= 0:
        return
    for chosen in itertools.combinations(range(given.ndim), extra):
        rest = tuple(size for axis, size in enumerate(given.shape) if axis not in chosen)
        for order in itertools.permutations(range(exact.ndim)):
            if tuple(exact.shape[axis] for axis in order) != rest:
                continue
            is_turned = order != tuple(range(exact.ndim))
            mended = np.transpose(given.sum(axis=chosen), np.argsort(order))
            named = " and ".join(
                f"axis {axis} ({axes.named(given.shape[axis])})" for axis in chosen
            )
            hint = (
                f"the sum over {named} is missing: given shape {given.shape}, wanted "
                f"{exact.shape}; sum over it, .sum({chosen[0] if extra == 1 else chosen})"
            )
            if is_turned:
                hint += f", and transpose by {tuple(map(int, np.argsort(order)))}"
            yield Guess(Mistake("missing sum", hint, rank=2 + 10 * is_turned), mended)


def _missing_in_place(given: np.ndarray, exact: np.ndarray, axes: Axes) -> Iterator[Guess]:
    """An axis of size 1 in the derivative, that of a row of biases, was given in full."""
    pairs = list(zip(given.shape, exact.shape, strict=True))
    chosen = tuple(axis for axis, (size, wanted) in enumerate(pairs) if size != wanted)
    if chosen and all(exact.shape[axis] == 1 for axis in chosen):
        named = " and ".join(f"axis {axis} ({axes.named(given.shape[axis])})" for axis in chosen)
        hint = (
            f"the sum over {named} is missing: given shape {given.shape}, wanted {exact.shape}; "
            f"sum over it, .sum({_listed(chosen)}, keepdims=True)"
        )
        yield Guess(Mistake("missing sum", hint, rank=2), given.sum(axis=chosen, keepdims=True))


def _too_many(given: np.ndarray, exact: np.ndarray, axes: Axes) -> Iterator[Guess]:
    """Axes of the derivative were summed over, or left out."""
    lost = exact.ndim - given.ndim
    if not 0 < lost <= exact.ndim or exact.ndim > MAX_RANK or not given.ndim:
        return
    for chosen in itertools.combinations(range(exact.ndim), lost):
        rest = tuple(size for axis, size in enumerate(exact.shape) if axis not in chosen)
        if rest == given.shape:
            named = " and ".join(
                f"axis {axis} ({axes.named(exact.shape[axis])})" for axis in chosen
            )
            hint = (
                f"the derivative was summed over {named}, which it keeps: given shape "
                f"{given.shape}, wanted {exact.shape}"
            )
            yield Guess(Mistake("extra sum", hint), None, exact.sum(axis=chosen))


def dot_for_outer(given: np.ndarray, exact: np.ndarray, limit: float) -> Mistake | None:
    """Whether `u @ v` was given for `outer(u, v)`: one number, or that everywhere.

    Args:
        given: of any shape.
        exact: the exact derivative.
        limit: how far equal numbers may differ.
    """
    if exact.ndim != 2 or len(set(exact.shape)) != 1 or given.size == 0 or exact.shape[0] < 2:
        return None
    dot = float(np.trace(exact))
    if given.shape not in ((), exact.shape) or not np.abs(given - dot).max() <= limit:
        return None
    if np.abs(exact - dot).max() <= limit:
        return None
    hint = (
        "the product u[i] v[j] was given as one number, sum_k u[k] v[k]: u @ v of one-dimensional "
        "arrays is that; write np.outer(u, v), or u[:, None] * v[None, :]"
    )
    return Mistake("outer product is a dot product", hint, rank=4)


def wrong_axis(
    passes: Passes, given: np.ndarray, value: int, axes: Axes, limit: float
) -> tuple[Mistake, bool] | None:
    """Whether a sum of some cotangent or product was taken over other axes than the right ones.

    Args:
        passes: the exact reverse pass.
        given: of the wrong shape.
        value: by which is differentiated.
        axes: of the arguments.
        limit: how far equal numbers may differ.

    Returns:
        The mistake, and whether the numbers agree, too; None if not even the shapes do.
    """
    tape = passes.tape
    exact_shape = tape.shape(value)
    shape = tuple(size for size in given.shape if size != 1)
    unsure: Mistake | None = None
    shapes = [array.shape for array in tape.values.values()]  # of which only the sizes are known
    for array in (*passes.exact.values(), *_products(passes, value), *map(_unknown, shapes)):
        if array.ndim <= len(shape) or array.ndim > MAX_RANK:
            continue
        for chosen in itertools.combinations(range(array.ndim), array.ndim - len(shape)):
            rest = tuple(size for axis, size in enumerate(array.shape) if axis not in chosen)
            right = _right_axes(array.shape, exact_shape)
            if rest != shape or right is None or right == chosen:
                continue
            hint = (
                f"of an array of shape {array.shape} the sum was taken over axis "
                f"{_listed(chosen)} in place of axis {_listed(right)} "
                f"({axes.named(array.shape[right[0]])}): given shape {given.shape}, wanted "
                f"{exact_shape}"
            )
            mistake = Mistake("summed over the wrong axis", hint)
            if same(given, array.sum(axis=chosen).reshape(given.shape), limit):
                return mistake, True
            unsure = unsure or Mistake(mistake.name, f"by its shape alone: {hint}")
    return None if unsure is None else (unsure, False)


def _products(passes: Passes, value: int) -> Iterator[np.ndarray]:
    """What is summed where a matrix product passes back to a value, before it is."""
    tape = passes.tape
    for position, place in passes.readers.get(value, ()):
        entry = tape.entries[position]
        if entry.name == "dot_general" and entry.results[0] in passes.exact:
            labels = product_labels(tape, entry)
            partner = tape.values[entry.operands[1 - place]]
            union = sorted({*labels[2], *labels[1 - place]})
            if len(union) <= MAX_RANK and partner.size * np.prod(tape.shape(value)) <= MAX_SUMMED:
                c = passes.exact[entry.results[0]]
                yield contracted(c, labels[2], partner, labels[1 - place], union)


def _unknown(shape: tuple[int, ...]) -> np.ndarray:
    """An array of a shape of which nothing else is known, which equals nothing."""
    return np.broadcast_to(np.nan, shape)


def _right_axes(shape: tuple[int, ...], exact: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes over which an array of one shape is summed to get another; None if it cannot be."""
    wide = tuple(size for size in exact if size != 1)
    for chosen in itertools.combinations(range(len(shape)), len(shape) - len(wide)):
        rest = tuple(size for axis, size in enumerate(shape) if axis not in chosen)
        if rest == wide and chosen:
            return chosen
    return None


def _listed(axes: Sequence[int]) -> str:
    return ", ".join(map(str, axes))
