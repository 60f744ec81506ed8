"""How each primitive carries examples from its operands to its results.

A rule maps the states of an equation's operands to those of its results, and raises `MeetingError`
where one entry would depend on several examples. Primitives without a rule let examples meet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from blockjac.graph.example_lookups import concatenate, gather, scatter
from blockjac.graph.example_states import (
    Apart,
    MeetingError,
    Operands,
    Rule,
    State,
    joined,
    require,
)
from blockjac.graph.primitives import named


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


def _elementwise(operands: Operands) -> Sequence[State]:
    return [joined(operands.states)] * len(operands.outs)


def _same_width(operands: Operands) -> Sequence[State]:
    require(operands.shapes[0] == operands.outs[0])
    return _elementwise(operands)


def _one_by_one(operands: Operands) -> Sequence[State]:
    return [*operands.states]


def _broadcast(operands: Operands) -> Sequence[State]:
    return [_moved(operands.only(), operands.params["broadcast_dimensions"])]


def _transpose(operands: Operands) -> Sequence[State]:
    order = list(operands.params["permutation"])
    return [_moved(operands.only(), [order.index(axis) for axis in range(len(order))])]


def _removing(name: str) -> Rule:
    """The rule of a primitive that removes the axes that a parameter names."""

    def rule(operands: Operands) -> Sequence[State]:
        rank = len(operands.shapes[0])
        removed = [axis % rank for axis in operands.params[name]]
        state = _moved(operands.common(), _kept(operands.shapes[0], removed))
        return [state] * len(operands.outs)

    return rule


def _along(name: str) -> Rule:
    """The rule of a primitive that mixes entries along the axes that a parameter names."""

    def rule(operands: Operands) -> Sequence[State]:
        state, named_axes = operands.common(), operands.params[name]
        axes = [named_axes] if isinstance(named_axes, int) else named_axes
        rank = len(operands.shapes[0])
        require(state.axis not in [axis % rank for axis in axes])
        return [state] * len(operands.outs)

    return rule


def _reshape(operands: Operands) -> Sequence[State]:
    """An example's number is a digit of a place in memory, and must be one of an axis again."""
    require(operands.params.get("dimensions") is None)
    state, (old,), (new,) = operands.only(), operands.shapes, operands.outs
    below = state.below * math.prod(old[state.axis + 1 :])
    for axis, size in enumerate(new):
        after = math.prod(new[axis + 1 :])
        if below % after == 0 and (after * size) % (below * operands.count) == 0:
            return [Apart(axis, below // after)]
    raise MeetingError


def _slice(operands: Operands) -> Sequence[State]:
    """Of all examples, from the first to the last, or some of them would be missing."""
    state, params = operands.only(), operands.params
    strides = params["strides"] or [1] * len(operands.shapes[0])
    rounds = state.below * operands.count
    ends = [params[name][state.axis] for name in ("start_indices", "limit_indices")]
    require(strides[state.axis] == 1 and ends[0] < ends[1] and not any(n % rounds for n in ends))
    return [Apart(state.axis, state.below)]


def _dynamic_slice(operands: Operands) -> Sequence[State]:
    state = operands.only()
    require(operands.params["slice_sizes"][state.axis] == operands.shapes[0][state.axis])
    return [Apart(state.axis, state.below)]


def _dynamic_update_slice(operands: Operands) -> Sequence[State]:
    state = operands.only(1)
    require(operands.shapes[0][state.axis] == operands.shapes[1][state.axis])
    return [state]


def _pad(operands: Operands) -> Sequence[State]:
    state = operands.only()
    require(tuple(operands.params["padding_config"][state.axis]) == (0, 0, 0))
    return [Apart(state.axis, state.below)]


def _dot_general(operands: Operands) -> Sequence[State]:
    """Examples may be a batch of products, or rows of one side, and are not summed over."""
    contracted, batch = operands.params["dimension_numbers"]
    places: list[State] = []
    before = len(batch[0])
    for side in (0, 1):
        shape, state = operands.shapes[side], operands.apart(side)
        free = [axis for axis in range(len(shape)) if axis not in (*contracted[side], *batch[side])]
        if state is not None and state.axis in batch[side]:
            places.append(Apart(list(batch[side]).index(state.axis), state.below))
        elif state is not None:
            require(state.axis in free)
            places.append(Apart(before + free.index(state.axis), state.below))
        before += len(free) if side == 0 else 0
    return [joined(places)]


def _convolution(operands: Operands) -> Sequence[State]:
    numbers, state = operands.params["dimension_numbers"], operands.only()
    require(operands.params["batch_group_count"] == 1 and state.axis == numbers.lhs_spec[0])
    return [Apart(numbers.out_spec[0], state.below)]


def _windows(operands: Operands) -> Sequence[State]:
    """Windows of one example each."""
    state, params = operands.only(), operands.params
    axis = state.axis
    for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation"):
        require(params.get(name) is None or params[name][axis] == 1)
    require(tuple(params["padding"][axis]) == (0, 0))
    return [state]


def _sort(operands: Operands) -> Sequence[State]:
    state = operands.common()
    require(state.axis != operands.params["dimension"])
    return [state] * len(operands.outs)


def _top_k(operands: Operands) -> Sequence[State]:
    state, rank = operands.only(), len(operands.shapes[0])
    require(state.axis != operands.params.get("axis", rank - 1) % rank)
    return [state] * len(operands.outs)


def _fourier(operands: Operands) -> Sequence[State]:
    return _leading(len(operands.params["fft_lengths"]))(operands)


def _leading(core: int) -> Rule:
    """The rule of a primitive that acts on the last axes, and on the others separately."""

    def rule(operands: Operands) -> Sequence[State]:
        state = operands.common()
        for shape, own in zip(operands.shapes, operands.states, strict=True):
            require(not isinstance(own, Apart) or own.axis < len(shape) - core)
        return [state] * len(operands.outs)

    return rule


def _triangular_solve(operands: Operands) -> Sequence[State]:
    """Right-hand sides of the same matrix may be examples too."""
    if operands.apart(0) is not None:
        return _leading(2)(operands)
    state = operands.required(1)
    require(state.axis != len(operands.shapes[1]) - (2 if operands.params["left_side"] else 1))
    return [state]


def _stack(operands: Operands) -> Sequence[State]:
    """An axis more; what all examples share may stand beside."""
    state, axis = operands.common(), operands.params["axis"]
    return [Apart(state.axis + (state.axis >= axis), state.below)]


def _unstack(operands: Operands) -> Sequence[State]:
    state, axis = operands.only(), operands.params["axis"]
    require(state.axis != axis)
    return [Apart(state.axis - (state.axis > axis), state.below)] * len(operands.outs)


def _tile(operands: Operands) -> Sequence[State]:
    state = operands.only()
    repeats = operands.params["reps"]
    place = state.axis + len(operands.outs[0]) - len(operands.shapes[0])
    require(repeats[place - len(operands.outs[0]) + len(repeats)] == 1)
    return [Apart(place, state.below)]


def _split(operands: Operands) -> Sequence[State]:
    """As slices: each part holds all examples, or a part of each of them."""
    state = operands.only()
    if state.axis == operands.params["axis"]:
        rounds = state.below * operands.count
        require(not any(size % rounds for size in operands.params["sizes"]))
    return [state] * len(operands.outs)


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
    **dict.fromkeys(("scatter", "scatter-add", "scatter-sub", "scatter-mul"), scatter),
    **dict.fromkeys(("random_bits", "random_split", "random_wrap", "random_seed"), _leading(0)),
    "argmax": _removing("axes"),
    "argmin": _removing("axes"),
    "bitcast_convert_type": _same_width,
    "broadcast_in_dim": _broadcast,
    "concatenate": concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "fft": _fourier,
    "gather": gather,
    "optimization_barrier": _one_by_one,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _along("dimensions"),
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _removing("dimensions"),
    "stack": _stack,
    "tile": _tile,
    "top_k": _top_k,
    "transpose": _transpose,
    "triangular_solve": _triangular_solve,
    "unstack": _unstack,
}
"""The rules, by the name of the primitive."""
