"""The catalogue of a feedforward network: affine maps, logistic, softmax, cross-entropy.

Each row is one example: a matrix of shape `(n, k)` holds `n` examples of `k` numbers each. All
functions are ordinary JAX functions, finite wherever their true value is.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.errors import InvalidDataError, ShapeMismatchError


def affine(X: ArrayLike, W: ArrayLike, b: ArrayLike) -> Array:
    """The affine map of each row, `X W + b`.

        out[n, h] = sum_k X[n, k] W[k, h] + b[h]

    Args:
        X: Examples in rows, shape `(n, k)`.
        W: Weights, shape `(k, h)`.
        b: Bias, shape `(h,)` or, as a row matrix, `(1, h)`.

    Returns:
        Array of shape `(n, h)`.

    Raises:
        ShapeMismatchError: If `X` has not one column for each row of `W`, or `b` is not a row.

    Examples:
        >>> print(affine(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([0.5])))
        [[11.5]]
    """
    X, W, b = jnp.asarray(X), jnp.asarray(W), jnp.asarray(b)
    check_affine_shapes(X, W, b)
    return X @ W + b


def check_affine_shapes(X: Array, W: Array, b: Array) -> None:
    """Refuse operands of `affine` that do not fit.

    Args:
        X: Examples in rows, shape `(n, k)`.
        W: Weights, shape `(k, h)`.
        b: Bias, shape `(h,)` or `(1, h)`.

    Raises:
        ShapeMismatchError: If `X` has not one column for each row of `W`, or `b` is not a row.

    Examples:
        >>> check_affine_shapes(jnp.ones((5, 3)), jnp.ones((3, 2)), jnp.ones((1, 2)))
    """
    if X.ndim != 2 or W.ndim != 2 or X.shape[1] != W.shape[0]:
        raise ShapeMismatchError(
            f"affine: X has shape {X.shape} and W has shape {W.shape}; "
            "wanted X of shape (n, k) and W of shape (k, h) with the same k"
        )
    width = W.shape[1]
    if b.shape not in {(width,), (1, width)}:
        raise ShapeMismatchError(
            f"affine: b has shape {b.shape} and W has shape {W.shape}; "
            f"wanted b of shape ({width},) or (1, {width}), one bias for each column of W"
        )


def logistic(Z: ArrayLike) -> Array:
    """The logistic function of each entry, `1 / (1 + exp(-z))`.

    Args:
        Z: Real array of any shape and any size of values.

    Returns:
        Array of the shape of `Z`, with values in [0, 1].

    Examples:
        >>> print(logistic(jnp.array([-1000.0, 0.0, 1000.0])))
        [0.  0.5 1. ]
    """
    return lax.logistic(jnp.asarray(Z, dtype=jnp.result_type(Z, float)))


def log_softmax(Z: ArrayLike) -> Array:
    """The logarithm of `softmax`, computed without leaving the logarithmic scale.

        out[n, k] = Z[n, k] - log sum_j exp(Z[n, j])

    A row's largest entry is subtracted first, so that `exp` never overflows and `log` never sees 0.

    Args:
        Z: Real array whose last axis holds one row's scores, of length at least 1.

    Returns:
        Array of the shape of `Z`, with values at most 0.

    Raises:
        ShapeMismatchError: If `Z` has no last axis, or an empty one.

    Examples:
        >>> print(log_softmax(jnp.array([[0.0, -2000.0]])))
        [[    0. -2000.]]
    """
    shifted = _minus_largest(Z, "log_softmax")
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def softmax(Z: ArrayLike) -> Array:
    """The softmax of each row: positive numbers that sum to 1.

        out[n, k] = exp(Z[n, k]) / sum_j exp(Z[n, j])

    Args:
        Z: Real array whose last axis holds one row's scores, of length at least 1.

    Returns:
        Array of the shape of `Z`, with values in [0, 1] that sum to 1 over the last axis.

    Raises:
        ShapeMismatchError: If `Z` has no last axis, or an empty one.

    Examples:
        >>> print(softmax(jnp.array([[1e30, -1e30], [3.0, 3.0]])))
        [[1.  0. ]
         [0.5 0.5]]
    """
    exponentials = jnp.exp(_minus_largest(Z, "softmax"))
    return exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)


def _minus_largest(Z: ArrayLike, name: str) -> Array:
    """Subtract from each row its largest entry, which leaves softmax and its derivative alone."""
    Z = jnp.asarray(Z, dtype=jnp.result_type(Z, float))
    if Z.ndim == 0 or Z.shape[-1] == 0:
        raise ShapeMismatchError(
            f"{name}: Z has shape {Z.shape}; wanted at least one score in each row (the last axis)"
        )
    return Z - lax.stop_gradient(jnp.max(Z, axis=-1, keepdims=True))


def cross_entropy(Y: ArrayLike, Q: ArrayLike) -> Array:
    """The mean over rows of the cross-entropy between wanted and given probabilities.

        out = -1/n sum_n sum_k Y[n, k] log Q[n, k],    where 0 log 0 = 0

    A wanted class to which `Q` gives probability 0 costs infinitely much, and this function says
    so. Probabilities that come out of a softmax are better left as scores: `softmax_cross_entropy`
    stays finite where `Q` has already been rounded to 0.

    Args:
        Y: Wanted probabilities in rows, shape `(n, k)`; one-hot labels are a special case.
        Q: Given probabilities in rows, shape `(n, k)`.

    Returns:
        Scalar array, at least 0.

    Raises:
        ShapeMismatchError: If the shapes of `Y` and `Q` differ or are not matrices.
        InvalidDataError: If there is not a row to take the mean over.

    Examples:
        >>> round(float(cross_entropy(jnp.array([[1.0, 0.0]]), jnp.array([[0.25, 0.75]]))), 4)
        1.3863
    """
    Y, Q = jnp.asarray(Y), jnp.asarray(Q)
    check_rows("cross_entropy", Y, Q, "Q")
    absent = (Y == 0) & (Q == 0)
    return -jnp.sum(Y * jnp.log(jnp.where(absent, 1, Q))) / Y.shape[0]


def softmax_cross_entropy(Y: ArrayLike, Z: ArrayLike) -> Array:
    """The cross-entropy of `softmax(Z)`, straight from the scores `Z`.

        out = -1/n sum_n sum_k Y[n, k] log softmax(Z)[n, k]

    Equal to `cross_entropy(Y, softmax(Z))`, but finite, and with a finite gradient, for scores that
    differ so much that a probability is rounded to 0.

    Args:
        Y: Wanted probabilities in rows, shape `(n, k)`.
        Z: Scores in rows, shape `(n, k)`.

    Returns:
        Scalar array, at least 0.

    Raises:
        ShapeMismatchError: If the shapes of `Y` and `Z` differ or are not matrices.
        InvalidDataError: If there is not a row to take the mean over.

    Examples:
        >>> print(softmax_cross_entropy(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2000.0]])))
        2000.0
    """
    Y, Z = jnp.asarray(Y), jnp.asarray(Z)
    check_rows("softmax_cross_entropy", Y, Z, "Z")
    return -jnp.sum(Y * log_softmax(Z)) / Y.shape[0]


def check_rows(name: str, Y: Array, other: Array, other_name: str) -> None:
    """Refuse a pair of matrices that a mean over rows cannot be taken of.

    Args:
        name: The function that asks, for the message.
        Y: Wanted probabilities in rows, shape `(n, k)`.
        other: What stands against them, shape `(n, k)`.
        other_name: Its name, for the message.

    Raises:
        ShapeMismatchError: If the shapes differ or are not matrices.
        InvalidDataError: If there is not a row.

    Examples:
        >>> check_rows("loss", jnp.ones((5, 2)), jnp.ones((5, 2)), "Q")
    """
    if Y.ndim != 2 or Y.shape != other.shape:
        raise ShapeMismatchError(
            f"{name}: Y has shape {Y.shape} and {other_name} has shape {other.shape}; "
            "wanted one shape (n, k) for both, n rows of k probabilities"
        )
    if Y.shape[0] == 0:
        raise InvalidDataError(f"{name}: no rows to take the mean over; Y has shape {Y.shape}")
