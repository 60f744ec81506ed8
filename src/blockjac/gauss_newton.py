"""Gauss-Newton and Fisher matrices: `J' H J` kept in its three factors until someone multiplies.

`J` is the Jacobian of a model's outputs by its parameters and `H` the second derivative of the loss
by the outputs. For a layer `X W` the block of `J` is `X[n,i] B[n,c,h]`, the Khatri-Rao product of
inputs and backpropagated outputs, and is never multiplied out: products with vectors, diagonals and
damped solutions come from the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block, BlockMatrix, Factor, Index, Label, Term, add, star
from blockjac.blocks.block import as_array
from blockjac.blocks.dense import dense
from blockjac.blocks.star import star_along
from blockjac.call import ArgNums
from blockjac.curvature import block_hessian
from blockjac.errors import (
    ArgumentError,
    BlockShapeError,
    DifferentiationTypeError,
    InvalidOptionError,
)
from blockjac.per_example import batch_jacobian
from blockjac.planner import Order, Plan, check_order
from blockjac.program import compiled
from blockjac.trace import named_as
from blockjac.transforms import block_jacobian, check_callable, documented, grad

Function = Callable[..., Any]
Orders = Order | Plan | Sequence[int]


class GaussNewton(BlockMatrix):
    """The matrix `J' H J` of a model and a loss, in its factors.

    It is a `BlockMatrix` whose blocks (`rows`, indexing, `dense()`) are multiplied when they are
    first asked for, one of each pair of mirror images. `matvec`, `diagonal` and `solve` with
    damping need none of them.

    Attributes:
        jacobian: `J`, the model's outputs by the parameters, a `BlockMatrix`.
        inner: `H`, of the outputs by the outputs, a `BlockMatrix`.
    """

    def __init__(self, jacobian: BlockMatrix, inner: BlockMatrix) -> None:
        if inner.out_shapes != jacobian.out_shapes or inner.wrt_shapes != jacobian.out_shapes:
            raise BlockShapeError(
                f"J' H J needs H of the outputs {jacobian.out_shapes} twice, but found one of "
                f"{inner.out_shapes} by {inner.wrt_shapes}"
            )
        self.jacobian, self.inner = jacobian, inner
        self.out_shapes = self.wrt_shapes = jacobian.wrt_shapes
        self.out_tree = self.wrt_tree = jacobian.wrt_tree
        self.dtype = jacobian.dtype

    @cached_property
    def rows(self) -> tuple[tuple[Block, ...], ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks, multiplied."""
        return _rows(self.jacobian, self.inner)

    @property
    def T(self) -> BlockMatrix:
        """The transpose, which for a symmetric H is the matrix itself."""
        return GaussNewton(self.jacobian, self.inner.T)

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return self.jacobian.nbytes + self.inner.nbytes

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        return max(self.jacobian.batch_shape, self.inner.batch_shape, key=len)

    def matvec(self, tangent: Any) -> Any:
        """`J' (H (J v))` for a tree like the parameters; no block is multiplied.

        Raises:
            BlockShapeError: if the tree or a shape differs.
        """
        return _matvec(self.jacobian, self.inner, tangent)

    def diagonal(self) -> Any:
        """The diagonal as a tree like the parameters; no block is multiplied."""
        return _diagonal(self.jacobian, self.inner)

    def solve(self, right: Any, damping: float = 0.0) -> Any:
        """Solve `(J' H J + damping * I) x = right`.

        Where there are more parameters than outputs and damping, the system is solved in the space
        of the outputs, `x = (right - J' (damping + H J J')^-1 H J right) / damping`, and the matrix
        of the parameters is never formed; otherwise densely.

        Args:
            right: a tree like the parameters.
            damping: added to the diagonal, not negative.

        Raises:
            BlockShapeError: if the tree or a shape differs.
            InvalidOptionError: for a damping below 0.
        """
        if isinstance(damping, int | float) and damping < 0:
            raise InvalidOptionError(f"damping must not be negative, but is {damping}")
        outputs, parameters = self.jacobian.shape
        damped = not isinstance(damping, int | float) or damping > 0
        if self.batch_shape or not damped or outputs >= parameters:
            return super().solve(right, damping)
        self.check_tree(right, "solve")
        return _solved_by_outputs(self.jacobian, self.inner, right, damping)

    def __repr__(self) -> str:
        row = [block.structure for block in self.jacobian.rows[0]]
        return f"GaussNewton(J=[{', '.join(row)}], H=[{self.inner.rows[0][0].structure}])"


