"""Steps of Gauss-Newton solvers against dense matrices, in each way to solve their systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from blockjac import optimize
from blockjac.errors import ArgumentError
from blockjac.optimize import ModelLoss, minimize
from blockjac.optimize.curvature_systems import cheapest, curvature_of

ROWS, WIDTH, CLASSES = 12, 3, 3
DRAWN = np.random.default_rng(0)
X = DRAWN.normal(size=(ROWS, 4))
LABELS = np.eye(CLASSES)[DRAWN.integers(CLASSES, size=ROWS)]
PARAMS = {
    "W": [DRAWN.normal(size=(4, WIDTH)), DRAWN.normal(size=(WIDTH, CLASSES))],
    "b": [DRAWN.normal(size=WIDTH), DRAWN.normal(size=CLASSES)],
}


def network(params, X):
    (W1, W2), (b1, b2) = params["W"], params["b"]
    return jnp.tanh(X @ W1 + b1) @ W2 + b2


def cross_entropy(Y, Q):
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Q), axis=1))


def squares(Y, Q):
    return 0.5 * jnp.sum((Q - Y) ** 2)


def tree_of_outputs(params, X):
    Q = network(params, X)
    return {"first": Q[:, 0], "rest": jnp.exp(0.1 * Q[:, 1:])}


def squares_of_tree(Y, Q):
    return jnp.sum((Q["first"] - Y[:, 0]) ** 2) + jnp.sum((Q["rest"] - Y[:, 1:]) ** 4)


WEIGHTED = {"W": [0.3, 0.2], "b": [0.0, 0.0]}
"""An L2 penalty that leaves the biases alone."""
STRENGTHS = jax.tree.map(lambda part, s: np.full_like(part, s), PARAMS, WEIGHTED)

LOSSES = {
    "cross-entropy": (ModelLoss(network, cross_entropy), (X, LABELS)),
    "squares": (ModelLoss(network, squares), (X, LABELS)),
    "penalized": (ModelLoss(network, cross_entropy, l2=0.1), (X, LABELS)),
    "biases free": (ModelLoss(network, cross_entropy, takes_l2=True), (X, LABELS, STRENGTHS)),
    "tree": (ModelLoss(tree_of_outputs, squares_of_tree, l2=1e-2), (X, LABELS)),
}
each_loss = pytest.mark.parametrize(("loss", "data"), LOSSES.values(), ids=LOSSES)


def dense_curvature(loss, data):
    """`J' H J` and the penalty, by JAX."""
    flat, rebuilt = ravel_pytree(PARAMS)

    def outputs(flat):
        return ravel_pytree(loss.model(rebuilt(flat), *data[:1]))[0]

    _, tree = ravel_pytree(loss.model(PARAMS, *data[:1]))
    J = jax.jacfwd(outputs)(flat)
    H = jax.hessian(lambda q: loss.loss(data[1], tree(q)))(outputs(flat))
    penalty = jax.hessian(lambda flat: loss(rebuilt(flat), *data))(flat) - jax.hessian(
        lambda flat: loss.loss(data[1], loss.model(rebuilt(flat), data[0]))
    )(flat)
    return J.T @ H @ J + penalty


@each_loss
@pytest.mark.parametrize("by", ["blocks", "outputs"])
@pytest.mark.parametrize("shift", [1e-3, 10.0])
def test_steps_are_those_of_the_dense_matrix(loss, data, by, shift):
    gradient = jax.grad(loss)(PARAMS, *data)
    A, g = dense_curvature(loss, data), ravel_pytree(gradient)[0]
    wanted = -np.linalg.solve(A + shift * np.eye(len(g)), g)
    curvature = curvature_of(loss, PARAMS, data, by, "a solver")
    step, _ = ravel_pytree(curvature.step(gradient, jnp.asarray(shift)))
    np.testing.assert_allclose(step, wanted, rtol=1e-7, atol=1e-9 * np.abs(wanted).max())
    found = curvature.decrease(gradient, curvature.step(gradient, jnp.asarray(shift)))
    np.testing.assert_allclose(found, -g @ wanted - wanted @ A @ wanted / 2, rtol=1e-7)
    np.testing.assert_allclose(curvature.along(gradient), g @ A @ g / (g @ g), rtol=1e-9)


@each_loss
def test_conjugate_gradients_leave_little(loss, data):
    gradient = jax.grad(loss)(PARAMS, *data)
    A, g = dense_curvature(loss, data), ravel_pytree(gradient)[0]
    curvature = curvature_of(loss, PARAMS, data, "cg", "a solver")
    step, _ = ravel_pytree(curvature.step(gradient, jnp.asarray(1e-2)))
    residual = (A + 1e-2 * np.eye(len(g))) @ step + g
    assert np.linalg.norm(residual) <= 0.1 * np.linalg.norm(g) * (1 + 1e-9)


def test_the_second_order_correction_is_that_of_residuals():
    """Transtrum and Sethna's: `(J' J + s) a = -J' r''`, and the step is `v + a / 2`."""
    loss, data = LOSSES["squares"]
    flat, rebuilt = ravel_pytree(PARAMS)
    shift = jnp.asarray(50.0)

    def residuals(flat):
        return jnp.ravel(network(rebuilt(flat), X) - LABELS)

    J, r = jax.jacfwd(residuals)(flat), residuals(flat)
    A = J.T @ J + shift * jnp.eye(len(flat))
    v = -jnp.linalg.solve(A, J.T @ r)
    second = jax.jvp(lambda x: jax.jvp(residuals, (x,), (v,))[1], (flat,), (v,))[1]
    a = -jnp.linalg.solve(A, J.T @ second)
    assert jnp.linalg.norm(a) ** 2 < 0.5 * jnp.linalg.norm(v) ** 2  # small enough to be made
    curvature = curvature_of(loss, PARAMS, data, "blocks", "a solver")
    bent = curvature.bent(curvature.step(jax.grad(loss)(PARAMS, *data), shift), shift)
    np.testing.assert_allclose(ravel_pytree(bent)[0], v + a / 2, rtol=1e-7, atol=1e-12)


