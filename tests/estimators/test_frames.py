"""Tables of pandas and polars: answers are those of arrays, and errors name columns and rows."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from blockjac.errors import InvalidDataError
from blockjac.estimators import (
    FeedforwardClassifier,
    FeedforwardRegressor,
    load_model,
    save_model,
)

X, Y = load_iris(return_X_y=True)
NAMES = ["length", "width", "petal length", "petal width"]
SPECIES = np.array(["setosa", "versicolor", "virginica"])
TEXTS = [str(one) for one in SPECIES[Y]]
BACKWARDS = np.arange(len(X))[::-1] + 1000  # an index that is not the number of the row
OF_PANDAS = pd.DataFrame(X, columns=NAMES, index=BACKWARDS)
OF_POLARS = pl.DataFrame(X, schema=NAMES)

TABLES = {
    "pandas": OF_PANDAS,
    "pandas nullable": OF_PANDAS.convert_dtypes(),
    "pandas arrow": OF_PANDAS.convert_dtypes(dtype_backend="pyarrow"),
    "polars": OF_POLARS,
    "polars decimals": OF_POLARS.cast(pl.Decimal(10, 2)),
}

INTEGERS = {
    "pandas": pd.Series(Y, index=BACKWARDS),
    "pandas nullable": pd.Series(Y, dtype="Int64"),
    "pandas arrow": pd.Series(Y, dtype="int64[pyarrow]"),
    "pandas categories": pd.Series(pd.Categorical(Y)),
    "polars": pl.Series("species", Y),
    "polars bytes": pl.Series("species", Y, dtype=pl.UInt8),
}

TRUTHS = {
    "pandas": pd.Series(Y > 0),
    "pandas nullable": pd.Series(Y > 0, dtype="boolean"),
    "polars": pl.Series(Y > 0),
}

WORDS = {
    "pandas": pd.Series(TEXTS),
    "pandas objects": pd.Series(TEXTS, dtype=object),
    "pandas strings": pd.Series(TEXTS, dtype="string"),
    "pandas categories": pd.Series(pd.Categorical(TEXTS, categories=SPECIES[::-1])),
    "pandas array": pd.Categorical(TEXTS),
    "polars": pl.Series(TEXTS),
    "polars categories": pl.Series(TEXTS, dtype=pl.Categorical),
    "polars enumeration": pl.Series(TEXTS, dtype=pl.Enum(SPECIES[::-1].tolist())),
}


def classifier(**options):
    return FeedforwardClassifier((), alpha=0.01, random_state=0, **options)


def regressor(**options):
    return FeedforwardRegressor((), alpha=0.01, random_state=0, **options)


@pytest.fixture(scope="module")
def expected():
    return classifier().fit(X, Y).predict_proba(X)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_give_what_arrays_give(table, expected):
    model = classifier().fit(table, Y)
    assert model.feature_names_in_.tolist() == NAMES
    assert type(model.predict(table)) is np.ndarray
    np.testing.assert_allclose(model.predict_proba(table), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        *[pytest.param(y, "iu", id=f"integers-{name}") for name, y in INTEGERS.items()],
        *[pytest.param(y, "b", id=f"truths-{name}") for name, y in TRUTHS.items()],
        *[pytest.param(y, "OU", id=f"words-{name}") for name, y in WORDS.items()],
    ],
)
def test_classes_keep_their_kind(y, kind, expected):
    model = classifier().fit(OF_PANDAS, y)
    found = model.predict(OF_PANDAS)
    assert model.classes_.dtype.kind in kind
    assert found.dtype == model.classes_.dtype
    assert (found == np.asarray(y)).mean() > 0.95
    assert model.score(OF_PANDAS, y) == (found == np.asarray(y)).mean()
    assert model.influence(OF_PANDAS[:3], y[:3]).shape == (len(X), 3)
    if len(model.classes_) == 3:
        np.testing.assert_allclose(model.predict_proba(OF_PANDAS), expected, atol=1e-9)


@pytest.mark.parametrize("make", [pd.Series, pl.Series], ids=["pandas", "polars"])
def test_numbers_and_weights_in_a_series(make):
    table, y = load_diabetes(return_X_y=True)
    weights = np.random.RandomState(0).uniform(size=len(y))
    model = regressor().fit(table, make(y), sample_weight=make(weights))
    same = regressor().fit(table, y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(table), same.predict(table), atol=1e-9)
    assert model.score(table, make(y), sample_weight=make(weights)) == pytest.approx(
        same.score(table, y, sample_weight=weights)
    )


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_rows_go_by_their_place_and_not_by_their_index():
    y = pd.Series(Y)  # its index is not that of the table
    weights = pd.Series(1.0 + (Y == 1), index=BACKWARDS[::-1])
    model = classifier().fit(OF_PANDAS, y, sample_weight=weights)
    same = classifier().fit(X, Y, sample_weight=weights.to_numpy())
    np.testing.assert_allclose(model.predict_proba(X), same.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_several_numbers_in_a_table(make):
    table, y = load_diabetes(return_X_y=True)
    model = regressor().fit(table, make({"up": y, "down": -y}))
    found = model.predict(table)
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found[:, 0], -found[:, 1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("table", [OF_PANDAS, OF_POLARS], ids=["pandas", "polars"])
def test_in_pipelines_grids_and_cross_validations(table):
    y = pl.Series(TEXTS) if isinstance(table, pl.DataFrame) else pd.Series(TEXTS, index=BACKWARDS)
    output = "polars" if isinstance(table, pl.DataFrame) else "pandas"
    columns = ColumnTransformer(
        [("scaled", StandardScaler(), NAMES[:2])], remainder="passthrough"
    ).set_output(transform=output)
    pipeline = make_pipeline(columns, classifier())
    assert cross_val_score(pipeline, table, y, cv=3).mean() > 0.9
    grid = {"feedforwardclassifier__alpha": [0.01, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(table, y)
    inner = search.best_estimator_[-1]
    assert inner.feature_names_in_[0] == "scaled__length"
    assert set(search.predict(table)) == set(SPECIES)


@pytest.mark.parametrize("table", [OF_PANDAS, OF_POLARS], ids=["pandas", "polars"])
def test_a_file_keeps_the_names_of_columns_and_classes(table, tmp_path):
    model = classifier().fit(table, WORDS["polars categories"])
    again = load_model(save_model(model, tmp_path / "iris.npz"))
    assert again.feature_names_in_.tolist() == NAMES
    assert again.classes_.tolist() == SPECIES.tolist()
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        again.predict(table[NAMES[::-1]])


def test_columns_that_differ_are_named():
    model = classifier().fit(OF_PANDAS, Y)
    with pytest.raises(ValueError, match="unseen at fit time:\n- height"):
        model.predict(OF_POLARS.rename({"length": "height"}))
    with pytest.raises(ValueError, match="yet now missing:\n- width"):
        model.predict(OF_PANDAS.drop(columns="width"))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)
    with pytest.warns(UserWarning, match="X has feature names, but FeedforwardClassifier was"):
        classifier().fit(X, Y).predict(OF_POLARS)


WRONG = {
    "text": (
        OF_PANDAS.assign(color="red"),
        "column 'color' of X holds text, such as 'red'",
    ),
    "categories": (
        OF_PANDAS.assign(kind=pd.Categorical(TEXTS), color="red"),
        "column 'kind' and 1 other columns of X holds text, such as 'setosa'",
    ),
    "polars text": (
        OF_POLARS.with_columns(color=pl.lit("red")),
        "column 'color' of X holds text, such as 'red'",
    ),
    "missing": (
        OF_PANDAS.where(OF_PANDAS < 7),
        "X contains NaN or missing values in column 'length'; fill them",
    ),
    "nullable missing": (
        OF_PANDAS.convert_dtypes().where(OF_PANDAS < 6),
        "X contains NaN or missing values in columns 'length', 'petal length'; fill them",
    ),
    "polars missing": (
        OF_POLARS.with_columns(width=pl.when(pl.col("width") < 4).then("width")),
        "X contains NaN or missing values in column 'width'; fill them",
    ),
    "lazy": (OF_POLARS.lazy(), r"X is a LazyFrame, .* wanted X.collect\(\)"),
}


@pytest.mark.parametrize(("table", "message"), WRONG.values(), ids=WRONG)
def test_columns_that_are_not_numbers_are_named(table, message):
    with pytest.raises(InvalidDataError, match=message):
        classifier().fit(table, Y)


MISSING = {
    "pandas": pd.Series([*TEXTS[:-1], None]),
    "pandas strings": pd.Series([*TEXTS[:-1], None], dtype="string"),
    "pandas nullable": pd.Series([*map(int, Y[:-1]), None], dtype="Int64"),
    "pandas categories": pd.Series(pd.Categorical([*TEXTS[:-1], None])),
    "polars": pl.Series([*TEXTS[:-1], None]),
    "polars numbers": pl.Series([*map(float, Y[:-1]), float("nan")]),
}


@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
def test_missing_classes_are_named(y):
    with pytest.raises(InvalidDataError, match=r"y contains NaN .* the first in row 149, and 1 in"):
        classifier().fit(X, y)


def test_mixed_classes_are_refused():
    with pytest.raises(InvalidDataError, match="y mixes text with other classes"):
        classifier().fit(X, pd.Series(["one", 1] * 75))


@pytest.mark.slow
def test_polars_is_not_imported():
    """Nor is pandas by blockjac, but scikit-learn does where it is installed."""
    code = "import sys, blockjac.estimators.files; print('polars' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
