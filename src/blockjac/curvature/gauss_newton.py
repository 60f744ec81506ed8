"""Gauss-Newton matrices: `J' H J` kept in its three factors until someone multiplies.

`J` is the Jacobian of a model's outputs by its parameters and `H` the second derivative of the loss
by the outputs. For a layer `X W` the block of `J` is `X[n,i] B[n,c,h]`, the Khatri-Rao product of
inputs and backpropagated outputs, and is never multiplied out: products with vectors, diagonals and
damped solutions come from the factors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from blockjac.algebra.dense import dense
from blockjac.algebra.star import star_along
from blockjac.base.arrays import Shape
from blockjac.base.compat import Tracer, is_traced
from blockjac.blocks import Block, BlockMatrix, add, star, tree_vectors
from blockjac.blocks.factorization import Assume
from blockjac.blocks.grids import Rows, mirrored
from blockjac.errors import BlockShapeError
from blockjac.transforms.traced_once import Function

Middle = Callable[[Function, Any, Any], BlockMatrix]
"""From the loss, the targets and the outputs to the matrix between `J'` and `J`."""


class GaussNewton(BlockMatrix):
    """The matrix `J' H J` of a model and a loss, in its factors.

    It is a `BlockMatrix` whose blocks (`rows`, indexing, `dense()`, `to_scipy()`) are multiplied
    when they are first asked for, one of each pair of mirror images. `matvec`, `diagonal` and
    `solve` with damping need none of them.

    Where there are more parameters than outputs, `solve` with damping works in the space of the
    outputs, and the matrix of the parameters is never formed; otherwise, and without damping,
    densely. A damping that is traced (an argument of `jit`) is taken to be positive.

    Attributes:
        jacobian: `J`, the model's outputs by the parameters, a `BlockMatrix`.
        inner: `H`, of the outputs by the outputs, a symmetric `BlockMatrix`.

    Raises:
        BlockShapeError: if the shapes of the two do not fit.
    """

    def __init__(self, jacobian: BlockMatrix, inner: BlockMatrix) -> None:
        if inner.out_shapes != jacobian.out_shapes or inner.wrt_shapes != jacobian.out_shapes:
            raise BlockShapeError(
                f"J' H J needs H of the outputs {jacobian.out_shapes} twice, but found one of "
                f"{inner.out_shapes} by {inner.wrt_shapes}"
            )
        self._hold(jacobian, inner)

    def _hold(self, jacobian: BlockMatrix, inner: BlockMatrix) -> None:
        """Take the factors as they are, with the shapes and the tree that follow from them."""
        self.jacobian, self.inner = jacobian, inner
        self.out_shapes = self.wrt_shapes = jacobian.wrt_shapes
        self.out_tree = self.wrt_tree = jacobian.wrt_tree
        self.dtype = jacobian.dtype
        self.is_mirrored = True
        self._multiplied: Rows | None = None

    @property
    def rows(self) -> Rows:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks, multiplied; kept, but for those that belong to a trace."""
        if self._multiplied is not None:
            return self._multiplied
        upper = cast("list[list[Block]]", _upper_half(self.jacobian, self.inner))
        rows = tuple(map(tuple, mirrored(upper)))
        if not is_traced(upper):
            self._multiplied = rows
        return rows

    @property
    def is_multiplied(self) -> bool:
        """Whether the blocks are there already."""
        return self._multiplied is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return self.jacobian.nbytes + self.inner.nbytes

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        return max(self.jacobian.batch_shape, self.inner.batch_shape, key=len)

    def _applied(self, tangent: Any) -> Any:
        return cast("Any", _product)(self.jacobian, self.inner, tangent)

    def _diagonals(self) -> list[jax.Array]:
        return cast("Any", _diagonals)(self.jacobian, self.inner)

    def _solved(self, right: Any, damping: Any, assume: Assume) -> Any:
        outputs, parameters = self.jacobian.shape
        undamped = not isinstance(damping, Tracer) and damping == 0
        if undamped or outputs >= parameters:
            return super()._solved(right, damping, assume)
        return cast("Any", _solved_by_outputs)(self, right, damping)

    def __repr__(self) -> str:
        factors = (
            " | ".join(", ".join(block.structure for block in row) for row in matrix.rows)
            for matrix in (self.jacobian, self.inner)
        )
        return "GaussNewton(J=[{}], H=[{}])".format(*factors)


# The products, each one compiled program


