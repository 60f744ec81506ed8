"""Further programs with gradients by hand: likelihoods, shared weights, graphs, gates, filters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support.mutated_gradients import Problem, Writer, logistic, softmax


def normal(rng: Any, dtype: Any, *shape: int) -> Any:
    """A random array, of a scale at which nothing saturates."""
    return (rng.normal(size=shape) * 0.7).astype(dtype)


def sizes(rng: Any, count: int, low: int = 2, high: int = 6) -> list[int]:
    """Random sizes, some of them equal."""
    drawn = [int(size) for size in rng.integers(low, high, count)]
    if rng.integers(3) == 0:
        drawn[-1] = drawn[0]
    return drawn


def vector(hand: Writer, piece: str, X: Any, q: Any) -> Any:
    """`X.T @ q` of a vector q."""
    return hand.choose(
        piece,
        X.T @ q,
        {
            "missing sum": lambda: X * q[:, None],
            "mean for sum": lambda: X.T @ q / X.dtype.type(len(X)),
        },
    )


def poisson(rng: Any, dtype: Any) -> Problem:
    """The likelihood of counts, `sum(exp(X w + b) - y (X w + b))`."""
    n, d = sizes(rng, 2, 3, 7)
    X, w, b = normal(rng, dtype, n, d), normal(rng, dtype, d), np.asarray(normal(rng, dtype))
    y = rng.integers(0, 4, n).astype(dtype)

    def fun(w: Any, b: Any) -> Any:
        eta = X @ w + b
        return jnp.mean(jnp.exp(eta) - y * eta)

    def write(hand: Writer) -> Any:
        q = hand.residual("q", np.exp(X @ w + b), y, dtype(1 / n))
        q = hand.scaled("q", q, n)
        return hand.leaves(vector(hand, "w", X, q), hand.summed("b", q))

    return Problem(fun, (w, b), (0, 1), write)


def margins(rng: Any, dtype: Any) -> Problem:
    """Logistic loss or squared hinge of labels -1 and 1, with a ridge."""
    n, d = sizes(rng, 2, 3, 7)
    X, w = normal(rng, dtype, n, d), normal(rng, dtype, d)
    y = rng.choice([-1, 1], n).astype(dtype)
    y[:2] = 1, -1
    hinge = bool(rng.integers(2))
    lam = dtype(0.25)

    def fun(w: Any, X: Any, y: Any) -> Any:
        m = y * (X @ w)
        losses = jnp.maximum(0, 1 - m) ** 2 if hinge else jnp.log1p(jnp.exp(-m))
        return jnp.sum(losses) + 0.5 * lam * jnp.dot(w, w)

    def write(hand: Writer) -> Any:
        m = y * (X @ w)
        slope = -2 * np.maximum(0, 1 - m) if hinge else -logistic(-m)
        slope = hand.scaled("slope", slope, n)
        q = hand.choose("labels", slope * y, {"weights left out": lambda: slope})
        return hand.added("ridge", data=vector(hand, "w", X, q), ridge=lam * w)

    return Problem(fun, (w, X, y), 0, write)


def gaussian(rng: Any, dtype: Any) -> Problem:
    """The likelihood of numbers whose mean and log-variance are linear."""
    n, d = sizes(rng, 2, 3, 7)
    X, y = normal(rng, dtype, n, d), normal(rng, dtype, n)
    u, v = normal(rng, dtype, d), normal(rng, dtype, d)

    def fun(params: Any) -> Any:
        mean, s = X @ params["mean"], X @ params["scale"]
        return 0.5 * jnp.sum(jnp.exp(-s) * (y - mean) ** 2 + s)

    def write(hand: Writer) -> Any:
        mean, s = X @ u, X @ v
        half = dtype(0.5)
        q = hand.residual("mean", mean, y)
        q = hand.choose("weights", np.exp(-s) * q, {"weights left out": lambda: q})
        square = half * np.exp(-s) * (y - mean) ** 2
        r = hand.added("scale", square=-square, log=np.full(n, half, dtype))
        return {
            "mean": vector(hand, "D_mean", X, hand.scaled("q", q, n)),
            "scale": vector(hand, "D_scale", X, hand.scaled("r", r, n)),
        }

    return Problem(fun, ({"mean": u, "scale": v},), 0, write)


def smooth_network(rng: Any, dtype: Any) -> Problem:
    """Softplus, silu or sine in a network with one hidden layer, by `jax.vmap`."""
    n, d, h = sizes(rng, 3)
    X, y = normal(rng, dtype, n, d), normal(rng, dtype, n)
    W, b, v = normal(rng, dtype, d, h), normal(rng, dtype, h), normal(rng, dtype, h)
    kind = ("softplus", "silu", "sine")[rng.integers(3)]
    activation = {"softplus": jax.nn.softplus, "silu": jax.nn.silu, "sine": jnp.sin}[kind]

    def fun(W: Any, b: Any, v: Any) -> Any:
        def loss(x: Any, t: Any) -> Any:
            return (activation(x @ W + b) @ v - t) ** 2

        return jnp.mean(jax.vmap(loss)(X, y))

    def write(hand: Writer) -> Any:
        Z = X @ W + b
        A, S = {
            "softplus": lambda: (np.log1p(np.exp(Z)), logistic(Z)),
            "silu": lambda: (
                Z * logistic(Z),
                logistic(Z) + Z * logistic(Z) * (1 - logistic(Z)),
            ),
            "sine": lambda: (np.sin(Z), np.cos(Z)),
        }[kind]()
        r = hand.residual("r", A @ v, y, dtype(2 / n))
        r = hand.scaled("r", r, n)
        G = np.outer(r, v)
        q = hand.choose(
            "slope",
            G * S,
            {
                "slope left out": lambda: G,
                "slope twice": lambda: G * S * S,
                "value for slope": lambda: G * A,
            },
        )
        return hand.leaves(
            hand.contract("W", X, q, [A, Z]), hand.summed("b", q), vector(hand, "v", A, r)
        )

    return Problem(fun, (W, b, v), (0, 1, 2), write)


def shared_in_time(rng: Any, dtype: Any) -> Problem:
    """One matrix for all positions of all sequences, by einsum, and softmax cross-entropy."""
    b, t, d, k = sizes(rng, 4)
    X, W = normal(rng, dtype, b, t, d), normal(rng, dtype, d, k)
    Y = np.eye(k, dtype=dtype)[rng.integers(k, size=(b, t))]

    def fun(W: Any) -> Any:
        logits = jnp.einsum("btd,dk->btk", X, W)
        return -jnp.sum(Y * jax.nn.log_softmax(logits)) / (b * t)

    def write(hand: Writer) -> Any:
        P = softmax(np.einsum("btd,dk->btk", X, W))
        q = hand.residual("q", P, Y, dtype(1 / (b * t)), lambda: P * (1 - P))
        q = hand.scaled("q", q, b)
        return hand.choose(
            "W",
            np.einsum("btd,btk->dk", X, q),
            {
                "missing sum/batch": lambda: np.einsum("btd,btk->bdk", X, q),
                "missing sum/both": lambda: np.einsum("btd,btk->btdk", X, q),
                "transposed": lambda: np.einsum("btd,btk->kd", X, q),
                "mean for sum": lambda: np.einsum("btd,btk->dk", X, q) / dtype(b),
            },
        )

    return Problem(fun, (W,), 0, write)


def embedding(rng: Any, dtype: Any) -> Problem:
    """Rows of a table looked up, a tanh layer, and a squared error."""
    words, n, d, k = sizes(rng, 4)
    table, W = normal(rng, dtype, words, d), normal(rng, dtype, d, k)
    ids, T = rng.integers(words, size=n), normal(rng, dtype, n, k)

    def fun(table: Any, W: Any) -> Any:
        return 0.5 * jnp.sum((jnp.tanh(table[ids] @ W) - T) ** 2)

    def write(hand: Writer) -> Any:
        X = table[ids]
        Z = X @ W
        A = np.tanh(Z)
        q = hand.scaled("q", hand.residual("q", A, T), n)
        q = hand.slope("slope", q, "tanh", Z, A)
        rows = hand.back("back", q, W)
        D_table = np.zeros_like(table)
        np.add.at(D_table, ids, rows)
        return hand.leaves(hand.scaled("D_table", D_table), hand.contract("W", X, q))

    return Problem(fun, (table, W), (0, 1), write)


def cosine(rng: Any, dtype: Any) -> Problem:
    """Cosines between rows of two matrices."""
    n, d = sizes(rng, 2, 3, 6)
    X, C = normal(rng, dtype, n, d), normal(rng, dtype, n, d)

    def fun(X: Any) -> Any:
        norms = jnp.sqrt(jnp.sum(X**2, axis=1, keepdims=True))
        return jnp.sum(C * (X / norms))

    def write(hand: Writer) -> Any:
        norms = np.sqrt((X**2).sum(1, keepdims=True))
        U = X / norms
        dots = (C * U).sum(1, keepdims=True)
        inner = hand.added("row", direct=C, radial=-U * dots)
        return hand.choose(
            "norm", hand.scaled("row", inner) / norms, {"weights left out": lambda: inner}
        )

    return Problem(fun, (X,), 0, write)


def graph_network(rng: Any, dtype: Any) -> Problem:
    """Two layers of `A H W` on a graph that need not be symmetric."""
    n, d, h, k = sizes(rng, 4)
    A = (rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.7)).astype(dtype)
    A += np.eye(n, dtype=dtype)
    X, T = normal(rng, dtype, n, d), normal(rng, dtype, n, k)
    W1, W2 = normal(rng, dtype, d, h), normal(rng, dtype, h, k)

    def fun(W1: Any, W2: Any, A: Any, X: Any) -> Any:
        H = jax.nn.relu(A @ X @ W1)
        return 0.5 * jnp.sum((A @ H @ W2 - T) ** 2)

    def write(hand: Writer) -> Any:
        Z = A @ X @ W1
        H = np.maximum(Z, 0)
        q = hand.scaled("q", hand.residual("q", A @ H @ W2, T), n)
        back = hand.choose("A back", A.T @ q, {"weights not transposed": lambda: A @ q})
        g = hand.slope("slope", hand.back("W2 back", back, W2), "relu", Z, H)
        return hand.leaves(
            hand.choose("W1", X.T @ A.T @ g, {"weights left out": lambda: X.T @ g}),
            hand.choose("W2", H.T @ back, {"wrong input": lambda: (A @ H).T @ back}),
        )

    return Problem(fun, (W1, W2, A, X), (0, 1), write)


def autoencoder(rng: Any, dtype: Any) -> Problem:
    """`tanh(X W) W'` with one matrix for both directions."""
    n, d, h = sizes(rng, 3)
    X, W = normal(rng, dtype, n, d), normal(rng, dtype, d, h)

    def fun(W: Any) -> Any:
        H = jnp.tanh(X @ W)
        return jnp.sum((H @ W.T - X) ** 2) / n

    def write(hand: Writer) -> Any:
        H = np.tanh(X @ W)
        r = hand.scaled("r", hand.residual("r", H @ W.T, X, dtype(2 / n)), n)
        q = hand.slope("slope", r @ W, "tanh", X @ W, H)
        return hand.added(
            "tied",
            encoder=hand.contract("encoder", X, q),
            decoder=hand.choose("decoder", r.T @ H, {"wrong input": lambda: r.T @ (X @ W)}),
        )

    return Problem(fun, (W,), 0, write)


def kernel(rng: Any, dtype: Any) -> Problem:
    """`a' K a` for `K = exp(-|x_i - x_j|^2 / 2)`, by the points and by a."""
    n, d = sizes(rng, 2, 3, 6)
    X, a = normal(rng, dtype, n, d), normal(rng, dtype, n)

    def fun(X: Any, a: Any) -> Any:
        D = X[:, None, :] - X[None, :, :]
        K = jnp.exp(-0.5 * jnp.sum(D**2, -1))
        return a @ K @ a

    def write(hand: Writer) -> Any:
        D = X[:, None, :] - X[None, :, :]
        K = np.exp(-dtype(0.5) * (D**2).sum(-1))
        G = np.outer(a, a) * K
        G = hand.choose("slope", G, {"slope left out": lambda: np.outer(a, a)})
        rows, columns = -np.einsum("ij,ijd->id", G, D), np.einsum("ij,ijd->jd", G, D)
        D_X = hand.added("X", rows=rows, columns=columns)
        D_a = hand.added("a", left=K @ a, right=K.T @ a)
        return hand.leaves(hand.scaled("D_X", D_X, n), hand.scaled("D_a", D_a))

    return Problem(fun, (X, a), (0, 1), write)


def second_difference(rng: Any, dtype: Any) -> Problem:
    """`sum((D2 u - f)^2)` of a rod, and a boundary term."""
    n = int(rng.integers(5, 10))
    u, f = normal(rng, dtype, n), normal(rng, dtype, n - 2)

    def fun(u: Any) -> Any:
        r = u[2:] - 2 * u[1:-1] + u[:-2] - f
        return 0.5 * jnp.sum(r**2) + u[0] ** 2

    def write(hand: Writer) -> Any:
        r = hand.residual("r", u[2:] - 2 * u[1:-1] + u[:-2], f)
        r = hand.scaled("r", r)
        zeros = [np.zeros(n, dtype) for _ in range(4)]
        zeros[0][2:], zeros[1][1:-1], zeros[2][:-2], zeros[3][0] = r, -2 * r, r, 2 * u[0]
        return hand.added(
            "stencil", right=zeros[0], middle=zeros[1], left=zeros[2], boundary=zeros[3]
        )

    return Problem(fun, (u,), 0, write)


def gated(rng: Any, dtype: Any) -> Problem:
    """`h = z * tanh(x U) + (1 - z) * h` with a gate z, over time, by a Python loop."""
    steps, n, d, h = sizes(rng, 4, 2, 5)
    X, T = normal(rng, dtype, steps, n, d), normal(rng, dtype, n, h)
    U, V = normal(rng, dtype, d, h), normal(rng, dtype, d, h)

    def cell(state: Any, x: Any, U: Any, V: Any) -> Any:
        z = jax.nn.sigmoid(x @ V)
        return z * jnp.tanh(x @ U) + (1 - z) * state

    def fun(U: Any, V: Any) -> Any:
        state = jnp.ones((n, h), dtype)
        for x in X:
            state = cell(state, x, U, V)
        return jnp.sum((state - T) ** 2)

    def write(hand: Writer) -> Any:
        states, gates, news = [np.ones((n, h), dtype)], [], []
        for x in X:
            gates.append(logistic(x @ V))
            news.append(np.tanh(x @ U))
            states.append(gates[-1] * news[-1] + (1 - gates[-1]) * states[-1])
        q = hand.scaled("q", hand.residual("q", states[-1], T, dtype(2)), n)
        D_U, D_V = np.zeros_like(U), np.zeros_like(V)
        for t in reversed(range(steps)):
            z, c = gates[t], news[t]
            g = hand.choose("gate", q * z, {"weights left out": lambda q=q: q})
            D_U = D_U + X[t].T @ hand.slope("new", g, "tanh", X[t] @ U, c)
            dz = hand.added("dz", new=q * c, old=-q * states[t])
            D_V = D_V + X[t].T @ hand.slope("z", dz, "logistic", X[t] @ V, z)
            q = hand.choose("keep", q * (1 - z), {"weights left out": lambda q=q: q})
        return hand.leaves(hand.scaled("D_U", D_U), hand.scaled("D_V", D_V, n))

    return Problem(fun, (U, V), (0, 1), write)


def channels(rng: Any, dtype: Any) -> Problem:
    """A convolution of several channels, relu, the mean over positions, and a squared error."""
    n, size, c, k, width = (int(rng.integers(2, 5)) for _ in range(5))
    size += width
    X = normal(rng, dtype, n, c, size)
    W, b, T = normal(rng, dtype, k, c, width), normal(rng, dtype, k), normal(rng, dtype, n, k)
    count = size - width + 1

    def fun(W: Any, b: Any) -> Any:
        Z = jax.lax.conv_general_dilated(X, W, (1,), "VALID") + b[:, None]
        return 0.5 * jnp.sum((jnp.mean(jax.nn.relu(Z), -1) - T) ** 2)

    def write(hand: Writer) -> Any:
        windows = np.stack([X[:, :, j : j + count] for j in range(width)], -1)
        Z = np.einsum("nctj,kcj->nkt", windows, W) + b[:, None]
        A = np.maximum(Z, 0)
        r = hand.scaled("r", hand.residual("r", A.mean(-1), T), n)
        g = hand.choose("pool", r / dtype(count), {"factor/pool": lambda: r})
        full = np.repeat(g[:, :, None], count, 2)
        q = hand.slope("slope", full, "relu", Z, A)
        D_W = np.einsum("nkt,nctj->kcj", q, windows)
        D_b = hand.choose(
            "b",
            q.sum((0, 2)),
            {
                "missing sum": lambda: q.sum(2),
                "missing sum/positions": lambda: q.sum(0),
                "mean for sum": lambda: q.mean(2).sum(0),
            },
        )
        return hand.leaves(hand.scaled("D_W", D_W, n), D_b)

    return Problem(fun, (W, b), (0, 1), write)


MORE = {
    "poisson": poisson,
    "margins": margins,
    "gaussian": gaussian,
    "smooth network": smooth_network,
    "shared in time": shared_in_time,
    "embedding": embedding,
    "cosine": cosine,
    "graph network": graph_network,
    "autoencoder": autoencoder,
    "kernel": kernel,
    "second difference": second_difference,
    "gated": gated,
    "channels": channels,
}