def ggn(
    model: Function, loss: Function, argnums: ArgNums = 0, *, order: Orders = "auto"
) -> Callable[..., GaussNewton]:
    """The generalised Gauss-Newton matrix of a loss of a model's outputs.

    It is the Hessian of the loss without the second derivatives of the model: `J' H J` with `J` the
    Jacobian of the outputs and `H` the Hessian of the loss by the outputs.

    Args:
        model: `model(params, X)` gives the outputs, an array or a tree of arrays.
        loss: `loss(Y, outputs)` gives a real number; the targets come first.
        argnums: which arguments of the model to differentiate by.
        order: of the model's elimination, as in `blockjac.jacobian`.

    Returns:
        A function `(params, X, Y)`: the model's arguments and then the targets. It gives a
        `GaussNewton`, a `BlockMatrix` over the leaves of the parameters.

    Raises:
        TypeError: for a loss that is no number, and for integer and complex parameters or outputs.
        ValueError: for `argnums` that do not fit.

    Source:
        Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
        Neural Computation 14 (2002).

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> model = lambda W, X: jnp.tanh(X @ W)
        >>> loss = lambda Y, Q: 0.5 * jnp.sum((Q - Y) ** 2)
        >>> W, X, Y = jnp.ones((3, 2)), jnp.ones((5, 3)), jnp.zeros((5, 2))
        >>> matrix = blockjac.ggn(model, loss)(W, X, Y)
        >>> matrix.dense().shape, matrix.solve(jnp.ones((3, 2)), damping=0.1).shape
        ((6, 6), (3, 2))
    """
    return _of_model(model, loss, argnums, order, "ggn", "Gauss-Newton matrix", _loss_hessian)


def fisher(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    *,
    kind: str = "exact",
    mean: Function | None = None,
    order: Orders = "auto",
) -> Callable[..., GaussNewton]:
    """The Fisher matrix of a model whose loss is a negative log-likelihood.

    Exact, it is `J' F J` where `F` is the expectation, over targets drawn from the model itself, of
    the loss's Hessian by the outputs. Where that Hessian does not depend on the targets, as for
    squares, it is the Gauss-Newton matrix. Where it does, as for cross-entropy with rows of class
    probabilities, it is affine in them for every exponential family, and the expectation is the
    Hessian at the expected target: give it as `mean`. For class numbers as targets, integers `(N,)`
    with outputs `(N, classes)`, the expectation is summed class by class.

    Empirical, it is the sum of the outer products of the examples' gradients at the given targets,
    weighted as the loss weighs the examples (by 1/N for a mean).

    Args:
        model: `model(params, X)` gives the outputs, examples on their first axis.
        loss: `loss(Y, outputs)` gives a real number, a sum or mean over the examples.
        argnums: which arguments of the model to differentiate by.
        kind: "exact" or "empirical".
        mean: the expected target, from the outputs; such as `jax.nn.softmax` for one-hot rows.
        order: as in `ggn`.

    Returns:
        A function of `(params, X, Y)` that gives a `GaussNewton`. For "exact" the values of `Y` do
        not matter.

    Raises:
        ValueError: for another kind; and for "exact" without `mean` where the loss's Hessian
            depends on the targets.
        TypeError: as `ggn`.

    Source:
        Martens, "New insights and perspectives on the natural gradient method", JMLR 21 (2020);
        Kunstner, Balles and Hennig, "Limitations of the empirical Fisher approximation", 2019.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> loss = lambda Y, Z: -jnp.sum(Y * jax.nn.log_softmax(Z))
        >>> matrix = blockjac.fisher(lambda W, X: X @ W, loss, mean=jax.nn.softmax)
        >>> matrix(jnp.zeros((3, 2)), jnp.ones((4, 3)), jnp.zeros((4, 2))).dense()[0, :2]
        Array([ 1., -1.], dtype=float32)
    """
    if kind not in ("exact", "empirical"):
        raise InvalidOptionError(f"kind must be 'exact' or 'empirical', but is {kind!r}")
    inner = partial(_expected_hessian, mean=mean) if kind == "exact" else _outer_gradients
    return _of_model(model, loss, argnums, order, "fisher", f"Fisher matrix ({kind})", inner)


# What stands in the middle


