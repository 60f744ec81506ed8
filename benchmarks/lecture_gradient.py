"""The gradient of the lecture's network: the calculus must cost nothing beside the arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from blockjac import data, nn

Params = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def loss(params: Params, X: jax.Array, Y: jax.Array) -> jax.Array:
    """The mean cross-entropy of softmax(logistic(X W1 + b1) W2 + b2), as users of JAX write it."""
    W1, b1, W2, b2 = params
    hidden = jax.nn.sigmoid(X @ W1 + b1)
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(hidden @ W2 + b2), axis=1))


def numpy_gradient(
    params: tuple[np.ndarray, ...], X: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The gradient of `loss` written out in NumPy."""
    W1, b1, W2, b2 = params
    hidden = 1 / (1 + np.exp(-(X @ W1 + b1)))
    Z = hidden @ W2 + b2
    Q = np.exp(Z - Z.max(axis=1, keepdims=True))
    Q /= Q.sum(axis=1, keepdims=True)
    q = (Q - Y) / len(X)
    back = q @ W2.T * hidden * (1 - hidden)
    return (
        X.T @ back,
        back.sum(axis=0, keepdims=True),
        hidden.T @ q,
        q.sum(axis=0, keepdims=True),
    )


def lecture_problem() -> tuple[Params, jax.Array, jax.Array]:
    """The lecture's first parameters and its 400 training examples, one-hot labels."""
    train = data.split(data.wisconsin(), 400).train
    params = nn.initial_params(30, 20, 2, seed=1234)
    return tuple(params), jnp.asarray(train.X), jnp.asarray(data.one_hot(train.labels, 2))


def gradient() -> harness.Task:
    """The gradient by all four parameters."""
    params, X, Y = lecture_problem()
    arrays = [np.asarray(leaf) for leaf in (*params, X, Y)]
    return harness.Task(
        title="Gradient of the lecture's loss, 400 x 30, 20 hidden, 2 classes",
        arguments=(params, X, Y),
        contenders={harness.OURS: blockjac.grad(loss), "jax.grad": jax.grad(loss)},
        uncompiled={
            "NumPy by hand": lambda *_: numpy_gradient(tuple(arrays[:4]), arrays[4], arrays[5])
        },
        alike=(harness.OURS, "jax.grad", "NumPy by hand"),
        claims=(harness.Claim(1.05, ("jax.grad",)),),
    )


if __name__ == "__main__":
    harness.main("The lecture's gradient costs what jax.grad's does", {"gradient": gradient})
