"""Mistakes made by hand: lookups, targets, slopes of other layers, single numbers."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import check_grad

RNG = np.random.default_rng(8)


def normal(*shape):
    return RNG.normal(size=shape)


TABLE, WEIGHTS, TARGETS = normal(6, 3), normal(3), normal(4)
IDS = np.array([0, 2, 2, 5])


def looked_up(table):
    return jnp.sum((table[IDS] @ WEIGHTS - TARGETS) ** 2)


@pytest.mark.parametrize("accumulates", [False, True])
def test_lookups_of_one_row_are_added_up(accumulates):
    def gradient(table):
        q = 2 * (table[IDS] @ WEIGHTS - TARGETS)[:, None] * WEIGHTS
        D = np.zeros_like(table)
        if accumulates:
            np.add.at(D, IDS, q)
        else:
            D[IDS] += q  # adds the last one only
        return D

    report = check_grad(looked_up, gradient, TABLE)
    assert report.mistakes == (() if accumulates else ("missing sum",))
    assert accumulates or "np.add.at(d, i, q) adds up" in str(report)


X, Y, W1, W2 = normal(5, 3), normal(5, 3), normal(3, 3), normal(3, 3)


def layers(W1, W2):
    return 0.5 * jnp.sum((jnp.tanh(jax.nn.relu(X @ W1) @ W2) - Y) ** 2)


def by_hand(W1, W2, mistake=""):
    z = X @ W1
    h = np.maximum(z, 0)
    a = np.tanh(h @ W2)
    residual = a + Y if mistake == "target" else a - Y
    outer = residual * (1 - a**2)
    slope = z > 0
    if mistake == "slope":
        slope = 1 - a**2
    if mistake == "tanh":
        slope = 1 - np.tanh(z) ** 2
    return X.T @ ((outer @ W2.T) * slope), h.T @ outer


NAMES = {
    "": (),
    "target": ("sign of a term",),
    "slope": ("wrong factor",),
    "tanh": ("derivative of another function",),
}


@pytest.mark.parametrize("mistake", NAMES)
def test_targets_and_slopes(mistake):
    report = check_grad(layers, lambda *a: by_hand(*a, mistake), W1, W2, argnums=(0, 1))
    assert report.mistakes == NAMES[mistake], str(report)


def test_a_constant_that_is_left_out_but_for_its_sign():
    y = np.sign(normal(5))
    A, Z = normal(3, 4), normal(5, 4)

    def loss(A):
        return jnp.sum(jax.nn.softplus(-y * jnp.sum((X @ A) * Z, axis=1)))

    def gradient(A):
        margins = y * ((X @ A) * Z).sum(1)
        return X.T @ ((-1 / (1 + np.exp(margins)))[:, None] * Z)

    assert check_grad(loss, gradient, A).mistakes == ("missing factor",)


def squares(a):
    return jnp.sum(jnp.tanh(a * TARGETS) ** 2)


@pytest.mark.parametrize(
    ("factor", "mistakes"), [(1.0, ()), (2.0, ("constant factor",)), (1.2371, ())]
)
def test_any_two_numbers_have_a_quotient_that_is_no_mistake(factor, mistakes):
    a = np.array(0.7)
    report = check_grad(squares, lambda a: factor * jax.grad(squares)(a), a)
    assert report.right == (factor == 1)
    assert report.mistakes == mistakes
    assert "all the others are right" not in str(report)


def test_an_axis_without_entries_and_numbers_too_large_to_multiply():
    def loss(a, b):
        def step(h, x):
            return jnp.tanh(a * h + x), (h - x) ** 2

        return jax.lax.scan(step, b, TARGETS)[1].sum() + jnp.sum(jnp.zeros((0, 3)) * a)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_grad(loss, lambda a, b: (a, b), np.array(0.7), np.array(0.2), argnums=(0, 1))
    assert not report
