"""Collectives inside `jax.shard_map`, which combine the numbers of several devices.

A collective is a linear map over all devices, and its transpose is another collective. Along most
axes of the local arrays a collective treats each entry separately, so that deltas stay:

    pvary       identity                      transposed: psum
    psum        sum over devices              transposed: pvary (psum without varying axes checked)
    ppermute    device s gives to device d    transposed: d gives to s
    all_gather  the devices on an axis        transposed: psum_scatter on that axis
    all_to_all  one axis for another          transposed: back again

Every result is local: inside of `shard_map`, a Jacobian in reverse mode contains the same sums over
devices as that of `jax.jacrev`, and one in forward mode those of `jax.jacfwd`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from jax import lax

from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.operators.opaque import CompleteGroup
from blockjac.rules.fallback import packed, real_dtype, unpacked, vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

Map = Callable[[Any], Any]

COLLECTIVES: set[str] = set()
"""The names of all collectives here."""


def _collective(
    name: str,
    forth: Callable[[Any, dict[str, Any]], Map],
    back: Callable[[Any, dict[str, Any]], Map],
    mixed: Callable[[dict[str, Any]], Sequence[int]] = lambda params: (),
) -> None:
    """Register a collective.

    Args:
        name: the primitive's name.
        forth: `(primitive, params) -> map` of one tangent.
        back: `(primitive, params) -> map` of one cotangent.
        mixed: `params -> axes` of a local array whose entries the collective mixes.
    """

    def edges(
        equation: Equation,
        inputs: Sequence[Any],
        outs: Sequence[Any],
        residuals: Any,
        active: Sequence[bool],
    ) -> Rows:
        """An operator from each active operand to its own result: operands do not mix."""
        del residuals
        pull, push = (way(equation.primitive, equation.params) for way in (back, forth))
        axes = mixed(equation.params)
        rows: Rows = [[None] * len(inputs) for _ in outs]
        for position, (operand, out, is_active) in enumerate(
            zip(inputs, outs, active, strict=True)
        ):
            if is_active:
                group = _group(equation.primitive.name, operand, out, pull, push, axes)
                rows[position][position] = group.edges()[0][0]
        return rows

    OPERATOR_RULES[name] = OperatorRule(_evaluate, edges)
    COLLECTIVES.add(name)


def _evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], None]:
    """The results; the derivative of a linear map needs no residuals."""
    del active
    return compat.bind(equation.primitive, inputs, equation.params), None


def _group(
    name: str, operand: Any, out: Any, back: Map, forth: Map, mixed: Sequence[int]
) -> CompleteGroup:
    """The operator of a collective from one operand to one result.

    Args:
        name: the primitive's name.
        operand: the local operand.
        out: the local result.
        back: from the cotangent of the result to that of the operand.
        forth: from the tangent of the operand to that of the result.
        mixed: the axes whose entries the collective mixes.
    """

    def through(function: Map, dtype: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
        return lambda parts: [packed(function(unpacked(parts[0], dtype)))]

    return CompleteGroup(
        out_shapes=[vertex_shape(out)],
        wrt_shapes=[vertex_shape(operand)],
        dtypes=[real_dtype(operand.dtype)],
        out_dtypes=[real_dtype(out.dtype)],
        pull=through(back, out.dtype),
        push=through(forth, operand.dtype),
        name=name,
        row_axes=[_names(out, mixed)],
        column_axes=[_names(operand, mixed)],
        structured=True,
    )


def _names(value: Any, mixed: Sequence[int]) -> list[Hashable]:
    """A name for each axis that is not mixed; the axis of complex parts is never mixed."""
    rank = len(value.shape)
    names: list[Hashable] = [None if axis in mixed else axis for axis in range(rank)]
    return ["part"] * (len(vertex_shape(value)) - rank) + names


def _axes(params: dict[str, Any]) -> tuple[Any, ...]:
    """The mesh axes of a collective."""
    axes = params["axes"] if "axes" in params else params["axis_name"]
    return axes if isinstance(axes, tuple) else (axes,)


def _varying(array: Any, axes: Sequence[Any]) -> Any:
    """The array, typed as varying between devices along the given mesh axes."""
    known = compat.varying_axes(array)
    missing = tuple(axis for axis in compat.mesh_axes() if axis in axes and axis not in known)
    return lax.pcast(array, missing, to="varying") if missing else array


def _itself(primitive: Any, params: dict[str, Any]) -> Map:
    """The collective itself, of a varying array."""
    axes = _axes(params)
    return lambda array: compat.bind(primitive, [_varying(array, axes)], params)[0]


def _summed(primitive: Any, params: dict[str, Any]) -> Map:
    """The sum over devices, which transposes `pvary`."""
    del primitive
    return lambda array: lax.psum(_varying(array, params["axes"]), params["axes"])


def _cast(primitive: Any, params: dict[str, Any]) -> Map:
    """The same array on all devices, typed as varying, which transposes a sum."""
    del primitive
    return lambda array: _varying(array, params["axes"])


def _permuted(primitive: Any, params: dict[str, Any]) -> Map:
    """The inverse permutation of devices, which transposes `ppermute`."""
    del primitive
    back = [(target, source) for source, target in params["perm"]]
    return lambda array: lax.ppermute(array, params["axis_name"], back)


def _scattered(primitive: Any, params: dict[str, Any]) -> Map:
    """The sum over devices of which each keeps its own part, which transposes `all_gather`."""
    del primitive
    return lambda array: lax.psum_scatter(
        array,
        params["axis_name"],
        scatter_dimension=params["all_gather_dimension"],
        axis_index_groups=params["axis_index_groups"],
        tiled=params["tiled"],
    )


def _gathered(primitive: Any, params: dict[str, Any]) -> Map:
    """The parts of all devices along an axis, which transposes `reduce_scatter`."""
    del primitive
    return lambda array: lax.all_gather(
        array,
        params["axis_name"],
        axis=params["scatter_dimension"],
        axis_index_groups=params["axis_index_groups"],
        tiled=params["tiled"],
    )


def _sent_back(primitive: Any, params: dict[str, Any]) -> Map:
    """The exchange with both axes swapped, which transposes `all_to_all`."""
    split, concat = params["concat_axis"], params["split_axis"]
    return _itself(primitive, {**params, "split_axis": split, "concat_axis": concat})


_collective("pvary", _cast, _summed)
_collective("psum_invariant", _itself, _cast)
_collective("psum", _itself, _itself)
_collective("ppermute", _itself, _permuted)
_collective("all_gather", _itself, _scattered, lambda params: (params["all_gather_dimension"],))
_collective("reduce_scatter", _itself, _gathered, lambda params: (params["scatter_dimension"],))
_collective(
    "all_to_all",
    _itself,
    _sent_back,
    lambda params: (params["split_axis"], params["concat_axis"]),
)
