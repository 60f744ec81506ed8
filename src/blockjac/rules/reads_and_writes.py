"""Reads from arrays and writes into them, with any number of leading axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.base import compat
from blockjac.base.promises import is_forwards
from blockjac.graph.graph import Equation
from blockjac.rules.gather_scatter import inverse_numbers, window_sizes


class Write:
    """One write on arrays with any number of leading axes, on all of which it is the same.

    Attributes:
        shape: of the array that is written into.
        update_shape: of what is written.
        partner: for each axis of the array that the write covers wholly, the axis of the update.
        adds: whether the update is added to the entries there.
        sign: of the update.
    """

    adds = False
    sign = 1

    def __init__(
        self, shape: Sequence[int], update_shape: Sequence[int], partner: Mapping[int, int]
    ) -> None:
        self.shape, self.update_shape = tuple(shape), tuple(update_shape)
        self.partner = dict(partner)

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """The array after the write."""
        raise NotImplementedError

    def read(self, array: Any, leading: int) -> Any:
        """What stands where each entry of the update goes; 0 for one that goes nowhere."""
        raise NotImplementedError


class SliceWrite(Write):
    """A `dynamic_update_slice`."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        shape, update_shape = inputs[0].shape, inputs[1].shape
        whole = (axis for axis, size in enumerate(shape) if update_shape[axis] == size)
        super().__init__(shape, update_shape, {axis: axis for axis in whole})
        self.equation, self.starts = equation, inputs[2:]

    def _starts(self, leading: int) -> list[Any]:
        zeros = [jnp.zeros((), start.dtype) for start in self.starts[:1] for _ in range(leading)]
        return [*zeros, *self.starts]

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """By the primitive itself."""
        if not self.shape:
            return update
        operands = [array, update, *self._starts(leading)]
        return compat.bind(self.equation.primitive, operands, self.equation.params)[0]

    def read(self, array: Any, leading: int) -> Any:
        """By a slice from the same start."""
        if not self.shape:
            return array
        sizes = (*array.shape[:leading], *self.update_shape)
        return lax.dynamic_slice_p.bind(array, *self._starts(leading), slice_sizes=sizes)


class ScatterWrite(Write):
    """A scatter, of places that differ or whose updates are added."""

    def __init__(
        self, equation: Equation, inputs: Sequence[Any], adds: bool = False, sign: int = 1
    ) -> None:
        operand, self.indices, updates = inputs
        self.params = equation.params
        self.numbers = numbers = equation.params["dimension_numbers"]
        self.adds, self.sign = adds, sign
        flat = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        inside = (axis for axis in range(operand.ndim) if axis not in flat)
        self.sizes = window_sizes(operand.shape, updates.shape, numbers)
        super().__init__(
            operand.shape,
            updates.shape,
            {
                axis: update_axis
                for axis, update_axis in zip(inside, numbers.update_window_dims, strict=True)
                if self.sizes[axis] == operand.shape[axis]
                and axis not in numbers.scatter_dims_to_operand_dims
            },
        )

    def put(self, array: Any, update: Any, leading: int) -> Any:
        """By a scatter whose windows run over the leading axes."""
        write = lax.scatter_add if self.adds else lax.scatter
        return write(
            array,
            self.indices,
            update if self.sign == 1 else -update,
            _shifted(self.numbers, leading),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.params["mode"],
        )

    def read(self, array: Any, leading: int) -> Any:
        """By the gather of the same places."""
        entries = lax.gather(
            array,
            self.indices,
            inverse_numbers(_shifted(self.numbers, leading)),
            (*array.shape[:leading], *self.sizes),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.params["mode"],
            fill_value=0,
        )
        return entries if self.sign == 1 else -entries


def _shifted(numbers: Any, leading: int) -> Any:
    """The dimension numbers of the same scatter into an array with more axes before its own."""

    def behind(axes: Sequence[int]) -> tuple[int, ...]:
        return tuple(axis + leading for axis in axes)

    return lax.ScatterDimensionNumbers(
        update_window_dims=(*range(leading), *behind(numbers.update_window_dims)),
        inserted_window_dims=behind(numbers.inserted_window_dims),
        scatter_dims_to_operand_dims=behind(numbers.scatter_dims_to_operand_dims),
        operand_batching_dims=behind(numbers.operand_batching_dims),
        scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )


class Read:
    """One read from arrays with any number of leading axes, on all of which it is the same.

    Attributes:
        partner: for each axis of the array that the read covers wholly, the axis of the result.
    """

    def __init__(self, partner: Mapping[int, int]) -> None:
        self.partner = dict(partner)

    def get(self, array: Any, leading: int) -> Any:
        """What is read."""
        raise NotImplementedError


class SliceRead(Read):
    """A `dynamic_slice`."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        operand, *self.starts = inputs
        self.sizes = tuple(equation.params["slice_sizes"])
        whole = (axis for axis, size in enumerate(operand.shape) if self.sizes[axis] == size)
        super().__init__({axis: axis for axis in whole})

    def get(self, array: Any, leading: int) -> Any:
        """By the primitive itself."""
        zeros = [jnp.zeros((), start.dtype) for start in self.starts[:1] for _ in range(leading)]
        sizes = (*array.shape[:leading], *self.sizes)
        return lax.dynamic_slice_p.bind(array, *zeros, *self.starts, slice_sizes=sizes)


class GatherRead(Read):
    """A gather."""

    def __init__(self, equation: Equation, inputs: Sequence[Any]) -> None:
        operand, self.indices = inputs
        self.params, self.sizes = equation.params, tuple(equation.params["slice_sizes"])
        self.mode = self.params["mode"]
        if self.mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS and not is_forwards():
            self.mode = lax.GatherScatterMode.FILL_OR_DROP  # as the cotangent falls off the array
        self.numbers = numbers = equation.params["dimension_numbers"]
        flat = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        inside = (axis for axis in range(operand.ndim) if axis not in flat)
        super().__init__(
            {
                axis: out_axis
                for axis, out_axis in zip(inside, numbers.offset_dims, strict=True)
                if self.sizes[axis] == operand.shape[axis] and axis not in numbers.start_index_map
            }
        )

    def get(self, array: Any, leading: int) -> Any:
        """By a gather whose windows run over the leading axes."""
        numbers = self.numbers

        def behind(axes: Sequence[int]) -> tuple[int, ...]:
            return tuple(axis + leading for axis in axes)

        shifted = lax.GatherDimensionNumbers(
            offset_dims=(*range(leading), *behind(numbers.offset_dims)),
            collapsed_slice_dims=behind(numbers.collapsed_slice_dims),
            start_index_map=behind(numbers.start_index_map),
            operand_batching_dims=behind(numbers.operand_batching_dims),
            start_indices_batching_dims=numbers.start_indices_batching_dims,
        )
        return lax.gather(
            array,
            self.indices,
            shifted,
            (*array.shape[:leading], *self.sizes),
            indices_are_sorted=self.params["indices_are_sorted"],
            unique_indices=self.params["unique_indices"],
            mode=self.mode,
            fill_value=0,
        )
