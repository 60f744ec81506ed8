"""Left-out rows are those of true refits, of tables that do not have the row at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.datasets import load_diabetes, load_wine, make_friedman1
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.curvature import rows_jacobian
from blockjac.estimators.leave_one_out import left_out
from blockjac.estimators.objective import Objective, Targets


def off(found, plain, true):
    """The median error, as a share of the median change."""
    return np.median(np.abs(found - true)) / np.median(np.abs(plain - true))


def without_each(rows, count):
    return [np.arange(count) != row for row in rows]


def centered(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("alpha", [0.001, 0.1, 1.0])
def test_of_ridge_regression(alpha):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60], y[:60]
    model = FeedforwardRegressor((), alpha=alpha).fit(X, y)
    true = [
        make_pipeline(StandardScaler(), Ridge(alpha * 60))
        .fit(X[keep], y[keep])
        .predict(X[~keep])[0]
        for keep in without_each(range(60), 60)
    ]
    assert off(model.leave_one_out_.predictions, model.predict(X), true) < 0.01


@pytest.mark.slow
def test_of_logistic_regression():
    X, y = load_wine(return_X_y=True)
    alpha = 0.01
    model = FeedforwardClassifier((), alpha=alpha, tol=1e-12).fit(X, y)
    logistic = LogisticRegression(C=1 / (alpha * len(X)), tol=1e-10, max_iter=10_000)
    rows = np.arange(0, len(X), 4)
    true = [
        make_pipeline(StandardScaler(), logistic).fit(X[keep], y[keep]).decision_function(X[~keep])
        for keep in without_each(rows, len(X))
    ]
    fitted = model._fitted.left_out
    found, plain = (centered(part[rows]) for part in (fitted.without, fitted.outputs))
    assert off(found, plain, np.concatenate(true)) < 0.02


def network(params, X):
    """The model of the estimators, written once more."""
    hidden = jnp.tanh(X @ params["weights"][0] + params["biases"][0])
    return hidden @ params["weights"][1] + params["biases"][1] + X @ params["direct"][0]


def refitted(params, strengths, X, values, loss):
    """The parameters at the minimum near some, of standardized rows; by BFGS and jax.grad."""
    start, unflat = ravel_pytree(params)

    def energy(vector):
        tree = unflat(vector)
        parts = [*tree["weights"], *tree["direct"]]
        squares = sum(s * jnp.sum(part**2) for s, part in zip(strengths, parts, strict=True))
        return loss(network(tree, X), values) + squares / 2

    found = minimize(
        jax.jit(energy), start, jac=jax.jit(jax.grad(energy)), method="BFGS", options={"gtol": 1e-9}
    )
    return unflat(jnp.asarray(found.x))


def squares_loss(outputs, values):
    return jnp.sum((outputs - values) ** 2) / 2


def cross_entropy(outputs, values):
    return -jnp.sum(values * jax.nn.log_softmax(outputs))


def waves(rows):
    generator = np.random.RandomState(0)
    X = generator.uniform(-2, 2, size=(rows, 2)) * [1, 3]
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 / 9 + 0.3 * generator.normal(size=rows)


def rings(rows):
    generator = np.random.RandomState(1)
    X = generator.normal(size=(rows, 2))
    return X, np.digitize((X**2).sum(1) + 0.5 * generator.normal(size=rows), [1, 2.5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "table", "loss"),
    [(FeedforwardRegressor, waves, squares_loss), (FeedforwardClassifier, rings, cross_entropy)],
)
def test_of_a_network(estimator, table, loss):
    X, y = table(160)
    options = {"alpha": 0.02, "random_state": 0, "tol": 1e-13, "max_iter": 1000}
    model = estimator((4,), **options).fit(X, y)
    fitted = model._fitted
    values, strengths = fitted.rows.values, fitted.strengths * 160
    rows, true = np.arange(0, 160, 16), []
    with jax.enable_x64(True):
        for keep in without_each(rows, 160):
            mean, spread = X[keep].mean(0), X[keep].std(0)
            # the network that says the same of columns with this mean and spread
            start = jax.tree.map(np.copy, fitted.model.params)
            shift = (mean - fitted.model.inputs.mean) / fitted.model.inputs.spread
            scale = (spread / fitted.model.inputs.spread)[:, None]
            start["biases"][0] += shift @ start["weights"][0]
            start["biases"][1] += shift @ start["direct"][0]
            start["weights"][0] *= scale
            start["direct"][0] *= scale
            params = refitted(start, strengths, (X[keep] - mean) / spread, values[keep], loss)
            true.append(network(params, (X[~keep] - mean) / spread)[0])
    found, plain = fitted.left_out.without[rows], fitted.left_out.outputs[rows]
    if loss is cross_entropy:
        found, plain, true = map(centered, (found, plain, np.array(true)))
    assert off(found, plain, np.array(true)) < 0.05


def test_a_row_of_weight_2_stands_for_two():
    X, y = waves(60)
    twice = np.arange(60) % 3 == 0
    options = {"hidden_layer_sizes": (2,), "alpha": 0.02, "random_state": 0, "tol": 1e-12}
    rows = np.concatenate([np.arange(60), np.flatnonzero(twice)])
    repeated = FeedforwardRegressor(**options).fit(X[rows], y[rows])
    weighted = FeedforwardRegressor(**options)
    weighted.fit(X, y, sample_weight=1.0 + twice)
    found, expected = (model._fitted.left_out for model in (weighted, repeated))
    np.testing.assert_allclose(found.without, expected.without[:60], atol=1e-5)
    assert np.ptp(found.without - found.outputs) > 0.01


def test_a_column_that_is_constant_without_a_row():
    X = np.random.RandomState(0).normal(size=(30, 3))
    X[:, 1], X[:, 2] = 0, np.eye(30)[4]
    y = X[:, 0] + X[:, 2]
    model = FeedforwardRegressor((), alpha=0.1).fit(X, y)
    assert np.isfinite(model.leave_one_out_.predictions).all()
    keep = np.arange(30) != 4
    alone = FeedforwardRegressor((), alpha=0.1).fit(X[keep], y[keep]).predict(X[[4]])[0]
    assert abs(model.leave_one_out_.predictions[4] - alone) < 0.5


def test_where_the_hessian_is_not_positive_the_gauss_newton_matrix_is_taken():
    generator = np.random.RandomState(0)
    params = {
        "weights": [generator.normal(size=(2, 3)), generator.normal(size=(3, 1))],
        "biases": [np.zeros(3), np.zeros(1)],
        "direct": [],
    }
    X, far = generator.normal(size=(20, 2)), np.full((20, 1), 50.0)
    targets, objective = Targets(far, *np.ones((2, 20))), Objective("numbers", "tanh")
    vector, unflat = ravel_pytree(params)
    with jax.enable_x64(True):
        J = np.asarray(rows_jacobian(objective, params, X))[:, 0]
        gauss_newton = J.T @ J + 1e-3 * np.eye(13)

        def energy(vector):
            return squares_loss(objective.model(unflat(vector), X), far)

        assert np.linalg.eigvalsh(jax.hessian(energy)(vector) + 1e-3 * np.eye(13))[0] < 0
        triangle = np.linalg.cholesky(gauss_newton)
        found = left_out(objective, params, triangle, X, targets, 1e-3 * np.ones(2))
        plain = left_out(objective, params, triangle, X, targets)
        assert np.isfinite(found.without).all()
        # but for the scales of columns, whose part is small for weak penalties
        assert off(found.without, plain.outputs, plain.without) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_row_runs_away_where_training_stops_before_a_minimum(seed):
    X, y = make_friedman1(250, noise=1.0, random_state=seed)
    model = FeedforwardRegressor((4,), random_state=0).fit(X, y)
    found = model.leave_one_out_.predictions
    assert np.max(np.abs(found - model.predict(X))) < y.max() - y.min()


def test_logits_without_a_row_are_as_uncertain_as_the_other_rows_leave_them():
    X, y = load_wine(return_X_y=True)
    model = FeedforwardClassifier(()).fit(X[::3], y[::3])
    fitted, Z = model._fitted, (X[::3] - X[::3].mean(0)) / X[::3].std(0)
    A = fitted.model.triangle @ fitted.model.triangle.T
    for row in range(0, len(Z), 7):
        J = np.concatenate([np.eye(3), np.kron(Z[row], np.eye(3))], axis=1)
        p = softmax(fitted.left_out.outputs[row])
        true = J @ np.linalg.inv(A - J.T @ (np.diag(p) - np.outer(p, p)) @ J) @ J.T
        contrasts = np.array([[1, -1, 0], [0, 1, -1]])  # a common change of all logits is free
        np.testing.assert_allclose(
            contrasts @ fitted.left_out.wider[row] @ contrasts.T,
            contrasts @ true @ contrasts.T,
            rtol=1e-3,
        )
