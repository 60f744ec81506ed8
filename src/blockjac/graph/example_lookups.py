"""Examples in lookups and writes: where each example finds its own part, and where all do alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blockjac.graph.example_states import Apart, MeetingError, Operands, State, joined, require


def concatenate(operands: Operands) -> list[State]:
    """Several views of all examples, one after the other; or parts of each of them.

    Indices of several axes are put together so, and one of them may count the examples.
    """
    state, dimension = operands.common(), operands.params["dimension"]
    if state.axis == dimension:
        rounds = state.below * operands.count
        require(all(shape[dimension] % rounds == 0 for shape in operands.shapes))
        return [Apart(state.axis, state.below)]
    own: set[int] = set()
    reached = 0
    for shape, old, numbers in zip(operands.shapes, operands.states, operands.known, strict=True):
        if isinstance(old, Apart):
            own |= {reached + place for place in old.own}
        elif dimension == len(shape) - 1 and _counts(numbers, shape, state.axis, operands.count):
            own |= {reached + place for place in range(shape[-1])}
        reached += shape[dimension]
    return [replace(state, own=frozenset(own))]


def _counts(numbers: np.ndarray | None, shape: Sequence[int], axis: int, count: int) -> bool:
    """Whether constants count the examples along an axis."""
    if numbers is None or axis >= len(shape) or shape[axis] != count:
        return False
    along = np.arange(count).reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return bool(np.array_equal(numbers, np.broadcast_to(along, shape)))


def gather(operands: Operands) -> list[State]:
    """Each example is looked up in what all share, or by what all share, or in its own part."""
    numbers, sizes = operands.params["dimension_numbers"], operands.params["slice_sizes"]
    operand, indices = operands.apart(0), operands.apart(1)
    shape = operands.shapes[0]
    batch = [axis for axis in range(len(operands.outs[0])) if axis not in numbers.offset_dims]
    by_index = None if indices is None else Apart(batch[indices.axis], indices.below)
    if operand is None:
        return [by_index]
    axis = operand.axis
    if axis in numbers.operand_batching_dims:
        position = list(numbers.operand_batching_dims).index(axis)
        own = Apart(batch[numbers.start_indices_batching_dims[position]], operand.below)
        return [joined([own, by_index])]
    if axis in numbers.start_index_map:
        require(axis in numbers.collapsed_slice_dims and operand.below == 1)
        column = list(numbers.start_index_map).index(axis)
        return [_by_own_number(operands, column, batch, by_index)]
    require(axis not in numbers.collapsed_slice_dims and sizes[axis] == shape[axis])
    removed = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    offsets = [other for other in range(len(shape)) if other not in removed]
    own = Apart(numbers.offset_dims[offsets.index(axis)], operand.below)
    return [joined([own, by_index])]


def _by_own_number(
    operands: Operands, column: int, batch: Sequence[int], by_index: Apart | None
) -> State:
    """The state of what each example looks up at its own number, as in `x[jnp.arange(N), y]`."""
    require(operands.shapes[0][operands.required(0).axis] == operands.count)
    if by_index is not None:
        indices = operands.required(1)
        require(column in indices.own and indices.below == 1)
        return by_index
    numbers, shape = operands.known[1], operands.shapes[1]
    for axis in range(len(shape) - 1):
        part = None if numbers is None else np.asarray(numbers)[..., column]
        if _counts(part, shape[:-1], axis, operands.count):
            return Apart(batch[axis], 1)
    raise MeetingError


def scatter(operands: Operands) -> list[State]:
    """Windows of the whole batch, or a batch of scatters; at places that all examples share."""
    numbers = operands.params["dimension_numbers"]
    operand, indices, updates = (operands.apart(position) for position in range(3))
    shape = operands.shapes[0]
    removed = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = [axis for axis in range(len(shape)) if axis not in removed]
    scatters = [
        axis for axis in range(len(operands.shapes[2])) if axis not in numbers.update_window_dims
    ]
    places: list[State] = [operand]
    batches = dict(
        zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    )
    if indices is not None:
        require(indices.axis in batches)
        places.append(Apart(batches[indices.axis], indices.below))
    if updates is not None and updates.axis in scatters:
        axis = scatters.index(updates.axis)
        require(axis in batches)
        places.append(Apart(batches[axis], updates.below))
    elif updates is not None:
        axis = windows[list(numbers.update_window_dims).index(updates.axis)]
        require(operands.shapes[2][updates.axis] == shape[axis])
        places.append(Apart(axis, updates.below))
    return [joined(places)]
