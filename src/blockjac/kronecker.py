"""The Kronecker-factored approximation of a Gauss-Newton matrix (KFAC).

For a layer `X W` the exact block of a Gauss-Newton matrix is a sum over the examples of Kronecker
products,

    sum_n  X[n,i] X[n,i']  M[n,h,h'],      M[n,h,h'] = sum_cc' B[n,c,h] H[n,c,c'] B[n,c',h'],

and the approximation is the product of their sums, `(1/N) sum_n X X'  (x)  sum_n M`, without the
blocks between different parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks import Block, BlockMatrix, Factor, Index, Label, Term, star
from blockjac.blocks.block import rebuilt
from blockjac.call import ArgNums
from blockjac.errors import InvalidOptionError
from blockjac.gauss_newton import GaussNewton, ggn
from blockjac.planner import Order, Plan
from blockjac.program import compiled
from blockjac.transforms import documented

Function = Callable[..., Any]
Orders = Order | Plan | Sequence[int]


@dataclass(frozen=True, eq=False)
class Pair:
    """The two factors of the block of one parameter: `A (x) G` over two groups of its axes.

    Attributes:
        left: a symmetric block by the first group of axes, twice.
        right: one by the second group.
        left_axes: which axes of the parameter are the first group.
        right_axes: which are the second.
    """

    left: Block
    right: Block
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]

    @property
    def block(self) -> Block:
        """`A (x) G` as a Block of two factors."""
        labels: dict[tuple[str, int], Label] = {}

        def factor(one: Block, axes: Sequence[int], name: str) -> Factor:
            for axis, size in zip(axes, one.out_shape, strict=True):
                labels["out", axis], labels["wrt", axis] = Label(size), Label(size)
            over = [labels[side, axis] for side in ("out", "wrt") for axis in axes]
            return Factor(one.dense(), tuple(over), name)

        factors = factor(self.left, self.left_axes, "A"), factor(self.right, self.right_axes, "G")
        rank = len(labels) // 2
        out, wrt = (
            tuple(Index.of(labels[side, axis]) for axis in range(rank)) for side in ("out", "wrt")
        )
        shape = tuple(labels["out", axis].size for axis in range(rank))
        return Block(shape, shape, self.left.dtype, (Term(factors, out, wrt),))

    def solve(self, right: Any, damping: Any) -> Any:
        """`(A (x) G + damping I)^-1 right`, by the eigenvectors of both factors."""
        moved = jnp.transpose(right, (*self.left_axes, *self.right_axes))
        values, vectors = zip(*(_eigen(one) for one in (self.left, self.right)), strict=True)
        turned = vectors[0].T @ jnp.reshape(moved, (len(values[0]), len(values[1]))) @ vectors[1]
        scaled = turned / (values[0][:, None] * values[1][None, :] + damping)
        back = jnp.reshape(vectors[0] @ scaled @ vectors[1].T, moved.shape)
        axes = (*self.left_axes, *self.right_axes)
        return jnp.transpose(back, [axes.index(axis) for axis in range(len(axes))])


jax.tree_util.register_pytree_node(
    Pair,
    lambda pair: ((pair.left, pair.right), (pair.left_axes, pair.right_axes)),
    lambda axes, blocks: Pair(*blocks, *axes),
)


class KroneckerFactored(BlockMatrix):
    """An approximation of a Gauss-Newton matrix: one block a parameter, in two Kronecker factors.

    It is a `BlockMatrix`, zero off the diagonal.

    Attributes:
        parts: for each parameter a `Pair` of factors; or the exact block, of a parameter such as a
            bias, whose derivative is no product over groups of its axes.
    """

    def __init__(self, parts: Sequence[Pair | Block], tree: Any) -> None:
        self.parts = tuple(parts)
        self._describe(tree)

    def _describe(self, tree: Any) -> None:
        blocks = [_shape_of(part) for part in self.parts]
        self.out_shapes = self.wrt_shapes = tuple(shape for shape, _ in blocks)
        self.out_tree = self.wrt_tree = tree
        self.dtype = jnp.result_type(*(dtype for _, dtype in blocks))

    @cached_property
    def rows(self) -> tuple[tuple[Block, ...], ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks; those off the diagonal are zero."""
        shapes = self.out_shapes
        return tuple(
            tuple(
                (part.block if isinstance(part, Pair) else part)
                if row == column
                else Block.zeros(shapes[row], shape, self.dtype)
                for column, shape in enumerate(shapes)
            )
            for row, part in enumerate(self.parts)
        )

    def solve(self, right: Any, damping: float = 0.0) -> Any:
        """Solve `(self + damping * I) x = right`, each parameter by itself.

        With two factors by the eigenvectors of both: exactly, at the cost of two small matrices.

        Args:
            right: a tree like the parameters.
            damping: added to the diagonal, not negative.

        Raises:
            BlockShapeError: if the tree or a shape differs.
            InvalidOptionError: for a damping below 0.
        """
        if isinstance(damping, int | float) and damping < 0:
            raise InvalidOptionError(f"damping must not be negative, but is {damping}")
        if self.batch_shape:
            return super().solve(right, damping)
        self.check_tree(right, "solve")
        return _solved(self, right, damping)

    def __repr__(self) -> str:
        kinds = ["A (x) G" if isinstance(part, Pair) else "exact" for part in self.parts]
        return f"KroneckerFactored({', '.join(kinds)})"


