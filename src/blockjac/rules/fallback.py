"""Equations without a rule: the Jacobian of that one equation from JAX, as an operator.

Also the home of complex numbers: a complex variable is differentiated as its real and imaginary
parts, stacked on a leading axis of size 2, so that conj, real, imag and abs are ordinary
real-linear maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.losses import Unknown
from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import OperatorGroup
from blockjac.rules.registry import OperatorRule

REVERSE_ONLY = {"custom_vjp_call"}
"""Primitives that JAX differentiates backwards only."""

NO_RULE = Unknown("no rule is known for it, and JAX gives its Jacobian without structure")
"""Why nothing is known of the structure of an equation that is left to JAX."""

_CONTROL_FLOW = """
    call_hi_primitive eval_jaxpr linear_call remat_opt run_state stage
"""
_OTHER = "tie to_edtype from_edtype"
_COLLECTIVES = """
    all_gather_invariant all_gather_reduced pbroadcast preduced ragged_all_to_all
    reduced_vary_cast_p unreduced_psum unreduced_reduce_scatter vary_unreduced_cast_p
"""
_REFERENCES_AND_CALLBACKS = """
    accum_grad_in_ref addupdate box_get box_set dce_sink empty_ref free_ref freeze get log_extend
    log_read new_box new_log new_ref swap check debug_callback debug_print ffi_call inspect_sharding
    io_callback pure_callback
"""
_KERNELS_AND_HOSTS = """
    global_array_to_host_local_array host_local_array_to_global_array masked_load masked_swap
    mpmd_map pallas_call
"""
_SINCE_0_11 = """
    get_global pbroadcast_dynamic program_order reduced_vary_cast relayout vary_unreduced_cast
    with_memory_space_constraint xla_metadata_call xla_metadata_value
"""
_SPARSE = """
    bcoo_dot_general_sampled bcoo_extract bcoo_fromdense bcoo_sort_indices
    bcoo_spdot_general bcoo_sum_duplicates bcoo_transpose bcsr_extract
    bcsr_fromdense bcsr_todense coo_fromdense coo_matmat coo_matvec coo_todense csr_fromdense
    csr_matmat csr_matvec csr_todense spsolve todense
"""
LEFT_TO_JAX = frozenset(
    " ".join(
        (
            _CONTROL_FLOW,
            _OTHER,
            _COLLECTIVES,
            _REFERENCES_AND_CALLBACKS,
            _KERNELS_AND_HOSTS,
            _SINCE_0_11,
            _SPARSE,
        )
    ).split()
)
"""Primitives known to have no rule: their equations come from JAX, applied as operators."""


def evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[list[Any], Any]:
    """The results of one equation, and JAX's pullback at this point."""
    function, point = of_moving(equation, inputs, active)
    _, pull, results = jax.vjp(function, *point, has_aux=True)
    return [result if hasattr(result, "shape") else jnp.asarray(result) for result in results], pull


