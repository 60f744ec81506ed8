"""Tangents and cotangents: checked against the function, and sorted by its inputs and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.trees import flattened
from blockjac.engine.arguments import leaf_name
from blockjac.engine.call import Call
from blockjac.engine.leaves import dtype_of, is_array, is_real_array
from blockjac.errors import BlockShapeError, DifferentiationTypeError
from blockjac.graph.linearity import is_inexact
from blockjac.transforms.traced_once import Function


def result_cotangents(call: Call, cotangent: Any) -> list[Any]:
    """The leaves of a cotangent that belong to float and complex results, checked."""
    leaves, tree = flattened(cotangent)
    if tree != call.record.out_tree:
        raise BlockShapeError(
            "unexpected tree structure: the pullback needs a cotangent in the tree of the value, "
            f"{call.record.out_tree}, but found {tree}"
        )
    for number, (leaf, wanted) in enumerate(zip(leaves, call.results, strict=True)):
        if np.shape(leaf) != wanted.shape or (is_inexact(wanted) and not _same_type(leaf, wanted)):
            raise BlockShapeError(
                "unexpected JAX type (e.g. shape/dtype) for argument to VJP function: leaf "
                f"{number} is {_described(leaf)}, but must be {_described(wanted)} as the value is"
            )
    return moving_tangents(leaves, call.results)


def check_tangents(
    name: str, fun: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> None:
    """Raise unless the tangents have the tree, dtypes and shapes of the primals.

    Args:
        name: of the transform that was called.
        fun: the user's function, for the names of its arguments.
        primals: the point.
        tangents: the direction.

    Raises:
        DifferentiationTypeError: for another tree or dtype.
        BlockShapeError: for another shape.
    """
    leaves, tree = flattened(tangents)
    points, wanted_tree = flattened(primals)
    if tree != wanted_tree:
        raise DifferentiationTypeError(
            f"primal and tangent arguments to blockjac.{name} must have the same tree structure; "
            f"primals have {wanted_tree} whereas tangents have {tree}."
        )
    for number, (leaf, point) in enumerate(zip(leaves, points, strict=True)):
        both_real = is_real_array(point) and is_real_array(leaf)
        if both_real and (point.dtype, point.shape) == (leaf.dtype, leaf.shape):
            continue
        if not is_array(point):
            continue  # the call names it
        primal = jax.ShapeDtypeStruct(np.shape(point), dtype_of(point))
        if not _same_type(leaf, primal):
            wanted = primal.dtype.name if is_inexact(primal) else "float0"
            raise DifferentiationTypeError(
                f"primal and tangent arguments to blockjac.{name} do not match; dtypes must be "
                "equal, or in case of int/bool primal dtype the tangent dtype must be float0: "
                f"{leaf_name(fun, primals, number)}: leaf {number} is {_described(primal)} and its "
                f"tangent {_described(leaf)}, wanted {wanted}"
            )
        if np.shape(leaf) != primal.shape:
            raise BlockShapeError(
                f"blockjac.{name} called with different primal and tangent shapes: "
                f"{leaf_name(fun, primals, number)}: leaf {number} is {_described(primal)} with a "
                f"tangent {_described(leaf)}"
            )


def moving_tangents(leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """The leaves that belong to float and complex values."""
    return [leaf for leaf, aval in zip(leaves, avals, strict=True) if is_inexact(aval)]


def _same_type(leaf: Any, wanted: Any) -> bool:
    """Whether a (co)tangent has the dtype that a value's must have; Python floats fit any."""
    if not is_inexact(wanted):
        return getattr(leaf, "dtype", None) == jax.dtypes.float0
    if isinstance(leaf, float | complex) and not isinstance(leaf, np.generic):
        return jnp.result_type(leaf, wanted.dtype) == wanted.dtype
    return dtype_of(leaf) == wanted.dtype


def _described(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    name = type(value).__name__ if dtype is None else np.dtype(dtype).name
    return f"{name}[{','.join(map(str, np.shape(value)))}]"
