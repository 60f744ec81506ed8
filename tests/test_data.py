import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from blockjac.data import Examples, checked_examples, one_hot, split, wisconsin

GOOD = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_wisconsin_is_the_raw_table():
    X, labels = wisconsin()
    assert X.shape == (569, 30)
    assert np.bincount(labels).tolist() == [212, 357]
    assert X.max() == 4254


def test_the_file_holds_what_scikit_learn_loads():
    X, labels = load_breast_cancer(return_X_y=True)
    np.testing.assert_array_equal(wisconsin().X, X)
    np.testing.assert_array_equal(wisconsin().labels, labels)


def test_the_first_rows_are_for_training():
    train, test = split(wisconsin(), 400)
    whole = wisconsin()
    np.testing.assert_array_equal(np.concatenate([train.X, test.X]), whole.X)
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), whole.labels)
    assert len(train.X) == 400


@pytest.mark.parametrize("train", [0, -1, 569, 1000])
def test_neither_part_may_be_empty(train):
    with pytest.raises(ValueError, match=rf"train is {train}, of 569 rows; wanted 1 to 568"):
        split(wisconsin(), train)


def test_a_training_part_of_one_class_is_refused():
    with pytest.raises(ValueError, match=r"all 2 labels are 1; wanted .* at least two classes"):
        split(Examples(GOOD, np.array([1, 1, 0])), 2)


@pytest.mark.parametrize(
    ("X", "labels", "error", "message"),
    [
        (GOOD, [0, 1], TypeError, r"X has shape \(3, 2\) and labels has shape \(2,\)"),
        (GOOD[0], [0, 1], TypeError, r"X has shape \(2,\)"),
        (GOOD[:0], [], ValueError, r"no data: X has shape \(0, 2\)"),
        ([[1.0], [np.nan]], [0, 1], ValueError, r"X\[1, 0\] is nan; wanted finite numbers"),
        ([[1.0], [np.inf]], [0, 1], ValueError, r"X\[1, 0\] is inf"),
        (GOOD, [0, 1, -1], ValueError, "labels are int64 from -1"),
        (GOOD, [0.0, 1.0, 1.0], ValueError, "labels are float64 from 0.0"),
        (GOOD, [1, 1, 1], ValueError, "all 3 labels are 1"),
    ],
)
def test_data_that_teach_nothing_are_refused(X, labels, error, message):
    with pytest.raises(error, match=message):
        checked_examples(X, labels)


def test_one_hot_rows():
    np.testing.assert_array_equal(one_hot([2, 0], 3), [[0, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="labels go from 0 to 3; wanted 0 to 2 for 3 classes"):
        one_hot([0, 3], 3)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'blockjac\[app\]'"):
        wisconsin()
