"""Fisher matrices: a Gauss-Newton matrix with an expectation, or gradients, in the middle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.base.trees import flattened, mapped, tree_structure
from blockjac.blocks import Block, BlockMatrix, Factor, Index, Label, Term
from blockjac.curvature.ggn import loss_hessian, of_model
from blockjac.engine.arguments import ArgNums, check_callable
from blockjac.errors import ArgumentError, BlockShapeError, InvalidOptionError
from blockjac.transforms.batch_jacobian import batch_jacobian
from blockjac.transforms.first_order import grad
from blockjac.transforms.traced_once import Function, Orders


def fisher(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    kind: Literal["exact", "empirical"] = "exact",
    mean: Function | None = None,
    order: Orders = "auto",
) -> Callable[..., Any]:
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
        has_aux: whether `model` returns `(outputs, aux)`; the answer is then `(matrix, aux)`.
        kind: "exact" or "empirical".
        mean: the expected target, from the outputs; such as `jax.nn.softmax` for one-hot rows. For
            "exact" only.
        order: as in `blockjac.ggn`.

    Returns:
        A function of `(params, X, Y)` that gives a `GaussNewton`. For "exact" the values of `Y` do
        not matter.

    Raises:
        ValueError: for another kind; for "exact" without `mean` where the loss's Hessian depends on
            the targets; and for "empirical" where examples are not on the first axes.
        TypeError: as `blockjac.ggn`.

    Source:
        Martens, "New insights and perspectives on the natural gradient method", JMLR 21 (2020);
        Kunstner, Balles and Hennig, "Limitations of the empirical Fisher approximation", 2019.

    Examples:
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
    if mean is not None:
        check_callable(mean, "fisher's mean")
        if kind == "empirical":
            raise InvalidOptionError(
                "mean is of the exact Fisher matrix; the empirical one takes the given targets"
            )
    middle = partial(_expected_hessian, mean=mean) if kind == "exact" else _outer_gradients
    description = f"Fisher matrix ({kind})"
    return of_model(model, loss, argnums, has_aux, order, "fisher", description, middle)


# The expectation


def _expected_hessian(
    loss: Function, targets: Any, outputs: Any, mean: Function | None
) -> BlockMatrix:
    """The Hessian of the loss by the outputs, in expectation over the model's own targets."""
    if mean is not None:
        return loss_hessian(loss, mean(outputs), outputs)
    if not _depends_on_targets(loss, targets, outputs):
        return loss_hessian(loss, targets, outputs)
    if _are_classes(targets, outputs):
        return _expected_over_classes(loss, targets, outputs)
    raise ArgumentError(
        "the Hessian of this loss by the outputs depends on the targets, so that the exact "
        "Fisher matrix needs their expectation under the model: give it as mean=, such as "
        "mean=jax.nn.softmax for cross-entropy with one-hot rows; or use kind='empirical', or "
        "blockjac.ggn, which takes the given targets"
    )


def _depends_on_targets(loss: Function, targets: Any, outputs: Any) -> bool:
    """Whether the traced Hessian of the loss reads the targets."""
    closed = jax.make_jaxpr(partial(loss_hessian, loss))(targets, outputs)
    jaxpr = compat.open_jaxpr(closed)
    read = set(jaxpr.invars[: len(jax.tree.leaves(targets))])

    def reads(variables: Any) -> bool:
        return any(not hasattr(variable, "val") and variable in read for variable in variables)

    for equation in jaxpr.eqns:
        if reads(equation.invars):
            read.update(equation.outvars)
    return reads(jaxpr.outvars)


def _are_classes(targets: Any, outputs: Any) -> bool:
    """Whether targets are one class number per example, and outputs one number per class."""
    target, output = (jax.tree.leaves(tree) for tree in (targets, outputs))
    if len(target) != 1 or len(output) != 1 or np.ndim(output[0]) != 2:
        return False
    integers = jnp.issubdtype(jnp.result_type(target[0]), jnp.integer)
    return integers and np.shape(target[0]) == np.shape(output[0])[:1]


def _expected_over_classes(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    """`F[n,i,j] = sum over c of p[n,c] H_c[n,i,j]`, with `p` the normalized `exp(-loss)`."""
    (target,), target_tree = flattened(targets)
    (output,), output_tree = flattened(outputs)
    classes = jnp.arange(output.shape[1], dtype=jnp.result_type(target))

    def whole(numbers: Any, values: Any) -> Any:
        return loss(
            jax.tree.unflatten(target_tree, [numbers]), jax.tree.unflatten(output_tree, [values])
        )

    def alone(number: Any, values: Any) -> Any:
        return whole(number[None], values[None])

    losses = jax.vmap(jax.vmap(alone, (0, None)), (None, 0))(classes, output)
    probabilities = jax.nn.softmax(-losses, axis=1)

    def with_class(total: Any, weighted_class: Any) -> tuple[Any, None]:
        number, probability = weighted_class
        numbers = jnp.full(np.shape(target), number)
        hessian = batch_jacobian(grad(partial(whole, numbers)))(output)
        return total + probability[:, None, None] * hessian, None

    start = jnp.zeros((*output.shape, output.shape[1]), output.dtype)
    expected, _ = jax.lax.scan(with_class, start, (classes, probabilities.T))
    n, i, j = map(Label, expected.shape)
    indices = tuple(map(Index.of, (n, i))), tuple(map(Index.of, (n, j)))
    term = Term((Factor(expected, (n, i, j), "F"),), *indices)
    block = Block(output.shape, output.shape, expected.dtype, (term,))
    return BlockMatrix.symmetric([[block]], output_tree)


# The gradients


def _outer_gradients(loss: Function, targets: Any, outputs: Any) -> BlockMatrix:
    """`sum over n of G[n] g[n]`: the gradients in the whole loss, and in that of one example."""
    whole, single = example_gradients(loss, targets, outputs)
    tree = tree_structure(outputs)
    rows = [[_outer(left, right) for right in single] for left in whole]
    return BlockMatrix(rows, tree, tree)


def example_gradients(
    loss: Function, targets: Any, outputs: Any
) -> tuple[list[jax.Array], list[jax.Array]]:
    """The gradient of the loss by the outputs, and that of the loss of each example alone.

    They differ by how the loss weighs the examples: by 1/N for a mean.

    Raises:
        BlockShapeError: if examples are not on the first axes.
    """
    _check_examples(targets, outputs)
    whole = grad(loss, argnums=1)(targets, outputs)

    def alone(target: Any, output: Any) -> Any:
        batch = mapped(lambda leaf: leaf[None], (target, output))
        return mapped(lambda leaf: leaf[0], grad(loss, argnums=1)(*batch))

    single = jax.vmap(alone)(targets, outputs)
    return jax.tree.leaves(whole), jax.tree.leaves(single)


def _outer(left: Any, right: Any) -> Block:
    """`delta[n, n'] left[n, ...] right[n', ...]`."""
    n = Label(left.shape[0])
    rows, columns = (tuple(map(Label, array.shape[1:])) for array in (left, right))
    factors = Factor(left, (n, *rows), "G"), Factor(right, (n, *columns), "g")
    out, wrt = (tuple(map(Index.of, (n, *labels))) for labels in (rows, columns))
    return Block(left.shape, right.shape, left.dtype, (Term(factors, out, wrt),))


def _check_examples(targets: Any, outputs: Any) -> None:
    """Raise unless targets and outputs have equally many examples on their first axes."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves((targets, outputs))]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise BlockShapeError(
            "the empirical Fisher matrix needs the examples on the first axis of targets and "
            f"outputs, but found shapes {shapes}"
        )
