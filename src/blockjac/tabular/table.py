"""Columns of a table as they were read, before anybody has said what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

Values = NDArray[Any]
"""Of a column: float64 with nan, or objects that are text or None."""

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", ".", "#n/a", "missing"))
"""What stands for a missing value, in small letters."""


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

    def take(self, rows: Values) -> Table:
        """Some of the rows."""
        if len(rows) == self.rows:
            return self
        columns = {name: values[rows] for name, values in self.columns.items()}
        lines = [self.lines[int(row)] for row in rows] if len(self.lines) else ()
        return replace(self, columns=columns, lines=lines)

    def where(self, row: int) -> str:
        """A row, as a user finds it."""
        return f"line {self.lines[row]}" if len(self.lines) else f"row {row + 1}"


def text_of(value: Any) -> str | None:
    """A value as text, None where it is missing.

    Args:
        value: of a cell.
    """
    text = "" if value is None else str(value).strip()
    return None if text.lower() in MISSING else text


def number_of(text: str) -> float | None:
    """The number that text is; None if it is none.

    Args:
        text: of a field.
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return None if "_" in text else number  # which Python reads as if it were not there
