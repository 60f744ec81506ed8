"""Sums of clipped gradients for jax-privacy: its signature and meaning, without the gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blockjac.engine.arguments import check_callable
from blockjac.errors import MissingExtraError

try:
    from jax_privacy import clipping
except ImportError as error:
    raise MissingExtraError(
        "interop.clipped_grad gives a function of jax-privacy, which is not installed: "
        "pip install jax-privacy; blockjac.clipped_grad needs nothing more"
    ) from error

from blockjac.interop.clipped_batches import Sums


def clipped_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    l2_clip_norm: Any,
    rescale_to_unit_norm: bool = False,
    normalize_by: float = 1.0,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    return_values: bool = False,
    return_grad_norms: bool = False,
    pre_clipping_transform: Callable[[Any], Any] | None = None,
    microbatch_size: int | None = None,
    nan_safe: bool = True,
    dtype: Any = None,
    prng_argnum: int | None = None,
    spmd_axis_name: Any = None,
) -> Any:
    """`jax_privacy.clipped_grad`, by one reverse sweep over the batch.

    Signature, result and sensitivity are those of jax-privacy 2.0; no example's gradient is made.
    What one sweep cannot do is left to jax-privacy itself: a `pre_clipping_transform` that is not
    linear; and, with `nan_safe`, examples whose gradients are not finite, one after the other, as
    they count with 0 in place of the entries that are not.

    Args:
        fun: the loss of a batch, which is called with batches of one example; or of one example,
            with `keep_batch_dim=False`. It gives `(loss, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns auxiliary results, which are returned for each example.
        l2_clip_norm: the largest norm of an example's gradient.
        rescale_to_unit_norm: whether to divide by `l2_clip_norm` too.
        normalize_by: what the sum is divided by.
        batch_argnums: which positional arguments hold the examples on their first axes; keyword
            arguments do too.
        keep_batch_dim: whether `fun` takes batches. Then its examples must not meet beyond sums.
        return_values: whether to return the losses.
        return_grad_norms: whether to return the norms before transform and clipping.
        pre_clipping_transform: of an example's gradient.
        microbatch_size: how many examples to sweep over at once.
        nan_safe: whether gradients that are not finite are bounded too.
        dtype: of the sum; by default that of the parameters.
        prng_argnum: the argument that holds a random key, which is split over the examples.
        spmd_axis_name: the axis of a mesh for constraints on shardings in `fun`, as in `jax.vmap`.

    Returns:
        A `jax_privacy.clipping.BoundedSensitivityCallable` that gives the sum; with values, norms
        or auxiliary results `(sum, Aux(values, grad_norms, aux))`.

    Raises:
        ExamplesMeetError: for a batch norm, a collective over the examples, or another loss of a
            batch that is not a sum over its examples.
        MissingExtraError: if jax-privacy is not installed.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> loss = lambda w, X: 0.5 * jnp.mean((X - w) ** 2)
        >>> gradient = interop.clipped_grad(loss, l2_clip_norm=4.0, return_grad_norms=True)
        >>> total, aux = gradient(3.0, jnp.array([0.0, 7.0, -2.0]))
        >>> float(total), aux.grad_norms.tolist(), gradient.sensitivity()
        (3.0, [3.0, 4.0, 5.0], 4.0)
    """
    check_callable(fun, "interop.clipped_grad")
    options: dict[str, Any] = {
        "l2_clip_norm": l2_clip_norm,
        "rescale_to_unit_norm": rescale_to_unit_norm,
        "normalize_by": normalize_by,
        "batch_argnums": batch_argnums,
        "keep_batch_dim": keep_batch_dim,
        "nan_safe": nan_safe,
        "dtype": dtype,
        "prng_argnum": prng_argnum,
        "spmd_axis_name": spmd_axis_name,
    }
    if pre_clipping_transform is not None:
        options["pre_clipping_transform"] = pre_clipping_transform
    asked = {"return_values": return_values, "return_grad_norms": return_grad_norms}
    theirs = clipping.clipped_grad(
        fun, argnums, has_aux, microbatch_size=microbatch_size, **asked, **options
    )
    sums = Sums(fun, argnums, has_aux, microbatch_size, asked, options, theirs)
    return clipping.BoundedSensitivityCallable(sums, theirs.l2_norm_bound, theirs.has_aux)
