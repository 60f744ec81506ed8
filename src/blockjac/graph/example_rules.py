"""How each primitive carries examples from its operands to its results.

A rule maps the states of an equation's operands to those of its results, and raises `MeetingError`
where one entry would depend on several examples. Primitives without a rule let examples meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blockjac.graph.primitives import named


class MeetingError(Exception):
    """Examples meet in an equation."""


@dataclass(frozen=True)
class Apart:
    """An axis that holds the examples.

    An axis may hold more than them, as after a reshape of `(N, T)` to `(N T,)`: an entry at place i
    depends on example `i // below % N`.

    Attributes:
        axis: the axis; that of a value of one example alone is -1.
        below: how many places next to each other belong to the same example.
        own: places on the last axis of indices where each example has its own number.
    """

    axis: int
    below: int
    own: frozenset[int] = frozenset()


SINGLE = Apart(-1, 1)
"""The state of a value that belongs to one example, in a loop over the examples."""


@dataclass(frozen=True)
class Meeting:
    """The first equation on the way to a value that lets examples meet.

    Attributes:
        name: what it computes.
        place: where it stands in the user's code, as in " at file:line (function)".
    """

    name: str
    place: str


State = Apart | Meeting | None
"""What is known of a value; None if it is the same for all examples."""


@dataclass(frozen=True)
class Operands:
    """What a rule sees of an equation: states and shapes of operands, shapes of results.

    Attributes:
        params: the parameters of the primitive.
        states: those of the operands; none of them is a meeting.
        shapes: of the operands.
        outs: shapes of the results.
        count: how many examples there are.
        known: the operands that are constant integers.
    """

    params: Mapping[str, Any]
    states: list[State]
    shapes: list[tuple[int, ...]]
    outs: list[tuple[int, ...]]
    count: int
    known: list[np.ndarray | None]

    def apart(self, position: int) -> Apart | None:
        """The axis of one operand's examples; None if it is the same for all."""
        state = self.states[position]
        return state if isinstance(state, Apart) else None

    def only(self, first: int = 0) -> Apart:
        """The state of the first operands, if all others are the same for all examples."""
        require(all(state is None for state in self.states[first + 1 :]))
        state = joined(self.states[: first + 1])
        require(isinstance(state, Apart))
        return state  # pyright: ignore[reportReturnType]


Rule = Callable[[Operands], Sequence[State]]


def require(condition: bool) -> None:
    """Raise unless a condition for examples that stay apart holds."""
    if not condition:
        raise MeetingError


def joined(states: Sequence[State]) -> State:
    """The state of an entry that depends on the same entry of values with these states."""
    states = [state for state in states if state is not None]
    for state in states:
        if isinstance(state, Meeting):
            return state
    places = {replace(state, own=frozenset()) for state in states if isinstance(state, Apart)}
    require(len(places) <= 1)
    return places.pop() if places else None


def _moved(state: Apart, axes: Sequence[int | None]) -> Apart:
    """The state on the axis of the result that each axis of the operand becomes; None for none."""
    axis = axes[state.axis]
    if axis is None:
        raise MeetingError
    return Apart(axis, state.below)


def _kept(shape: Sequence[int], removed: Sequence[int]) -> list[int | None]:
    """Where axes go when some are removed."""
    rest = [axis for axis in range(len(shape)) if axis not in removed]
    return [rest.index(axis) if axis in rest else None for axis in range(len(shape))]


def _elementwise(given: Operands) -> list[State]:
    return [joined(given.states)] * len(given.outs)


def _same_width(given: Operands) -> list[State]:
    require(given.shapes[0] == given.outs[0])
    return _elementwise(given)


def _one_by_one(given: Operands) -> list[State]:
    return [*given.states]


def _broadcast(given: Operands) -> list[State]:
    return [_moved(given.only(), given.params["broadcast_dimensions"])]


def _transpose(given: Operands) -> list[State]:
    order = list(given.params["permutation"])
    return [_moved(given.only(), [order.index(axis) for axis in range(len(order))])]


def _removing(name: str) -> Rule:
    """The rule of a primitive that removes the axes that a parameter names."""

    def rule(given: Operands) -> list[State]:
        rank = len(given.shapes[0])
        removed = [axis % rank for axis in given.params[name]]
        state = joined(given.states)
        require(isinstance(state, Apart))
        return [_moved(state, _kept(given.shapes[0], removed))] * len(given.outs)  # pyright: ignore[reportArgumentType]

    return rule


