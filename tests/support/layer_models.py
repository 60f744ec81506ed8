"""Models with weights of all kinds, each written twice: as users do, and with its layers marked.

The marked one has no loops and calls `tap(name, inputs, outputs)` behind each layer, with inputs
of shape `(examples, positions, i)` and outputs of shape `(examples, positions, h)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support.curvature_cases import array, cross_entropy, mean_squares


@dataclass(frozen=True)
class LayerCase:
    model: Callable[..., Any]
    marked: Callable[..., Any]
    params: Any
    X: Any
    Y: Any
    loss: Callable[..., Any] = mean_squares
    axes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """For each matrix the axes that are inputs and those that are outputs; (0,) and (1,) mostly."""


N = 4


def flat_positions(array):
    """`(examples, positions, last)`."""
    return jnp.reshape(array, (array.shape[0], -1, array.shape[-1]))


def soft(n, c):
    return jax.nn.softmax(array(n, c))


def shaped(tap, name, inputs, outputs):
    """Mark a layer whose positions are all axes but the first and the last."""
    return jnp.reshape(tap(name, flat_positions(inputs), flat_positions(outputs)), outputs.shape)


# A network over time, weights shared by all positions, mean at the end


def tokens(params, X):
    Z = jnp.tanh(X @ params["W"] + params["b"])
    return jnp.mean(Z, axis=1) @ params["V"]


def tokens_marked(params, X, tap):
    Z = jnp.tanh(shaped(tap, "W", X, X @ params["W"] + params["b"]))
    pooled = jnp.mean(Z, axis=1)
    return shaped(tap, "V", pooled[:, None], (pooled @ params["V"])[:, None])[:, 0]


# Flattened positions: (N T, d) rows


def rows(params, X):
    Z = jnp.tanh(X.reshape(-1, X.shape[-1]) @ params["W"])
    return (Z @ params["V"]).reshape(X.shape[0], X.shape[1], -1)[:, -1]


def rows_marked(params, X, tap):
    Z = jnp.tanh(shaped(tap, "W", X, X @ params["W"]))
    return shaped(tap, "V", Z, Z @ params["V"])[:, -1]


# Convolutions

LAYOUT = ("NHWC", "HWIO", "NHWC")


def patches(X, height, width, stride, padding):
    """`(n, y, x, height * width * channels)`, by slices."""
    if padding == "SAME":  # of odd sizes and stride 1
        X = jnp.pad(X, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    rows_ = (X.shape[1] - height) // stride + 1
    columns = (X.shape[2] - width) // stride + 1
    parts = [
        X[:, i : i + stride * rows_ : stride, j : j + stride * columns : stride][
            :, :rows_, :columns
        ]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(parts, axis=-1)


def convolve(X, K, stride, padding):
    return jax.lax.conv_general_dilated(X, K, (stride,) * 2, padding, dimension_numbers=LAYOUT)


def images(params, X):
    Z = jax.nn.relu(convolve(X, params["K"], 1, "SAME") + params["b"])
    Z = jnp.tanh(convolve(Z, params["L"], 2, "VALID"))
    return jnp.mean(Z, axis=(1, 2)) @ params["W"]


def images_marked(params, X, tap):
    def layer(name, X, stride, padding):
        K = params[name]
        P = patches(X, *K.shape[:2], stride, padding)
        return shaped(tap, name, P, P @ K.reshape(-1, K.shape[-1]))

    Z = jax.nn.relu(layer("K", X, 1, "SAME") + params["b"])
    pooled = jnp.mean(jnp.tanh(layer("L", Z, 2, "VALID")), axis=(1, 2))
    return shaped(tap, "W", pooled[:, None], (pooled @ params["W"])[:, None])[:, 0]


# Lookups


def embedded(params, X):
    return jnp.tanh(jnp.mean(params["E"][X] @ params["W"], axis=1)) @ params["V"]


def embedded_marked(params, X, tap):
    hot = jax.nn.one_hot(X, len(params["E"]), dtype=params["E"].dtype)
    Z = shaped(tap, "E", hot, hot @ params["E"])
    Z = shaped(tap, "W", Z, Z @ params["W"])
    pooled = jnp.tanh(jnp.mean(Z, axis=1))
    return shaped(tap, "V", pooled[:, None], (pooled @ params["V"])[:, None])[:, 0]


# Recurrent networks: in a scan, and with the gates' weights sliced


def recurrent(params, X):
    def step(state, x):
        return jnp.tanh(x @ params["W"] + state @ params["U"] + params["b"]), None

    start = jnp.zeros((X.shape[0], params["U"].shape[0]))
    return jax.lax.scan(step, start, jnp.swapaxes(X, 0, 1))[0] @ params["V"]


def recurrent_marked(params, X, tap):
    state = jnp.zeros((X.shape[0], params["U"].shape[0]))
    for t in range(X.shape[1]):
        z = shaped(tap, "W", X[:, t, None], (X[:, t] @ params["W"])[:, None])[:, 0]
        z += shaped(tap, "U", state[:, None], (state @ params["U"])[:, None])[:, 0]
        state = jnp.tanh(z + params["b"])
    return shaped(tap, "V", state[:, None], (state @ params["V"])[:, None])[:, 0]


# Heads: weights with several output axes, and with several input axes


def heads(params, X):
    Q = jnp.einsum("nti,ihk->nthk", X, params["Q"])
    weights = jax.nn.softmax(jnp.einsum("nthk,nshk->nhts", Q, Q))
    Z = jnp.einsum("nhts,nshk->nthk", weights, Q)
    return jnp.mean(jnp.einsum("nthk,hko->nto", Z, params["O"]), axis=1)


def heads_marked(params, X, tap):
    i, h, k = params["Q"].shape
    Q = shaped(tap, "Q", X, X @ params["Q"].reshape(i, -1)).reshape(*X.shape[:2], h, k)
    weights = jax.nn.softmax(jnp.einsum("nthk,nshk->nhts", Q, Q))
    Z = jnp.einsum("nhts,nshk->nthk", weights, Q).reshape(*X.shape[:2], h * k)
    return jnp.mean(shaped(tap, "O", Z, Z @ params["O"].reshape(h * k, -1)), axis=1)


# Used as users write: transposed, reshaped, one example under vmap, rematerialized, jitted


def dressed(params, X):
    @jax.checkpoint
    def hidden(W, x):
        return jnp.tanh(W.T @ x)

    @jax.jit
    def one(x):
        return params["V"].reshape(-1, 2).T @ hidden(params["W"], x)

    return jax.vmap(one)(X)


def dressed_marked(params, X, tap):
    Z = jnp.tanh(shaped(tap, "W", X[:, None], (X @ params["W"])[:, None]))
    return shaped(tap, "V", Z, Z @ params["V"].reshape(-1, 2))[:, 0]


# Weights of their own for each layer of a loop, head or channel; the mark's name says which


def stacked(params, X):
    def layer(Z, own):
        W, b = own
        return jnp.tanh(Z @ W + b), None

    return jax.lax.scan(layer, X, (params["W"], params["b"]))[0] @ params["V"]


def stacked_marked(params, X, tap):
    Z = X
    for number, (W, b) in enumerate(zip(params["W"], params["b"], strict=True)):
        Z = jnp.tanh(shaped(tap, f"W {number}", Z, Z @ W + b))
    return shaped(tap, "V", Z, Z @ params["V"])


def channels(params, X):
    Z = jax.lax.conv_general_dilated(
        X, params["K"], (1, 1), "VALID", dimension_numbers=LAYOUT, feature_group_count=X.shape[-1]
    )
    Z = jnp.einsum("nyxi,hio->nyxho", jnp.tanh(Z), params["H"])
    return jnp.mean(jnp.einsum("nyxho,hok->nyxhk", jnp.tanh(Z), params["W"]), axis=(1, 2, 3))


def channels_marked(params, X, tap):
    parts = []
    for c in range(X.shape[-1]):
        K = params["K"][..., 0, c]
        P = patches(X[..., c, None], *K.shape, 1, "VALID")
        parts.append(shaped(tap, f"K {c}", P, P @ K.reshape(-1, 1)))
    Z = jnp.tanh(jnp.concatenate(parts, axis=-1))
    heads_, outs = params["H"].shape[0], []
    width = params["H"].shape[2]
    Q = shaped(tap, "H", Z, jnp.einsum("nyxi,hio->nyxho", Z, params["H"]).reshape(*Z.shape[:3], -1))
    Q = jnp.tanh(Q).reshape(*Z.shape[:3], heads_, width)
    for h in range(heads_):
        outs.append(shaped(tap, f"W {h}", Q[..., h, :], Q[..., h, :] @ params["W"][h]))
    return jnp.mean(jnp.stack(outs), axis=(0, 2, 3))


# Gates: slices of one matrix are layers of their own


def gates(params, X):
    U, b = params["U"], params["b"]
    size = U.shape[0]

    def step(state, x):
        gates_ = x @ params["W"]
        reset = jax.nn.sigmoid(gates_[:, :size] + state @ U[:, :size])
        new = jnp.tanh(gates_[:, size:] + (reset * state) @ U[:, size:] + b)
        return new, None

    start = jnp.zeros((X.shape[0], size))
    return jax.lax.scan(step, start, jnp.swapaxes(X, 0, 1))[0]


CASES = {
    "positions": LayerCase(
        tokens,
        tokens_marked,
        {"W": array(3, 4), "b": array(4), "V": array(4, 2)},
        array(N, 5, 3),
        soft(N, 2),
        cross_entropy,
    ),
    "flattened positions": LayerCase(
        rows, rows_marked, {"W": array(3, 4), "V": array(4, 2)}, array(N, 5, 3), array(N, 2)
    ),
    "images": LayerCase(
        images,
        images_marked,
        {"K": array(3, 3, 2, 3), "b": array(3), "L": array(2, 2, 3, 4), "W": array(4, 2)},
        array(N, 5, 6, 2),
        soft(N, 2),
        cross_entropy,
        {"K": ((0, 1, 2), (3,)), "L": ((0, 1, 2), (3,))},
    ),
    "lookups": LayerCase(
        embedded,
        embedded_marked,
        {"E": array(7, 3), "W": array(3, 4), "V": array(4, 2)},
        jnp.asarray(np.random.default_rng(1).integers(7, size=(N, 5))),
        soft(N, 2),
        cross_entropy,
    ),
    "recurrent": LayerCase(
        recurrent,
        recurrent_marked,
        {"W": array(3, 4), "U": array(4, 4), "b": array(4), "V": array(4, 2)},
        array(N, 5, 3),
        array(N, 2),
    ),
    "heads": LayerCase(
        heads,
        heads_marked,
        {"Q": array(3, 2, 4), "O": array(2, 4, 3)},
        array(N, 5, 3),
        soft(N, 3),
        cross_entropy,
        {"Q": ((0,), (1, 2)), "O": ((0, 1), (2,))},
    ),
    "dressed": LayerCase(
        dressed,
        dressed_marked,
        {"W": array(3, 4), "V": array(2, 2, 2)},
        array(N, 3),
        soft(N, 2),
        cross_entropy,
        {"V": ((0, 1), (2,))},
    ),
    "stacked": LayerCase(
        stacked,
        stacked_marked,
        {"W": array(3, 4, 4), "b": array(3, 4), "V": array(4, 2)},
        array(N, 5, 4),
        jnp.stack([soft(5, 2)] * N),
        cross_entropy,
        {"W": ((1,), (2,))},
    ),
    "channels": LayerCase(
        channels,
        channels_marked,
        {"K": array(2, 3, 1, 3), "H": array(2, 3, 4), "W": array(2, 4, 3)},
        array(N, 4, 4, 3),
        soft(N, 3),
        cross_entropy,
        {"K": ((0, 1, 2), ()), "H": ((1,), (0, 2)), "W": ((1,), (2,))},
    ),
}


# The factors by JAX alone


def marks(case):
    """For each weight the inputs of its uses and the outputs by their results.

    Returns:
        By name a list of `(inputs, jacobian)`, of shapes `(n, t, i)` and `(outputs, n, t, h)`.
    """
    shapes: list[tuple[str, Any]] = []
    inputs: list[Any] = []

    def note(name, entering, leaving):
        shapes.append((name, leaving.shape))
        inputs.append(entering)
        return leaving

    outputs = case.marked(case.params, case.X, note)
    np.testing.assert_allclose(outputs, case.model(case.params, case.X), rtol=1e-10, atol=1e-12)

    def shifted(shifts):
        own = iter(shifts)
        return case.marked(case.params, case.X, lambda _, __, leaving: leaving + next(own)).ravel()

    jacobians = jax.jacrev(shifted)([jnp.zeros(shape) for _, shape in shapes])
    uses: dict[str, list[Any]] = {}
    for (name, _), entering, jacobian in zip(shapes, inputs, jacobians, strict=True):
        uses.setdefault(name, []).append((entering, jacobian))
    return uses, outputs


def inner(case, outputs):
    hessian = jax.hessian(lambda Z: case.loss(case.Y, Z))(outputs)
    return hessian.reshape(outputs.size, outputs.size)


def factors(case, kfac_approx, H=None):
    """By name, A and G as matrices."""
    uses, outputs = marks(case)
    H = inner(case, outputs) if H is None else H
    answers = {}
    for name, own in uses.items():
        positions = sum(entering.shape[1] for entering, _ in own)
        count = own[0][0].shape[0]
        if kfac_approx == "reduce":
            own = [
                (
                    sum(entering.sum(1, keepdims=True) for entering, _ in own),
                    sum(jacobian.sum(2, keepdims=True) for _, jacobian in own),
                )
            ]
        rows_ = count * positions ** (2 if kfac_approx == "reduce" else 1)
        A = sum(jnp.einsum("nti,ntj->ij", entering, entering) for entering, _ in own) / rows_
        G = sum(jnp.einsum("anth,ab,bntk->hk", J, H, J) for _, J in own)
        answers[name] = A, G
    return answers
