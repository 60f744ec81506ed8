"""Models, losses and data for second-order tests, and the dense matrices that JAX makes of them."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

RNG = np.random.default_rng(8)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


# Losses: the targets come first


def squares(Y, Q):
    return 0.5 * jnp.sum((Q - Y) ** 2)


def mean_squares(Y, Q):
    return 0.5 * jnp.mean(jnp.sum((Q - Y) ** 2, axis=tuple(range(1, Q.ndim))))


def cross_entropy(Y, Z):
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=-1))


def cross_entropy_of_classes(Y, Z):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(Z), Y[:, None], axis=1))


def logistic(Y, q):
    return jnp.sum(jnp.logaddexp(0, q) - Y * q)


def poisson(Y, q):
    return jnp.mean(jnp.exp(q) - Y * q)


def of_tree(Y, Q):
    return squares(Y["mean"], Q["mean"]) + jnp.sum(jnp.exp(Q["scale"]) * Q["mean"][:, 0])


# Models: the parameters come first


def linear(params, X):
    return X @ params["W"] + params["b"]


def one_output(w, X):
    return X @ w


def network(params, X):
    """Any number of layers, tanh between."""
    *inner, (W, b) = params
    for V, c in inner:
        X = jnp.tanh(X @ V + c)
    return X @ W + b


def two_outputs(params, X):
    hidden = jnp.tanh(X @ params["W"])
    return {"mean": hidden @ params["V"], "scale": hidden @ params["v"]}


def convolution(kernel, X):
    Z = jnp.tanh(jax.lax.conv(X, kernel, (1, 1), "VALID"))
    return jnp.sum(Z, axis=(2, 3))


def recurrent(params, X):
    def step(state, x):
        return jnp.tanh(x @ params["W"] + state @ params["U"]), None

    start = jnp.zeros((X.shape[0], params["U"].shape[0]), X.dtype)
    return jax.lax.scan(step, start, jnp.swapaxes(X, 0, 1))[0]


def batch_norm(params, X):
    Z = X @ params["W"]
    Z = (Z - Z.mean(axis=0)) / jnp.sqrt(Z.var(axis=0) + 0.1)
    return jnp.tanh(Z) @ params["V"]


def shared_over_time(W, X):
    return jnp.tanh(X @ W)


def layers(*sizes):
    return tuple((array(k, h) / np.sqrt(k), array(1, h)) for k, h in itertools.pairwise(sizes))


@dataclass(frozen=True)
class Problem:
    model: Any
    loss: Any
    params: Any
    X: Any
    Y: Any

    @property
    def arguments(self):
        return self.params, self.X, self.Y


PROBLEMS = {
    "linear": Problem(linear, squares, {"W": array(3, 2), "b": array(2)}, array(5, 3), array(5, 2)),
    "logistic": Problem(one_output, logistic, array(3), array(6, 3), jnp.array([0, 1, 1, 0, 1, 0])),
    "poisson": Problem(one_output, poisson, array(3), array(6, 3), jnp.arange(6)),
    "one layer": Problem(
        network, cross_entropy, layers(4, 3), array(5, 4), jax.nn.softmax(array(5, 3))
    ),
    "two layers": Problem(
        network, cross_entropy_of_classes, layers(3, 4, 3), array(5, 3), jnp.array([0, 2, 1, 1, 0])
    ),
    "three layers": Problem(network, mean_squares, layers(3, 4, 3, 2), array(4, 3), array(4, 2)),
    "one example": Problem(
        network, cross_entropy, layers(3, 4, 2), array(1, 3), jax.nn.softmax(array(1, 2))
    ),
    "axes of size 1": Problem(network, squares, layers(1, 3, 1), array(4, 1), array(4, 1)),
    "two outputs": Problem(
        two_outputs,
        of_tree,
        {"W": array(3, 4), "V": array(4, 2), "v": array(4)},
        array(5, 3),
        {"mean": array(5, 2)},
    ),
    "convolution": Problem(convolution, squares, array(2, 1, 2, 2), array(3, 1, 4, 4), array(3, 2)),
    "recurrent": Problem(
        recurrent, squares, {"W": array(2, 3), "U": array(3, 3)}, array(4, 3, 2), array(4, 3)
    ),
    "batch norm": Problem(
        batch_norm, squares, {"W": array(3, 4), "V": array(4, 2)}, array(6, 3), array(6, 2)
    ),
    "shared over time": Problem(
        shared_over_time, mean_squares, array(2, 3), array(4, 5, 2), array(4, 5, 3)
    ),
}


# The dense matrices by JAX alone


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def jacobian(model, params, X):
    """The outputs by the parameters, both flattened."""
    point, back = ravel_pytree(params)
    return np.asarray(jax.jit(jax.jacrev(lambda v: ravel_pytree(model(back(v), X))[0]))(point))


def inner_hessian(loss, Y, outputs):
    point, back = ravel_pytree(outputs)
    return np.asarray(jax.jit(jax.hessian(lambda v: loss(Y, back(v))))(point))


def gauss_newton(problem):
    """`J' H J`."""
    J = jacobian(problem.model, problem.params, problem.X)
    H = inner_hessian(problem.loss, problem.Y, problem.model(problem.params, problem.X))
    return J.T @ H @ J


def direction(params):
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(3)
    return jax.tree.unflatten(
        tree, [jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    )


def close(found, wanted, rtol=1e-10):
    scale = max(float(np.max(np.abs(wanted), initial=0.0)), 1.0)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * scale)
