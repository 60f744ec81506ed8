"""The Kronecker-factored approximation of a Gauss-Newton matrix (KFAC).

For a layer `X W` the exact block of a Gauss-Newton matrix is a sum over the examples of Kronecker
products,

    sum_n  X[n,i] X[n,i']  M[n,h,h'],      M[n,h,h'] = sum_cc' B[n,c,h] H[n,c,c'] B[n,c',h'],

and the approximation is the product of their sums, `(1/N) sum_n X X'  (x)  sum_n M`, without the
blocks between different parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.blocks import Block, BlockMatrix, Factor, Label, Term, star
from blockjac.blocks.grids import Rows
from blockjac.blocks.systems import solver_of
from blockjac.curvature.gauss_newton import GaussNewton
from blockjac.curvature.ggn import ggn
from blockjac.curvature.kronecker import Pair
from blockjac.engine.arguments import ArgNums, check_callable
from blockjac.linear_systems.batched import Grouped
from blockjac.linear_systems.solver import Solver
from blockjac.terms.block import rebuilt
from blockjac.transforms.shell import documented
from blockjac.transforms.traced_once import Function, Orders


class KroneckerFactored(BlockMatrix):
    """An approximation of a Gauss-Newton matrix: one block a parameter, in two Kronecker factors.

    It is a `BlockMatrix`, zero off the diagonal. `solve` takes each parameter by itself, with two
    factors by the eigenvectors of both: exactly, at the cost of two small matrices.

    Attributes:
        parts: for each parameter a `Pair` of factors; or the exact block, of a parameter such as a
            bias, whose derivative is not a product over groups of its axes.
    """

    def __init__(self, parts: Sequence[Pair | Block], tree: Any) -> None:
        self._hold(parts, tree)

    def _hold(self, parts: Sequence[Pair | Block], tree: Any) -> None:
        """Set the attributes; both constructors do."""
        self.parts = tuple(parts)
        shapes = [part.shape if isinstance(part, Pair) else part.wrt_shape for part in parts]
        self.out_shapes = self.wrt_shapes = tuple(shapes)
        self.out_tree = self.wrt_tree = tree
        self.dtype = jnp.result_type(*(part.dtype for part in parts))
        self.is_mirrored = True

    @property
    def rows(self) -> Rows:  # pyright: ignore[reportIncompatibleVariableOverride]
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

    def _applied(self, tangent: Any) -> Any:
        parts = zip(self.rows, jax.tree.leaves(tangent), strict=True)
        return jax.tree.unflatten(
            self.out_tree,
            [row[position].matvec(leaf) for position, (row, leaf) in enumerate(parts)],
        )

    def own_solver(self, damping: Any, assume: Any) -> Solver:
        """One solver for each parameter; two factors are solved by their eigenvectors."""
        shift = jnp.zeros((), self.dtype) if damping is None else damping
        is_damped = damping is not None
        solvers = [
            part.solver(shift)
            if isinstance(part, Pair)
            else solver_of(part, shift, assume=assume, is_damped=is_damped).solver
            for part in self.parts
        ]
        if len(solvers) == 1:
            return solvers[0]
        groups = tuple((number,) for number in range(len(solvers)))
        return Grouped(solvers, self.wrt_shapes, groups)

    def __repr__(self) -> str:
        kinds = ["A (x) G" if isinstance(part, Pair) else "exact" for part in self.parts]
        return f"KroneckerFactored({', '.join(kinds)})"


def kfac(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    order: Orders = "auto",
) -> Callable[..., Any]:
    """The Kronecker-factored approximation (KFAC) of a Gauss-Newton matrix. It is not exact.

    The blocks between different parameters are left out. The block of a parameter whose derivative
    is a product of inputs and backpropagated outputs, as of the weights of a layer, is the
    Kronecker product of two averages over the examples; every other parameter (a bias) has its
    exact block. For one example the blocks are exact.

    Args:
        model: `model(params, X)`, examples on the first axis of its one output.
        loss: `loss(Y, outputs)` gives a real number.
        argnums: which arguments of the model to differentiate by.
        has_aux: whether `model` returns `(outputs, aux)`; the answer is then `(matrix, aux)`.
        order: as in `ggn`.

    Returns:
        A function of `(params, X, Y)` that gives a `KroneckerFactored`, a `BlockMatrix`.

    Raises:
        TypeError: as `ggn`.
        ValueError: as `ggn`.

    Source:
        Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate
        curvature", ICML 2015; for Gauss-Newton: Botev, Ritter and Barber, ICML 2017.

    Examples:
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
    check_callable(model, "kfac")
    check_callable(loss, "kfac")
    exact = ggn(model, loss, argnums, has_aux, order=order)

    def factored(*args: Any) -> Any:
        matrix, *aux = exact(*args) if has_aux else (exact(*args),)
        result = cast("KroneckerFactored", _factored(matrix))
        return (result, *aux) if has_aux else result

    return documented(factored, model, "KFAC", argnums)


