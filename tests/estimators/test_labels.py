"""Rows with several labels: the answers of scikit-learn and NumPy where they have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import check_classifier_multioutput

from blockjac.errors import InvalidDataError, InvalidOptionError
from blockjac.estimators import FeedforwardClassifier, load_model, save_model
from blockjac.estimators.objective import Objective, Targets

ALPHA = 0.02
X, Y = make_multilabel_classification(120, n_features=6, n_classes=3, random_state=0)
Z = (X - X.mean(0)) / X.std(0)


def linear(**options):
    return FeedforwardClassifier((), alpha=ALPHA, tol=1e-12, random_state=0, **options)


@pytest.fixture(scope="module")
def model():
    return linear().fit(X, Y)


def logistic(label, rows=slice(None)):
    """scikit-learn's model of a label, with the scales and the strength of all rows."""
    theirs = LogisticRegression(C=1 / (ALPHA * len(X)), tol=1e-10, max_iter=10_000)
    return theirs.fit(Z[rows], Y[rows, label])


def test_without_hidden_layers_it_is_logistic_regression_of_each_label(model):
    for label in range(3):
        theirs = logistic(label)
        np.testing.assert_allclose(model.coefs_[0][:, label], theirs.coef_[0], atol=1e-4)
        np.testing.assert_allclose(model.intercepts_[0][label], theirs.intercept_[0], atol=1e-4)


def test_probabilities_are_moderated_label_by_label(model):
    found = model.predict_proba(X)
    A = np.column_stack([Z, np.ones(len(Z))])
    for label in range(3):
        logits = logistic(label).decision_function(Z)
        p = expit(logits)
        strengths = ALPHA * len(X) * np.append(np.ones(6), 0)
        covariance = np.linalg.inv(A.T @ (A * (p * (1 - p))[:, None]) + np.diag(strengths))
        variances = np.einsum("ni,ij,nj->n", A, covariance, A)
        expected = expit(logits / np.sqrt(1 + np.pi / 8 * variances))
        np.testing.assert_allclose(found[:, label], expected, atol=1e-4)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(found), rtol=1e-9)


@pytest.mark.slow
def test_left_out_rows_are_those_of_true_refits(model):
    rows = np.arange(0, len(X), 4)
    plain = np.stack([logistic(label).decision_function(Z[rows]) for label in range(3)], axis=1)
    true = np.array(
        [
            [logistic(label, np.arange(len(X)) != row).decision_function(Z[[row]])[0]]
            for row in rows
            for label in range(3)
        ]
    ).reshape(len(rows), 3)
    found = model._fitted.left_out.without[rows]
    assert np.median(np.abs(found - true)) < 0.15 * np.median(np.abs(plain - true))


@pytest.mark.slow
def test_roots_and_slopes_are_those_of_jax():
    generator = np.random.RandomState(0)
    Q, labels = 4 * generator.normal(size=(6, 4)), generator.randint(2, size=(6, 4)).astype(float)
    weights = generator.uniform(size=6)
    targets = Targets(labels, weights, weights)
    objective = Objective("labels", "tanh")

    def loss(q, y, w):
        return -w * jnp.sum(jnp.log(jnp.where(y > 0, jax.nn.sigmoid(q), 1 - jax.nn.sigmoid(q))))

    with jax.enable_x64(True):
        np.testing.assert_allclose(
            objective.loss(targets, Q), sum(map(loss, Q, labels, weights)), rtol=1e-9
        )
        roots = objective.roots(targets, jnp.asarray(Q))
        hessian = jax.vmap(jax.hessian(loss))(Q, labels, weights)
        np.testing.assert_allclose(roots @ np.swapaxes(roots, 1, 2), hessian, atol=1e-9)
        slopes = jax.vmap(jax.grad(loss))(Q, labels, weights)
        np.testing.assert_allclose(objective.slopes(targets, Q), slopes, atol=1e-9)
        far = jnp.full((1, 1), 40.0)  # where 1 - p rounds to 0
        one = Targets(np.ones((1, 1)), np.ones(1), np.ones(1))
        np.testing.assert_allclose(objective.roots(one, far)[0, 0, 0], np.exp(-20), rtol=1e-6)


def crosses(rows, seed=0):
    """One label is whether signs differ, one is the sign of the first column, one is rare."""
    points = np.random.RandomState(seed).uniform(-1, 1, size=(rows, 2))
    first, second = points.T > 0
    return points, np.column_stack([first != second, first, (points > 0.7).all(axis=1)]).astype(int)


@pytest.mark.slow
def test_it_learns_labels_that_a_linear_model_cannot():
    points, labels = crosses(500)
    network = FeedforwardClassifier(random_state=0).fit(points[:250], labels[:250])
    found = network.predict(points[250:])
    assert (found == labels[250:]).mean(axis=0).min() > 0.93
    assert network.score(points[250:], labels[250:]) == accuracy_score(labels[250:], found)
    assert network.leave_one_out_.score > 0.85
    assert network.leave_one_out_.predictions.shape == (250, 3)
    assert np.isfinite(network.log_evidence_)
    line = FeedforwardClassifier((), random_state=0).fit(points[:250], labels[:250])
    assert (line.predict(points[250:]) == labels[250:]).mean(axis=0)[0] < 0.8


