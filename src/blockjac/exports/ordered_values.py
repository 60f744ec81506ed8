"""The values of a grid in the order of their places, as other libraries want them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Piece, check_room
from blockjac.sparsity.pattern import Arrangement, Pattern


def numpy_values(array: Any) -> np.ndarray:
    """As NumPy; scipy's sparse arrays know no dtype of 16 bits."""
    numbers = np.asarray(array)
    return numbers if numbers.dtype.itemsize > 2 else numbers.astype(np.float32)


def check_places(grid_pieces: list[Piece]) -> None:
    """Refuse entries whose places do not fit."""
    count = sum(piece.count for piece in grid_pieces)
    check_room(2 * count, f"the places of the {count:,} entries of this Jacobian")


def row_column_pairs(pattern: Pattern, dtype: Any) -> np.ndarray:
    """Rows and columns `(count, 2)` of a pattern."""
    return np.stack([pattern.rows, pattern.columns], axis=1).astype(dtype)


def are_counted(order: np.ndarray) -> bool:
    """Whether an order of entries is 0, 1, 2, ..., so that it changes nothing."""
    return bool((order == np.arange(len(order))).all())


def ordered_values(numbers: Any, arranged: Arrangement) -> Any:
    """The value of each place; those of one place add up."""
    if len(numbers) == len(arranged.order) and are_counted(arranged.order):
        ordered = numbers
    else:
        ordered = jnp.take(numbers, jnp.asarray(arranged.order), axis=0)
    if arranged.starts is None:
        return ordered
    group = np.zeros(len(arranged.order), np.int64)
    group[arranged.starts[1:]] = 1
    return jax.ops.segment_sum(
        ordered,
        np.cumsum(group),
        num_segments=len(arranged.starts),
        indices_are_sorted=True,
    )
