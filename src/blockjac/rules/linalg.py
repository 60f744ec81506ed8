"""Linear algebra: factorizations and solves as operators that keep every batch axis a delta.

A factorization's derivative is JAX's linearization, made together with its values, so that both
share the factors. Solves are written here, because they do the same to each right-hand side.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.graph.linearity import is_inexact
from blockjac.operators.map_group import MapGroup
from blockjac.rules.fallback import of_moving, packed, placed, real_dtype, unpacked, vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

RIGHT_HAND_SIDE = "right-hand side"
"""The name of the axis of right-hand sides, each of which a solve treats alike."""


# Factorizations


def factorized(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The factors of a matrix, and their linearization."""
    function, point = of_moving(equation, inputs, active)
    _, push, results = jax.linearize(function, *point, has_aux=True)
    return results, push


def factor_edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """The derivatives of all factors by the matrix: each matrix of a batch separately."""
    del active
    (matrix,) = inputs
    smooth = [position for position, out in enumerate(outs) if is_inexact(out)]
    tangent = jax.eval_shape(packed, compat.struct(jax.typeof(matrix)))

    def pull(cotangents: Sequence[Any]) -> Sequence[Any]:
        """The matrix's cotangent, by transposing the rates of those factors that are asked for."""
        # Eigenvectors of equal eigenvalues have no derivative, but the eigenvalues do.
        asked = [position for position, cotangent in enumerate(cotangents) if cotangent is not None]

        def push(direction: Any) -> list[Any]:
            rates = residuals(direction)
            return [rates[position] for position in asked]

        return jax.linear_transpose(push, tangent)([cotangents[position] for position in asked])

    depth = matrix.ndim - 2
    group = MapGroup(
        out_shapes=[vertex_shape(outs[position]) for position in smooth],
        wrt_shapes=[tangent.shape],
        dtypes=[tangent.dtype],
        out_dtypes=[real_dtype(outs[position].dtype) for position in smooth],
        pull=pull,
        push=lambda tangents: residuals(compat.spread_as(tangents[0], tangent)),
        name=equation.primitive.name,
        row_axes=[names_of(outs[position], depth) for position in smooth],
        column_axes=[names_of(matrix, depth)],
        structured=True,
        takes_none=True,
    )
    return placed(group, smooth, [0], (len(outs), 1))


def names_of(value: Any, depth: int, *core: Hashable) -> tuple[Hashable, ...]:
    """Names of the axes of a value's vertex: the batch axes, and the given ones for the last."""
    whole = len(vertex_shape(value))
    names: list[Hashable] = [None] * whole
    first = whole - len(value.shape)
    names[first : first + depth] = [("batch", axis) for axis in range(depth)]
    names[whole - len(core) :] = core
    return tuple(names)


for _name in ("cholesky", "eig", "lu", "qr"):
    OPERATOR_RULES[_name] = OperatorRule(factorized, factor_edges)


# Solves


