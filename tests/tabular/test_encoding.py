import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from blockjac.errors import InvalidDataError
from blockjac.tabular.encoding import NONE, OTHER, Encoder, encoder_of
from blockjac.tabular.table import Table
from blockjac.tabular.targets import target_of


def table_of(**columns):
    kept = {}
    for name, values in columns.items():
        array = np.asarray(values)
        kept[name] = array if array.dtype.kind == "f" else np.asarray(values, dtype=object)
    count = len(next(iter(kept.values())))
    return Table("a.csv", kept, lines=range(2, count + 2))


def encoded(table, *names):
    encoder, notes = encoder_of(table, names or list(table.columns))
    return encoder, encoder.apply(table)[0], notes


def test_numbers_are_imputed_as_scikit_learn_does():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 3))
    X[generator.random(X.shape) < 0.2] = np.nan
    X[:, 2] = generator.normal(size=40)
    encoder, found, _ = encoded(table_of(a=X[:, 0], b=X[:, 1], c=X[:, 2]))
    wanted = SimpleImputer(strategy="median", add_indicator=True).fit_transform(X)
    assert np.array_equal(found, wanted)
    assert encoder.names == ["a", "b", "c", "a is missing", "b is missing"]


def test_gaps_where_none_were_at_the_fit_are_filled():
    encoder, _, _ = encoded(table_of(a=[1.0, 2.0, 5.0], b=[1.0, np.nan, 4.0]))
    found, _ = encoder.apply(table_of(a=[np.nan], b=[3.0]))
    assert found.tolist() == [[2.0, 3.0, 0.0]]


def test_categories_are_encoded_as_scikit_learn_does():
    values = ["red", "blue", None, "red", "blue", "red", "blue", "red"]
    encoder, found, _ = encoded(table_of(a=values))
    wanted = OneHotEncoder(sparse_output=False).fit_transform(
        pd.DataFrame({"a": [one or NONE for one in values]})
    )
    assert np.array_equal(found, wanted)
    assert encoder.names == ["a = (missing)", "a = blue", "a = red"]


def test_rare_categories_are_one_together():
    values = [f"k{number // 3}" for number in range(300)]
    encoder, found, _ = encoded(table_of(a=values))
    assert encoder.categories[0].categories[-1] == OTHER
    assert found.shape == (300, 30)
    assert np.all(found.sum(axis=1) == 1)
    _, notes = encoder.apply(table_of(a=["never seen"]))
    assert "'never seen'" in notes[0]


def test_new_categories_are_named_and_all_zero():
    encoder, _, _ = encoded(table_of(a=["x", "y"] * 5, b=[1.0, 2.0] * 5))
    found, notes = encoder.apply(table_of(a=["z"], b=[1.5]))
    assert found.tolist() == [[1.5, 0.0, 0.0]]
    assert notes == ["column 'a' has new categories, taken as none: 'z'"]


@pytest.mark.parametrize("style", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d %H:%M"])
def test_dates_are_days_and_seasons(style):
    days = [date(2020, 1, 31), date(2021, 7, 14), date(2019, 3, 25), date(2020, 12, 30)]
    _, found, _ = encoded(table_of(a=[day.strftime(style) for day in days]))
    wanted = [(day - date(1970, 1, 1)).days for day in days]
    assert np.array_equal(found[:, 0], wanted)
    assert np.allclose(found[:, 1] ** 2 + found[:, 2] ** 2, 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([None] * 12, "no values"),
        (["7"] * 12, "it is 7 in all rows"),
        (["a"] * 12, "it is 'a' in all rows"),
        ([str(number) for number in range(5, 17)], "numbers the rows"),
        ([f"name {number}" for number in range(12)], "12 different ones"),
    ],
)
def test_columns_that_teach_nothing_are_left_out(values, reason):
    encoder, found, _ = encoded(table_of(a=values, b=np.arange(12.0) ** 2))
    assert reason in encoder.left_out["a"]
    assert found.shape == (12, 1)


