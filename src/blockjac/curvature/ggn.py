"""The generalized Gauss-Newton matrix of a model and a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks import BlockMatrix
from blockjac.curvature.gauss_newton import GaussNewton, Middle
from blockjac.engine.arguments import ArgNums, check_callable, check_inputs, traced_call
from blockjac.engine.auxiliary import Auxiliary
from blockjac.engine.leaves import separated
from blockjac.engine.run import compiled
from blockjac.errors import DifferentiationTypeError, NonScalarLossError
from blockjac.planning import check_order
from blockjac.transforms.hessians import block_hessian
from blockjac.transforms.linearization import linearized
from blockjac.transforms.shell import documented, fitted
from blockjac.transforms.traced_once import Function, Orders


def ggn(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    order: Orders = "auto",
) -> Callable[..., Any]:
    """The generalized Gauss-Newton matrix of a loss of a model's outputs.

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
        TypeError: for a loss that is not a real number, for integer and complex parameters or
            outputs, and for fewer than two arguments.
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
    name, description = "ggn", "Gauss-Newton matrix"
    return of_model(model, loss, argnums, has_aux, order, name, description, loss_hessian)


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
    description: str,
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
        description: of the matrix, for the docstring.
        middle: gives H.
    """
    order = check_order(order)
    check_callable(model, name)
    check_callable(loss, name)

    def matrix_of(*args: Any) -> tuple[GaussNewton, Auxiliary]:
        """The matrix from the model at its arguments and the Hessian of the loss."""
        *model_args, targets = args
        call = traced_call(name, model, argnums, model_args, {}, has_aux=has_aux)
        call.check_real()
        if not call.results:
            raise DifferentiationTypeError(
                "the model has no outputs: it returned a tree of no arrays"
            )
        outs, jacobian = linearized(call, fitted(order, call))
        outputs = call.value(outs)
        check_loss(loss, targets, outputs, name)
        matrix = GaussNewton.of(jacobian, middle(loss, targets, outputs))
        return matrix, call.auxiliary(outs[call.count :])

    def of_arguments(*args: Any) -> Any:
        """The matrix, compiled, at the arguments of the model and the targets."""
        if len(args) < 2:
            raise DifferentiationTypeError(
                f"{name} takes the arguments of the model and then the targets, as in "
                f"(params, X, Y), but was called with {len(args)}"
            )
        check_inputs(name, model, argnums, args[:-1])
        matrix, aux = compiled_but_static(matrix_of, args)
        return (matrix, aux.tree()) if has_aux else matrix

    return documented(of_arguments, model, description, argnums)


def compiled_but_static(function: Function, args: Sequence[Any]) -> Any:
    """Run a function compiled; arguments that are ints, bools, texts stay Python values."""
    arrays, rebuilt = separated(tuple(args))

    def of_arrays(*arrays: Any) -> Any:
        return function(*rebuilt(arrays))

    return compiled(of_arrays)(*arrays)


def check_loss(loss: Function, targets: Any, outputs: Any, name: str) -> None:
    """Raise unless the loss of these outputs is one real number.

    Args:
        loss: the user's function.
        targets: its first argument.
        outputs: its second.
        name: of the transform, for messages.

    Raises:
        NonScalarLossError: says what the loss gives.
    """
    try:
        value = jax.eval_shape(partial(loss, targets), outputs)
    except (TypeError, ValueError, IndexError) as error:
        error.add_note(f"blockjac.{name} calls loss(Y, outputs): the targets come first")
        raise
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0].shape or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise NonScalarLossError(
            f"{name} needs a loss(Y, outputs) that gives one real number, but it gives {value}; "
            "take the sum or the mean over the examples"
        )