def _loss_hessian(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    return block_hessian(loss, argnums=1)(targets, outputs)


def _expected_hessian(
    loss: Function, targets: Any, outputs: Any, mean: Function | None
) -> BlockMatrix:
    if mean is not None:
        return _loss_hessian(loss, mean(outputs), outputs)
    if _are_classes(targets, outputs):
        return _expected_over_classes(loss, targets, outputs)
    if _depends_on_targets(loss, targets, outputs):
        raise ArgumentError(
            "the Hessian of this loss by the outputs depends on the targets, so that the exact "
            "Fisher matrix needs their expectation under the model: give it as mean=, such as "
            "mean=jax.nn.softmax for cross-entropy with one-hot rows; or use kind='empirical', or "
            "blockjac.ggn, which takes the given targets"
        )
    return _loss_hessian(loss, targets, outputs)


def _are_classes(targets: Any, outputs: Any) -> bool:
    """Whether the targets are one class number an example, and the outputs one number a class."""
    target, output = (jax.tree.leaves(tree) for tree in (targets, outputs))
    if len(target) != 1 or len(output) != 1:
        return False
    return jnp.issubdtype(jnp.result_type(target[0]), jnp.integer) and (
        np.shape(target[0]) == np.shape(output[0])[:-1] and np.ndim(output[0]) == 2
    )


def _expected_over_classes(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    """The Hessian's expectation over class numbers, of probability `exp(-loss)` normalised."""
    target, output = jnp.asarray(jax.tree.leaves(targets)[0]), jax.tree.leaves(outputs)[0]
    tree = jax.tree.structure(outputs)
    classes = jnp.arange(output.shape[1], dtype=target.dtype)

    def of(numbers: Any, values: Any) -> Any:
        return loss(jax.tree.unflatten(jax.tree.structure(targets), [numbers]), values)

    def hessian(number: Any) -> Any:
        slope = grad(lambda values: of(jnp.full_like(target, number), values))
        return batch_jacobian(slope)(output)

    def single(number: Any, values: Any) -> Any:
        return of(number[None], values[None])

    likelihood = jax.vmap(jax.vmap(single, (0, None)), (None, 0))(classes, output)
    expected = jnp.einsum(
        "nc,cnij->nij", jax.nn.softmax(-likelihood, axis=1), jax.vmap(hessian)(classes)
    )
    n, i, j = map(Label, expected.shape)
    indices = tuple(map(Index.of, (n, i))), tuple(map(Index.of, (n, j)))
    term = Term((Factor(expected, (n, i, j), "F"),), *indices)
    block = Block(output.shape, output.shape, expected.dtype, (term,))
    return BlockMatrix([[block]], tree, tree)


def _depends_on_targets(loss: Function, targets: Any, outputs: Any) -> bool:
    """Whether the traced Hessian of the loss reads the targets."""
    shapes = jax.tree.map(_shape_of, (targets, outputs))
    traced = jax.make_jaxpr(partial(_loss_hessian, loss))(*shapes)
    jaxpr = traced.jaxpr
    read = set(jaxpr.invars[: len(jax.tree.leaves(targets))])
    for equation in jaxpr.eqns:
        if any(not hasattr(var, "val") and var in read for var in equation.invars):
            read.update(equation.outvars)
    return any(not hasattr(var, "val") and var in read for var in jaxpr.outvars)


def _shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf))


def _outer_gradients(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    """`sum over n of G[n] g[n]`: the gradients in the whole loss, and in that of one example."""
    whole = grad(loss, argnums=1)(targets, outputs)

    def alone(target: Any, output: Any) -> Any:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (target, output))
        gradient = grad(loss, argnums=1)(*one)
        return jax.tree.map(lambda leaf: leaf[0], gradient)

    _check_examples(targets, outputs)
    single = jax.vmap(alone)(targets, outputs)
    tree = jax.tree.structure(outputs)
    rows = [
        [_outer(left, right) for right in jax.tree.leaves(single)]
        for left in jax.tree.leaves(whole)
    ]
    return BlockMatrix(rows, tree, tree)


def _outer(left: Any, right: Any) -> Block:
    """`delta[n, n'] left[n, ...] right[n', ...]`."""
    n = Label(left.shape[0])
    rows, columns = (tuple(map(Label, array.shape[1:])) for array in (left, right))
    factors = Factor(left, (n, *rows), "G"), Factor(right, (n, *columns), "g")
    indices = [tuple(map(Index.of, (n, *labels))) for labels in (rows, columns)]
    return Block(left.shape, right.shape, left.dtype, (Term(factors, indices[0], indices[1]),))


def _check_examples(targets: Any, outputs: Any) -> None:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves((targets, outputs))]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise BlockShapeError(
            "the empirical Fisher matrix needs the examples on the first axis of targets and "
            f"outputs, but found shapes {shapes}"
        )


# Putting it together


