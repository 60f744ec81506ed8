"""Tables for batches: no second table in memory, the same answers from wherever rows come."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from blockjac.errors import InvalidDataError
from blockjac.estimators import (
    FeedforwardClassifier,
    FeedforwardRegressor,
    RowGroups,
    save_model,
)
from blockjac.estimators.epochs import Batches, begun
from blockjac.estimators.network import initial_params
from blockjac.estimators.objective import Objective
from blockjac.estimators.rows import Rows
from blockjac.estimators.sources import Memory
from blockjac.estimators.stochastic import train
from blockjac.estimators.tables import Scale
from blockjac.estimators.training_loop import Settings


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scales_are_those_of_all_rows_at_once(dtype):
    generator = np.random.RandomState(0)
    X = (generator.normal(size=(40_000, 3)) * [1, 1e-3, 0] + [0, 1e2, 7.7]).astype(dtype)
    weights = generator.uniform(size=len(X))
    scale = Scale.of(X, weights)
    mean = np.average(X.astype(float), axis=0, weights=weights)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(scale.mean, mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scale.spread, [*spread[:2], 1], rtol=1e-10)


def alone(code, *arguments):
    """What a program prints that runs in a process of its own."""
    usual = {name: one for name, one in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=usual,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of memory")
def test_a_large_table_is_not_copied():
    code = "import json, large_tables as t; print(json.dumps(t.peak({}, 200, 'numbers')))"
    small, large = (alone(code.format(rows)) for rows in (100_000, 250_000))
    more = large["data"] - small["data"]
    assert more == 150_000 * 200 * 4
    assert large["predict"] - small["predict"] < 1.5 * more


def waves(rows, seed=0):
    generator = np.random.RandomState(seed)
    X = generator.uniform(-2, 2, size=(rows, 3)).astype(np.float32)
    y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * generator.normal(size=rows)
    return X, y.astype(np.float32)


def cut(X, y, size):
    return [(X[first : first + size], y[first : first + size]) for first in range(0, len(X), size)]


def written(file, X, y, size):
    columns = {f"x{place}": column for place, column in enumerate(X.T)}
    parquet.write_table(pa.table({**columns, "y": y}), file, row_group_size=size)
    return RowGroups(file, "y")


OPTIONS = {
    "hidden_layer_sizes": (8,),
    "solver": "adam",
    "dtype": "float32",
    "max_iter": 6,
    "learning_rate_init": 0.01,
    "random_state": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FeedforwardClassifier, FeedforwardRegressor])
def test_one_part_is_fitted_as_a_table(kind):
    X, y = waves(1000)
    y = y if kind is FeedforwardRegressor else np.where(y > 1, "high", "low")
    options = {**OPTIONS, "early_stopping": False}
    whole, parts = kind(**options).fit(X, y), kind(**options).fit_parts([(X, y)])
    assert whole.loss_curve_ == parts.loss_curve_
    for ours, theirs in zip(parts.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(parts.suspicious_rows_, whole.suspicious_rows_)


@pytest.mark.slow
def test_row_groups_are_fitted_as_the_same_parts_in_memory(tmp_path):
    X, y = waves(1500)
    groups = written(tmp_path / "table.parquet", X, y, 400)
    assert (len(groups), groups.columns) == (4, ["x0", "x1", "x2"])
    file = FeedforwardRegressor(**OPTIONS).fit_parts(groups)
    memory = FeedforwardRegressor(**OPTIONS).fit_parts(cut(X, y, 400))
    np.testing.assert_array_equal(file.predict(X), memory.predict(X))
    assert file.validation_curve_ == memory.validation_curve_
    assert file._fitted.rows.count == 1500
    held = file._fitted.held_out.places
    np.testing.assert_array_equal(file._fitted.held_out.X, X[held])
    assert 100 < len(held) < 200
    assert not np.isin(file._fitted.rows.places, held).any()


@pytest.mark.slow
def test_parts_teach_as_much_as_a_table():
    X, y = waves(4000)
    model = FeedforwardRegressor(**{**OPTIONS, "max_iter": 60})
    model.fit_parts(cut(X[:3000], y[:3000], 1000))
    assert model.score(X[3000:], y[3000:]) > 0.95
    ends = model.predict_interval(X[3000:], 0.9)
    assert 0.85 < np.mean((ends[:, 0] <= y[3000:]) & (y[3000:] <= ends[:, 1])) < 0.95


@pytest.mark.slow
def test_class_weights_and_classes_of_parts():
    X, y = waves(600)
    y = (y > 2).astype(int)
    parts = cut(X, y, 200)
    options = {**OPTIONS, "early_stopping": False, "class_weight": "balanced"}
    model = FeedforwardClassifier(**options).fit_parts(parts, classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (600, 3)
    model = FeedforwardClassifier(**options).fit_parts(parts)
    weights = model._fitted.rows.weights
    assert weights[y == 1].sum() == pytest.approx(300, rel=1e-5)
    assert weights[y == 0].sum() == pytest.approx(300, rel=1e-5)


def test_wrong_parts_are_named(tmp_path):
    X, y = waves(100)
    model = FeedforwardRegressor(**OPTIONS)
    with pytest.raises(InvalidDataError, match="parts is of type generator, but must be"):
        model.fit_parts(part for part in cut(X, y, 50))
    with pytest.raises(InvalidDataError, match="the parts have no rows that count"):
        model.fit_parts([])
    with pytest.raises(InvalidDataError, match=r"a part is of type ndarray; wanted \(X, y\)"):
        model.fit_parts([X])
    with pytest.raises(ValueError, match="y holds 1 class, 1; wanted at least two"):
        FeedforwardClassifier().fit_parts([(X, np.ones(100, int))])
    with pytest.raises(InvalidDataError, match="has no column 'z'; its columns are x0, x1, x2, y"):
        RowGroups(written(tmp_path / "t.parquet", X, y, 50).path, "z")
    with pytest.raises(OSError, match="cannot read"):
        RowGroups(tmp_path / "missing.parquet", "y")
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidDataError, match="is not a Parquet file"):
        RowGroups(tmp_path / "text.parquet", "y")
    names = [str(number) for number in range(100)]
    parquet.write_table(pa.table({"name": names, "y": y}), tmp_path / "names.parquet")
    with pytest.raises(InvalidDataError, match="'name' is of type string; wanted columns of"):
        RowGroups(tmp_path / "names.parquet", "y")


@pytest.mark.slow
def test_an_epoch_that_raises_the_loss_is_undone():
    X, y = waves(1000)
    model = FeedforwardRegressor(**{**OPTIONS, "learning_rate_init": 0.3, "max_iter": 40})
    model.fit(X, y)
    losses = np.array(model.loss_curve_)
    assert (np.diff(losses) <= 0).all()
    assert (np.diff(losses) == 0).any()  # one was


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_what_is_not_known_of_many_rows_is_a_number(classes):
    """The rows say all of the logits' differences and nothing of their sum."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((20_000, 30), np.float32)
    X = np.concatenate([X, X[:, :1], 0 * X[:, :1]], axis=1)  # a column twice, and one of zeros
    y = np.argmax(X[:, :classes] + generator.gumbel(size=(len(X), classes)), axis=1)
    model = FeedforwardClassifier((20,), solver="adam", dtype="float32", max_iter=3, random_state=0)
    model.fit(X, y)
    true = np.exp(X[:, :classes])
    true /= true.sum(axis=1, keepdims=True)
    assert np.abs(model.predict_proba(X) - true).mean() < 0.05
    assert np.isfinite(model.influence(X[:5], y[:5])).all()
    assert len(model.suspicious_rows_) == 18_000


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["suspicious_rows_", "predict_interval", "save_model"])
def test_what_is_looked_at_later_has_the_precision_of_the_fit(asked, tmp_path):
    X, y = waves(300)
    model = FeedforwardRegressor((4,), solver="adam", max_iter=2, early_stopping=False)
    model.fit(X.astype(float), y)
    assert "left_out" not in vars(model._fitted)
    with jax.enable_x64(False):  # as JAX is by default
        if asked == "save_model":
            save_model(model, tmp_path / "model.npz", include_rows=True)
        elif asked == "predict_interval":
            model.predict_interval(X)
        else:
            assert sorted(model.suspicious_rows_) == list(range(300))
    assert {part.dtype for part in model._fitted.left_out} == {np.dtype(float)}


