"""Reading tables: CSV and TSV, also compressed, Parquet, npz, and those that come along."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockjac.errors import InvalidDataError, MissingExtraError

Values = NDArray[Any]
"""Of a column: float64 with nan, or objects that are text or None."""

PACKAGED = ("breast_cancer", "diabetes", "digits", "iris", "penguins", "wine")
"""Tables by name: scikit-learn carries them, all but the penguins."""

PENGUINS = "penguins_raw.csv"
"""Measured at Palmer Station, Antarctica, by K. Gorman and others; made a table, with all that is
missing or odd in it, by A. Horst and others (palmerpenguins, CC0)."""

DELIMITERS = (",", ";", "\t", "|")

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", ".", "#n/a", "missing"))
"""What stands for a missing value, in small letters."""

WRONG_ROWS = 0.05
"""The largest share of rows with a wrong number of fields that are left out with a note."""

LISTED = 5
"""How many wrong rows are named."""


@dataclass(frozen=True)
class Table:
    """Columns of a file.

    Attributes:
        source: where they come from, for messages.
        columns: by name, in the order of the file, equally long.
        notes: what a user should know of the reading.
        lines: the line of each row in a text file; empty for other files.
        target: the name of the column to predict, where the source says it.
    """

    source: str
    columns: dict[str, Values] = field(repr=False)
    notes: tuple[str, ...] = ()
    lines: Sequence[int] = field(default=(), repr=False)
    target: str | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int) -> str:
        """A row, as a user finds it."""
        return f"line {self.lines[row]}" if len(self.lines) else f"row {row + 1}"


def read_table(source: str | os.PathLike[str]) -> Table:
    """Read a table.

    Args:
        source: A file (.csv, .tsv, .txt, .parquet, .npz; text files also with .gz after it), or the
            name of a packaged table: breast_cancer, diabetes, digits, iris, penguins, wine.

    Returns:
        Its columns. Rows of a text file with a wrong number of fields are left out if they are few,
        with a note that names their lines.

    Raises:
        InvalidDataError: If there is no table in it; says what was found, and what to do.
        MissingExtraError: If a package is needed to read it.

    Examples:
        >>> table = read_table("wine")
        >>> table.rows, table.target
        (178, 'class')
    """
    if str(source) in PACKAGED and not Path(source).exists():
        return _packaged(str(source))
    path = Path(source)
    if path.is_dir():
        raise InvalidDataError(f"'{path}' is a folder; wanted the file of a table")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidDataError(
            f"'{path}' does not exist; wanted a file, or one of {', '.join(PACKAGED)}"
        ) from error
    except OSError as error:
        raise InvalidDataError(f"cannot read '{path}': {error.strerror}") from error
    if not content:
        raise InvalidDataError(f"'{path}' is empty; wanted a table with a row of names")
    name = path.name.lower()
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise InvalidDataError(f"'{path}' is not a whole gzip file: {error}") from error
        name = name.removesuffix(".gz")
    readers: dict[str, Callable[[Path, bytes], Table]] = {".npz": _npz, ".parquet": _parquet}
    return readers.get(Path(name).suffix, _text)(path, content)


def _packaged(name: str) -> Table:
    """A table that comes along, or that scikit-learn carries."""
    if name == "penguins":
        file = resources.files("blockjac.tabular").joinpath("data", PENGUINS)
        return replace(_text(Path(PENGUINS), file.read_bytes()), source=name, target="Species")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"the table {name!r} comes with scikit-learn: pip install 'blockjac[app]'"
        ) from error
    data: Any = getattr(datasets, f"load_{name}")()
    X = np.asarray(data.data, float)
    columns: dict[str, Values] = {
        str(one): X[:, number] for number, one in enumerate(data.feature_names)
    }
    if name == "diabetes":
        columns["progression"] = np.asarray(data.target, float)
        return Table(name, columns, target="progression")
    classes = np.asarray([str(one) for one in data.target_names], dtype=object)
    return Table(name, {**columns, "class": classes[data.target]}, target="class")


def _npz(path: Path, content: bytes) -> Table:
    """Arrays X and y of a file of NumPy; X has a column for each of its own."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError) as error:
        raise InvalidDataError(f"'{path}' is not a whole .npz file of plain arrays") from error
    columns: dict[str, Values] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2:
            columns |= {f"{name}{number}": part for number, part in enumerate(array.T)}
        else:
            raise InvalidDataError(
                f"'{path}' has {name} of shape {array.shape}; wanted arrays with rows, (n,) or "
                "(n, columns)"
            )
    if not columns:
        raise InvalidDataError(f"'{path}' holds no arrays")
    counts = {name: len(part) for name, part in columns.items()}
    if len(set(counts.values())) > 1:
        raise InvalidDataError(f"'{path}' has arrays of different lengths: {counts}")
    plain = {name: _plain(part) for name, part in columns.items()}
    return Table(str(path), plain, target="y" if "y" in plain else None)


