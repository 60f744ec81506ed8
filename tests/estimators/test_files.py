"""Models on disk: the same answers, no code of the file, nothing half-written."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine

from blockjac.errors import FileFormatError, InvalidDataError, OutputPathError
from blockjac.estimators import (
    FeedforwardClassifier,
    FeedforwardRegressor,
    load_model,
    save_model,
)

WINE = load_wine(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


@pytest.fixture(scope="module")
def classifier():
    X, y = WINE
    names = np.array(["barolo", "grignolino", "barbera"])
    return FeedforwardClassifier((3,), class_weight="balanced", random_state=0).fit(X, names[y])


@pytest.fixture(scope="module")
def regressor():
    return FeedforwardRegressor((3,), random_state=0, callback=lambda _: False).fit(*DIABETES)


def test_a_classifier_answers_as_before(classifier, tmp_path):
    again = load_model(save_model(classifier, tmp_path / "wine.npz"))
    X, _ = WINE
    assert (again.predict(X) == classifier.predict(X)).all()
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    assert again.leave_one_out_.score == classifier.leave_one_out_.score
    assert (again.suspicious_rows_ == classifier.suspicious_rows_).all()
    assert again.hidden_layer_sizes_ == (3,)
    with pytest.raises(ValueError, match="has 12 features"):
        again.predict(X[:, :12])


def test_a_regressor_answers_as_before_with_its_rows(regressor, tmp_path):
    X, y = DIABETES
    again = load_model(save_model(regressor, tmp_path / "diabetes.npz", include_rows=True))
    np.testing.assert_array_equal(again.predict_interval(X), regressor.predict_interval(X))
    np.testing.assert_array_equal(again.influence(X[:2], y[:2]), regressor.influence(X[:2], y[:2]))
    assert again.loss_curve_ == regressor.loss_curve_


def test_without_its_rows_nobody_knows_the_influence(regressor, tmp_path):
    X, y = DIABETES
    again = load_model(save_model(regressor, tmp_path / "diabetes.npz"))
    np.testing.assert_array_equal(again.predict_std(X), regressor.predict_std(X))
    with pytest.raises(InvalidDataError, match="the training rows are not known"):
        again.influence(X[:2], y[:2])


def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(classifier, tmp_path):
    path = save_model(classifier, tmp_path / "wine.npz")
    content = path.read_bytes()
    for end in np.linspace(0, len(content) - 1, 25).astype(int):
        path.write_bytes(content[:end])
        with pytest.raises(FileFormatError, match="is damaged or of another kind"):
            load_model(path)


def test_a_file_that_was_changed_is_refused(classifier, tmp_path):
    path = save_model(classifier, tmp_path / "wine.npz")
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["params.biases.0"] = arrays["params.biases.0"] + 1
    np.savez(path, **arrays)
    with pytest.raises(FileFormatError, match="was damaged or changed after it was written"):
        load_model(path)


def test_random_bytes_never_get_through(classifier, tmp_path):
    path = save_model(classifier, tmp_path / "wine.npz")
    content = bytearray(path.read_bytes())
    generator = np.random.RandomState(0)
    X, _ = WINE
    expected = classifier.predict_proba(X)
    for _ in range(60):
        changed = content.copy()
        changed[generator.randint(len(changed))] ^= 1 << generator.randint(8)
        path.write_bytes(changed)
        try:
            again = load_model(path)
        except FileFormatError:
            continue
        # what does not matter, as the time of a member of the archive
        np.testing.assert_array_equal(again.predict_proba(X), expected)


def test_a_pickle_in_a_file_is_not_run(classifier, tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "trap.npz"
    np.savez(path, header=np.array([Trap()], dtype=object))
    with pytest.raises(FileFormatError, match="is damaged or of another kind"):
        load_model(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FileFormatError, match="is damaged or of another kind"):
        load_model(path)


def test_a_later_version_says_what_to_install(classifier, tmp_path):
    path = save_model(classifier, tmp_path / "wine.npz")
    with np.load(path) as stored:
        arrays = dict(stored)
    header = json.loads(arrays["header"].tobytes())
    header |= {"version": 99, "blockjac": "7.0"}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(FileFormatError, match=r"written by blockjac 7\.0 in version 99"):
        load_model(path)


def test_wrong_places_are_named(classifier, tmp_path):
    with pytest.raises(OutputPathError, match="cannot read"):
        load_model(tmp_path / "nowhere.npz")
    with pytest.raises(OutputPathError, match="cannot read"):
        load_model(tmp_path)
    with pytest.raises(OutputPathError, match="is a folder"):
        save_model(classifier, tmp_path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("note.txt", "nothing")
    with pytest.raises(FileFormatError, match="of another kind"):
        load_model(other)
