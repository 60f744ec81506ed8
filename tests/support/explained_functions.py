"""Functions whose explanations are tested, each with `argnums` and arguments."""

import jax
import jax.numpy as jnp
from support.explained_programs import (
    DATA,
    LABELS,
    attention,
    convolution,
    layer_norm,
    normal,
    several,
)

import blockjac
from blockjac import nn


def lecture(W1, b1, W2, b2):
    phi_1, psi_1 = blockjac.step("phi_1")(nn.affine), blockjac.step("psi_1", "X_2")(nn.logistic)
    phi_2, psi_2 = blockjac.step("phi_2")(nn.affine), blockjac.step("psi_2")(nn.softmax)
    ell = blockjac.step("ell")(nn.cross_entropy)
    return ell(LABELS, psi_2(phi_2(psi_1(phi_1(DATA, W1, b1)), W2, b2)))


def residual(x, W, V):
    h = x
    for _ in range(3):
        h = h + jnp.tanh(h @ W) @ V
    return jnp.sum(h**2)


def result_is_read_again(x, y):
    first = jnp.sin(x) * y
    return first, jnp.cumsum(first) * x


def stencil(x):
    difference = (x[1:] - x[:-1]) * jnp.sin(x[1:])
    return difference[1:] * difference[:-1] * x[1:-1]


def looked_up(x, table):
    rows = table[jnp.array([0, 2, 2, 1])]
    return jnp.sum(jnp.tanh(rows * x), axis=1) * x[:4]


def reshaped(x, A):
    return jnp.sin((jnp.sin(x) * x).reshape(2, 3)) @ A * 2.0


def strided(x):
    return jnp.flip(jnp.sin(x)[::2] * x[1::2]) * jnp.pad(x[:2] * x[1:3], (1, 0))


FUNCTIONS = {
    "lecture": (lecture, (0, 1, 2, 3), normal(3, 4), normal(1, 4), normal(4, 2), normal(1, 2)),
    "residual network": (residual, (1, 2), normal(3, 2), normal(2, 4), normal(4, 2)),
    "attention": (attention, (0, 1, 2, 3), normal(4, 3), normal(3, 2), normal(3, 2), normal(3, 5)),
    "convolution": (convolution, (0, 1), normal(2, 1, 6), normal(2, 1, 3)),
    "layer norm": (layer_norm, (0, 1, 2), normal(2, 4), normal(4), normal(4)),
    "several results": (several, 0, normal(5)),
    "a result is read again": (result_is_read_again, (0, 1), normal(4), normal(4)),
    "stencil": (stencil, 0, normal(7)),
    "looked up": (looked_up, (0, 1), normal(5), normal(3, 5)),
    "reshaped": (reshaped, (0, 1), normal(6), normal(3, 2)),
    "strided": (strided, 0, normal(6)),
    "einsum": (
        lambda a, b, c: jnp.einsum("bij,bjk,k->bi", jnp.sin(a), b, c) ** 2,
        (0, 1, 2),
        normal(2, 2, 3),
        normal(2, 3, 2),
        normal(2),
    ),
    "quadratic form": (lambda x, A: x @ jnp.sin(A) @ x, (0, 1), normal(3), normal(3, 3)),
    "log determinant": (lambda A: jnp.linalg.slogdet(A @ A)[1], 0, normal(3, 3)),
    "same twice": (lambda x: jnp.sin(x) * x + x * x, 0, normal(3)),
    "gelu": (lambda x: jax.nn.gelu(x) + jax.nn.softplus(x), 0, normal(3)),
}


def explained(name):
    """The explanation of a function of the table."""
    function, argnums, *arguments = FUNCTIONS[name]
    return blockjac.explain(function, argnums)(*arguments)


def many_steps(x):
    """A function of 1,000 steps that is not a chain."""
    for _ in range(500):
        x = jnp.sin(x) * x
    return jnp.sum(x)


def long_chain(x):
    """A chain of 1,000 steps."""
    for _ in range(1000):
        x = jnp.sin(x)
    return jnp.sum(x)