def _plain(array: Values) -> Values:
    """Numbers as float64; text as objects."""
    if array.dtype.kind in "biuf":
        return array.astype(float)
    return np.asarray([_text_of(one) for one in array.tolist()], dtype=object)


def _text_of(value: Any) -> str | None:
    """A value as text, None where it is missing."""
    text = "" if value is None else str(value).strip()
    return None if text.lower() in MISSING else text


def _parquet(path: Path, content: bytes) -> Table:
    """A Parquet file, by pyarrow."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file needs pyarrow: pip install pyarrow") from error
    try:
        table: Any = parquet.read_table(io.BytesIO(content))
    except ArrowException as error:
        raise InvalidDataError(f"'{path}' is not a whole Parquet file: {error}") from error
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = str(column.type)
        if kind.startswith(("int", "uint", "float", "double", "halffloat", "decimal")):
            columns[name] = np.asarray(column.to_numpy(), float)
        else:
            columns[name] = np.asarray([_text_of(one) for one in column.to_pylist()], dtype=object)
    return Table(str(path), columns)


def _text(path: Path, content: bytes) -> Table:
    """A text file with fields between delimiters."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDataError(
            f"'{path}' is not text in UTF-8: byte 0x{content[error.start]:02x} in line {line}; save "
            "it as UTF-8"
        ) from error
    if "\0" in text:
        raise InvalidDataError(f"'{path}' is not a text file: it holds bytes of value 0")
    delimiter = _delimiter(text)
    lines, rows = _rows(path, text, delimiter)
    if not rows:
        raise InvalidDataError(f"'{path}' holds blank lines alone; wanted a row of names and rows")
    notes: list[str] = []
    if all(_is_number(one) for one in rows[0]):
        names = [f"column {number}" for number in range(1, len(rows[0]) + 1)]
        notes.append("the first line holds numbers alone: the columns are called column 1, 2, ...")
    else:
        names, notes = _names(rows[0])
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise InvalidDataError(f"'{path}' has a row of names and nothing below it")
    lines, rows = _whole_rows(path, lines, rows, len(names), notes)
    columns = {
        name: np.asarray([_text_of(row[number]) for row in rows], dtype=object)
        for number, name in enumerate(names)
    }
    if delimiter == ";":
        columns = {name: _with_points(column) for name, column in columns.items()}
    return Table(str(path), columns, tuple(notes), lines)


def _delimiter(text: str) -> str:
    """What stands between fields: what cuts the first lines into most fields, equally many."""
    start = list(itertools.islice((line for line in text.splitlines() if line.strip()), 50))

    def rank(delimiter: str) -> tuple[int, int]:
        counts = [len(row) for row in csv.reader(start, delimiter=delimiter)]
        common = max(set(counts), key=counts.count)
        return (counts.count(common) if common > 1 else 0, common)

    return max(DELIMITERS, key=rank)


def _rows(path: Path, text: str, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """The rows that are not blank, and their lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines, rows = [], []
    try:
        for row in reader:
            if any(one.strip() for one in row):
                lines.append(reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise InvalidDataError(f"'{path}', line {reader.line_num}: {error}") from error
    return lines, rows


def _names(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of columns that differ from each other, and notes of what was changed."""
    names: list[str] = []
    notes: list[str] = []
    for number, one in enumerate(header, 1):
        name = one.strip() or f"column {number}"
        if not one.strip():
            notes.append(f"column {number} has no name")
        if name in names:
            again = next(f"{name} {k}" for k in itertools.count(2) if f"{name} {k}" not in names)
            notes.append(f"two columns are called {name!r}: the later one is {again!r} here")
            name = again
        names.append(name)
    return names, notes


def _whole_rows(
    path: Path, lines: list[int], rows: list[list[str]], wanted: int, notes: list[str]
) -> tuple[list[int], list[list[str]]]:
    """The rows with as many fields as there are names; the others get a note."""
    wrong = [(line, len(row)) for line, row in zip(lines, rows, strict=True) if len(row) != wanted]
    if not wrong:
        return lines, rows
    named = ", ".join(f"line {line} has {count}" for line, count in wrong[:LISTED])
    more = f", and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
    if len(wrong) > max(1, WRONG_ROWS * len(rows)):
        raise InvalidDataError(
            f"'{path}' has {wanted} names and rows with another number of fields: {named}{more}; "
            "text that holds the delimiter must stand in double quotes"
        )
    notes.append(f"rows without {wanted} fields were left out: {named}{more}")
    kept = [(line, row) for line, row in zip(lines, rows, strict=True) if len(row) == wanted]
    return [line for line, _ in kept], [row for _, row in kept]


def _with_points(column: Values) -> Values:
    """Numbers with a decimal comma, as in files with semicolons, with a point."""
    changed = [None if one is None else one.replace(",", ".") for one in column]
    are_numbers = all(one is None or _is_number(one) for one in changed)
    return np.asarray(changed, dtype=object) if are_numbers else column


def _is_number(text: str) -> bool:
    """Whether a field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
