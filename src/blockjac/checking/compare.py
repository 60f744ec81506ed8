"""Whether what was given holds the entries of a Block: each of them, or in random products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.checking.report import SHOWN, Difference

MAX_ENTRIES = 2**22
"""Up to this many entries are compared one by one, and of more random products."""

PRODUCTS = 2
"""How many random products are compared: almost surely one is enough for any difference."""

SEED = 0
"""Of the random products, so that a check gives the same answer each time."""

RTOL = {64: 1e-9, 32: 1e-4, 16: 2e-2}
"""Default relative tolerance by the bits of the coarser dtype of the two."""


@dataclass(frozen=True)
class Tolerance:
    """How far two values may differ: `atol + rtol * (the largest finite exact entry)`.

    Attributes:
        rtol: relative to the largest entry; None for `RTOL` by dtype.
        atol: absolute; None for 0, and for rtol where all exact entries are 0.
    """

    rtol: float | None = None
    atol: float | None = None

    @property
    def is_default(self) -> bool:
        """Whether the user left the tolerance to us."""
        return self.rtol is None and self.atol is None

    def relative(self, given: Any, exact: Any) -> float:
        """The relative tolerance for two dtypes."""
        if self.rtol is not None:
            return self.rtol
        inexact = [dtype for dtype in (given, exact) if jnp.issubdtype(dtype, jnp.inexact)]
        bits: list[int] = [jnp.finfo(dtype).bits for dtype in inexact]
        return max(RTOL.get(width, 0.1) for width in bits)

    def limit(self, given: Any, exact: Any, scale: float) -> float:
        """The difference that is allowed.

        Args:
            given: dtype of what was given.
            exact: dtype of the exact derivative.
            scale: the largest finite exact entry.
        """
        relative = self.relative(given, exact)
        if self.atol is None:
            return relative * (scale or 1.0)
        return self.atol + relative * scale


def largest(array: np.ndarray) -> float:
    """The largest finite absolute value; 0 where there is none."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def equal(given: np.ndarray, exact: np.ndarray, limit: float) -> np.ndarray:
    """Which entries agree; nan agrees with nan, and an infinity with itself."""
    with np.errstate(invalid="ignore"):
        near = np.abs(given - exact) <= limit
    return near | (given == exact) | (np.isnan(given) & np.isnan(exact))


def same(given: np.ndarray, exact: np.ndarray, limit: float) -> bool:
    """Whether shape and all entries agree."""
    return given.shape == exact.shape and bool(equal(given, exact, limit).all())


def distance(given: np.ndarray, exact: np.ndarray, wrong: np.ndarray) -> float:
    """The largest difference of the wrong entries; infinite where one of two is not finite."""
    if not wrong.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(given[wrong] - exact[wrong])
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def in_double(value: Any) -> np.ndarray:
    """An array or Block, written out, in double precision on the host."""
    array = np.asarray(value.dense() if isinstance(value, Block) else value)
    kind = complex if jnp.issubdtype(array.dtype, jnp.complexfloating) else float
    return array.astype(kind)


def differences(
    given: np.ndarray, exact: np.ndarray, wrong: np.ndarray, out_ndim: int, leaf: str
) -> tuple[Difference, ...]:
    """The first wrong entries, in the order of the indices."""
    shown: list[Difference] = []
    for flat in np.flatnonzero(wrong)[:SHOWN]:
        index = multi_index(flat, wrong.shape)
        shown.append(
            Difference(
                leaf,
                index[:out_ndim],
                index[out_ndim:],
                given[index].item(),
                exact[index].item(),
            )
        )
    return tuple(shown)


# Where there are too many entries to look at each


def products(value: Any, like: Block) -> np.ndarray:
    """The products with random tensors of the shape of the variable, one after another.

    Args:
        value: a Block, or an array, of the shape of `like`.
        like: the exact block.

    Returns:
        Array of shape `(PRODUCTS, *like.out_shape)`.
    """
    generator = np.random.default_rng(SEED)
    answers: list[np.ndarray] = []
    for _ in range(PRODUCTS):
        tangent = generator.normal(size=like.wrt_shape).astype(like.dtype)
        if isinstance(value, Block):
            answer = value.matvec(jnp.asarray(tangent))
        else:
            answer = np.tensordot(np.asarray(value), tangent, axes=len(like.wrt_shape))
        answers.append(in_double(answer))
    return np.stack(answers)


def multi_index(flat: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """The index on each axis of a flat position."""
    return tuple(map(int, cast("Sequence[Any]", np.unravel_index(flat, tuple(shape)))))


def rows(value: Any, like: Block, places: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a Block or array at flat places of the output, one at a time."""
    for flat_index in places:
        index = multi_index(flat_index, like.out_shape)
        if isinstance(value, Block):
            unit = np.zeros(like.out_shape, like.dtype)
            unit[index] = 1
            yield in_double(value.vecmat(jnp.asarray(unit)))
        else:
            yield in_double(np.asarray(value)[index])