def kfac(
    model: Function, loss: Function, argnums: ArgNums = 0, *, order: Orders = "auto"
) -> Callable[..., KroneckerFactored]:
    """The Kronecker-factored approximation (KFAC) of a Gauss-Newton matrix. It is not exact.

    The blocks between different parameters are left out. The block of a parameter whose derivative
    is a product of inputs and backpropagated outputs, as of the weights of a layer, is the
    Kronecker product of two averages over the examples; every other parameter (a bias) has its
    exact block. For one example the blocks are exact.

    Args:
        model: `model(params, X)`, examples on the first axis of its one output.
        loss: `loss(Y, outputs)` gives a real number.
        argnums: which arguments of the model to differentiate by.
        order: as in `ggn`.

    Returns:
        A function of `(params, X, Y)` that gives a `KroneckerFactored`, a `BlockMatrix`.

    Raises:
        TypeError: as `ggn`.
        ValueError: as `ggn`.

    Source:
        Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate
        curvature", ICML 2015; for Gauss-Newton: Botev, Ritter and Barber, ICML 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> model = lambda p, X: jnp.tanh(X @ p["W"] + p["b"])
        >>> loss = lambda Y, Q: 0.5 * jnp.mean(jnp.sum((Q - Y) ** 2, axis=1))
        >>> params = {"W": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        >>> matrix = blockjac.kfac(model, loss)(params, jnp.ones((5, 3)), jnp.zeros((5, 2)))
        >>> matrix
        KroneckerFactored(A (x) G, exact)
        >>> matrix.solve(params, damping=0.1)["W"].shape
        (3, 2)
    """
    exact = ggn(model, loss, argnums, order=order)

    def approximation(*args: Any) -> KroneckerFactored:
        matrix = exact(*args)
        columns = range(len(matrix.wrt_shapes))
        return KroneckerFactored([_part(matrix, column) for column in columns], matrix.wrt_tree)

    return documented(compiled(approximation), model, "KFAC", argnums)


def _part(matrix: GaussNewton, column: int) -> Pair | Block:
    """The factors of a parameter's block, or the exact block where there are none."""
    jacobian, inner = matrix.jacobian, matrix.inner
    if len(jacobian.rows) == 1:
        pair = _pair(jacobian.rows[0][column], inner.rows[0][0])
        if pair is not None:
            return pair
    total: Block | None = None
    for row, line in zip(jacobian.rows, (inner @ jacobian).rows, strict=True):
        product = star(row[column].T, line[column])
        total = product if total is None else total + product
    return total if total is not None else Block.zeros((), (), matrix.dtype)


