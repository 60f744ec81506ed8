"""The gradient of the lecture's network: the calculus must cost nothing beside the arithmetic."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers
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


def torch_gradient(arrays: list[np.ndarray]) -> Callable[..., Any]:
    """The gradient of `loss` by PyTorch's tape."""
    torch = peers.torch_module()
    *params, X, Y = (peers.tensor_of(array) for array in arrays)
    leaves = [parameter.requires_grad_() for parameter in params]

    def gradient(*_: Any) -> tuple[Any, ...]:
        W1, b1, W2, b2 = leaves
        hidden = torch.sigmoid(X @ W1 + b1)
        loss = -(Y * torch.log_softmax(hidden @ W2 + b2, 1)).sum(1).mean()
        return torch.autograd.grad(loss, leaves)

    return peers.waited_for(gradient)


def autograd_gradient(arrays: list[np.ndarray]) -> Callable[..., Any]:
    """The gradient of `loss` by autograd's tape."""
    import autograd
    import autograd.numpy as anp

    *params, X, Y = arrays

    def loss(params: tuple[Any, ...]) -> Any:
        W1, b1, W2, b2 = params
        hidden = 0.5 * (1 + anp.tanh(0.5 * (X @ W1 + b1)))
        Z = hidden @ W2 + b2
        Z = Z - anp.max(Z, axis=1, keepdims=True)
        logarithms = Z - anp.log(anp.sum(anp.exp(Z), axis=1, keepdims=True))
        return -anp.mean(anp.sum(Y * logarithms, axis=1))

    computed = autograd.grad(loss)
    return lambda *_: computed(tuple(params))


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
        others={
            "torch": harness.Peer(lambda: torch_gradient(arrays), compiled=False),
            "autograd": harness.Peer(lambda: autograd_gradient(arrays), compiled=False),
        },
        dense="jax.grad",
        alike=(harness.OURS, "jax.grad", "NumPy by hand"),
        claims=(
            harness.Claim(1.05, ("jax.grad",)),
            harness.Claim(1.05, ("torch", "autograd")),
        ),
    )


TASKS = {"gradient": gradient}

if __name__ == "__main__":
    harness.main("The lecture's gradient costs what jax.grad's does", TASKS)