@pytest.mark.slow
def test_training_goes_on_from_what_was_stored():
    X, y = waves(1000)
    rows = Rows.whole(X, y[:, None], np.ones(1000, np.float32), np.ones(1000))
    objective, scale = Objective("numbers", "tanh"), Scale.of(X, np.ones(1000))
    start = initial_params(np.random.RandomState(0), (3, 8, 1), np.float32, has_direct=True)
    batches = Batches(100, 0.01, 7)

    def after(state, epochs):
        settings = Settings(max_steps=epochs)
        source = Memory(rows, None)
        return train(objective, (8,), source, scale, settings, batches, state).state

    half = after(begun(start, 0.01), 3)
    leaves, tree = jax.tree.flatten(half)
    again = jax.tree.unflatten(tree, [np.array(leaf) for leaf in leaves])
    once, twice = after(begun(start, 0.01), 6), after(again, 3)
    for ours, theirs in zip(jax.tree.leaves(twice), jax.tree.leaves(once), strict=True):
        np.testing.assert_array_equal(ours, theirs)


STREAMED = """
import json, sys, large_tables as t
from blockjac.estimators import FeedforwardRegressor, RowGroups
options = {"max_iter": 2, "random_state": 0, "learning_rate_init": 0.01}
FeedforwardRegressor((16,), **options).fit_parts(RowGroups(sys.argv[1], "y"))
print(json.dumps(t.status("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of memory")
def test_a_file_is_fitted_in_the_memory_of_some_row_groups(tmp_path):
    generator = np.random.default_rng(0)
    names = [*(f"x{number}" for number in range(100)), "y"]
    group = pa.table({name: generator.standard_normal(10_000).astype(np.float32) for name in names})
    peaks = []
    for count in (16, 136):
        with parquet.ParquetWriter(tmp_path / f"{count}.parquet", group.schema) as writer:
            for _ in range(count):
                writer.write_table(group)
        peaks.append(alone(STREAMED, str(tmp_path / f"{count}.parquet")))
    assert peaks[1] - peaks[0] < 0.25 * 120 * group.nbytes