@each_loss
@pytest.mark.parametrize(
    "by",
    ["auto", *(pytest.param(by, marks=pytest.mark.slow) for by in ("blocks", "outputs", "cg"))],
)
def test_all_ways_lead_to_a_minimum(loss, data, by):
    solver = optimize.LevenbergMarquardt(by=by)
    found = minimize(loss, PARAMS, *data, solver=solver, max_steps=60, xtol=0)
    losses = np.array([found.initial_loss, *found.trace.loss])
    assert np.all(np.diff(losses) < 0)
    gradient, _ = ravel_pytree(jax.grad(loss)(found.params, *data))
    first, _ = ravel_pytree(jax.grad(loss)(PARAMS, *data))
    assert jnp.max(jnp.abs(gradient)) < 1e-2 * jnp.max(jnp.abs(first))


def sized(rows, width):
    """A network and its curvature, with so many rows and nodes."""
    drawn = np.random.default_rng(0)
    params = {
        "W": [drawn.normal(size=(4, width)), drawn.normal(size=(width, CLASSES))],
        "b": [drawn.normal(size=width), drawn.normal(size=CLASSES)],
    }
    data = (drawn.normal(size=(rows, 4)), np.eye(CLASSES)[drawn.integers(CLASSES, size=rows)])
    return curvature_of(LOSSES["squares"][0], params, data, "cg", "a solver")


def test_the_way_follows_the_sizes():
    assert cheapest(sized(rows=2, width=200)) == "outputs"
    assert cheapest(sized(rows=1000, width=3)) == "blocks"
    assert cheapest(sized(rows=1000, width=2000)) == "cg"


# ModelLoss


@each_loss
def test_a_model_loss_is_a_function(loss, data):
    plain = loss.loss(data[1], loss.model(PARAMS, data[0]))
    strengths = STRENGTHS if loss.takes_l2 else jax.tree.map(lambda _: loss.l2, PARAMS)
    squared = jax.tree.map(lambda part, s: jnp.sum(s * part**2), PARAMS, strengths)
    wanted = plain + sum(jax.tree.leaves(squared)) / 2
    np.testing.assert_allclose(loss(PARAMS, *data), wanted, rtol=1e-14)


def test_a_strength_may_be_one_number():
    loss = ModelLoss(network, squares, takes_l2=True)
    fixed = ModelLoss(network, squares, l2=0.5)
    np.testing.assert_allclose(loss(PARAMS, X, LABELS, 0.5), fixed(PARAMS, X, LABELS), rtol=1e-14)


def test_bad_parts_are_refused():
    with pytest.raises(ArgumentError, match="model must be a function, but is of type int"):
        ModelLoss(1, squares)
    with pytest.raises(ArgumentError, match=r"l2 is 0\.1, and takes_l2 says"):
        ModelLoss(network, squares, l2=0.1, takes_l2=True)
    with pytest.raises(ArgumentError, match=r"takes \(params, X, Y\), but got 0 arguments"):
        ModelLoss(network, squares)(PARAMS)
