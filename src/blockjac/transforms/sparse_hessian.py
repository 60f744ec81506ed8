"""Sparse Hessians in one call: whole, or the triangle that solvers for optimization take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from blockjac.blocks.grids import mirrored
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.chunk_sizes import check_dense
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.errors import BlockTypeError, InvalidOptionError
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.terms.block import Block
from blockjac.transforms.first_order import grad
from blockjac.transforms.shell import Ask, Asked, P, Transform, as_found
from blockjac.transforms.sparse import (
    JAX_FORMATS,
    Format,
    Static,
    check_format,
    entries_of,
    matrix_of_entries,
)
from blockjac.transforms.traced_once import Orders

Triangle = Literal["lower", "upper"]
"""Of a symmetric matrix; the diagonal belongs to both."""


def sparse_hessian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    format: Format = "csr",
    triangle: Triangle | None = None,
    order: Orders = "auto",
    require_structure: bool = False,
) -> Callable[P, Any]:
    """The Hessian of a function with one number as its result, as one sparse matrix.

    No pattern is given, detected or coloured. The places depend on the shapes alone, so that a
    solver can be told them once; later calls compute the values only, in one compiled program. For
    the Hessian of a Lagrangian make the multipliers arguments: they are numbers of the program, as
    in `lambda x, y, sigma: sigma * objective(x) + y @ constraints(x)`.

    Args:
        fun: any JAX function of real arrays and trees of them, with a result of shape ().
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns `(value, aux)`.
        format: as in `blockjac.sparse_jacobian`.
        triangle: "lower" or "upper" for one triangle with the diagonal, as IPOPT, OSQP and
            Cholesky factorizations take it; None for the whole matrix.
        order: of the elimination of the gradient's graph, as in `blockjac.jacobian`.
        require_structure: whether to raise where structure would be lost, as in
            `blockjac.block_jacobian`.

    Returns:
        A function of the same arguments that gives a matrix of shape `(inputs, inputs)`; inputs are
        flattened as `jax.flatten_util.ravel_pytree` does it. With `has_aux`, `(matrix, aux)`.

    Raises:
        TypeError: as `blockjac.sparse_jacobian`; if the result is not a real number; and for a
            triangle in a format of JAX where the places depend on values of the program.
        ValueError: as `blockjac.sparse_jacobian`; and for a triangle that does not exist.
        StructureLostError: with `require_structure`; names the equations, their lines, and what to
            do.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import blockjac
        >>> def rosenbrock(x):
        ...     return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        >>> H = blockjac.sparse_hessian(rosenbrock)(np.ones(1000))
        >>> H.shape, H.nnz
        ((1000, 1000), 2998)
        >>> blockjac.sparse_hessian(rosenbrock, format="coo", triangle="lower")(np.ones(1000)).nnz
        1999
    """
    check_format(format)
    check_triangle(triangle)
    transform = Transform(
        "sparse_hessian",
        "Sparse Hessian",
        fun,
        argnums,
        has_aux,
        order,
        derivative=grad,
        require_structure=require_structure,
        finish=partial(matrix_of_entries, "sparse_hessian", format, triangle),
    )
    return transform(_entries(format, triangle))


def check_triangle(triangle: Any) -> None:
    """Raise unless a triangle is one of those that exist, or None."""
    if triangle is not None and triangle not in get_args(Triangle):
        raise InvalidOptionError(
            f"triangle must be 'lower', 'upper' or None for the whole matrix, but is {triangle!r}"
        )


def entries_of_hessian(
    fun: Callable[..., Any], argnums: ArgNums, triangle: Triangle | None, order: Orders = "auto"
) -> Callable[..., tuple[Any, Any, Static]]:
    """A function that JAX can trace, for the entries of a Hessian as `entries_of` has them.

    Entries beyond a triangle are among them where they share a block with entries in it.
    """
    transform = Transform("sparse_hessian", "Entries", fun, argnums, False, order, derivative=grad)
    return transform(_entries("coo", triangle))


def _entries(format: Format, triangle: Triangle | None) -> Ask:
    """Asks a gradient for the entries of its Jacobian."""

    def asked(call: Call, order: Order) -> Asked:
        """The entries, of two blocks that are mirror images of one."""
        call.check_real_inputs()
        if not call.smooth:
            raise BlockTypeError(
                f"sparse_hessian gives a matrix, but {call.graph_name} has no inputs for its rows "
                "and columns; an array of size 0 is one"
            )
        if format == "dense":
            check_dense(call, None)
        blocks = Jacobian(
            call.count, call.smooth, order, dense=False, listed=True, symmetric=call.is_symmetric
        )
        return Entries(blocks, format, triangle), as_found

    return asked


@dataclass(frozen=True)
class Entries:
    """The entries of a Hessian: of two blocks that are mirror images one is computed.

    Attributes:
        jacobian: of the gradient.
        format: of the matrix.
        triangle: which triangle; None for both.
    """

    jacobian: Jacobian
    format: Format
    triangle: Triangle | None

    keeps_structure = True

    @property
    def takes_any_numbers(self) -> bool:
        """Whether the answer is arrays alone."""
        return self.format not in JAX_FORMATS

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results, and the entries, or for a format of JAX the Blocks."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        if self.jacobian.symmetric:
            rows = mirrored(rows)
        rows = [
            [self._wanted(block, i, j) for j, block in enumerate(row)] for i, row in enumerate(rows)
        ]
        return aux, rows if self.format in JAX_FORMATS else entries_of(rows)

    def _wanted(self, block: Block, row: int, column: int) -> Block:
        """A block; zero if it lies in the triangle that is not wanted."""
        beyond = {"lower": column > row, "upper": column < row}
        if self.triangle is None or not beyond[self.triangle]:
            return block
        return Block.zeros(block.out_shape, block.wrt_shape, block.dtype)
