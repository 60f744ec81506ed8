import gzip
import io
import random
import string

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_wine

from blockjac.errors import InvalidDataError
from blockjac.tabular.reading import PACKAGED, read_table


def written(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def test_quotes_blanks_and_lines_are_kept(tmp_path):
    text = 'name, size\n"Smith, J.",1\n\n"two\nlines",2\n "said ""no""" , 3 \n'
    table = read_table(written(tmp_path, text))
    assert list(table.columns["name"]) == ["Smith, J.", "two\nlines", 'said "no"']
    assert list(table.columns["size"]) == ["1", "2", "3"]
    assert [table.where(row) for row in range(3)] == ["line 2", "line 5", "line 6"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.csv.gz"])
def test_what_stands_between_fields_is_found(tmp_path, delimiter, name):
    frame = pd.DataFrame({"a b": [1.5, 2.5, np.nan], "c": ["x", None, "z, w"]})
    content = frame.to_csv(index=False, sep=delimiter).encode()
    content = gzip.compress(content) if name.endswith(".gz") else content
    table = read_table(written(tmp_path, content, name))
    assert list(table.columns["a b"]) == ["1.5", "2.5", None]
    assert list(table.columns["c"]) == ["x", None, "z, w"]


def test_random_tables_are_read_as_pandas_reads_them(tmp_path):
    generator = random.Random(0)
    letters = string.ascii_letters + ' ,;"\nü'

    def cell():
        if generator.random() < 0.1:
            return None
        length = generator.randint(1, 8)
        # a space at an end is nobody's, and these words stand for what is missing
        text = "".join(generator.choice(letters) for _ in range(length)).strip()
        return text if text.lower() not in ("", "na", "nan", "null", "none") else "x"

    for _ in range(60):
        rows, columns = generator.randint(1, 12), generator.randint(2, 5)
        frame = pd.DataFrame(
            {f"column {n}": [cell() for _ in range(rows)] for n in range(columns)}, dtype=object
        ).replace({None: np.nan})
        frame.iloc[0] = [f"k{n}" for n in range(columns)]
        path = written(tmp_path, frame.to_csv(index=False))
        table = read_table(path)
        again = pd.read_csv(path, dtype=str)
        assert list(table.columns) == list(again.columns)
        for name, values in table.columns.items():
            assert list(values) == [None if one is np.nan else one for one in again[name]]


@pytest.mark.parametrize("word", ["", "NA", "n/a", "NaN", "null", "None", "?", "-", "."])
def test_missing_values_have_many_names(tmp_path, word):
    table = read_table(written(tmp_path, f"a,b\n1,2\n{word},3\n"))
    assert list(table.columns["a"]) == ["1", None]


def test_decimal_commas_of_files_with_semicolons(tmp_path):
    table = read_table(written(tmp_path, "a;b\n1,5;x\n2,25;y,z\n"))
    assert list(table.columns["a"]) == ["1.5", "2.25"]
    assert list(table.columns["b"]) == ["x", "y,z"]


def test_a_table_without_names_gets_some(tmp_path):
    table = read_table(written(tmp_path, "1,2\n3,4\n"))
    assert list(table.columns) == ["column 1", "column 2"]
    assert table.rows == 2
    assert "numbers alone" in table.notes[0]


def test_names_that_are_missing_or_repeated(tmp_path):
    table = read_table(written(tmp_path, "a,,a\n1,2,3\n"))
    assert list(table.columns) == ["a", "column 2", "a 2"]
    assert len(table.notes) == 2


def test_a_mark_of_byte_order_is_not_a_name(tmp_path):
    assert "a" in read_table(written(tmp_path, "a,b\n1,2\n", encoding="utf-8-sig")).columns


def test_few_wrong_rows_are_left_out_with_their_lines(tmp_path):
    lines = ["a,b", *("1,2" for _ in range(40))]
    lines[7], lines[20] = "1,2,3", "1"
    table = read_table(written(tmp_path, "\n".join(lines)))
    assert table.rows == 38
    assert "line 8 has 3" in table.notes[0]
    assert "line 21 has 1" in table.notes[0]
    assert table.where(6) == "line 9"


BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "blank lines alone"),
    "names alone": (b"a,b\n", "nothing below"),
    "not UTF-8": ("a,b\n1,2\nä,3\n".encode("latin-1"), "not text in UTF-8: byte 0xe4 in line 3"),
    "zero bytes": (b"a,b\n1,\x002\n", "not a text file"),
    "wrong rows": (b"a,b\n1,2,3\n1,2,3\n4,5\n", "line 2 has 3, line 3 has 3"),
    "a wide line": (b"a,b\n1,2\n" + b",".join([b"7"] * 10_000), "line 3 has 10000|wrong"),
    "a long field": (b"a,b\n1," + b"x" * 200_000 + b"\n", "line 2: field larger"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused(tmp_path, kind):
    content, message = BAD[kind]
    path = written(tmp_path, content)
    if kind == "a wide line":  # one of two rows: left out with a note
        assert "line 3 has 10000" in read_table(path).notes[0]
        return
    with pytest.raises(InvalidDataError, match=message):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK\x03\x04 half of it", "not a whole .npz"),
        ("a.parquet", b"PAR1 half of it", "not a whole Parquet"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 50, mtime=0)[:-9], "not a whole gzip"),
    ],
)
def test_halves_of_files_are_refused(tmp_path, name, content, message):
    with pytest.raises(InvalidDataError, match=message):
        read_table(written(tmp_path, content, name))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidDataError, match="does not exist; wanted a file, or one of"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(InvalidDataError, match="is a folder"):
        read_table(tmp_path)


def test_arrays_of_numpy(tmp_path):
    X, y = load_wine(return_X_y=True)
    np.savez(tmp_path / "wine.npz", X=X, y=y)
    table = read_table(tmp_path / "wine.npz")
    assert table.target == "y"
    assert np.array_equal(table.columns["X3"], X[:, 3])
    content = io.BytesIO()
    np.savez(content, X=X, y=y[:-1])
    with pytest.raises(InvalidDataError, match="different lengths"):
        read_table(written(tmp_path, content.getvalue(), "odd.npz"))


def test_arrays_of_objects_run_no_code(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidDataError, match="plain arrays"):
        read_table(tmp_path / "a.npz")


def test_parquet(tmp_path):
    frame = pd.DataFrame(
        {
            "x": [1.5, np.nan, 3.0],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "t": ["a", None, "b"],
            "d": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    columns = read_table(tmp_path / "a.parquet").columns
    assert np.array_equal(columns["x"], [1.5, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(columns["n"], [1.0, np.nan, 3.0], equal_nan=True)
    assert list(columns["t"]) == ["a", None, "b"]
    assert list(columns["d"])[1] is None


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_tables(name):
    table = read_table(name)
    assert table.target in table.columns
    assert len({len(values) for values in table.columns.values()}) == 1


def test_packaged_tables_hold_scikit_learn_s_numbers():
    X, y = load_diabetes(return_X_y=True)
    columns = list(read_table("diabetes").columns.values())
    assert np.array_equal(np.stack(columns, 1), np.column_stack([X, y]))