def fallback(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> list[list[Any]]:
    """Operators for one equation, by output and input; None where the derivative is zero.

    Args:
        equation: the equation.
        inputs: values of its operands.
        outs: values of its results.
        residuals: the pullback that `evaluate` gave; None to ask JAX for it when it is needed.
        active: which operands are differentiated.
    """
    function, point = of_moving(equation, inputs, active)
    moving = [position for position, wanted in enumerate(active) if wanted]
    smooth = [position for position, out in enumerate(outs) if is_inexact(out)]
    shown = name = equation.primitive.name
    if any(jnp.issubdtype(value.dtype, jnp.complexfloating) for value in (*outs, *inputs)):
        shown = f"{name} of complex numbers"
    out_dtypes = [real_dtype(outs[position].dtype) for position in smooth]
    group = MapGroup(
        out_shapes=[vertex_shape(outs[position]) for position in smooth],
        wrt_shapes=[tuple(part.shape) for part in point],
        dtypes=[part.dtype for part in point],
        out_dtypes=out_dtypes,
        pull=_pullback(function, point, residuals, [outs[position] for position in smooth]),
        push=None if name in REVERSE_ONLY else _pushforward(function, point, out_dtypes),
        name=shown,
        place="" if equation.source is None else compat.place(equation.source),
        unknown=NO_RULE,
    )
    return placed(group, smooth, moving, (len(outs), len(inputs)))


def placed(
    group: OperatorGroup, smooth: Sequence[int], moving: Sequence[int], shape: tuple[int, int]
) -> list[list[Any]]:
    """The operators of a group in the table of all results and operands, None elsewhere.

    Args:
        group: over some results and operands.
        smooth: which results these are.
        moving: which operands these are.
        shape: how many results and operands there are.
    """
    edges: list[list[Any]] = [[None] * shape[1] for _ in range(shape[0])]
    for row, own in zip(smooth, group.edges(), strict=True):
        for column, edge in zip(moving, own, strict=True):
            edges[row][column] = edge
    return edges


BY_JAX = OperatorRule(evaluate, fallback)
"""For every primitive that has no rule."""


def of_moving(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Callable[..., tuple[list[Any], list[Any]]], list[Any]]:
    """The equation as a function of its differentiated operands, and these operands.

    The function gives the float and complex results as vertices, and beside them all results.
    """
    moving = [position for position, wanted in enumerate(active) if wanted]

    def function(*parts: Any) -> tuple[list[Any], list[Any]]:
        operands = list(inputs)
        for position, part in zip(moving, parts, strict=True):
            operands[position] = unpacked(part, inputs[position].dtype)
        results = compat.bind(equation.primitive, operands, equation.params)
        return [packed(result) for result in results if is_inexact(result)], results

    return function, [packed(inputs[position]) for position in moving]


def _pullback(
    function: Callable[..., tuple[list[Any], list[Any]]],
    point: Sequence[Any],
    residuals: Any,
    outs: Sequence[Any],
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def pull(cotangents: Sequence[Any]) -> Sequence[Any]:
        known = residuals if residuals is not None else jax.vjp(function, *point, has_aux=True)[1]
        return pulled_back(known, cotangents, outs, [part.dtype for part in point])

    return pull


def pulled_back(
    pull: Callable[[list[Any]], Sequence[Any]],
    cotangents: Sequence[Any],
    outs: Sequence[Any],
    dtypes: Sequence[Any],
) -> list[Any]:
    """By a pullback that JAX made: a user's rule in it may answer with Python numbers.

    Args:
        pull: the pullback.
        cotangents: of the results.
        outs: the results; the cotangents are spread over devices as these are.
        dtypes: of the answers.
    """
    answers = pull([*map(compat.spread_as, cotangents, outs)])
    return [jnp.asarray(answer, dtype) for answer, dtype in zip(answers, dtypes, strict=True)]


def _pushforward(
    function: Callable[..., tuple[list[Any], list[Any]]],
    point: Sequence[Any],
    dtypes: Sequence[Any],
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def push(tangents: Sequence[Any]) -> Sequence[Any]:
        answers = jax.jvp(function, tuple(point), tuple(tangents), has_aux=True)[1]
        return [jnp.asarray(answer, dtype) for answer, dtype in zip(answers, dtypes, strict=True)]

    return push


def vertex_shape(value: Any) -> tuple[int, ...]:
    """The shape of a value's vertex: complex values have a leading axis for their parts."""
    shape = tuple(value.shape)
    return (2, *shape) if jnp.issubdtype(value.dtype, jnp.complexfloating) else shape


def real_dtype(dtype: Any) -> Any:
    """The dtype of a vertex: that of the parts of a complex number."""
    return (
        np.zeros((), dtype).real.dtype
        if jnp.issubdtype(dtype, jnp.complexfloating)
        else np.dtype(dtype)
    )


def packed(value: Any) -> Any:
    """A complex array as its parts on a leading axis; a real one unchanged."""
    value = jnp.asarray(value)
    return jnp.stack([value.real, value.imag]) if jnp.iscomplexobj(value) else value


def unpacked(parts: Any, dtype: Any) -> Any:
    """The inverse of `packed`, for a value of the given dtype."""
    return (
        jax.lax.complex(parts[0], parts[1]) if jnp.issubdtype(dtype, jnp.complexfloating) else parts
    )
