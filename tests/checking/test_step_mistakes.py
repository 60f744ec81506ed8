"""Mistakes within one step of the chain rule, written by hand as learners write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import check_jacobian

RNG = np.random.default_rng(11)
X = RNG.normal(size=(6, 5))
Y = np.eye(3)[[0, 1, 2, 2, 1, 0]]
PARAMS = [RNG.normal(size=shape) for shape in ((5, 4), (1, 4), (4, 3), (1, 3))]


def logistic(z):
    return 1 / (1 + jnp.exp(-z))


def softmax(z):
    numerators = jnp.exp(z - jnp.max(z, axis=1, keepdims=True))
    return numerators / jnp.sum(numerators, axis=1, keepdims=True)


def loss_of(activation, normalize):
    def loss(params):
        W1, b1, W2, b2 = params
        Q = normalize(activation(X @ W1 + b1) @ W2 + b2)
        return -jnp.sum(Y * jnp.log(Q)) / len(X)

    return loss


def gradient(activation, slope, residual):
    """The gradient of the network's loss by hand, in which two steps can be replaced."""

    def D_loss(params):
        W1, b1, W2, b2 = params
        Z = X @ W1 + b1
        A = np.asarray(activation(Z))
        Q = np.asarray(softmax(A @ W2 + b2))
        outer = residual(Q)
        inner = (outer @ W2.T) * np.asarray(slope(Z, A))
        sums = (part.sum(axis=0, keepdims=True) for part in (inner, outer))
        return [X.T @ inner, next(sums), A.T @ outer, next(sums)]

    return D_loss


def exact_residual(Q):
    return (Q - Y) / len(X)


SLOPES = {
    "derivative left out": lambda z, a: np.ones_like(a),
    "derivative taken twice": lambda z, a: (a * (1 - a)) ** 2,
    "value for the derivative": lambda z, a: a,
    "argument for the value": lambda z, a: z * (1 - z),
    "derivative of another function": lambda z, a: 1 - a**2,
    "derivative at the value": lambda z, a: logistic(a) * (1 - logistic(a)),
}

RESIDUALS = {
    "Jacobian left out": lambda Q: -Y / Q / len(X),
    "diagonal for the Jacobian": lambda Q: -Y * (1 - Q) / len(X),
}


def named(report, name, *leaves):
    """Check that the leaves at some positions, and no others, have a mistake of this name."""
    wrong = [position for position, leaf in enumerate(report.leaves) if not leaf.right]
    assert wrong == list(leaves), str(report)
    assert report.mistakes == (name,), str(report)
    return str(report)


@pytest.mark.parametrize("name", SLOPES)
def test_a_wrong_derivative_of_the_activation(name):
    D_loss = gradient(logistic, SLOPES[name], exact_residual)
    text = named(check_jacobian(loss_of(logistic, softmax), D_loss, PARAMS), name, 0, 1)
    assert "neg, exp, add, div at" in text
    assert "(logistic)" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", RESIDUALS)
def test_a_wrong_jacobian_of_the_softmax(name):
    D_loss = gradient(logistic, lambda z, a: a * (1 - a), RESIDUALS[name])
    text = named(check_jacobian(loss_of(logistic, softmax), D_loss, PARAMS), name, 0, 1, 2, 3)
    assert "(softmax)" in text


@pytest.mark.slow
def test_activations_of_jax():
    functions = (jax.nn.sigmoid, lambda z: jax.nn.softmax(z, axis=1))
    D_loss = gradient(logistic, SLOPES["argument for the value"], exact_residual)
    text = named(
        check_jacobian(loss_of(*functions), D_loss, PARAMS), "argument for the value", 0, 1
    )
    assert "z * (1 - z) was taken for a * (1 - a)" in text
    assert "the derivative of logistic at" in text


@pytest.mark.slow
def test_the_logistic_derivative_for_that_of_tanh():
    D_loss = gradient(jnp.tanh, lambda z, a: a * (1 - a), exact_residual)
    text = named(
        check_jacobian(loss_of(jnp.tanh, softmax), D_loss, PARAMS),
        "derivative of another function",
        *(0, 1),
    )
    assert "which is the derivative of the logistic function" in text