@jax.jit
def _upper_half(jacobian: BlockMatrix, inner: BlockMatrix) -> list[list[Block]]:
    """The blocks of `J' H J` on and above the diagonal."""
    left = list(zip(*jacobian.rows, strict=True))
    right = list(zip(*(inner @ jacobian).rows, strict=True))
    return [
        [
            functools.reduce(
                add, (star(a.T, b) for a, b in zip(left_column, right_column, strict=True))
            )
            for right_column in right[index:]
        ]
        for index, left_column in enumerate(left)
    ]


@jax.jit
def _product(jacobian: BlockMatrix, inner: BlockMatrix, tangent: Any) -> Any:
    return jacobian.T.matvec(inner.matvec(jacobian.matvec(tangent)))


@jax.jit
def _diagonals(jacobian: BlockMatrix, inner: BlockMatrix) -> list[jax.Array]:
    """The diagonals of the blocks on the diagonal, of which no other entry is computed."""
    left = zip(*jacobian.rows, strict=True)
    right = zip(*(inner @ jacobian).rows, strict=True)
    parts: list[jax.Array] = []
    for shape, left_column, right_column in zip(jacobian.wrt_shapes, left, right, strict=True):
        pairs = [(axis, axis) for axis in range(len(shape))]
        products = (
            star_along(a.T, b, pairs) for a, b in zip(left_column, right_column, strict=True)
        )
        parts.append(dense(functools.reduce(add, products)))
    return parts


@jax.jit
def _solved_by_outputs(matrix: GaussNewton, right: Any, damping: Any) -> Any:
    """The damped solution by systems of the size of the outputs; see `_by_outputs`.

    Its derivative is that of the equation, not of the way to the solution.
    """
    flat = tree_vectors.flat(right).astype(matrix.dtype)
    damping = jnp.asarray(damping, matrix.dtype)
    solve = _by_outputs(*jax.lax.stop_gradient((matrix, damping)))

    def damped(vector: jax.Array) -> jax.Array:
        return matrix.flat_matvec(vector) + damping * vector

    def solve_damped(_: Any, y: jax.Array) -> jax.Array:
        return solve(y)

    solution = jax.lax.custom_linear_solve(damped, flat, solve_damped, symmetric=True)
    return tree_vectors.tree(solution, matrix.wrt_shapes, matrix.wrt_tree)


def _by_outputs(matrix: GaussNewton, damping: Any) -> Callable[[jax.Array], jax.Array]:
    """Solves `(J' H J + damping) x = y` with `Q = J' R^-1`, an orthonormal basis of what J' gives.

    With `J J' = R' R` it is `x = Q (R H R' + damping)^-1 Q' y + (y - Q Q' y) / damping`. The more
    usual `x = (y - J' (damping + H J J')^-1 H J y) / damping` is equal and shorter, but takes the
    difference of two nearly equal vectors where y is a gradient, and squares the condition number.
    Where J' is not of full rank, Q is a little short of a basis. So y is projected twice: what the
    first time has left is then projected again, and the two parts add up to y.
    """
    J, H = matrix.jacobian, matrix.inner.dense()
    gram = (J @ J.T).dense()
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    precision = cast("Any", jnp.finfo(gram.dtype))
    largest = jnp.max(cast("jax.Array", jnp.diagonal(gram)), initial=0)
    shift = len(gram) * precision.eps * largest + precision.tiny
    L = cast("jax.Array", jnp.linalg.cholesky(gram + shift * identity))
    system = L.T @ H @ L + damping * identity

    def coordinates(y: jax.Array) -> jax.Array:
        return solve_triangular(L, J.flat_matvec(y), lower=True)

    def spanned(c: jax.Array) -> jax.Array:
        return J.flat_vecmat(solve_triangular(L, c, lower=True, trans=1))

    def solve(y: jax.Array) -> jax.Array:
        first = coordinates(y)
        rest = y - spanned(first)
        second = coordinates(rest)
        inside = cast("jax.Array", jnp.linalg.solve(system, first + second))
        return spanned(inside) + (rest - spanned(second)) / damping

    return solve


def _flatten(matrix: GaussNewton) -> tuple[tuple[BlockMatrix, BlockMatrix], None]:
    return (matrix.jacobian, matrix.inner), None


def _unflatten(_: None, parts: Sequence[Any]) -> GaussNewton:
    """The matrix from its factors, without the checks of the constructor."""
    matrix = object.__new__(GaussNewton)
    jacobian, inner = parts
    if isinstance(jacobian, BlockMatrix):
        matrix._hold(jacobian, inner)  # pyright: ignore[reportPrivateUsage]
    else:  # JAX also rebuilds trees of placeholders
        matrix.jacobian, matrix.inner = jacobian, inner
    return matrix


jax.tree_util.register_pytree_node(GaussNewton, _flatten, _unflatten)
