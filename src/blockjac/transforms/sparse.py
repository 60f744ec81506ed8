"""Sparse Jacobians in one call, for scipy's solvers and for JAX's sparse arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import jax

from blockjac.algebra.entries import Grid, values
from blockjac.base.compat import is_traced
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.chunk_sizes import check_dense
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.errors import BlockTypeError, FormatError
from blockjac.exports.prototypes import Parts, layout_of, prototype
from blockjac.exports.sparse_arrays import to_bcoo, to_bcsr
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.transforms.shell import Ask, Asked, P, Transform, as_found, formerly_third
from blockjac.transforms.traced_once import Orders

Format = Literal["csr", "csc", "coo", "dia", "bcoo", "bcsr", "dense"]
"""Of a sparse matrix: of `scipy.sparse`, of `jax.experimental.sparse`, or NumPy's."""

JAX_FORMATS = {"bcoo": to_bcoo, "bcsr": to_bcsr}
FORMATS = get_args(Format)


@formerly_third("format")
def sparse_jacobian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    format: Format = "csr",
    order: Orders = "auto",
    require_structure: bool = False,
) -> Callable[P, Any]:
    """The Jacobian of a function as one sparse matrix, for solvers that take one.

    No pattern is given, detected or coloured: places and values follow from the operations. The
    places depend on the shapes alone and not on the point, so that entries that are 0 at a point
    are stored there too; the second call finds them again and computes the values only.

    Args:
        fun: any JAX function of real arrays and trees of them.
        argnums: which positional arguments to differentiate by: `argnums=1` for the right hand side
            `fun(t, y)` of a differential equation.
        has_aux: whether `fun` returns `(value, aux)`.
        format: "csr", "csc", "coo" or "dia" (where the entries lie on few diagonals) for an array
            of `scipy.sparse`; "bcoo" or "bcsr" for one of `jax.experimental.sparse`, also under
            `jax.jit`; "dense" for a NumPy matrix.
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
            exist, for scipy's formats while JAX traces, and where the rows or the columns belong to
            no array.
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
    check_format(format)
    options = argnums, has_aux, order
    transform = Transform(
        "sparse_jacobian",
        "Sparse Jacobian",
        fun,
        *options,
        require_structure=require_structure,
        finish=partial(matrix_of_entries, "sparse_jacobian", format, None),
    )
    return transform(_entries(format))


def _entries(format: Format) -> Ask:
    """Ask for the parts of a matrix of the format."""

    def asked(call: Call, order: Order) -> Asked:
        """The Blocks, and the function that makes a sparse matrix of them."""
        call.check_real(complex_results=True)
        if not call.count or not call.smooth:
            missing = "results" if not call.count else "inputs"
            raise BlockTypeError(
                f"sparse_jacobian gives a matrix, but {call.graph_name} has no {missing} for its "
                f"{'rows' if not call.count else 'columns'}; an array of size 0 is one"
            )
        if format == "dense":
            check_dense(call, None)
        blocks = Jacobian(call.count, call.smooth, order, dense=False, listed=True)
        return blocks if format in JAX_FORMATS else Entries(blocks), as_found

    return asked


@dataclass(frozen=True)
class Entries:
    """The values of a Jacobian's entries one by one, and what tells their places.

    Attributes:
        jacobian: which Jacobian.
    """

    jacobian: Jacobian

    keeps_structure: ClassVar[bool] = True
    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """`(auxiliary results, (values, lookups, layouts))`."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        return aux, entries_of(rows)


def entries_of_jacobian(
    fun: Callable[..., Any], argnums: ArgNums, order: Orders = "auto"
) -> Callable[..., tuple[Any, Any, Static]]:
    """A function that JAX can trace, for the entries of a Jacobian as `entries_of` has them."""
    transform = Transform("sparse_jacobian", "Entries", fun, argnums, False, order)
    return transform(_entries("coo"))


def entries_of(rows: Grid) -> tuple[Any, Any, Static]:
    """The values of a grid's entries, the lookups that are not constants, and the layouts."""
    parts = [[layout_of(block) for block in row] for row in rows]
    lookups = [[arrays for _, arrays in row] for row in parts]
    layouts = tuple(tuple(layout for layout, _ in row) for row in parts)
    return values(rows), lookups, Static(layouts)


def parts_of(lookups: Any, layouts: Static) -> Parts:
    """The layouts of a grid's blocks, each with the lookups that are not constants."""
    return [
        [(layout, arrays) for layout, arrays in zip(row, own, strict=True)]
        for row, own in zip(layouts.value, lookups, strict=True)
    ]


@dataclass(frozen=True)
class Static:
    """Something static among the results of a program."""

    value: Any


jax.tree_util.register_pytree_node(
    Static, lambda static: ((), static.value), lambda value, _: Static(value)
)


def check_format(format: Any) -> None:
    """Raise unless a format is one of those that exist."""
    if format not in FORMATS:
        raise FormatError(
            f"format must be one of {', '.join(map(repr, FORMATS))}, but is {format!r}"
        )


def matrix_of_entries(
    name: str, format: Format, triangle: str | None, answer: Any, arguments: Any
) -> Any:
    """The matrix that a transform promises.

    Args:
        name: of the transform, for messages.
        format: of the matrix.
        triangle: as in `sparse_hessian`.
        answer: what `entries_of` gives; for a format of JAX the Blocks.
        arguments: of the user's function.
    """
    if format in JAX_FORMATS:
        return JAX_FORMATS[format](answer, triangle)
    if is_traced((arguments, answer)):
        raise BlockTypeError(
            f"{name} with format={format!r} gives an array of scipy or NumPy, and cannot be traced "
            "by JAX (jit, vmap, grad): use format='bcoo' there"
        )
    numbers, lookups, layouts = answer
    grid = parts_of(lookups, layouts)
    matrix = prototype(grid, "csr" if format == "dense" else format, triangle).filled(numbers)
    return matrix.toarray() if format == "dense" else matrix
