"""What the estimators answer is true: true refits, true coverage, true gradients."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_friedman1
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict, train_test_split

from blockjac.errors import InvalidDataError, InvalidOptionError
from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.objective import Objective, Targets


def waves(rows, seed=0, noise=0.1):
    generator = np.random.RandomState(seed)
    X = generator.uniform(-2, 2, size=(rows, 2))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + noise * generator.normal(size=rows)


def test_without_hidden_layers_it_is_ridge_regression():
    X, y = load_diabetes(return_X_y=True)
    alpha = 0.05
    ours = FeedforwardRegressor((), alpha=alpha).fit(X, y)
    Z = (X - X.mean(0)) / X.std(0)
    theirs = Ridge(alpha * len(X)).fit(Z, y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(Z), rtol=1e-6)


def test_without_hidden_layers_it_is_logistic_regression():
    X, y = load_breast_cancer(return_X_y=True)
    ours = FeedforwardClassifier((), alpha=0.02, tol=1e-12).fit(X, y)
    Z = (X - X.mean(0)) / X.std(0)
    # two rows of weights, opposite to each other, are penalized twice
    theirs = LogisticRegression(C=2 / (0.02 * len(X)), tol=1e-10, max_iter=10_000).fit(Z, y)
    difference = ours.coefs_[0][:, 1] - ours.coefs_[0][:, 0]
    np.testing.assert_allclose(difference, theirs.coef_[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_cover_what_they_say(level):
    covered = []
    for seed in range(6):
        X, y = waves(900, seed)
        model = FeedforwardRegressor((8,), random_state=0).fit(X[:150], y[:150])
        ends = model.predict_interval(X[150:], level)
        covered.append(np.mean((ends[:, 0] <= y[150:]) & (y[150:] <= ends[:, 1])))
    assert abs(np.mean(covered) - level) < 0.05


def test_intervals_are_wider_where_rows_are_rare():
    X, y = waves(150)
    model = FeedforwardRegressor((8,), random_state=0).fit(X, y)
    inside, outside = model.predict_std(np.array([[0.0, 0.0], [6.0, 6.0]]))
    assert outside > 2 * inside
    assert 0.05 < inside < 0.3


def test_flipped_labels_are_suspicious():
    X, y = load_breast_cancer(return_X_y=True)
    generator = np.random.RandomState(0)
    flipped = generator.choice(len(X), len(X) // 20, replace=False)
    y = y.copy()
    y[flipped] = 1 - y[flipped]
    model = FeedforwardClassifier((4,), random_state=0).fit(X, y)
    doubtful = model.suspicious_rows_[: len(X) // 10]
    assert np.isin(flipped, doubtful).mean() >= 0.7


def test_influence_is_what_leaving_a_row_out_does():
    X, y = load_diabetes(return_X_y=True)
    X, new, y, new_y = train_test_split(X, y, test_size=20, random_state=0)
    options = {"hidden_layer_sizes": (), "alpha": 1e-7}  # scales then do not matter
    model = FeedforwardRegressor(**options).fit(X, y)
    table = model.influence(new, new_y)
    assert table.shape == (len(X), 20)
    noise = model._fitted.model.noise * model._fitted.model.targets.spread**2
    before = (new_y - model.predict(new)) ** 2 / (2 * noise)
    for row in (0, 7, 100):
        weights = np.where(np.arange(len(X)) == row, 1e-9, 1.0)
        without = FeedforwardRegressor(**options).fit(X, y, sample_weight=weights)
        after = (new_y - without.predict(new)) ** 2 / (2 * noise)
        assert np.corrcoef(table[row], after - before)[0, 1] > 0.9


def test_evidence_finds_a_strength_that_cross_validation_does_not_beat():
    X, y = load_diabetes(return_X_y=True)
    model = FeedforwardRegressor((), random_state=0)
    ours = np.mean((cross_val_predict(model, X, y, cv=5) - y) ** 2)
    errors = [
        np.mean((cross_val_predict(FeedforwardRegressor((), alpha=alpha), X, y, cv=5) - y) ** 2)
        for alpha in 10.0 ** np.arange(-4, 1)
    ]
    assert ours < 1.02 * min(errors)


def test_it_learns_what_a_linear_model_cannot():
    X, y = waves(300)
    model = FeedforwardRegressor(random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95
    assert model.hidden_layer_sizes_ != (0,)
    assert model.leave_one_out_.score > 0.95


def test_it_is_linear_where_that_is_all_there_is():
    generator = np.random.RandomState(0)
    X = generator.normal(size=(200, 4))
    y = X @ np.array([1.0, -2.0, 0.5, 0.0]) + generator.normal(size=200)
    assert FeedforwardRegressor(random_state=0).fit(X, y).hidden_layer_sizes_ == (0,)


def test_roots_of_the_hessian_of_cross_entropy():
    generator = np.random.RandomState(0)
    Q, Y = 5 * generator.normal(size=(6, 4)), np.eye(4)[generator.randint(4, size=6)]
    weights = generator.uniform(size=6)
    targets = Targets(Y, weights, weights)
    objective = Objective("classes", "tanh")
    roots = objective.roots(targets, Q)
    hessian = jax.vmap(
        jax.hessian(lambda q, y, w: w * -np.asarray(1.0) * (y * jax.nn.log_softmax(q)).sum())
    )(Q, Y, weights)
    np.testing.assert_allclose(roots @ np.swapaxes(roots, 1, 2), hessian, atol=1e-6)
    slopes = jax.grad(lambda q: objective.loss(targets, q))(Q)
    np.testing.assert_allclose(objective.slopes(targets, Q), slopes, atol=1e-6)


def test_class_weights_count_like_rows():
    X, y = load_wine(return_X_y=True)
    heavy = FeedforwardClassifier((), class_weight={0: 3, 1: 1, 2: 1}, random_state=0).fit(X, y)
    weights = np.where(y == 0, 3.0, 1.0)
    same = FeedforwardClassifier((), random_state=0).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(heavy.predict_proba(X), same.predict_proba(X), atol=1e-10)


@pytest.mark.slow
def test_a_large_table_is_trained_by_batches():
    X, y = waves(3000)
    model = FeedforwardRegressor((16,), solver="adam", max_iter=300, random_state=0)
    model.fit(X[:2500], y[:2500])
    assert model.score(X[2500:], y[2500:]) > 0.95
    assert len(model.validation_curve_) == len(model.loss_curve_)
    ends = model.predict_interval(X[2500:], 0.9)
    assert 0.85 < np.mean((ends[:, 0] <= y[2500:]) & (y[2500:] <= ends[:, 1])) < 0.95
    with pytest.raises(AttributeError, match="but solver_ is 'adam'"):
        _ = model.leave_one_out_


def test_parts_are_fitted_one_after_the_other():
    X, y = load_wine(return_X_y=True)
    model = FeedforwardClassifier((8,), learning_rate_init=0.01, random_state=0)
    with pytest.raises(InvalidDataError, match="the first call of partial_fit needs classes"):
        model.partial_fit(X, y)
    for _ in range(40):
        model.partial_fit(X, y, classes=[0, 1, 2])
    assert model.score(X, y) > 0.95
    assert len(model.loss_curve_) == 40
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    with pytest.raises(InvalidOptionError, match="influence needs the curvature of a whole fit"):
        model.influence(X[:2], y[:2])


def test_a_callback_sees_each_step_and_may_stop():
    X, y = waves(100)
    seen = []

    def watch(progress):
        seen.append(progress)
        return progress.steps == 3

    model = FeedforwardRegressor((4,), callback=watch, random_state=0).fit(X, y)
    assert [one.steps for one in seen] == [1, 2, 3]
    assert model.n_iter_ == 3
    assert not model.converged_


def test_rows_are_held_out_when_asked():
    X, y = waves(200)
    model = FeedforwardRegressor((4,), early_stopping=True, random_state=0).fit(X, y)
    assert len(model.validation_curve_) == len(model.loss_curve_)
    table = model.influence(X[:3], y[:3])
    assert table.shape == (200, 3)
    assert (table == 0).all(axis=1).sum() == 20


def test_warm_start_begins_where_the_last_fit_ended():
    X, y = waves(150)
    model = FeedforwardRegressor((6,), warm_start=True, alpha=0.001, random_state=0).fit(X, y)
    steps = model.n_iter_
    assert model.fit(X, y).n_iter_ < steps


def test_coefficients_are_those_of_the_width_that_was_chosen():
    """Narrower networks are compiled as wider ones with nodes that are held at 0."""
    X, y = make_friedman1(400, noise=1.0, random_state=0)
    widths = set()
    for rows in (30, 60, 400):
        model = FeedforwardRegressor(warm_start=True, random_state=0).fit(X[:rows], y[:rows])
        (nodes,) = model.hidden_layer_sizes_
        widths.add(nodes)
        assert [part.shape for part in model.coefs_] == [(10, nodes), (nodes, 1)]
        assert [part.shape for part in model.intercepts_] == [(nodes,), (1,)]
        Z = (X - X[:rows].mean(0)) / X[:rows].std(0)
        hidden = np.tanh(Z @ model.coefs_[0] + model.intercepts_[0])
        outputs = hidden @ model.coefs_[1] + model.intercepts_[1] + Z @ model.direct_coef_
        expected = y[:rows].mean() + y[:rows].std() * outputs[:, 0]
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)
        std = model.predict_std(X)
        assert model.fit(X[:rows], y[:rows]).hidden_layer_sizes_ == (nodes,)  # begins there
        np.testing.assert_allclose(model.predict_std(X), std, rtol=0.2)
    assert len(widths) > 1


def test_a_part_makes_what_a_whole_fit_knew_unknown():
    X, y = waves(100)
    model = FeedforwardRegressor((4,), random_state=0).fit(X, y)
    model.partial_fit(X, y)
    with pytest.raises(AttributeError, match="leave_one_out_ is known after a fit"):
        _ = model.leave_one_out_
    assert not hasattr(model, "suspicious_rows_")
    with pytest.raises(InvalidOptionError, match="predict_interval needs the curvature"):
        model.predict_interval(X)


WRONG = [
    ({"activation": "swish"}, "activation is 'swish', but must be one of 'identity'"),
    ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes is \(3, 0\), but must be 'auto'"),
    ({"hidden_layer_sizes": "wide"}, "hidden_layer_sizes is 'wide', but must be 'auto'"),
    ({"alpha": -1.0}, "alpha is -1.0, but must be a number of at least 0, or 'auto'"),
    ({"max_iter": 0}, "max_iter is 0, but must be a whole number of at least 1"),
    ({"early_stopping": "yes"}, "early_stopping is 'yes', but must be True, False or 'auto'"),
    ({"solver": "lbfgs"}, "solver is 'lbfgs', but must be one of 'auto', 'gauss-newton'"),
    ({"validation_fraction": 1.5}, "validation_fraction is 1.5, but must be a number between"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        FeedforwardRegressor(**options).fit(*waves(20))


def test_wrong_data_is_named():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match="y holds 1 class, 0; wanted at least two"):
        FeedforwardClassifier().fit(X[:5], [0] * 5)
    with pytest.raises(ValueError, match="sample_weight must hold finite numbers"):
        FeedforwardClassifier().fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        FeedforwardClassifier().fit(np.where(X > 14, np.nan, X), y)
    model = FeedforwardClassifier(()).fit(X, y)
    with pytest.raises(ValueError, match="y holds 7, but the classes are 0, 1, 2"):
        model.influence(X[:2], [0, 7])
    with pytest.raises(
        ValueError, match="has 12 features, but FeedforwardClassifier is expecting 13"
    ):
        model.predict(X[:, :12])
    with pytest.raises(
        InvalidOptionError, match="level is 95, but must be a number between 0 and 1"
    ):
        FeedforwardRegressor(()).fit(X, y).predict_interval(X, 95)