@pytest.mark.slow
def test_wrong_labels_are_suspicious():
    points, labels = crosses(150)
    labels = labels[:, 1:]
    flipped = np.random.RandomState(1).choice(150, 8, replace=False)
    labels[flipped, 0] = 1 - labels[flipped, 0]
    network = FeedforwardClassifier((), random_state=0).fit(points, labels)
    assert np.isin(flipped, network.suspicious_rows_[:20]).mean() >= 0.7
    influence = network.influence(points[flipped[:2]], labels[flipped[:2]])
    assert influence.shape == (150, 2)
    assert influence[flipped[0], 0] > 0  # with a wrong label it helps itself


@pytest.mark.slow
def test_large_tables_and_parts():
    points, labels = crosses(1500)
    options = {"learning_rate_init": 0.01, "random_state": 0}
    network = FeedforwardClassifier((16,), solver="adam", max_iter=60, **options)
    network.fit(points[:1200], labels[:1200])
    assert (network.predict(points[1200:]) == labels[1200:]).mean() > 0.93
    part = FeedforwardClassifier((16,), **options)
    with pytest.raises(InvalidDataError, match="the first call of partial_fit needs classes"):
        part.partial_fit(points, labels)
    for _ in range(20):
        part.partial_fit(points, labels, classes=[0, 1, 2])
    assert (part.predict(points) == labels).mean() > 0.9
    with pytest.raises(InvalidDataError, match=r"y has the shape \(1500, 2\); wanted a column for"):
        part.partial_fit(points, labels[:, :2])


@pytest.mark.slow
def test_they_look_as_those_of_scikit_learn(model):
    theirs = MLPClassifier((2,), max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        theirs.fit(X, Y)
    assert (model.classes_ == theirs.classes_).all()
    for name in ("predict", "predict_proba", "predict_log_proba"):
        ours, other = getattr(model, name)(X), getattr(theirs, name)(X)
        assert (ours.shape, ours.dtype.kind) == (other.shape, other.dtype.kind)
    check_classifier_multioutput("FeedforwardClassifier", linear())
    assert model.__sklearn_tags__().classifier_tags.multi_label
    assert cross_val_score(linear(), X, Y, cv=3).shape == (3,)


@pytest.mark.parametrize(
    "table",
    [csr_matrix(Y), Y > 0, Y.astype(float), pd.DataFrame(Y), pl.DataFrame(Y)],
    ids=["sparse", "truths", "floats", "pandas", "polars"],
)
def test_tables_of_labels_of_any_kind(table, model):
    again = linear().fit(X, table)
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-9)
    assert again.influence(X, table).shape == (len(X), len(X))


def test_a_file_keeps_labels(model, tmp_path):
    again = load_model(save_model(model, tmp_path / "labels.npz", include_rows=True))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.influence(X[:2], Y[:2]), model.influence(X[:2], Y[:2]))
    assert again.leave_one_out_.score == model.leave_one_out_.score


def test_a_label_that_all_rows_have_is_certain_and_no_more():
    labels = np.column_stack([Y[:, 0], np.ones(len(Y), int), np.zeros(len(Y), int)])
    network = FeedforwardClassifier((), random_state=0).fit(X, labels)
    found = network.predict_proba(X)
    assert np.isfinite(found).all()
    rows = len(X)
    # by Laplace's rule of succession (rows + 1) / (rows + 2)
    np.testing.assert_allclose(found[:, 1], (rows + 1) / (rows + 2), atol=0.04)
    np.testing.assert_allclose(found[:, 2], 1 / (rows + 2), atol=0.04)
    assert network.score(X, labels) == (network.predict(X)[:, 0] == labels[:, 0]).mean()


@pytest.mark.slow
def test_weights_count_like_rows(model):
    weights = 1 + (np.arange(len(X)) % 3 == 0)
    repeated = linear().fit(np.repeat(X, weights, axis=0), np.repeat(Y, weights, axis=0))
    weighted = linear().fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-8)


def test_wrong_labels_and_options_are_named(model):
    with pytest.raises(InvalidDataError, match="y holds -1; a table of labels has 1 where"):
        linear().fit(X, 2 * Y - 1)
    with pytest.raises(InvalidDataError, match="y has 3 columns; wanted one class a row, or a"):
        linear().fit(X, Y + (np.arange(3) == 2))
    with pytest.raises(InvalidOptionError, match="class_weight is 'balanced', but must be None"):
        linear(class_weight="balanced").fit(X, Y)
    with pytest.raises(InvalidDataError, match=r"y has the shape .* wanted a column for each of"):
        model.influence(X[:2], [0, 1])
