"""Gradients by hand of recurrences, attention, normalization, convolution and factorization."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support.mutated_gradients import Problem, Writer, softmax


def normal(rng: Any, dtype: Any, *shape: int) -> Any:
    """A random array, of a scale at which no activation saturates."""
    return (rng.normal(size=shape) * 0.8).astype(dtype)


def recurrence(rng: Any, dtype: Any) -> Problem:
    """`h = tanh(h W + x U + b)` over time, by scan or a loop, and squares of all or the last."""
    steps, n, d = (int(rng.integers(2, 5)) for _ in range(3))
    h = int(rng.integers(2, 5))
    X = normal(rng, dtype, steps, n, d)
    W, U, b = normal(rng, dtype, h, h), normal(rng, dtype, d, h), normal(rng, dtype, h)
    T = normal(rng, dtype, n, h)
    scans = bool(rng.integers(2))

    def fun(W: Any, U: Any, b: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            return jnp.tanh(state @ W + x @ U + b), None

        state = jnp.zeros((n, h), dtype)
        if scans:
            state, _ = jax.lax.scan(step, state, X)
        else:
            for x in X:
                state, _ = step(state, x)
        return 0.5 * jnp.sum((state - T) ** 2)

    def write(hand: Writer) -> Any:
        states = [np.zeros((n, h), dtype)]
        arguments = []
        for x in X:
            arguments.append(states[-1] @ W + x @ U + b)
            states.append(np.tanh(arguments[-1]))
        q = hand.scaled("residual", hand.residual("residual", states[-1], T), n)
        D_W, D_U, D_b = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
        for t in reversed(range(steps)):
            z = hand.slope("slope", q, "tanh", arguments[t], states[t + 1])
            D_W = D_W + hand.choose(
                "W",
                states[t].T @ z,
                {
                    "transposed": lambda t=t, z=z: (states[t].T @ z).T,
                    "wrong input": lambda t=t, z=z: states[t + 1].T @ z,
                    "mean for sum": lambda t=t, z=z: states[t].T @ z / dtype(n),
                },
            )
            D_U = D_U + X[t].T @ z
            D_b = D_b + hand.choose("b", z.sum(0), {"mean for sum": lambda z=z: z.mean(0)})
            q = hand.back("W back", z, W)
        return hand.leaves(
            hand.scaled("D_W", D_W), hand.scaled("D_U", D_U, n), hand.scaled("D_b", D_b)
        )

    return Problem(fun, (W, U, b), (0, 1, 2), write)


def normalization(rng: Any, dtype: Any) -> Problem:
    """Layer or batch normalization with gain and shift, and a squared error."""
    n, d = int(rng.integers(3, 7)), int(rng.integers(3, 7))
    X, T = normal(rng, dtype, n, d), normal(rng, dtype, n, d)
    gain, shift = normal(rng, dtype, d) + dtype(1), normal(rng, dtype, d)
    axis = int(rng.integers(2))
    epsilon = dtype(1e-3)

    def fun(X: Any, gain: Any, shift: Any) -> Any:
        centred = X - jnp.mean(X, axis, keepdims=True)
        variance = jnp.mean(centred**2, axis, keepdims=True)
        hat = centred / jnp.sqrt(variance + epsilon)
        return 0.5 * jnp.sum((gain * hat + shift - T) ** 2)

    def write(hand: Writer) -> Any:
        centred = X - X.mean(axis, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis, keepdims=True) + epsilon)
        hat = centred / deviation
        q = hand.residual("q", gain * hat + shift, T)
        q = hand.scaled("q", q, n)
        g = hand.choose("gain", q * gain, {"weights left out": lambda: q})
        parts = {
            "direct": g,
            "mean": -g.mean(axis, keepdims=True),
            "variance": -hat * (g * hat).mean(axis, keepdims=True),
        }
        total = parts["direct"] + parts["mean"] + parts["variance"]
        D_X = hand.choose(
            "X",
            total / deviation,
            {
                "term left out/mean": lambda: (total - parts["mean"]) / deviation,
                "term left out/variance": lambda: (total - parts["variance"]) / deviation,
                "sign of a term/variance": lambda: (total - 2 * parts["variance"]) / deviation,
                "term left out/both": lambda: g / deviation,
            },
        )
        return hand.leaves(D_X, hand.summed("gain", q * hat), hand.summed("shift", q))

    return Problem(fun, (X, gain, shift), (0, 1, 2), write)


def attention(rng: Any, dtype: Any) -> Problem:
    """One head of attention and a squared error."""
    n, d = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    h = d if rng.integers(2) else int(rng.integers(2, 5))
    X, T = normal(rng, dtype, n, d), normal(rng, dtype, n, h)
    Wq, Wk, Wv = (normal(rng, dtype, d, h) for _ in range(3))
    scale = dtype(1 / np.sqrt(h))

    def fun(Wq: Any, Wk: Any, Wv: Any) -> Any:
        P = jax.nn.softmax((X @ Wq) @ (X @ Wk).T * scale)
        return 0.5 * jnp.sum((P @ (X @ Wv) - T) ** 2)

    def write(hand: Writer) -> Any:
        Q, K, V = X @ Wq, X @ Wk, X @ Wv
        P = softmax(Q @ K.T * scale)
        q = hand.scaled("q", hand.residual("q", P @ V, T), n)
        v = hand.choose("V", P.T @ q, {"weights not transposed": lambda: P @ q})
        s = hand.softmax("softmax", q @ V.T, P)
        s = hand.choose("scale", s * scale, {"factor/scale": lambda: s})
        return hand.leaves(
            hand.contract("Wq", X, hand.choose("K", s @ K, {"wrong input": lambda: s @ Q})),
            hand.contract(
                "Wk", X, hand.choose("Q", s.T @ Q, {"weights not transposed": lambda: s @ Q})
            ),
            hand.contract("Wv", X, v),
        )

    return Problem(fun, (Wq, Wk, Wv), (0, 1, 2), write)


def convolution(rng: Any, dtype: Any) -> Problem:
    """A filter over a signal with a bias, tanh, and a squared error."""
    size, width = int(rng.integers(6, 10)), int(rng.integers(2, 5))
    x, w, b = normal(rng, dtype, size), normal(rng, dtype, width), np.asarray(normal(rng, dtype))
    count = size - width + 1
    t = normal(rng, dtype, count)
    by_jax = bool(rng.integers(2))

    def fun(x: Any, w: Any, b: Any) -> Any:
        if by_jax:
            z = jnp.convolve(x, w[::-1], mode="valid")
        else:
            z = sum(w[j] * x[j : j + count] for j in range(width))
        return 0.5 * jnp.sum((jnp.tanh(z + b) - t) ** 2)

    def write(hand: Writer) -> Any:
        z = np.correlate(x, w, "valid") + b
        a = np.tanh(z)
        q = hand.scaled("r", hand.residual("r", a, t), count)
        q = hand.slope("slope", q, "tanh", z, a)
        D_x = np.convolve(q, w)
        D_w = hand.choose(
            "w",
            np.correlate(x, q, "valid"),
            {
                "mean for sum": lambda: np.correlate(x, q, "valid") / dtype(count),
            },
        )
        return hand.leaves(hand.scaled("D_x", D_x), hand.scaled("D_w", D_w), hand.summed("b", q))

    return Problem(fun, (x, w, b), (0, 1, 2), write)


def factorization(rng: Any, dtype: Any) -> Problem:
    """`sum(M * (U V' - R)^2)` with a decay of both factors."""
    m, n, r = int(rng.integers(2, 6)), int(rng.integers(2, 6)), int(rng.integers(2, 5))
    n = m if rng.integers(2) else n
    U, V, R = normal(rng, dtype, m, r), normal(rng, dtype, n, r), normal(rng, dtype, m, n)
    M = rng.integers(0, 2, (m, n)).astype(dtype)
    M[0, 0] = 1
    decay = dtype(0.1)

    def fun(U: Any, V: Any) -> Any:
        E = M * (U @ V.T - R)
        return jnp.sum(E**2) + decay * (jnp.sum(U**2) + jnp.sum(V**2))

    def write(hand: Writer) -> Any:
        E = hand.residual("E", U @ V.T, R, 2 * M)
        E = hand.scaled("E", E)
        square = m == n
        D_U = hand.choose(
            "U",
            E @ V,
            {
                "weights not transposed": (lambda: E.T @ V) if square else None,
                "wrong input": (lambda: E @ U) if square else None,
            },
        )
        D_V = hand.choose(
            "V",
            E.T @ U,
            {
                "weights not transposed": (lambda: E @ U) if square else None,
                "wrong input": (lambda: E.T @ V) if square else None,
            },
        )
        return hand.leaves(
            hand.added("U", data=D_U, decay=2 * decay * U),
            hand.added("V", data=D_V, decay=2 * decay * V),
        )

    return Problem(fun, (U, V), (0, 1), write)


def softmax_jacobian(rng: Any, dtype: Any) -> Problem:
    """The Jacobian of a softmax, of a vector or of each row."""
    n, d = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    batched = bool(rng.integers(2))
    Z = normal(rng, dtype, n, d) if batched else normal(rng, dtype, d)

    def write(hand: Writer) -> Any:
        P = softmax(Z)
        eye = np.eye(d, dtype=dtype)
        outer = P[..., :, None] * P[..., None, :]
        diagonal = P[..., None] * eye
        dots = (P * P).sum(-1)[..., None, None]
        J = hand.choose(
            "J",
            diagonal - outer,
            {
                "dot for outer": lambda: diagonal - dots,
                "missing delta": lambda: P[..., :, None] - outer,
                "term left out/outer": lambda: diagonal,
                "term left out/diagonal": lambda: -outer,
                "sign of a term": lambda: diagonal + outer,
                "factor of a term": lambda: diagonal - 2 * outer,
            },
        )
        J = hand.scaled("J", J)
        if not batched:
            return J
        deltas = np.eye(n, dtype=dtype)
        return hand.choose(
            "batch",
            np.einsum("nm,nij->nimj", deltas, J),
            {
                "missing delta/shape": lambda: J,
                "missing delta/ones": lambda: np.einsum("nm,nij->nimj", np.ones_like(deltas), J),
            },
        )

    return Problem(jax.nn.softmax, (Z,), 0, write)


SEQUENCES = {
    "recurrence": recurrence,
    "normalization": normalization,
    "attention": attention,
    "convolution": convolution,
    "factorization": factorization,
    "softmax Jacobian": softmax_jacobian,
}
