"""Reading tables: CSV and TSV, also compressed, Parquet, npz, and those that come along."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from blockjac.base.damage import DAMAGED
from blockjac.errors import InvalidDataError, MissingExtraError
from blockjac.tabular.table import Table, Values, text_of
from blockjac.tabular.text_files import read_text

PACKAGED = ("breast_cancer", "diabetes", "digits", "iris", "penguins", "wine")
"""Tables by name: scikit-learn carries them, all but the penguins."""

PENGUINS = "penguins_raw.csv"
"""Measured at Palmer Station, Antarctica, by K. Gorman and others; made a table, with all that is
missing or odd in it, by A. Horst and others (palmerpenguins, CC0)."""


def read_table(source: str | os.PathLike[str]) -> Table:
    """Read a table.

    Args:
        source: A file (.csv, .tsv, .txt, .parquet, .npz; text files also with .gz after it), or the
            name of a packaged table: breast_cancer, diabetes, digits, iris, penguins, wine.

    Returns:
        Its columns. Rows of a text file with a wrong number of fields are left out if they are few,
        with a note that names their lines.

    Raises:
        InvalidDataError: If there is not a table in it; says what was found, and what to do.
        MissingExtraError: If a package is needed to read it.

    Examples:
        >>> table = read_table("wine")
        >>> table.rows, table.target
        (178, 'class')
    """
    if str(source) in PACKAGED and not Path(source).exists():
        return _packaged(str(source))
    check_is_there(source)
    path = Path(source)
    try:
        content = path.read_bytes()
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
    return readers.get(Path(name).suffix, read_text)(path, content)


def check_is_there(source: str | os.PathLike[str]) -> None:
    """Check that there is something to read, before anybody imports what reads and fits it.

    Args:
        source: as `read_table` takes it.

    Raises:
        InvalidDataError: if it is not.
    """
    path = Path(source)
    if path.is_dir():
        raise InvalidDataError(f"'{path}' is a folder; wanted the file of a table")
    if str(source) not in PACKAGED and not path.exists():
        raise InvalidDataError(
            f"'{path}' does not exist; wanted a file, or one of {', '.join(PACKAGED)}"
        )


def _packaged(name: str) -> Table:
    """A table that comes along, or that scikit-learn carries."""
    if name == "penguins":
        file = resources.files("blockjac.tabular").joinpath("data", PENGUINS)
        return replace(read_text(Path(PENGUINS), file.read_bytes()), source=name, target="Species")
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
    except DAMAGED as error:
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
    return np.asarray([text_of(one) for one in array.tolist()], dtype=object)


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
            columns[name] = np.asarray([text_of(one) for one in column.to_pylist()], dtype=object)
    return Table(str(path), columns)