def _of_model(
    model: Function,
    loss: Function,
    argnums: ArgNums,
    order: Orders,
    name: str,
    what: str,
    inner: Callable[[Function, Any, Any], BlockMatrix],
) -> Callable[..., GaussNewton]:
    check_order(order)
    check_callable(model, name)
    check_callable(loss, name)

    def both(*args: Any) -> tuple[Any, Any]:
        """The outputs twice: to be differentiated, and as values."""
        outputs = model(*args)
        return outputs, outputs

    def matrix_of(*args: Any) -> GaussNewton:
        if len(args) < 2:
            raise DifferentiationTypeError(
                f"{name} takes the arguments of the model and then the targets, as in "
                f"(params, X, Y), but was called with {len(args)}"
            )
        *given, targets = args
        differentiated = block_jacobian(named_as(model, both), argnums, True, order=order)
        blocks, outputs = differentiated(*given)
        jacobian = _as_matrix(blocks, outputs)
        return GaussNewton(jacobian, inner(loss, targets, outputs))

    return documented(compiled(matrix_of), model, what, argnums)


def _as_matrix(blocks: Any, outputs: Any) -> BlockMatrix:
    """The tree of a `block_jacobian` as a grid."""
    out_tree = jax.tree.structure(outputs)
    rows = out_tree.flatten_up_to(blocks)
    wrt_tree = jax.tree.structure(rows[0], is_leaf=_is_block)
    return BlockMatrix(
        [jax.tree.leaves(row, is_leaf=_is_block) for row in rows], out_tree, wrt_tree
    )


def _is_block(node: Any) -> bool:
    return isinstance(node, Block)


@jax.jit
def _rows(jacobian: BlockMatrix, inner: BlockMatrix) -> tuple[tuple[Block, ...], ...]:
    """All blocks of `J' H J`; those below the diagonal are transposes."""
    weighted = inner @ jacobian
    count = len(jacobian.wrt_shapes)
    made: dict[tuple[int, int], Block] = {}
    for i in range(count):
        left = [row[i].T for row in jacobian.rows]
        for j in range(i, count):
            made[i, j] = _summed(
                star(one, row[j]) for one, row in zip(left, weighted.rows, strict=True)
            )
    return tuple(
        tuple(made[i, j] if i <= j else made[j, i].T for j in range(count)) for i in range(count)
    )


def _summed(blocks: Any) -> Block:
    total: Block | None = None
    for block in blocks:
        total = block if total is None else add(total, block)
    if total is None:
        raise BlockShapeError("the model has no output")
    return total


@jax.jit
def _matvec(jacobian: BlockMatrix, inner: BlockMatrix, tangent: Any) -> Any:
    return jacobian.T.matvec(inner.matvec(jacobian.matvec(tangent)))


@jax.jit
def _diagonal(jacobian: BlockMatrix, inner: BlockMatrix) -> Any:
    weighted = inner @ jacobian
    parts = []
    for column, shape in enumerate(jacobian.wrt_shapes):
        pairs = [(axis, axis) for axis in range(len(shape))]
        products = (
            star_along(row[column].T, other[column], pairs)
            for row, other in zip(jacobian.rows, weighted.rows, strict=True)
        )
        parts.append(dense(_summed(products)))
    return jax.tree.unflatten(jacobian.wrt_tree, parts)


@jax.jit
def _solved_by_outputs(jacobian: BlockMatrix, inner: BlockMatrix, right: Any, damping: Any) -> Any:
    """By the identity of Woodbury, in the space of the outputs."""
    kernel = (inner @ (jacobian @ jacobian.T)).dense()
    system = kernel + damping * jnp.eye(kernel.shape[0], dtype=kernel.dtype)
    pushed = inner.matvec(jacobian.matvec(right))
    leaves = [as_array(leaf) for leaf in jax.tree.leaves(pushed)]
    solved = jnp.linalg.solve(system, jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]))
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = [
        jnp.reshape(part, leaf.shape)
        for part, leaf in zip(jnp.split(solved, ends), leaves, strict=True)
    ]
    back = jacobian.T.matvec(jax.tree.unflatten(jacobian.out_tree, parts))
    return jax.tree.map(lambda one, other: (one - other) / damping, right, back)


def _flatten(matrix: GaussNewton) -> tuple[tuple[BlockMatrix, BlockMatrix], None]:
    return (matrix.jacobian, matrix.inner), None


def _unflatten(_: None, parts: Sequence[Any]) -> GaussNewton:
    matrix = object.__new__(GaussNewton)
    jacobian, inner = parts
    matrix.jacobian, matrix.inner = jacobian, inner
    if isinstance(jacobian, BlockMatrix):  # JAX also rebuilds trees of placeholders
        matrix.out_shapes = matrix.wrt_shapes = jacobian.wrt_shapes
        matrix.out_tree = matrix.wrt_tree = jacobian.wrt_tree
        matrix.dtype = jacobian.dtype
    return matrix


jax.tree_util.register_pytree_node(GaussNewton, _flatten, _unflatten)
