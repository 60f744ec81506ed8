"""Per-example clipping: the sum of gradients that are each scaled down to a norm, as one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import numpy as np

from blockjac.base import compat
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.errors import ArgumentError
from blockjac.planning import Order
from blockjac.transforms.batch_inputs import check_apart
from blockjac.transforms.clipped_sum import Clipped
from blockjac.transforms.per_example import check_batch_axes, check_examples
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.traced_once import Orders


def clipped_grad(
    losses: Callable[P, Any],
    max_norm: Any,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    normalize_by: Any = 1.0,
    return_norms: bool = False,
    nan_safe: bool = True,
    batch_argnums: ArgNums | None = None,
    batch_axes: int = 1,
    order: Orders = "auto",
) -> Callable[P, Any]:
    """The sum of all examples' gradients, each scaled to a norm of at most `max_norm`.

        sum over n of  min(1, max_norm / norm(g[n])) g[n],    g[n] the gradient of losses[n]

    The gradients are not formed: one reverse sweep gives them in factors, as `X[n,k] Q[n,h]` for a
    layer; norms come from the factors, and the sum is one product `X' diag(scale) Q`, as in
    `jax.grad`.

    Args:
        losses: a JAX function `losses(params, *batch)` of shape `(N,)`, one loss per example. The
            loss of an example must depend on its own data alone.
        max_norm: the largest norm over all parameters, a positive number; or an array of the shape
            of the losses with a number for each example. The number 0 leaves an example out.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `losses` returns `(losses, aux)`; the answer is then `(answer, aux)`.
        normalize_by: what the sum is divided by: the number of examples for their mean.
        return_norms: whether to answer with the norms before clipping too, `(gradient, norms)`.
        nan_safe: whether an example whose gradient is not finite counts as zero. If not, the sum is
            not finite either, and one copy less is made of the factors.
        batch_argnums: which positional arguments hold the examples on their first axes; by default
            all that are not differentiated. Keyword arguments do where their first axis fits.
        batch_axes: how many axes the losses, and all examples, have in front: 2 for losses of shape
            `(N, T)`, each of which is clipped by itself.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the sum in the tree of the parameters.

    Raises:
        ValueError: if the losses are not of shape `(N,)`; and if examples meet, as in batch norm:
            one of them would then move the gradients of the others, by no bounded amount.
        TypeError: for integer and complex parameters or losses, and for options of the wrong type.

    Source:
        Abadi et al., "Deep learning with differential privacy", CCS 2016; Bu et al.,
        "Differentially private optimization on large model at small cost", ICML 2023, for sums
        from factors. The meaning is that of `jax_privacy.clipping.clipped_grad`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, w = jnp.array([[3.0, 4.0], [0.0, 0.5]]), jnp.zeros(2)
        >>> blockjac.clipped_grad(lambda w, X: X @ w, max_norm=1.0)(w, X)
        Array([0.6, 1.3], dtype=float32)
    """
    if not _is_array(max_norm):
        check_positive("max_norm", max_norm)
    check_positive("normalize_by", normalize_by)
    axes = check_batch_axes(batch_axes)
    name, description = "clipped_grad", "Clipped gradient"
    transform = Transform(name, description, losses, argnums, has_aux, order)
    return transform(_clips((max_norm, normalize_by), return_norms, nan_safe, batch_argnums, axes))


def _clips(
    numbers: tuple[Any, Any],
    return_norms: bool,
    nan_safe: bool,
    batch_argnums: ArgNums | None,
    batch_axes: int,
) -> Ask:
    """Asks for the clipped sum, of losses whose examples do not meet."""

    def asked(call: Call, order: Order) -> Asked:
        """Check the losses and the bounds, and ask."""
        check_examples(call, batch_axes, of_losses=True)
        check_apart(call, batch_argnums, batch_axes)
        if _is_array(numbers[0]):
            _check_norms(numbers[0], tuple(call.results[0].shape))
        put = partial(_put, call, return_norms)
        return Clipped(call.smooth, order, batch_axes, nan_safe), put, numbers

    return asked


def _put(call: Call, return_norms: bool, answer: tuple[Any, Any]) -> Any:
    """The sum in the tree of the parameters; with the norms, both."""
    norms, row = answer
    gradient = call.argument_tree(row)
    return (gradient, norms) if return_norms else gradient


def _is_array(value: Any) -> bool:
    """Whether an option has a number for each example."""
    return isinstance(value, jax.Array | np.ndarray) and value.ndim > 0


def _check_norms(norms: Any, shape: tuple[int, ...]) -> None:
    """Raise unless norms fit the losses and are numbers of at least 0, where these are known.

    Raises:
        ArgumentError: says what was found.
    """
    if norms.shape != shape:
        raise ArgumentError(
            f"max_norm has the shape {norms.shape}, but must be a positive number, or an array "
            f"with a number for each loss, of shape {shape}"
        )
    if not compat.is_traced(norms) and not np.all(np.asarray(norms) >= 0):
        raise ArgumentError("max_norm holds numbers below 0, but norms are at least 0")


def check_positive(name: str, value: Any) -> None:
    """Raise unless an option is a positive number, or one that only the running program knows.

    Raises:
        ArgumentError: names the option and its value.
    """
    if isinstance(value, jax.Array) and compat.is_traced(value) and value.shape == ():
        return
    is_number = isinstance(value, int | float | jax.Array) or isinstance(
        cast("object", value), np.number | np.ndarray
    )
    if not is_number or isinstance(value, bool) or np.ndim(value) or not value > 0:
        raise ArgumentError(f"{name} is {value!r}, but must be a positive number")