@pytest.mark.slow
def test_single_precision():
    params = [part.astype(np.float32) for part in PARAMS]
    D_loss = gradient(logistic, SLOPES["derivative left out"], exact_residual)
    loss = loss_of(logistic, softmax)
    named(check_jacobian(loss, D_loss, params), "derivative left out", 0, 1)


def test_a_logistic_function_within_a_line():
    def loss(params):
        W1, b1, W2, b2 = params
        A = 1 / (1 + jnp.exp(-(X @ W1 + b1)))
        return -jnp.sum(Y * jnp.log(softmax(A @ W2 + b2))) / len(X)

    D_loss = gradient(logistic, SLOPES["derivative taken twice"], exact_residual)
    named(check_jacobian(loss, D_loss, PARAMS), "derivative taken twice", 0, 1)


def test_two_mistakes_at_once_are_not_named():
    D_loss = gradient(logistic, SLOPES["argument for the value"], RESIDUALS["Jacobian left out"])
    report = check_jacobian(loss_of(logistic, softmax), D_loss, PARAMS)
    assert [bool(leaf.mistakes) for leaf in report.leaves] == [False, False, True, True]


def mixed(v, M):
    return M @ jnp.sin(M.T @ v)


def test_a_jacobian_and_not_a_gradient():
    v, M = RNG.normal(size=4), RNG.normal(size=(4, 4))
    u = M.T @ v
    right = M @ np.diag(np.cos(u)) @ M.T
    assert check_jacobian(mixed, right, v, M)
    wrong = M @ np.diag(np.sin(u)) @ M.T
    named(check_jacobian(mixed, wrong, v, M), "value for the derivative", 0)
    wrong = M @ np.diag(-np.cos(np.sin(u)) * -1) @ M.T
    named(check_jacobian(mixed, wrong, v, M), "derivative at the value", 0)


def test_one_of_several_results():
    v, M = RNG.normal(size=4), RNG.normal(size=(4, 4))
    wrong = (np.diag(2 * v), M @ np.diag(np.cos(M.T @ v) ** 2) @ M.T)
    report = check_jacobian(lambda x: (x**2, mixed(x, M)), wrong, v)
    named(report, "derivative taken twice", 1)


def test_a_step_in_a_sum_of_two_paths():
    """A residual connection: the step is passed on one of two ways to the result."""
    W = RNG.normal(size=(4, 4))
    v = RNG.normal(size=4)

    def loss(x):
        return jnp.sum((x + jnp.tanh(W @ x)) ** 3)

    a = np.tanh(W @ v)
    outer = 3 * (v + a) ** 2
    assert check_jacobian(loss, outer + W.T @ (outer * (1 - a**2)), v)
    named(check_jacobian(loss, outer + W.T @ outer, v), "derivative left out", 0)


def test_a_derivative_of_the_users_own_is_not_searched():
    """A function whose rule says other than its program has no steps that could be varied."""

    @jax.custom_vjp
    def straight(x):
        return jnp.round(x)

    straight.defvjp(lambda x: (straight(x), None), lambda _, g: (g,))
    v = RNG.normal(size=4)

    def loss(x):
        return jnp.sum(straight(3 * x) ** 2 * jnp.arange(4.0))

    right = np.asarray(jax.grad(loss)(v))
    assert check_jacobian(loss, right, v)
    assert check_jacobian(loss, right + np.array([1, 2, 3, 5]), v).mistakes == ()


def test_the_lectures_pairs_of_an_array_and_its_shape():
    D_loss = gradient(logistic, lambda z, a: a * (1 - a), exact_residual)
    report = check_jacobian(
        loss_of(logistic, softmax), lambda p: [(g, g.shape) for g in D_loss(p)], PARAMS
    )
    assert report.mistakes == ("a pair with a shape",)
    assert "return the array alone" in str(report)
    Z = RNG.normal(size=(3, 2))
    pair = (blockjac.nn.jacobians.logistic_Z(Z), (3, 2))
    assert check_jacobian(logistic, pair, Z).mistakes == ("a pair with a shape",)