def _solved(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The solution; it and the operands of the matrix are all that a derivative needs."""
    del active
    results = compat.bind(equation.primitive, inputs, equation.params)
    return results, (list(inputs[:-1]), results[0])


def _solve_group(
    equation: Equation,
    inputs: Sequence[Any],
    active: Sequence[bool],
    pull: Callable[[Any], Sequence[Any]],
    push: Callable[[Sequence[Any]], Any],
    sides: Sequence[Hashable],
) -> Rows:
    """The operators of a solve by the active of its operands.

    Args:
        equation: the solve; the right-hand side is the last operand.
        inputs: the operands, or what has their shapes and dtypes.
        active: which operands are differentiated.
        pull: the cotangent of the solution to those of all operands, complex where these are.
        push: the tangents of all operands, None for constant ones, to that of the solution.
        sides: the names of the last two axes of the right-hand side.
    """
    *matrix, right = inputs
    depth = right.ndim - 2
    names = [*(names_of(part, depth) for part in matrix), names_of(right, depth, *sides)]
    moving = [position for position, wanted in enumerate(active) if wanted]

    def pulled(cotangents: Sequence[Any]) -> list[Any]:
        answers = pull(unpacked(cotangents[0], right.dtype))
        return [packed(answers[position]) for position in moving]

    def pushed(tangents: Sequence[Any]) -> list[Any]:
        full: list[Any] = [None] * len(inputs)
        for position, tangent in zip(moving, tangents, strict=True):
            full[position] = unpacked(tangent, inputs[position].dtype)
        return [packed(push(full))]

    group = MapGroup(
        out_shapes=[vertex_shape(right)],
        wrt_shapes=[vertex_shape(inputs[position]) for position in moving],
        dtypes=[real_dtype(inputs[position].dtype) for position in moving],
        out_dtypes=[real_dtype(right.dtype)],
        pull=pulled,
        push=pushed,
        name=equation.primitive.name,
        row_axes=[names[-1]],
        column_axes=[names[position] for position in moving],
        uniform=frozenset([RIGHT_HAND_SIDE]),
        structured=True,
    )
    return placed(group, [0], moving, (1, len(inputs)))


def triangular_solve(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """`X = op(A)^-1 B`, or `B op(A)^-1`, where op transposes, conjugates, or does nothing.

        dX = op(A)^-1 (dB - op(dA) X)

    and the cotangents of `B` and `op(A)` are `C = op(A)^-H Y` and `-C X^H`.
    """
    del outs
    (matrix,), solution = residuals
    params = equation.params
    left, transposed, conjugated = (
        params[key] for key in ("left_side", "transpose_a", "conjugate_a")
    )
    adjoint = {
        **params,
        "transpose_a": not transposed,
        "conjugate_a": jnp.iscomplexobj(matrix) and not conjugated,
    }

    def seen(array: Any) -> Any:
        """`op` of the entries that the solve reads; its own adjoint, but for the triangle."""
        array = jnp.swapaxes(array, -1, -2) if transposed else array
        return jnp.conj(array) if conjugated else array

    def triangle(array: Any) -> Any:
        offset = 1 if params["unit_diagonal"] else 0
        return jnp.tril(array, -offset) if params["lower"] else jnp.triu(array, offset)

    def solve(right: Any, params: dict[str, Any]) -> Any:
        return compat.bind(equation.primitive, [matrix, right], params)[0]

    def pull(cotangent: Any) -> Sequence[Any]:
        right = solve(cotangent, adjoint)
        wide, adjoint_solution = jnp.broadcast_to(right, solution.shape), _adjoint(solution)
        product = wide @ adjoint_solution if left else adjoint_solution @ wide
        return [triangle(seen(-product)), right]

    def push(tangents: Sequence[Any]) -> Any:
        """`X' = op(A)^-1 (B' - op(A') X)`, or its mirror image, without what does not move."""
        change, right = tangents
        if change is not None:
            known, change = _first(solution, right), seen(triangle(change))
            product = change @ known if left else known @ change
            right = -product if right is None else right - product
        return solve(right, params)

    sides = (None, RIGHT_HAND_SIDE) if left else (RIGHT_HAND_SIDE, None)
    return _solve_group(equation, inputs, active, pull, push, sides)


def tridiagonal_solve(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """`X = T^-1 B` with the diagonals of `T` given: lower, main, upper, each of the full length.

        dX = T^-1 (dB - dT X)

    and the cotangents of `B` and of a diagonal are `C = T^-H Y` and `-sum_r C[i, r] X[i + k, r]^*`.
    """
    del outs
    diagonals, solution = residuals
    lower, main, upper = diagonals

    def solve(diagonals: Sequence[Any], right: Any) -> Any:
        return compat.bind(equation.primitive, [*diagonals, right], equation.params)[0]

    def pull(cotangent: Any) -> Sequence[Any]:
        """The cotangents of the three diagonals and of `B`."""
        adjoint = [
            jnp.conj(diagonal) for diagonal in (_moved(upper, -1, -1), main, _moved(lower, 1, -1))
        ]
        right = solve(adjoint, cotangent)
        wide = jnp.broadcast_to(right, solution.shape)
        parts = [-jnp.sum(wide * jnp.conj(_moved(solution, k, -2)), -1) for k in (-1, 0, 1)]
        return [*parts, right]

    def push(tangents: Sequence[Any]) -> Any:
        """`X' = T^-1 (B' - T' X)`, without what does not move."""
        *changes, right = tangents
        known = _first(solution, right)
        for k, change in zip((-1, 0, 1), changes, strict=True):
            if change is not None:
                product = change[..., None] * _moved(known, k, -2)
                right = -product if right is None else right - product
        return solve(diagonals, right)

    return _solve_group(equation, inputs, active, pull, push, (None, RIGHT_HAND_SIDE))


def _adjoint(array: Any) -> Any:
    return jnp.conj(jnp.swapaxes(array, -1, -2))


def _first(solution: Any, right: Any) -> Any:
    """As many right-hand sides of the solution as move: fewer if they alone do."""
    return (
        solution if right is None else lax.slice(solution, (0,) * solution.ndim, tuple(right.shape))
    )


def _moved(array: Any, step: int, axis: int) -> Any:
    """Entry `i + step` along an axis at place `i`, 0 beyond the ends."""
    axis = array.ndim + axis
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (-step, step, 0)
    return lax.pad(array, jnp.zeros((), array.dtype), padding)


OPERATOR_RULES["triangular_solve"] = OperatorRule(_solved, triangular_solve)
OPERATOR_RULES["tridiagonal_solve"] = OperatorRule(_solved, tridiagonal_solve)
