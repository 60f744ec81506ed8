"""`blockjac predict`: the rows of a table through a model."""

import argparse
import csv
import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from blockjac.cli.tables.folder import model_file
from blockjac.optimize.files import check_file, write_whole
from blockjac.tabular.model import TableModel
from blockjac.tabular.reading import read_table
from blockjac.tabular.table import Table, Values


def run_predict(options: argparse.Namespace) -> None:
    """Print or write the predictions of all rows as CSV.

    Args:
        options: Those of `blockjac predict`.

    Raises:
        BlockjacError: If the model or the table cannot be used, or the file cannot be written.
    """
    if options.out is not None:
        check_file(options.out)
    model = TableModel.load(model_file(options.model))
    table = read_table(options.data)
    columns, notes = model.predict(table, options.interval)
    for note in (*table.notes, *notes):
        print(f"blockjac: {note}", file=sys.stderr)
    content = as_csv(table, columns)
    if options.out is None:
        print(content, end="")
    else:
        write_whole(options.out, content.encode())


def as_csv(table: Table, columns: Mapping[str, Values]) -> str:
    """Columns with the number of the line or row of each.

    Args:
        table: that they belong to.
        columns: by name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_lines = len(table.lines) > 0
    writer.writerow(["line" if has_lines else "row", *columns])
    numbers = table.lines if has_lines else range(1, table.rows + 1)
    for number, *values in zip(numbers, *columns.values(), strict=True):
        writer.writerow([number, *map(_plain, values)])
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A number with as many digits as say something."""
    return f"{value:.10g}" if isinstance(value, float | np.floating) else value
