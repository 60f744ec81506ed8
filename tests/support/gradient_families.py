"""Functions of machine learning, each with its gradient as a learner writes it in NumPy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support.gradient_families_of_sequences import SEQUENCES
from support.mutated_gradients import ACTIVATIONS, Problem, Writer, logistic, softmax

JAX_ACTIVATIONS = {
    "tanh": (jnp.tanh,),
    "logistic": (jax.nn.sigmoid, lambda z: 1 / (1 + jnp.exp(-z))),
    "relu": (jax.nn.relu, lambda z: jnp.maximum(z, 0)),
}


def normal(rng: Any, dtype: Any, *shape: int) -> Any:
    """A random array, of a scale at which no activation saturates."""
    return (rng.normal(size=shape) * 0.8).astype(dtype)


def one_hot(rng: Any, dtype: Any, rows: int, classes: int) -> Any:
    """Random rows of an identity."""
    return np.eye(classes, dtype=dtype)[rng.integers(classes, size=rows)]


def linear_regression(rng: Any, dtype: Any) -> Problem:
    """The mean, half or sum of squares of `X w + b - y`."""
    n, d = rng.integers(3, 8), rng.integers(2, 7)
    X, y = normal(rng, dtype, n, d), normal(rng, dtype, n)
    w, b = normal(rng, dtype, d), normal(rng, dtype)
    factor = {0: dtype(0.5), 1: dtype(1 / n), 2: dtype(1)}[int(rng.integers(3))]

    def fun(w: Any, b: Any, X: Any, y: Any) -> Any:
        return factor * jnp.sum((X @ w + b - y) ** 2)

    def write(hand: Writer) -> Any:
        r = hand.residual("r", X @ w + b, y)
        r = hand.scaled("2 r", 2 * factor * r, n)
        D_w = hand.choose(
            "w",
            X.T @ r,
            {
                "missing sum": lambda: X * r[:, None],
                "mean for sum": lambda: X.T @ r / dtype(n),
            },
        )
        return hand.leaves(hand.scaled("D_w", D_w, n), hand.summed("b", r))

    return Problem(fun, (w, np.asarray(b), X, y), (0, 1), write)


def logistic_regression(rng: Any, dtype: Any) -> Problem:
    """Cross-entropy of two classes, through probabilities or logits, with a decay of weights."""
    n, d = rng.integers(3, 9), rng.integers(2, 7)
    X, y = normal(rng, dtype, n, d), rng.integers(0, 2, n).astype(dtype)
    w = normal(rng, dtype, d)
    mean, by_logits, decays = (bool(flag) for flag in rng.integers(0, 2, 3))
    scale, decay = dtype(1 / n if mean else 1), dtype(0.3 if decays else 0)

    def fun(w: Any, X: Any, y: Any) -> Any:
        z = X @ w
        if by_logits:
            losses = jnp.logaddexp(0, z) - y * z
        else:
            p = jax.nn.sigmoid(z)
            losses = -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))
        loss = scale * jnp.sum(losses)
        return loss + decay / 2 * jnp.sum(w**2) if decays else loss

    def write(hand: Writer) -> Any:
        p = logistic(X @ w)
        q = hand.residual("q", p, y, scale, lambda: p * (1 - p))
        q = hand.scaled("q", q, n)
        D_w = hand.choose(
            "w",
            X.T @ q,
            {
                "missing sum": lambda: X * q[:, None],
                "mean for sum": lambda: X.T @ q / dtype(n),
            },
        )
        return hand.added("decay", data=D_w, decay=decay * w) if decays else D_w

    return Problem(fun, (w, X, y), 0, write)


def softmax_regression(rng: Any, dtype: Any) -> Problem:
    """Cross-entropy of several classes, of one affine layer."""
    n, d, k = rng.integers(3, 8), rng.integers(2, 6), rng.integers(2, 6)
    X, Y = normal(rng, dtype, n, d), one_hot(rng, dtype, n, k)
    W, b = normal(rng, dtype, d, k), normal(rng, dtype, k)
    scale = dtype(1 / n if rng.integers(2) else 1)
    by_logits = bool(rng.integers(2))

    def fun(W: Any, b: Any, X: Any, Y: Any) -> Any:
        Z = X @ W + b
        log_Q = jax.nn.log_softmax(Z) if by_logits else jnp.log(jax.nn.softmax(Z))
        return -scale * jnp.sum(Y * log_Q)

    def write(hand: Writer) -> Any:
        Q = softmax(X @ W + b)
        q = hand.residual("q", Q, Y, scale, lambda: Q * (1 - Q))
        q = hand.scaled("q", q, n)
        return hand.leaves(
            hand.scaled("D_W", hand.contract("W", X, q), n),
            hand.scaled("D_b", hand.summed("b", q), n),
        )

    return Problem(fun, (W, b, X, Y), (0, 1), write)


def lecture(rng: Any, dtype: Any) -> Problem:
    """Two layers with logistic activation and cross-entropy, each Jacobian by itself."""
    n, d, k = rng.integers(3, 8), rng.integers(2, 6), rng.integers(2, 5)
    h = d if rng.integers(2) else rng.integers(2, 6)
    X, Y = normal(rng, dtype, n, d), one_hot(rng, dtype, n, k)
    shapes = ((d, h), (1, h), (h, k), (1, k))
    params = [normal(rng, dtype, *shape) for shape in shapes]
    scale = dtype(1 / n)
    in_steps = bool(rng.integers(2))

    def fun(params: Any, X: Any, Y: Any) -> Any:
        W1, b1, W2, b2 = params
        A = jax.nn.sigmoid(X @ W1 + b1)
        Z = A @ W2 + b2
        Q = jnp.exp(Z - jnp.max(Z, 1, keepdims=True))
        Q = Q / jnp.sum(Q, 1, keepdims=True)
        return -scale * jnp.sum(Y * jnp.log(Q))

    def write(hand: Writer) -> Any:
        W1, b1, W2, b2 = params
        Z1 = X @ W1 + b1
        A = logistic(Z1)
        Q = softmax(A @ W2 + b2)
        if in_steps:
            q2 = hand.softmax("softmax", hand.scaled("D_Q l", -scale * Y / Q, n), Q)
        else:
            q2 = hand.residual("q2", Q, Y, scale, lambda: Q * (1 - Q))
        a1 = hand.back("W2 back", q2, W2, [W1])
        q1 = hand.slope("slope", a1, "logistic", Z1, A)
        q1 = hand.scaled("q1", q1, n)
        return hand.leaves(
            hand.contract("W1", X, q1, [A, Z1]),
            hand.summed("b1", q1, keepdims=True),
            hand.contract("W2", A, q2, [X, Z1], [q1]),
            hand.summed("b2", q2, keepdims=True),
        )

    return Problem(fun, (params, X, Y), 0, write)


def perceptron(rng: Any, dtype: Any) -> Problem:
    """Three layers of one activation and a squared error."""
    n = rng.integers(3, 7)
    d, h, g, k = (int(rng.integers(2, 6)) for _ in range(4))
    if rng.integers(2):
        d = g = h
    X, T = normal(rng, dtype, n, d), normal(rng, dtype, n, k)
    W1, W2, W3 = normal(rng, dtype, d, h), normal(rng, dtype, h, g), normal(rng, dtype, g, k)
    b1, b2 = normal(rng, dtype, h), normal(rng, dtype, g)
    name = str(rng.choice(["tanh", "relu", "logistic"]))
    variants = JAX_ACTIVATIONS[name]
    activation = variants[rng.integers(len(variants))]
    factor = {0: dtype(0.5), 1: dtype(1 / n)}[int(rng.integers(2))]

    def fun(params: Any) -> Any:
        W1, b1, W2, b2, W3 = params
        A1 = activation(X @ W1 + b1)
        A2 = activation(A1 @ W2 + b2)
        return factor * jnp.sum((A2 @ W3 - T) ** 2)

    def write(hand: Writer) -> Any:
        function = ACTIVATIONS[name][0]
        Z1 = X @ W1 + b1
        A1 = function(Z1)
        Z2 = A1 @ W2 + b2
        A2 = function(Z2)
        q3 = hand.residual("q3", A2 @ W3, T, 2 * factor)
        q3 = hand.scaled("q3", q3, n)
        q2 = hand.slope("slope2", hand.back("W3 back", q3, W3, [W1, W2]), name, Z2, A2)
        q1 = hand.slope("slope1", hand.back("W2 back", q2, W2, [W1, W3]), name, Z1, A1)
        q1 = hand.scaled("q1", q1, n)
        return hand.leaves(
            hand.contract("W1", X, q1, [A1, Z1, A2], [q2, q3]),
            hand.summed("b1", q1),
            hand.contract("W2", A1, q2, [X, Z1, A2], [q1, q3]),
            hand.summed("b2", q2),
            hand.contract("W3", A2, q3, [X, A1, Z2], [q1, q2]),
        )

    return Problem(fun, ([W1, b1, W2, b2, W3],), 0, write)


def residual_network(rng: Any, dtype: Any) -> Problem:
    """`H = X + tanh(X W)`, twice with the same weights, and a weighted sum of squares."""
    n, d = rng.integers(3, 7), rng.integers(2, 6)
    X, W = normal(rng, dtype, n, d), normal(rng, dtype, d, d)
    C = normal(rng, dtype, n, d)

    def fun(W: Any, X: Any) -> Any:
        H = X + jnp.tanh(X @ W)
        O = H + jnp.tanh(H @ W)  # noqa: E741
        return jnp.sum(C * O**2)

    def write(hand: Writer) -> Any:
        T1 = np.tanh(X @ W)
        H = X + T1
        T2 = np.tanh(H @ W)
        q = hand.scaled("q", 2 * C * (H + T2), n)
        q2 = hand.slope("slope2", q, "tanh", H @ W, T2)
        h = hand.added("skip", identity=q, layer=hand.back("W back 2", q2, W))
        q1 = hand.slope("slope1", h, "tanh", X @ W, T1)
        D_W = hand.added(
            "shared",
            second=hand.contract("W 2", H, q2, [X]),
            first=hand.contract("W 1", X, q1, [H]),
        )
        D_X = hand.added("skip 1", identity=h, layer=hand.back("W back 1", q1, W))
        return hand.leaves(D_W, D_X)

    return Problem(fun, (W, X), (0, 1), write)


def quadratic_form(rng: Any, dtype: Any) -> Problem:
    """`x' A x / 2 + b' x` by all three."""
    d = int(rng.integers(2, 7))
    x, A, b = normal(rng, dtype, d), normal(rng, dtype, d, d), normal(rng, dtype, d)

    def fun(x: Any, A: Any, b: Any) -> Any:
        return x @ A @ x / 2 + b @ x

    def write(hand: Writer) -> Any:
        half = dtype(0.5)
        quadratic = hand.added("x", forward=half * (A @ x), transposed=half * (A.T @ x))
        D_x = hand.added("sum", quadratic=quadratic, linear=b)
        D_A = hand.choose(
            "A",
            half * np.outer(x, x),
            {"dot for outer": lambda: np.full((d, d), half * (x @ x), dtype)},
        )
        return hand.leaves(D_x, hand.scaled("D_A", D_A), hand.scaled("D_b", x))

    return Problem(fun, (x, A, b), (0, 1, 2), write)


def least_squares(rng: Any, dtype: Any) -> Problem:
    """`|A x - b|^2 / 2` with a ridge, by A, x and b; and a bilinear form `u' W v`."""
    m, d = rng.integers(2, 6), rng.integers(2, 6)
    A, x, b = normal(rng, dtype, m, d), normal(rng, dtype, d), normal(rng, dtype, m)
    ridge = dtype(0.7)

    def fun(A: Any, x: Any, b: Any) -> Any:
        r = A @ x - b
        return 0.5 * jnp.dot(r, r) + ridge * jnp.sum(x**2)

    def write(hand: Writer) -> Any:
        r = hand.scaled("r", hand.residual("r", A @ x, b))
        D_A = hand.choose(
            "A",
            np.outer(r, x),
            {
                "transposed": lambda: np.outer(x, r),
                "dot for outer": (lambda: np.full((m, d), r @ x, dtype)) if m == d else None,
            },
        )
        fit = hand.choose(
            "x",
            A.T @ r,
            {
                "weights not transposed": (lambda: A @ r) if m == d else None,
                "missing sum": lambda: A * r[:, None],
            },
        )
        return hand.leaves(D_A, hand.added("ridge", fit=fit, ridge=2 * ridge * x), -r)

    return Problem(fun, (A, x, b), (0, 1, 2), write)


FAMILIES = {
    "linear regression": linear_regression,
    "logistic regression": logistic_regression,
    "softmax regression": softmax_regression,
    "lecture": lecture,
    "perceptron": perceptron,
    "residual network": residual_network,
    "quadratic form": quadratic_form,
    "least squares": least_squares,
    **SEQUENCES,
}