def test_a_few_odd_values_among_numbers_are_missing_and_named():
    values = [str(number**2) for number in range(60)]
    values[17] = ">100"
    encoder, found, notes = encoded(table_of(a=values))
    assert notes == ["column 'a' holds numbers, and '>100' in line 19, taken as missing"]
    assert found[17].tolist() == [np.median([n**2 for n in range(60) if n != 17]), 1.0]
    with pytest.raises(InvalidDataError, match="column 'a' holds 'much' in line 2"):
        encoder.apply(table_of(a=["much"]))


def test_commas_after_thousands():
    _, found, _ = encoded(table_of(a=["1,234", "12,345,678.5", "17", "-1,000"]))
    assert found[:, 0].tolist() == [1234, 12345678.5, 17, -1000]


def test_missing_columns_are_named_and_other_ones_ignored():
    encoder, _, _ = encoded(table_of(a=[1.0, 2.0, 4.0], b=[1.0, 3.0, 4.0]))
    with pytest.raises(InvalidDataError, match="lacks columns that the model needs: 'b'"):
        encoder.apply(table_of(a=[1.0], c=[1.0]))
    _, notes = encoder.apply(table_of(a=[1.0], b=[1.0], c=[1.0]))
    assert notes == ["columns that the model does not know are ignored: 'c'"]


@pytest.mark.parametrize("value", ["inf", "-Infinity"])
def test_infinite_numbers_are_refused_with_their_line(value):
    with pytest.raises(InvalidDataError, match="column 'a' is infinite in line 3"):
        encoded(table_of(a=["1", value, "2"]))


def test_an_encoder_is_the_same_after_json():
    table = table_of(
        a=[1.0, np.nan, 3.0, 9.0],
        b=["x", None, "x", "y"],
        c=["2020-01-01", "2020-05-01", None, "2021-01-01"],
        d=[None] * 4,
    )
    encoder, found, _ = encoded(table)
    again = Encoder.from_json(json.loads(json.dumps(encoder.as_json())))
    assert again == encoder
    assert np.array_equal(again.apply(table)[0], found)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(InvalidDataError, match=r"no column of a\.csv can be learned from: 'a'"):
        encoded(table_of(a=["x"] * 9))


def rows(count):
    return [str(number % 7) for number in range(count)]


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"] * 20, "classification"),
        (["0", "1"] * 20, "classification"),
        (["1.0", "2.0", None, "3.0"] * 20, "classification"),
        (["0.5", "1.5"] * 20, "regression"),
        ([str(number) for number in range(40)], "regression"),
    ],
)
def test_the_task_suits_the_values(values, task):
    target = target_of(table_of(a=rows(len(values)), b=values))
    assert (target.name, target.task) == ("b", task)


def test_a_usual_name_goes_before_the_last_column():
    assert target_of(table_of(label=["a", "b"] * 9, z=rows(18))).name == "label"


def test_rows_without_a_target_are_left_out_and_counted():
    target = target_of(table_of(a=rows(20), b=["x", "y", None, "x"] * 5))
    assert target.rows.tolist() == [row for row in range(20) if row % 4 != 2]
    assert "5 rows have no target and are left out (the first: line 4)" in target.notes


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([None] * 20, {}, "has no values"),
        (["a"] * 20, {}, "holds one class, a"),
        (["1.5"] * 20, {"task": "regression"}, "holds one value, 1.5"),
        (["1", "x"] * 10, {"task": "regression"}, "holds text, 'x' in line 3"),
        (["1", "inf"] * 10, {"task": "regression"}, "is infinite in line 3"),
        ([f"n{number}" for number in range(20)], {}, "20 different values in 20 rows"),
        (["a", "b"] * 10, {"name": "c"}, "has no column 'c'; it has 'a', 'beta'"),
        (["a", "b"] * 10, {"name": "bet"}, "did you mean 'beta'"),
    ],
)
def test_targets_that_cannot_be_learned(values, options, message):
    with pytest.raises(InvalidDataError, match=message):
        target_of(table_of(a=rows(20), beta=values), **options)


def test_too_few_rows():
    with pytest.raises(InvalidDataError, match="has 4 rows with a target; wanted at least 8"):
        target_of(table_of(a=rows(4), b=["x", "y"] * 2))
