"""The estimators pass scikit-learn's own checks, and work where its estimators do."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor


@pytest.mark.slow
@parametrize_with_checks(
    [FeedforwardClassifier(random_state=0), FeedforwardRegressor(random_state=0)]
)
def test_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_in_a_pipeline_and_a_grid():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), FeedforwardClassifier(random_state=0))
    grid = {"feedforwardclassifier__hidden_layer_sizes": [(), (3,)]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.93
    assert len(cross_val_score(pipeline, X, y, cv=3)) == 3


def test_nothing_is_set_at_import_and_x64_stays_as_it_was():
    import jax

    X, y = load_wine(return_X_y=True)
    before = jax.config.jax_enable_x64
    model = FeedforwardClassifier((3,), random_state=0).fit(X, y)
    assert jax.config.jax_enable_x64 == before
    assert model.predict_proba(X).dtype == np.float64


def test_what_was_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        FeedforwardClassifier().predict(np.ones((2, 3)))
    with pytest.raises(AttributeError, match="leave_one_out_ is known after a fit"):
        _ = FeedforwardRegressor().leave_one_out_
