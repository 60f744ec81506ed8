"""Tables in text: fields between delimiters, as spreadsheets and people write them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.tabular.table import Table, Values, number_of, text_of

DELIMITERS = (",", ";", "\t", "|")

WRONG_ROWS = 0.05
"""The largest share of rows with a wrong number of fields that are left out with a note."""

LISTED = 5
"""How many wrong rows are named."""


def read_text(path: Path, content: bytes) -> Table:
    """A text file with fields between delimiters.

    Args:
        path: of the file, for messages.
        content: all of it.

    Raises:
        InvalidDataError: if there is not a table in it; says where and why.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDataError(
            f"'{path}' is not text in UTF-8: byte 0x{content[error.start]:02x} in line {line}; "
            "save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InvalidDataError(f"'{path}' is not a text file: it holds bytes of value 0")
    delimiter = _delimiter(text)
    lines, rows = _rows(path, text, delimiter)
    if not rows:
        raise InvalidDataError(f"'{path}' holds blank lines alone; wanted a row of names and rows")
    notes: list[str] = []
    if all(number_of(one) is not None for one in rows[0]):
        names = [f"column {number}" for number in range(1, len(rows[0]) + 1)]
        notes.append("the first line holds numbers alone: the columns are called column 1, 2, ...")
    else:
        names, notes = _names(rows[0])
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise InvalidDataError(f"'{path}' has a row of names and nothing below it")
    lines, rows = _whole_rows(path, lines, rows, len(names), notes)
    columns = {
        name: np.asarray([text_of(row[number]) for row in rows], dtype=object)
        for number, name in enumerate(names)
    }
    if delimiter == ";":
        columns = {name: _with_points(column) for name, column in columns.items()}
    return Table(str(path), columns, tuple(notes), lines)


def _delimiter(text: str) -> str:
    """What stands between fields: what cuts the first rows into most fields, equally many."""

    def rank(delimiter: str) -> tuple[int, int]:
        """In how many rows it makes the usual number of fields, and this number."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            counts = [len(row) for row in itertools.islice(filter(None, reader), 50)]
        except csv.Error:
            counts = []
        common = max(set(counts), key=counts.count, default=1)
        return (counts.count(common) if common > 1 else 0, common)

    return max(DELIMITERS, key=rank)


def _rows(path: Path, text: str, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """The rows that are not blank, and their lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if len(row) > 1 or any(one.strip() for one in row):
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
    are_numbers = all(one is None or number_of(one) is not None for one in changed)
    return np.asarray(changed, dtype=object) if are_numbers else column