@jax.jit
def _factored(matrix: GaussNewton) -> KroneckerFactored:
    """The Kronecker factors of each parameter's block; a block without factors stays exact."""
    rows = matrix.jacobian.rows
    alone = len(rows) == 1
    parts: list[Pair | Block] = []
    for column in range(len(matrix.wrt_shapes)):
        pair = _pair(rows[0][column], matrix.inner.rows[0][0]) if alone else None
        parts.append(pair or _exact(matrix, column))
    return KroneckerFactored(parts, matrix.wrt_tree)


def _exact(matrix: GaussNewton, column: int) -> Block:
    """The block of one parameter by itself."""
    jacobian = BlockMatrix([[row[column]] for row in matrix.jacobian.rows], matrix.inner.out_tree)
    return GaussNewton(jacobian, matrix.inner).rows[0][0]


def _pair(block: Block, inner: Block) -> Pair | None:
    """The two factors, if the block is one product of factors over two groups of input axes."""
    split = _split(block) if block.out_shape and _are_apart(inner) else None
    if split is None:
        return None
    average = star(split.inputs.T, split.inputs) * (1.0 / block.out_shape[0])
    curvature = star(split.outputs.T, star(inner, split.outputs))
    left, right = (
        Block.from_dense(matrix.dense(), len(matrix.out_shape), name)
        for matrix, name in ((average, "A"), (curvature, "G"))
    )
    return Pair(left, right, split.left_axes, split.right_axes)


def _are_apart(inner: Block) -> bool:
    """Whether the loss has no second derivative between two examples."""
    size = inner.out_shape[0]
    return size == 1 or all(term.has_delta(0, 0, size) for term in inner.terms)


@dataclass(frozen=True, eq=False)
class Split:
    """A block as `inputs[n, i] outputs[n, c, h]`, and which axes of the parameter i and h are."""

    inputs: Block
    outputs: Block
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]


def _split(block: Block) -> Split | None:
    """The two parts of a block, or None if it is not such a product.

    Then all its input axes hang together, by factors, with the outputs; or some axes are not
    plain labels of their own.
    """
    if len(block.terms) != 1:
        return None
    (term,) = block.terms
    plain = [index.is_plain(axis) for index, axis in zip(term.indices, block.shape, strict=True)]
    examples = set(term.out[0].labels)
    carried = [label for index in term.wrt for label in index.labels]
    if not all(plain) or examples & set(carried) or len(set(carried)) < len(term.wrt):
        return None
    output_labels = {label for index in term.out[1:] for label in index.labels}
    reached = _reached(term.factors, output_labels, examples)
    left = [factor for factor in term.factors if not set(factor.labels) & reached]
    right = [factor for factor in term.factors if set(factor.labels) & reached]
    left_axes = tuple(axis for axis, label in enumerate(carried) if label not in reached)
    right_axes = tuple(axis for axis, label in enumerate(carried) if label in reached)
    if not left or not left_axes or not right_axes:
        return None

    def part(factors: Sequence[Factor], outputs: int, axes: Sequence[int], scale: Any) -> Block:
        product = Term(
            tuple(factors), term.out[:outputs], tuple(term.wrt[axis] for axis in axes), scale
        )
        shape = tuple(block.wrt_shape[axis] for axis in axes)
        return rebuilt(block.out_shape[:outputs], shape, block.dtype, [product])

    inputs = part(left, 1, left_axes, 1)
    outputs = part(right, len(term.out), right_axes, term.coefficient)
    return Split(inputs, outputs, left_axes, right_axes)


def _reached(factors: Sequence[Factor], start: set[Label], examples: set[Label]) -> set[Label]:
    """The labels that hang together with some by factors, except those of the examples."""
    reached, grew = set(start), True
    while grew:
        before = len(reached)
        for factor in factors:
            if set(factor.labels) & reached:
                reached |= set(factor.labels) - examples
        grew = len(reached) > before
    return reached


def _unflatten(tree: Any, parts: Sequence[Any]) -> KroneckerFactored:
    """The matrix from its parts, or from what JAX puts in their place."""
    matrix = object.__new__(KroneckerFactored)
    if all(isinstance(part, Pair | Block) for part in parts):
        matrix._hold(parts, tree)  # pyright: ignore[reportPrivateUsage]
    else:  # JAX also rebuilds trees of placeholders
        matrix.parts, matrix.wrt_tree = tuple(parts), tree
    return matrix


jax.tree_util.register_pytree_node(
    KroneckerFactored, lambda matrix: (matrix.parts, matrix.wrt_tree), _unflatten
)
