"""Training ends where going on would mean nothing, and what it says of its end is true."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression

from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.leave_one_out import spreads
from blockjac.estimators.objective import UNPENALIZED, Objective


@pytest.mark.slow
def test_classes_that_are_separable_do_not_take_all_steps():
    """The strengths of two layers that are as good as linear drift against each other."""
    X, y = load_breast_cancer(return_X_y=True)
    seen = []
    model = FeedforwardClassifier(random_state=0, callback=seen.append).fit(X[::2], y[::2])
    assert len(seen) < 150
    Z = (X - X[::2].mean(0)) / X[::2].std(0)
    theirs = LogisticRegression(max_iter=2000).fit(Z[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > theirs.score(Z[1::2], y[1::2]) - 0.01


@pytest.mark.slow
def test_a_wide_network_is_trained_to_its_end_where_it_predicts_better():
    """Its rival is linear, and cannot learn a board of squares."""
    X = np.random.RandomState(0).uniform(0, 3, size=(700, 2))
    y = np.floor(X).astype(int).sum(axis=1) % 2
    model = FeedforwardClassifier(random_state=0).fit(X[:500], y[:500])
    assert model.hidden_layer_sizes_[0] > 4
    assert model.score(X[500:], y[500:]) > 0.85


@pytest.mark.parametrize("alpha", [0.003, 0.3])
def test_evidence_of_a_linear_model_is_the_density_of_its_targets(alpha):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:150], y[:150]
    model = FeedforwardRegressor((), alpha=alpha).fit(X, y)
    Z, t = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    prior = Z @ Z.T / (alpha * len(X)) + 1 / UNPENALIZED
    noise = float(model._fitted.model.noise)
    expected = multivariate_normal.logpdf(t, cov=noise * (np.eye(len(X)) + prior))
    assert model.log_evidence_ == pytest.approx(expected, rel=1e-5)


def test_spreads_of_a_linear_model_by_its_inverse():
    generator = np.random.RandomState(0)
    X, outputs = generator.normal(size=(40, 4)), 3
    size = outputs * 5
    A = generator.normal(size=(size, size))
    A = A @ A.T + np.eye(size)
    J = np.concatenate(  # by the biases, then by the weights
        [
            np.tile(np.eye(outputs), (40, 1, 1)),
            np.einsum("ni,kl->nkil", X, np.eye(outputs)).reshape(40, 3, -1),
        ],
        axis=2,
    )
    params = {"weights": [np.zeros((4, outputs))], "biases": [np.zeros(outputs)], "direct": []}
    with jax.enable_x64(True):
        found = spreads(Objective("classes", "tanh"), params, np.linalg.cholesky(A), X)
        few = spreads(Objective("classes", "tanh"), params, np.linalg.cholesky(A), X[:2])
    expected = J @ np.linalg.inv(A) @ J.swapaxes(1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(few, expected[:2], rtol=1e-9, atol=1e-12)
