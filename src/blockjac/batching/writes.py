"""What a step of a loop writes into a carried array, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from blockjac.graph.graph import Atom, Equation
from blockjac.graph.known_inside import place_operands

WRITTEN: Mapping[str, int] = {
    "dynamic_update_slice": 1,
    "scatter": 2,
    "scatter-add": 2,
    "scatter-sub": 2,
}
"""Primitives that write into their first operand, and the position of the operand they write."""

SUMS = frozenset({"scatter-add", "scatter-sub"})
"""The primitives among them that add to what was there."""


@dataclass(frozen=True)
class Entries:
    """Numbers that a loop writes.

    Attributes:
        steps: for each number, which slice of the loop it belongs to.
        numbers: for each, which of the numbers written at that step it is.
        positions: for each, the entry of the flat array that it goes to.
    """

    steps: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Write:
    """One change that a step makes to a carried array.

    Attributes:
        own: what is written or added.
        adds: whether it is added to what was there.
        sign: -1 if it is subtracted.
        at: the equation whose operands say where; None if that is the whole array.
    """

    own: Atom
    adds: bool
    sign: int = 1
    at: Equation | None = None

    @property
    def places(self) -> Sequence[Atom]:
        """The operands that say where."""
        if self.at is None:
            return ()
        name, operands = self.at.primitive.name, self.at.operands
        return operands[:1] if name == "select_n" else place_operands(name, operands)

    def entries(
        self, places: Sequence[np.ndarray], shape: Sequence[int], own: Sequence[int]
    ) -> Entries:
        """Which numbers of which steps are written, and where.

        Args:
            places: the numbers of the `places` at all steps, stacked.
            shape: the shape of the array.
            own: the shape of what all steps write, stacked.
        """
        if self.at is not None and self.at.primitive.name == "select_n":
            chosen = next(n for n, case in enumerate(self.at.operands[1:]) if case is self.own)
            steps, numbers = np.nonzero(places[0].reshape(own[0], -1) == chosen)
            return Entries(steps, numbers, numbers)
        positions = self._positions(places, shape, own).reshape(own[0], -1)
        steps, numbers = np.nonzero(positions >= 0)
        return Entries(steps, numbers, positions[steps, numbers])

    def _positions(
        self, places: Sequence[np.ndarray], shape: Sequence[int], own: Sequence[int]
    ) -> np.ndarray:
        """The entry of the flat array that each number goes to; negative if it is dropped."""
        numbers = numbered(shape)
        if self.at is None:
            return np.broadcast_to(numbers, own)
        window = own[1:]
        if self.at.primitive.name == "dynamic_update_slice":
            read = partial(lax.dynamic_slice, slice_sizes=window)
            return at_all_steps(lambda starts: read(numbers, starts), list(places))
        written = partial(_read_where_written, numbers, self.at.params, window)
        return at_all_steps(written, places[0])


def numbered(shape: Sequence[int]) -> np.ndarray:
    """An array whose entries are their own flat indices."""
    return np.arange(math.prod(shape)).reshape(shape)


def at_all_steps(function: Callable[[Any], Any], arguments: Any) -> np.ndarray:
    """The results of a function at all steps, stacked, computed now even while JAX is tracing.

    Args:
        function: maps a tree of arrays to an array.
        arguments: the trees of all steps, stacked.
    """
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.vmap(function)(arguments))


def _read_where_written(
    numbers: np.ndarray, params: Mapping[str, Any], shape: Sequence[int], places: Any
) -> Any:
    """The flat index that a scatter writes each number to, read by a gather; -1 off the array."""
    dims = params["dimension_numbers"]
    window = iter(dims.update_window_dims)
    inserted = {*dims.inserted_window_dims, *dims.operand_batching_dims}
    sizes = [1 if axis in inserted else shape[next(window)] for axis in range(numbers.ndim)]
    read = lax.GatherDimensionNumbers(
        offset_dims=dims.update_window_dims,
        collapsed_slice_dims=dims.inserted_window_dims,
        start_index_map=dims.scatter_dims_to_operand_dims,
        operand_batching_dims=dims.operand_batching_dims,
        start_indices_batching_dims=dims.scatter_indices_batching_dims,
    )
    clips = params["mode"] == lax.GatherScatterMode.CLIP
    mode = lax.GatherScatterMode.CLIP if clips else lax.GatherScatterMode.FILL_OR_DROP
    return lax.gather(numbers, places, read, tuple(sizes), mode=mode, fill_value=-1)
