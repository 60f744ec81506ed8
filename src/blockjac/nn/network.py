"""The network with one hidden layer, `softmax(logistic(X W1 + b1) W2 + b2)`, and its loss."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from blockjac.errors import InvalidOptionError
from blockjac.nn.functions import affine, logistic, softmax, softmax_cross_entropy


class NetworkParams(NamedTuple):
    """The parameters of a network with `k` inputs, `h` hidden nodes and `m` classes."""

    W1: Array
    """Weights of the hidden layer, shape `(k, h)`."""
    b1: Array
    """Bias of the hidden layer, shape `(1, h)`."""
    W2: Array
    """Weights of the output layer, shape `(h, m)`."""
    b2: Array
    """Bias of the output layer, shape `(1, m)`."""


def initial_params(
    inputs: int, hidden: int, classes: int, *, seed: int = 1234, sigma: float = 0.1
) -> NetworkParams:
    """Draw the weights from a normal distribution, and set the biases to 0.

    The numbers come from NumPy's legacy generator, whose sequence for a seed never changes: first
    all of `W1`, row by row, then all of `W2`.

    Args:
        inputs: Number of inputs `k`, at least 1.
        hidden: Number of hidden nodes `h`, at least 1.
        classes: Number of classes `m`, at least 1.
        seed: Seed of the generator, from 0 to 2**32 - 1.
        sigma: Standard deviation of the weights.

    Returns:
        Parameters in JAX's default float type (float64 only where `jax_enable_x64` is on).

    Raises:
        InvalidOptionError: If a size is less than 1, or the seed is outside its range.

    Examples:
        >>> initial_params(30, 20, 2).W1.shape
        (30, 20)
    """
    for name, size in {"inputs": inputs, "hidden": hidden, "classes": classes}.items():
        if size < 1:
            raise InvalidOptionError(f"{name} is {size}; a network needs at least 1")
    if not 0 <= seed < 2**32:
        raise InvalidOptionError(f"seed is {seed}; wanted a whole number from 0 to 2**32 - 1")
    generator = np.random.RandomState(seed)
    W1 = sigma * generator.randn(inputs, hidden)
    W2 = sigma * generator.randn(hidden, classes)
    b1, b2 = np.zeros((1, hidden)), np.zeros((1, classes))
    return NetworkParams(*(jnp.asarray(value, dtype=float) for value in (W1, b1, W2, b2)))


def scores(params: NetworkParams, X: ArrayLike) -> Array:
    """The scores of the classes for each example, before the softmax.

    Args:
        params: Parameters of a network with `k` inputs and `m` classes.
        X: Examples in rows, shape `(n, k)`.

    Returns:
        Array of shape `(n, m)`.

    Raises:
        ShapeMismatchError: If `X` has other than `k` columns.

    Examples:
        >>> scores(initial_params(3, 4, 2), jnp.ones((5, 3))).shape
        (5, 2)
    """
    return affine(logistic(affine(X, params.W1, params.b1)), params.W2, params.b2)


def probabilities(params: NetworkParams, X: ArrayLike) -> Array:
    """The probability of each class for each example.

    Args:
        params: Parameters of a network with `k` inputs and `m` classes.
        X: Examples in rows, shape `(n, k)`.

    Returns:
        Array of shape `(n, m)` whose rows sum to 1.

    Raises:
        ShapeMismatchError: If `X` has other than `k` columns.

    Examples:
        >>> print(probabilities(initial_params(3, 4, 2, sigma=0.0), jnp.ones((1, 3))))
        [[0.5 0.5]]
    """
    return softmax(scores(params, X))


def loss(params: NetworkParams, X: ArrayLike, Y: ArrayLike) -> Array:
    """The mean cross-entropy between `Y` and the network's probabilities.

    It goes from the scores straight to the logarithms of the probabilities, and so stays finite,
    with a finite gradient, for a network as confident as may be.

    Args:
        params: Parameters of a network with `k` inputs and `m` classes.
        X: Examples in rows, shape `(n, k)`.
        Y: Wanted probabilities in rows, shape `(n, m)`; one-hot labels are a special case.

    Returns:
        Scalar array, at least 0.

    Raises:
        ShapeMismatchError: If the shapes do not fit.
        InvalidDataError: If no examples are given.

    Examples:
        >>> X, Y = jnp.ones((1, 3)), jnp.array([[0.0, 1.0]])
        >>> float(loss(initial_params(3, 4, 2, sigma=0.0), X, Y)) == float(jnp.log(2.0))
        True
    """
    return softmax_cross_entropy(Y, scores(params, X))


def mistakes(params: NetworkParams, X: ArrayLike, labels: ArrayLike) -> Array:
    """The number of examples whose most probable class is not their label.

    Args:
        params: Parameters of a network with `k` inputs and `m` classes.
        X: Examples in rows, shape `(n, k)`.
        labels: The true classes, integers from 0 to `m - 1`, shape `(n,)`.

    Returns:
        Scalar integer array from 0 to `n`.

    Raises:
        ShapeMismatchError: If `X` has other than `k` columns.

    Examples:
        >>> int(mistakes(initial_params(3, 4, 2, sigma=0.0), jnp.ones((5, 3)), jnp.ones(5, int)))
        5
    """
    return jnp.sum(jnp.argmax(scores(params, X), axis=1) != jnp.asarray(labels))
