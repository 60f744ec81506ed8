"""Sparse Jacobians in one call, for scipy's solvers and for JAX's sparse arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from blockjac.answers import Arrays, Jacobian
from blockjac.blocks.entries import values
from blockjac.blocks.export import SCIPY_FORMATS, to_bcoo, to_bcsr
from blockjac.blocks.losses import keeping_lines
from blockjac.blocks.prototypes import layout_of, prototype
from blockjac.call import ArgNums, traced_call
from blockjac.compat import is_traced
from blockjac.errors import BlockTypeError
from blockjac.graph import Graph
from blockjac.planner import Order, Plan, check_order
from blockjac.plans import fitted, transformed
from blockjac.transforms import (
    answered,
    check_callable,
    check_dense,
    check_require_structure,
    documented,
)

JAX_FORMATS = {"bcoo": to_bcoo, "bcsr": to_bcsr}
FORMATS = (*SCIPY_FORMATS, *JAX_FORMATS, "dense")


def sparse_jacobian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    format: str = "csr",
    has_aux: bool = False,
    *,
    order: Order | Plan | Sequence[int] = "auto",
    require_structure: bool = False,
) -> Callable[..., Any]:
    """The Jacobian of a function as one sparse matrix, for solvers that take one.

    No pattern is given, detected or coloured: places and values follow from the operations. The
    places depend on the shapes alone and not on the point, so that entries that are 0 at a point
    are stored there too; the second call finds them again and computes the values only.

    Args:
        fun: any JAX function of real arrays and trees of them.
        argnums: which positional arguments to differentiate by: `argnums=1` for the right hand side
            `fun(t, y)` of a differential equation.
        format: "csr", "csc", "coo" or "dia" (where the entries lie on few diagonals) for an array
            of `scipy.sparse`; "bcoo" or "bcsr" for one of `jax.experimental.sparse`, also under
            `jax.jit`; "dense" for a NumPy matrix.
        has_aux: whether `fun` returns `(value, aux)`.
        order: of elimination, as in `blockjac.jacobian`.
        require_structure: whether to raise where structure would be lost, so that zeros would be
            stored as entries, as in `blockjac.block_jacobian`.

    Returns:
        A function of the same arguments that gives a matrix of shape `(outputs, inputs)`. Outputs
        and inputs are flattened as `jax.flatten_util.ravel_pytree` does it: the leaves of a tree
        (and several arguments) one after the other, each in row-major order. With `has_aux`,
        `(matrix, aux)`.

    Raises:
        TypeError: for integer and complex inputs, for integer results, for a format that does not
            exist, for scipy's formats while JAX traces, and where there is no array for rows or
            columns.
        ValueError: for `argnums` that do not fit the arguments, for "dia" where the matrix is not
            banded, and for what does not fit into memory or into JAX's indices.
        StructureLostError: with `require_structure`; names the equations, their lines, and what to
            do.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import blockjac
        >>> from scipy.optimize import least_squares
        >>> def residuals(x):  # of Rosenbrock's function
        ...     return jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
        >>> J = blockjac.sparse_jacobian(residuals)(np.zeros(1000))
        >>> J.shape, J.nnz
        ((1998, 1000), 2997)
        >>> start = np.full(100, 0.5)
        >>> found = least_squares(residuals, start, jac=blockjac.sparse_jacobian(residuals))
        >>> bool(np.abs(found.x - 1).max() < 1e-3)
        True
    """
    if format not in FORMATS:
        raise BlockTypeError(
            f"format must be one of {', '.join(map(repr, FORMATS))}, but is {format!r}"
        )
    wanted = check_order(order)
    check_callable(fun, "sparse_jacobian")
    check_require_structure(require_structure)

    def found_of(*args: Any, **kwargs: Any) -> Any:
        with keeping_lines(require_structure):
            call = traced_call("sparse_jacobian", fun, argnums, args, kwargs, has_aux=has_aux)
        call.check_real_inputs()
        call.check_results(holomorphic=False, complex_of_real=True)
        if not call.count or not call.smooth:
            what = "results" if not call.count else "inputs"
            raise BlockTypeError(
                f"sparse_jacobian gives a matrix, but {call.graph_name} has no {what} for its "
                f"{'rows' if not call.count else 'columns'}; an array of size 0 is one"
            )
        if format == "dense":
            check_dense(call, None, call.graph_name)
        order = fitted(wanted, call)
        blocks = Jacobian(call.count, call.smooth, order, dense=False, listed=True)
        question = blocks if format in JAX_FORMATS else Entries(blocks)
        aux, found = answered(question, call, call.arguments, require_structure=require_structure)
        return found, call.auxiliary(aux)

    made = transformed(found_of, wanted, fun, has_aux=True)

    def matrix_of(*args: Any, **kwargs: Any) -> Any:
        if format not in JAX_FORMATS:
            _check_untraced((args, kwargs), format)
        found, aux = made(*args, **kwargs)
        if format not in JAX_FORMATS:
            _check_untraced(found, format)
        matrix = JAX_FORMATS.get(format, _scipy_matrix(format))(found)
        return (matrix, aux) if has_aux else matrix

    return documented(matrix_of, fun, "Sparse Jacobian", argnums)


@dataclass(frozen=True)
class Entries:
    """The values of a Jacobian's entries one by one, and what tells their places.

    Attributes:
        jacobian: which Jacobian.
    """

    jacobian: Jacobian

    @property
    def keeps_structure(self) -> bool:
        """Whether the answer's structure may depend on constants of the program."""
        return self.jacobian.keeps_structure

    takes_any_numbers: ClassVar[bool] = True
    """The answer is arrays alone: Python numbers of the program may be open."""

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """`(auxiliary results, (values, lookups, layouts))`."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        parts = [[layout_of(block) for block in row] for row in rows]
        lookups = [[arrays for _, arrays in row] for row in parts]
        layouts = tuple(tuple(layout for layout, _ in row) for row in parts)
        return aux, (values(rows), lookups, Static(layouts))


@dataclass(frozen=True)
class Static:
    """Something static among the results of a program."""

    value: Any


jax.tree_util.register_pytree_node(
    Static, lambda static: ((), static.value), lambda value, _: Static(value)
)


def _scipy_matrix(format: str) -> Callable[[Any], Any]:
    """What makes a matrix of scipy, or a dense one, of what `Entries` gives."""

    def matrix_of(found: Any) -> Any:
        numbers, lookups, layouts = found
        given = [
            [(layout, arrays) for layout, arrays in zip(row, own, strict=True)]
            for row, own in zip(layouts.value, lookups, strict=True)
        ]
        matrix = prototype(given, "csr" if format == "dense" else format).filled(numbers)
        return matrix.toarray() if format == "dense" else matrix

    return matrix_of


def _check_untraced(tree: Any, format: str) -> None:
    if is_traced(tree):
        raise BlockTypeError(
            f"sparse_jacobian with format={format!r} gives an array of scipy or NumPy, and cannot "
            "be traced by JAX (jit, vmap, grad): use format='bcoo' there"
        )
