"""Programs that explanations are tried on: networks, filters, and small programs of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import blockjac
from blockjac import nn

rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(rng.normal(size=shape))


def lecture(W1, b1, W2, b2):
    phi_1, psi_1 = blockjac.step("phi_1")(nn.affine), blockjac.step("psi_1")(nn.logistic)
    phi_2, psi_2 = blockjac.step("phi_2")(nn.affine), blockjac.step("psi_2")(nn.softmax)
    ell = blockjac.step("ell")(nn.cross_entropy)
    return ell(LABELS, psi_2(phi_2(psi_1(phi_1(DATA, W1, b1)), W2, b2)))


DATA = normal(5, 3)
LABELS = jnp.eye(2)[jnp.array([0, 1, 1, 0, 1])]


def residual(x, W, V):
    h = x
    for _ in range(2):
        h = h + jnp.tanh(h @ W) @ V
    return jnp.sum(h**2)


def attention(X, Q, K, V):
    scores = (X @ Q) @ (X @ K).T / 2.0
    return jax.nn.softmax(scores) @ (X @ V)


def recurrent(W, U, h, xs):
    def one(h, x):
        return jnp.tanh(W @ h + U @ x), None

    return jnp.sum(lax.scan(one, h, xs)[0] ** 2)


def convolution(x, kernel):
    y = lax.conv_general_dilated(x, kernel, (1,), "SAME")
    return jnp.sum(jnp.tanh(y) ** 2)


def kalman(A, P, z):
    def one(state, z):
        m, P = state
        P = A @ P @ A.T + jnp.eye(2)
        S = P[0, 0] + 1.0
        K = P[:, 0] / S
        error = z - (A @ m)[0]
        return (A @ m + K * error, P - jnp.outer(K, P[0])), jnp.log(S) + error**2 / S

    return jnp.sum(lax.scan(one, (jnp.zeros(2), P), z)[1])


def layer_norm(x, gamma, beta):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5) * gamma + beta


def several(x):
    top, rest = x[0] * x[1], x[2:]
    return {"a": jnp.sin(rest) * top, "b": jnp.sum(x**3)}


def two_results(x):
    values, indices = lax.top_k(x, 2)
    del indices
    return values * jnp.flip(x)[:2]


CASES = {
    "residual network": (residual, (1, 2), normal(3, 2), normal(2, 4), normal(4, 2)),
    "attention": (attention, (0, 1, 2, 3), normal(4, 3), normal(3, 2), normal(3, 2), normal(3, 5)),
    "recurrence": (recurrent, (0, 1, 2), normal(2, 2), normal(2, 3), normal(2), normal(4, 3)),
    "convolution": (convolution, (0, 1), normal(2, 1, 6), normal(2, 1, 3)),
    "Kalman filter": (kalman, (0, 1), jnp.eye(2) + 0.1 * normal(2, 2), jnp.eye(2), normal(3)),
    "layer norm": (layer_norm, (0, 1, 2), normal(2, 4), normal(4), normal(4)),
    "several results": (several, 0, normal(5)),
    "results of shared values": (lambda x: (jnp.sin(x) * x, jnp.sin(x) ** 2), 0, normal(3)),
    "top k": (two_results, 0, normal(5)),
    "stencil": (lambda x: (x[1:] - x[:-1]) ** 2, 0, normal(6)),
    "strided": (lambda x: x[::2] * x[1::2], 0, normal(6)),
    "reversed": (lambda x: jnp.flip(x) * x, 0, normal(4)),
    "padded": (lambda x: jnp.sin(jnp.pad(x, (2, 1))), 0, normal(4)),
    "concatenated": (
        lambda x, y: jnp.concatenate([x, 2 * y, x]) ** 2,
        (0, 1),
        normal(2),
        normal(3),
    ),
    "gathered": (lambda x: x[jnp.array([0, 2, 2])] ** 2, 0, normal(4)),
    "quadratic form": (lambda x, A: x @ A @ x, (0, 1), normal(3), normal(3, 3)),
    "log determinant": (lambda A: jnp.linalg.slogdet(A)[1], 0, normal(3, 3)),
    "reshaped": (lambda x, A: jnp.sin(x.reshape(2, 3)) @ A, (0, 1), normal(6), normal(3, 2)),
    "trace": (lambda A, B: jnp.trace(A @ B), (0, 1), normal(2, 3), normal(3, 2)),
    "transposed": (lambda A: A.T @ A, 0, normal(2, 3)),
    "maximum": (lambda x: jnp.max(x, axis=0) * jnp.maximum(x[0], 0), 0, normal(2, 3)),
    "scalars": (lambda a, b: jnp.sin(a) * b + a, (0, 1), 0.3, 2.0),
    "identity": (lambda x: x, 0, normal(3)),
    "constant": (lambda x: jnp.ones(2) + 0 * x[0], 0, normal(3)),
    "same twice": (lambda x: x * x + x, 0, normal(3)),
    "branches": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.tanh, x) * x, 0, normal(3)),
    "batch norm": (
        lambda x, g: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 0.1) * g,
        (0, 1),
        normal(4, 2),
        normal(2),
    ),
    "einsum": (
        lambda a, b, c: jnp.einsum("bij,bjk,k->bi", a, b, c),
        (0, 1, 2),
        normal(2, 2, 3),
        normal(2, 3, 2),
        normal(2),
    ),
    "gelu": (lambda x: jax.nn.gelu(x) + jax.nn.softplus(x) + jax.nn.elu(x), 0, normal(3)),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, axis=1), 0, normal(2, 3)),
}
