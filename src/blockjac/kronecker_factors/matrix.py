"""Approximations of a Gauss-Newton matrix that keep one structured block for each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.blocks import Block, BlockMatrix
from blockjac.blocks.grids import Rows
from blockjac.blocks.systems import solver_of
from blockjac.curvature.gauss_newton import GaussNewton
from blockjac.kronecker_factors.of_parameter import Corrected, Pair
from blockjac.linear_systems.batched import Grouped
from blockjac.linear_systems.solver import Solver

Part = Pair | Corrected | GaussNewton
"""What is kept of one parameter."""


class KroneckerFactored(BlockMatrix):
    """An approximation of a Gauss-Newton matrix: one block a parameter, in two Kronecker factors.

    It is a `BlockMatrix`, zero off the diagonal. `solve` takes each parameter by itself, with two
    factors by the eigenvectors of both: exactly, at the cost of two small matrices.

    Attributes:
        parts: for each parameter a `Pair` of factors, from `blockjac.ekfac` with their eigenvectors
            and corrected eigenvalues; or the exact block as a `GaussNewton`, of a parameter such as
            a bias or a scale, where one of two factors would be a number.
    """

    def __init__(self, parts: Sequence[Part], tree: Any) -> None:
        self._hold(parts, tree)

    def _hold(self, parts: Sequence[Part], tree: Any) -> None:
        """Set the attributes; both constructors do."""
        self.parts = tuple(parts)
        shapes = [
            part.wrt_shapes[0] if isinstance(part, GaussNewton) else part.shape for part in parts
        ]
        self.out_shapes = self.wrt_shapes = tuple(shapes)
        self.out_tree = self.wrt_tree = tree
        self.dtype = jnp.result_type(*(part.dtype for part in parts))
        self.is_mirrored = True

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        return max((_batch_shape(part) for part in self.parts), key=len)

    @property
    def rows(self) -> Rows:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks; those off the diagonal are zero."""
        shapes = self.out_shapes
        return tuple(
            tuple(
                _block(part, len(self.batch_shape))
                if row == column
                else Block.zeros(shapes[row], shape, self.dtype)
                for column, shape in enumerate(shapes)
            )
            for row, part in enumerate(self.parts)
        )

    def _applied(self, tangent: Any) -> Any:
        pairs = zip(self.parts, jax.tree.leaves(tangent), strict=True)
        return jax.tree.unflatten(self.out_tree, [_product(part, leaf) for part, leaf in pairs])

    def _diagonals(self) -> list[jax.Array]:
        """The diagonal of each part."""
        return [
            jax.tree.leaves(part.diagonal())[0]
            if isinstance(part, GaussNewton)
            else part.diagonal()
            for part in self.parts
        ]

    def own_solver(self, damping: Any, assume: Any) -> Solver:
        """One solver for each parameter; two factors are solved by their eigenvectors."""
        shift = jnp.zeros((), self.dtype) if damping is None else damping
        is_damped = damping is not None
        solvers = [
            solver_of(part, shift, assume=assume, is_damped=is_damped).solver
            if isinstance(part, GaussNewton)
            else part.solver(shift)
            for part in self.parts
        ]
        if len(solvers) == 1:
            return solvers[0]
        groups = tuple((number,) for number in range(len(solvers)))
        return Grouped(solvers, self.wrt_shapes, groups)

    def __repr__(self) -> str:
        kinds = ["exact" if isinstance(part, GaussNewton) else part.kind for part in self.parts]
        return f"KroneckerFactored({', '.join(kinds)})"


def _batch_shape(part: Part) -> Shape:
    if isinstance(part, GaussNewton):
        return part.batch_shape
    if isinstance(part, Pair):
        return max(part.left.batch_shape, part.right.batch_shape, key=len)
    return tuple(part.eigen.values.shape[:-3])


def _block(part: Part, batches: int) -> Block:
    """The block of a part, multiplied; over batches where it has some axes of them."""
    if isinstance(part, GaussNewton):
        return part.rows[0][0]
    if isinstance(part, Pair):
        return part.block
    return jax.vmap(partial(_block, batches=batches - 1))(part) if batches else part.block


def _product(part: Part, leaf: jax.Array) -> jax.Array:
    """A part times an array of its parameter's shape."""
    if not isinstance(part, GaussNewton):
        return part.matvec(leaf)
    tangent = jax.tree.unflatten(part.wrt_tree, [leaf])
    return cast("jax.Array", jax.tree.leaves(part.matvec(tangent))[0])


def _unflatten(tree: Any, parts: Sequence[Any]) -> KroneckerFactored:
    """The matrix from its parts, or from what JAX puts in their place."""
    matrix = object.__new__(KroneckerFactored)
    if all(isinstance(part, Part) for part in parts):
        matrix._hold(parts, tree)  # pyright: ignore[reportPrivateUsage]
    else:  # JAX also rebuilds trees of placeholders
        matrix.parts, matrix.wrt_tree = tuple(parts), tree
    return matrix


jax.tree_util.register_pytree_node(
    KroneckerFactored, lambda matrix: (matrix.parts, matrix.wrt_tree), _unflatten
)
