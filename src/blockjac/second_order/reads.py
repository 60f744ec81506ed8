"""Reads off the array, whose tangents are not the transposes of their cotangents.

JAX assumes that the places of plain indexing lie on the array. If one does not, its tangent is that
of the nearest entry, and its cotangent is dropped (see `base.promises`). A product of Jacobians on
both sides of a second derivative is symmetric only where this cannot happen.
"""

from __future__ import annotations

import numpy as np
from jax import lax
from jax.extend import core

from blockjac.elimination.evaluate import operand_array
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.graph.graph import Equation


def may_read_off(linear: LinearizedGraph) -> bool:
    """Whether a place that a differentiated function reads may lie off the array.

    Loops and branches are taken to read anywhere.

    Args:
        linear: the function at a point.
    """
    return any(
        any(True for _ in core.jaxprs_in_params(equation.params))
        for equation in linear.active.passes
    ) or any(_is_off(linear, equation) for equation in linear.active.equations)


def _is_off(linear: LinearizedGraph, equation: Equation) -> bool:
    """Whether an equation is a gather with places that are not known to lie on the array."""
    params = equation.params
    promised = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    if equation.primitive.name != "gather" or params["mode"] != promised:
        return False
    places = operand_array(equation.operands[1], linear.point.values)
    if not isinstance(places, np.ndarray):
        return True
    shape = linear.graph.aval(equation.operands[0]).shape
    axes = params["dimension_numbers"].start_index_map
    last = np.array([shape[axis] - params["slice_sizes"][axis] for axis in axes])
    return bool(np.any(places < 0) or np.any(places > last))
