"""Gauss-Newton matrices: `J' H J` kept in its three factors until someone multiplies.

`J` is the Jacobian of a model's outputs by its parameters and `H` the second derivative of the loss
by the outputs. For a layer `X W` the block of `J` is `X[n,i] B[n,c,h]`, the Khatri-Rao product of
inputs and backpropagated outputs, and is never multiplied out: products with vectors, diagonals and
damped solutions come from the factors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from blockjac.algebra.dense import dense
from blockjac.algebra.star import star_along
from blockjac.base.compat import Tracer, is_traced
from blockjac.blocks import Block, BlockMatrix, add, star, tree_vectors
from blockjac.blocks.block_matrix import Rows, Shape, mirrored
from blockjac.engine.arguments import ArgNums, check_callable, check_inputs
from blockjac.engine.auxiliary import Auxiliary, value_and_aux
from blockjac.engine.leaves import TRACED
from blockjac.engine.run import compiled
from blockjac.errors import BlockShapeError, DifferentiationTypeError, NonScalarLossError
from blockjac.graph.trace import named_as
from blockjac.planning import check_order
from blockjac.transforms.first_order import block_jacobian
from blockjac.transforms.hessians import block_hessian
from blockjac.transforms.shell import Function, Orders, documented

Middle = Callable[[Function, Any, Any], BlockMatrix]
"""From the loss, the targets and the outputs to what stands between `J'` and `J`."""


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
        upper = _upper_half(self.jacobian, self.inner)
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
        return _product(self.jacobian, self.inner, tangent)

    def _diagonals(self) -> list[jax.Array]:
        return _diagonals(self.jacobian, self.inner)

    def _solved(self, right: Any, damping: Any) -> Any:
        outputs, parameters = self.jacobian.shape
        undamped = not isinstance(damping, Tracer) and damping == 0
        if undamped or outputs >= parameters:
            return super()._solved(right, damping)
        return _solved_by_outputs(self, right, damping)

    def __repr__(self) -> str:
        factors = (
            " | ".join(", ".join(block.structure for block in row) for row in matrix.rows)
            for matrix in (self.jacobian, self.inner)
        )
        return "GaussNewton(J=[{}], H=[{}])".format(*factors)


def ggn(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    order: Orders = "auto",
) -> Callable[..., Any]:
    """The generalised Gauss-Newton matrix of a loss of a model's outputs.

    It is the Hessian of the loss without the second derivatives of the model: `J' H J` with `J` the
    Jacobian of the outputs and `H` the Hessian of the loss by the outputs.

    Args:
        model: `model(params, X)` gives the outputs, an array or a tree of arrays.
        loss: `loss(Y, outputs)` gives a real number; the targets come first.
        argnums: which arguments of the model to differentiate by.
        has_aux: whether `model` returns `(outputs, aux)`; the answer is then `(matrix, aux)`.
        order: of the model's elimination, as in `blockjac.jacobian`.

    Returns:
        A function `(params, X, Y)`: the model's arguments and then the targets. It gives a
        `GaussNewton`, a `BlockMatrix` over the leaves of the parameters.

    Raises:
        TypeError: for a loss that is no real number, for integer and complex parameters or outputs,
            and for fewer than two arguments.
        ValueError: for `argnums` that do not fit.

    Source:
        Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
        Neural Computation 14 (2002).

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> model = lambda W, X: jnp.tanh(X @ W)
        >>> loss = lambda Y, Q: 0.5 * jnp.sum((Q - Y) ** 2)
        >>> W, X, Y = jnp.ones((3, 2)), jnp.ones((5, 3)), jnp.zeros((5, 2))
        >>> matrix = blockjac.ggn(model, loss)(W, X, Y)
        >>> matrix
        GaussNewton(J=[δ[j,j'] A[i,j] X[i,k]], H=[δ[i,i'] δ[j,j']])
        >>> matrix.dense().shape, matrix.solve(jnp.ones((3, 2)), damping=0.1).shape
        ((6, 6), (3, 2))
    """
    name, what = "ggn", "Gauss-Newton matrix"
    return of_model(model, loss, argnums, has_aux, order, name, what, loss_hessian)


def loss_hessian(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    """The Hessian of the loss by the outputs."""
    return block_hessian(loss, argnums=1)(targets, outputs)


def of_model(
    model: Function,
    loss: Function,
    argnums: ArgNums,
    has_aux: bool,
    order: Orders,
    name: str,
    what: str,
    middle: Middle,
) -> Callable[..., Any]:
    """The transform to `J' H J` of a model's Jacobian and something in the middle.

    Args:
        model: as in `ggn`.
        loss: as in `ggn`.
        argnums: as in `ggn`.
        has_aux: as in `ggn`.
        order: as in `ggn`.
        name: of the transform.
        what: it gives.
        middle: gives H.
    """
    check_order(order)
    check_callable(model, name)
    check_callable(loss, name)

    def both(*args: Any) -> tuple[Any, Any]:
        """The outputs twice: to be differentiated, and as values beside the auxiliary result."""
        result = model(*args)
        outputs, aux = value_and_aux(result) if has_aux else (result, None)
        return outputs, (outputs, aux)

    def matrix_of(*args: Any) -> tuple[GaussNewton, Auxiliary]:
        *given, targets = args
        differentiated = block_jacobian(named_as(model, both), argnums, True, order=order)
        blocks, (outputs, aux) = differentiated(*given)
        _check_loss(loss, targets, outputs, name)
        matrix = GaussNewton(_as_matrix(blocks, outputs), middle(loss, targets, outputs))
        return matrix, Auxiliary.of(aux)

    def of_arguments(*args: Any) -> Any:
        if len(args) < 2:
            raise DifferentiationTypeError(
                f"{name} takes the arguments of the model and then the targets, as in "
                f"(params, X, Y), but was called with {len(args)}"
            )
        check_inputs(name, model, argnums, args[:-1])
        matrix, aux = compiled_but_static(matrix_of, args)
        return (matrix, aux.tree()) if has_aux else matrix

    return documented(of_arguments, model, what, argnums)


def compiled_but_static(function: Function, args: Sequence[Any]) -> Any:
    """Run a function compiled; arguments that are ints, bools, texts stay Python values."""
    leaves, tree = jax.tree.flatten(tuple(args))
    moves = [isinstance(leaf, TRACED) for leaf in leaves]

    def of_arrays(*arrays: Any) -> Any:
        given = iter(arrays)
        full = [next(given) if own else leaf for leaf, own in zip(leaves, moves, strict=True)]
        return function(*jax.tree.unflatten(tree, full))

    return compiled(of_arrays)(*(leaf for leaf, own in zip(leaves, moves, strict=True) if own))


def _check_loss(loss: Function, targets: Any, outputs: Any, name: str) -> None:
    """Raise unless the loss of these outputs is one real number."""
    found = jax.eval_shape(lambda values: loss(targets, values), outputs)
    leaves = jax.tree.leaves(found)
    if len(leaves) != 1 or leaves[0].shape or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise NonScalarLossError(
            f"{name} needs a loss(Y, outputs) that gives one real number, but it gives {found}; "
            "take the sum or the mean over the examples"
        )


def _as_matrix(blocks: Any, outputs: Any) -> BlockMatrix:
    """The tree of a `block_jacobian` as a grid."""
    out_tree = jax.tree.structure(outputs)
    rows = out_tree.flatten_up_to(blocks)
    if not rows:
        raise DifferentiationTypeError("the model has no outputs: it returned a tree of no arrays")
    wrt_tree = jax.tree.structure(rows[0], is_leaf=_is_block)
    return BlockMatrix(
        [jax.tree.leaves(row, is_leaf=_is_block) for row in rows], out_tree, wrt_tree
    )


def _is_block(node: Any) -> bool:
    return isinstance(node, Block)


# The products, each one compiled program


@jax.jit
def _upper_half(jacobian: BlockMatrix, inner: BlockMatrix) -> list[list[Block]]:
    """The blocks of `J' H J` on and above the diagonal."""
    left = list(zip(*jacobian.rows, strict=True))
    right = list(zip(*(inner @ jacobian).rows, strict=True))
    return [
        [
            functools.reduce(add, (star(a.T, b) for a, b in zip(one, other, strict=True)))
            for other in right[place:]
        ]
        for place, one in enumerate(left)
    ]


@jax.jit
def _product(jacobian: BlockMatrix, inner: BlockMatrix, tangent: Any) -> Any:
    return jacobian.T.matvec(inner.matvec(jacobian.matvec(tangent)))


@jax.jit
def _diagonals(jacobian: BlockMatrix, inner: BlockMatrix) -> list[jax.Array]:
    """The diagonals of the blocks on the diagonal, of which no other entry is computed."""
    left = zip(*jacobian.rows, strict=True)
    right = zip(*(inner @ jacobian).rows, strict=True)
    parts = []
    for shape, one, other in zip(jacobian.wrt_shapes, left, right, strict=True):
        pairs = [(axis, axis) for axis in range(len(shape))]
        products = (star_along(a.T, b, pairs) for a, b in zip(one, other, strict=True))
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
    solution = jax.lax.custom_linear_solve(
        lambda x: matrix.flat_matvec(x) + damping * x, flat, lambda _, y: solve(y), symmetric=True
    )
    return tree_vectors.tree(solution, matrix.wrt_shapes, matrix.wrt_tree)


def _by_outputs(matrix: GaussNewton, damping: Any) -> Callable[[jax.Array], jax.Array]:
    """Solves `(J' H J + damping) x = y` with `Q = J' R^-1`, an orthonormal basis of what J' gives.

    With `J J' = R' R` it is `x = Q (R H R' + damping)^-1 Q' y + (y - Q Q' y) / damping`. The more
    usual `x = (y - J' (damping + H J J')^-1 H J y) / damping` is equal and shorter, but takes the
    difference of two nearly equal vectors where y is a gradient, and squares the condition number.
    Where J' is not of full rank, Q is a little short of a basis. So y is projected twice: what the
    first time has left is then again told apart, and the two parts add up to y.
    """
    J, H = matrix.jacobian, matrix.inner.dense()
    gram = (J @ J.T).dense()
    one, precision = jnp.eye(len(gram), dtype=gram.dtype), jnp.finfo(gram.dtype)
    shift = len(gram) * precision.eps * jnp.max(jnp.diagonal(gram), initial=0) + precision.tiny
    L = jnp.linalg.cholesky(gram + shift * one)
    system = L.T @ H @ L + damping * one

    def coordinates(y: jax.Array) -> jax.Array:
        return solve_triangular(L, J.flat_matvec(y), lower=True)

    def spanned(c: jax.Array) -> jax.Array:
        return J.flat_vecmat(solve_triangular(L, c, lower=True, trans=1))

    def solve(y: jax.Array) -> jax.Array:
        first = coordinates(y)
        rest = y - spanned(first)
        second = coordinates(rest)
        inside = jnp.linalg.solve(system, first + second)
        return spanned(inside) + (rest - spanned(second)) / damping

    return solve


def _flatten(matrix: GaussNewton) -> tuple[tuple[BlockMatrix, BlockMatrix], None]:
    return (matrix.jacobian, matrix.inner), None


def _unflatten(_: None, parts: Sequence[Any]) -> GaussNewton:
    """The matrix from its factors, without the checks of the constructor."""
    matrix = object.__new__(GaussNewton)
    jacobian, inner = parts
    if isinstance(jacobian, BlockMatrix):
        matrix._hold(jacobian, inner)
    else:  # JAX also rebuilds trees of placeholders
        matrix.jacobian, matrix.inner = jacobian, inner
    return matrix


jax.tree_util.register_pytree_node(GaussNewton, _flatten, _unflatten)