def _pair(block: Block, inner: Block) -> Pair | None:
    """The two factors, if the block is one product of factors over two groups of input axes."""
    if len(block.terms) != 1 or not block.out_shape:
        return None
    (term,), size = block.terms, block.out_shape[0]
    plain = [index.is_plain(axis) for index, axis in zip(term.indices, block.shape, strict=True)]
    coupled = size != 1 and not all(one.has_delta(0, 0, size) for one in inner.terms)
    if not all(plain) or coupled:
        return None
    examples = set(term.out[0].labels)
    others = {label for index in term.out[1:] for label in index.labels}
    inputs = {label: axis for axis, index in enumerate(term.wrt) for label in index.labels}
    if examples & set(inputs):
        return None
    reached = _reached(term.factors, others, examples)
    left = [factor for factor in term.factors if not set(factor.labels) & reached]
    right = [factor for factor in term.factors if factor not in left]
    left_axes = tuple(axis for label, axis in inputs.items() if label not in reached)
    right_axes = tuple(axis for label, axis in inputs.items() if label in reached)
    if not left or not left_axes or not right_axes or len(inputs) < len(term.wrt):
        return None
    kept = [term.wrt[axis] for axis in left_axes]
    inputs_block = rebuilt(
        (size,),
        tuple(block.wrt_shape[axis] for axis in left_axes),
        block.dtype,
        [Term(tuple(left), term.out[:1], tuple(kept))],
    )
    outputs_block = rebuilt(
        block.out_shape,
        tuple(block.wrt_shape[axis] for axis in right_axes),
        block.dtype,
        [
            Term(
                tuple(right),
                term.out,
                tuple(term.wrt[axis] for axis in right_axes),
                term.coefficient,
            )
        ],
    )
    average = star(inputs_block.T, inputs_block) * (1.0 / size)
    curvature = star(outputs_block.T, star(inner, outputs_block))
    return Pair(
        Block.from_dense(average.dense(), len(left_axes)),
        Block.from_dense(curvature.dense(), len(right_axes)),
        left_axes,
        right_axes,
    )


def _reached(factors: Sequence[Factor], start: set[Label], examples: set[Label]) -> set[Label]:
    """The labels that hang together with some by factors, those of the examples apart."""
    reached, grew = set(start), True
    while grew:
        before = len(reached)
        for factor in factors:
            if set(factor.labels) & reached:
                reached |= set(factor.labels) - examples
        grew = len(reached) > before
    return reached


def _eigen(block: Block) -> tuple[Any, Any]:
    size = math.prod(block.out_shape)
    return jnp.linalg.eigh(jnp.reshape(block.dense(), (size, size)))


@jax.jit
def _solved(matrix: KroneckerFactored, right: Any, damping: Any) -> Any:
    solved = []
    for part, leaf in zip(matrix.parts, jax.tree.leaves(right), strict=True):
        if isinstance(part, Pair):
            solved.append(part.solve(jnp.asarray(leaf), damping))
        else:
            solved.append(BlockMatrix([[part]]).solve((leaf,), damping)[0])
    return jax.tree.unflatten(matrix.wrt_tree, solved)


def _shape_of(part: Pair | Block) -> tuple[tuple[int, ...], Any]:
    if isinstance(part, Block):
        return part.wrt_shape, part.dtype
    sizes = dict(zip(part.left_axes, part.left.out_shape, strict=True))
    sizes |= dict(zip(part.right_axes, part.right.out_shape, strict=True))
    return tuple(sizes[axis] for axis in sorted(sizes)), part.left.dtype


def _unflatten(tree: Any, parts: Sequence[Any]) -> KroneckerFactored:
    matrix = object.__new__(KroneckerFactored)
    matrix.parts = tuple(parts)
    if all(isinstance(part, Pair | Block) for part in parts):  # JAX also rebuilds placeholders
        matrix._describe(tree)
    return matrix


jax.tree_util.register_pytree_node(
    KroneckerFactored, lambda matrix: (matrix.parts, matrix.wrt_tree), _unflatten
)