def _along(name: str) -> Rule:
    """The rule of a primitive that mixes entries along the axes that a parameter names."""

    def rule(given: Operands) -> list[State]:
        state, named_axes = joined(given.states), given.params[name]
        axes = [named_axes] if isinstance(named_axes, int) else named_axes
        rank = len(given.shapes[0])
        require(isinstance(state, Apart) and state.axis not in [axis % rank for axis in axes])
        return [state] * len(given.outs)

    return rule


def _reshape(given: Operands) -> list[State]:
    """An example's number is a digit of a place in memory, and must be one of an axis again."""
    require(given.params.get("dimensions") is None)
    state, (old,), (new,) = given.only(), given.shapes, given.outs
    below = state.below * math.prod(old[state.axis + 1 :])
    for axis, size in enumerate(new):
        after = math.prod(new[axis + 1 :])
        if below % after == 0 and (after * size) % (below * given.count) == 0:
            return [Apart(axis, below // after)]
    raise MeetingError


def _slice(given: Operands) -> list[State]:
    state, params = given.only(), given.params
    strides = params["strides"] or [1] * len(given.shapes[0])
    size = given.shapes[0][state.axis]
    window = tuple(params[name][state.axis] for name in ("start_indices", "limit_indices"))
    require((*window, strides[state.axis]) == (0, size, 1))
    return [Apart(state.axis, state.below)]


def _dynamic_slice(given: Operands) -> list[State]:
    state = given.only()
    require(given.params["slice_sizes"][state.axis] == given.shapes[0][state.axis])
    return [Apart(state.axis, state.below)]


def _dynamic_update_slice(given: Operands) -> list[State]:
    state = given.only(1)
    require(given.shapes[0][state.axis] == given.shapes[1][state.axis])
    return [state]


def _pad(given: Operands) -> list[State]:
    state = given.only()
    require(tuple(given.params["padding_config"][state.axis]) == (0, 0, 0))
    return [Apart(state.axis, state.below)]


def _concatenate(given: Operands) -> list[State]:
    """Indices of several axes are put together so, and one of them may count the examples."""
    state, dimension = joined(given.states), given.params["dimension"]
    require(isinstance(state, Apart) and state.axis != dimension)
    own: set[int] = set()
    reached = 0
    for shape, old, numbers in zip(given.shapes, given.states, given.known, strict=True):
        if isinstance(old, Apart):
            own |= {reached + place for place in old.own}
        elif dimension == len(shape) - 1 and counts(numbers, shape, state.axis, given.count):  # pyright: ignore[reportOptionalMemberAccess]
            own |= {reached + place for place in range(shape[-1])}
        reached += shape[dimension]
    return [replace(state, own=frozenset(own))]  # pyright: ignore[reportArgumentType]


def counts(numbers: np.ndarray | None, shape: Sequence[int], axis: int, count: int) -> bool:
    """Whether constants count the examples along an axis."""
    if numbers is None or axis >= len(shape) or shape[axis] != count:
        return False
    along = np.arange(count).reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return bool(np.array_equal(numbers, np.broadcast_to(along, shape)))


def _dot_general(given: Operands) -> list[State]:
    contracted, batch = given.params["dimension_numbers"]
    places: list[State] = []
    before = len(batch[0])
    for side in (0, 1):
        shape, state = given.shapes[side], given.apart(side)
        free = [axis for axis in range(len(shape)) if axis not in (*contracted[side], *batch[side])]
        if state is not None and state.axis in batch[side]:
            places.append(Apart(list(batch[side]).index(state.axis), state.below))
        elif state is not None:
            require(state.axis in free)
            places.append(Apart(before + free.index(state.axis), state.below))
        before += len(free) if side == 0 else 0
    return [joined(places)]


def _convolution(given: Operands) -> list[State]:
    numbers, state = given.params["dimension_numbers"], given.only()
    require(given.params["batch_group_count"] == 1 and state.axis == numbers.lhs_spec[0])
    return [Apart(numbers.out_spec[0], state.below)]


def _windows(given: Operands) -> list[State]:
    state, params = given.only(), given.params
    axis = state.axis
    for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation"):
        require(params.get(name) is None or params[name][axis] == 1)
    require(tuple(params["padding"][axis]) == (0, 0))
    return [state]


def _sort(given: Operands) -> list[State]:
    state = joined(given.states)
    require(isinstance(state, Apart) and state.axis != given.params["dimension"])
    return [state] * len(given.outs)


def _top_k(given: Operands) -> list[State]:
    state, rank = given.only(), len(given.shapes[0])
    require(state.axis != given.params.get("axis", rank - 1) % rank)
    return [state] * len(given.outs)


def _fourier(given: Operands) -> list[State]:
    return _leading(len(given.params["fft_lengths"]))(given)


def _leading(core: int) -> Rule:
    """The rule of a primitive that acts on the last axes, and on the others separately."""

    def rule(given: Operands) -> list[State]:
        state = joined(given.states)
        require(isinstance(state, Apart))
        for shape, own in zip(given.shapes, given.states, strict=True):
            require(own is None or own.axis < len(shape) - core)  # pyright: ignore[reportAttributeAccessIssue]
        return [state] * len(given.outs)

    return rule


def _triangular_solve(given: Operands) -> list[State]:
    """Right-hand sides of the same matrix may be examples too."""
    if given.apart(0) is not None:
        return _leading(2)(given)
    state = _state(given, 1)
    require(state.axis != len(given.shapes[1]) - (2 if given.params["left_side"] else 1))
    return [state]


def _gather(given: Operands) -> list[State]:
    """Each example is looked up in what all share, or by what all share, or in its own part."""
    numbers, sizes = given.params["dimension_numbers"], given.params["slice_sizes"]
    operand, indices = given.apart(0), given.apart(1)
    shape = given.shapes[0]
    batch = [axis for axis in range(len(given.outs[0])) if axis not in numbers.offset_dims]
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
        return [_by_own_number(given, column, batch, by_index)]
    require(axis not in numbers.collapsed_slice_dims and sizes[axis] == shape[axis])
    removed = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    offsets = [other for other in range(len(shape)) if other not in removed]
    own = Apart(numbers.offset_dims[offsets.index(axis)], operand.below)
    return [joined([own, by_index])]


def _by_own_number(
    given: Operands, column: int, batch: Sequence[int], by_index: Apart | None
) -> State:
    """The state of what each example looks up at its own number, as in `x[jnp.arange(N), y]`."""
    require(given.shapes[0][_state(given, 0).axis] == given.count)
    if by_index is not None:
        indices = _state(given, 1)
        require(column in indices.own and indices.below == 1)
        return by_index
    numbers, shape = given.known[1], given.shapes[1]
    for axis in range(len(shape) - 1):
        part = None if numbers is None else np.asarray(numbers)[..., column]
        if counts(part, shape[:-1], axis, given.count):
            return Apart(batch[axis], 1)
    raise MeetingError


def _state(given: Operands, position: int) -> Apart:
    state = given.apart(position)
    if state is None:
        raise MeetingError
    return state


def _scatter(given: Operands) -> list[State]:
    """Windows of the whole batch, or a batch of scatters; at places that all examples share."""
    numbers = given.params["dimension_numbers"]
    operand, indices, updates = (given.apart(position) for position in range(3))
    shape = given.shapes[0]
    removed = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = [axis for axis in range(len(shape)) if axis not in removed]
    scatters = [
        axis for axis in range(len(given.shapes[2])) if axis not in numbers.update_window_dims
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
        require(given.shapes[2][updates.axis] == shape[axis])
        places.append(Apart(axis, updates.below))
    return [joined(places)]


def _split(given: Operands) -> list[State]:
    return _along("axis")(given)


ELEMENTWISE = named("storage", "cheap", "dear") | {
    *("select_n", "convert_element_type", "copy", "copy_p", "stop_gradient", "name", "device_put"),
    *("sharding_constraint", "layout_constraint", "reshard", "random_gamma", "pvary"),
}
"""Primitives whose every entry depends on the same entry of each operand."""

REDUCTIONS = ("sum", "max", "min", "prod", "and", "or", "xor")

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **{f"reduce_{name}": _removing("axes") for name in REDUCTIONS},
    **{f"reduce_window_{name}": _windows for name in ("sum", "max", "min")},
    **{f"cum{name}": _along("axis") for name in ("sum", "prod", "max", "min", "logsumexp")},
    **dict.fromkeys(("cholesky", "eigh", "eig", "lu", "qr", "svd"), _leading(2)),
    **dict.fromkeys(("scatter", "scatter-add", "scatter-sub", "scatter-mul"), _scatter),
    **dict.fromkeys(("random_bits", "random_split", "random_wrap", "random_seed"), _leading(0)),
    "argmax": _removing("axes"),
    "argmin": _removing("axes"),
    "bitcast_convert_type": _same_width,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "fft": _fourier,
    "gather": _gather,
    "optimization_barrier": _one_by_one,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _along("dimensions"),
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _removing("dimensions"),
    "top_k": _top_k,
    "transpose": _transpose,
    "triangular_solve": _triangular_solve,
}
"""The rules, by the name of the primitive."""
