"""What a column holds: numbers, dates, categories, or nothing that can be learned from."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.tabular.table import Table, Values, number_of

Kind = Literal["number", "date", "category", "left out"]

FREE_TEXT = 0.5
"""Text of which more than this share of the values differ is left out: names, remarks."""

ODD_SHARE = 0.05
"""The largest share of odd values among numbers that are taken as missing, with a note."""

LISTED = 3
"""How many odd values are named."""

THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
"""A number with a comma after each three digits."""

DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%m/%d/%y",
    "%Y/%m/%d",
)


@dataclass(frozen=True)
class Column:
    """A column and how it is understood.

    Attributes:
        name: of the column.
        kind: of its values.
        values: float64 with nan for numbers and dates (days since 1970), else objects.
        reason: why it is left out.
        date_format: of dates.
        notes: what a user should know.
    """

    name: str
    kind: Kind
    values: Values
    reason: str = ""
    date_format: str = ""
    notes: tuple[str, ...] = ()


def understood(table: Table, name: str) -> Column:
    """A column of a table, with the kind that its values have.

    Args:
        table: of the column.
        name: of the column.

    Raises:
        InvalidDataError: for infinite numbers; says where.
    """
    values = table.columns[name]
    numbers, odd = as_numbers(values)
    present = numbers[~np.isnan(numbers)]
    if not len(present) and not len(odd):
        return Column(name, "left out", values, "it has no values")
    if len(odd) <= ODD_SHARE * len(present):
        check_finite(table, name, numbers)
        return _of_numbers(name, numbers, present, _odd_notes(table, name, values, odd))
    for date_format in DATE_FORMATS:
        days = as_days(values, date_format)
        if days is not None:
            return Column(name, "date", days, date_format=date_format)
    return _of_text(name, values)


def _of_numbers(name: str, numbers: Values, present: Values, notes: tuple[str, ...]) -> Column:
    """A column of numbers."""
    if np.ptp(present) == 0 and len(present) == len(numbers):
        return Column(name, "left out", numbers, f"it is {present[0]:g} in all rows")
    if len(numbers) > 10 and np.array_equal(np.diff(numbers), np.ones(len(numbers) - 1)):
        return Column(name, "left out", numbers, "it numbers the rows")
    return Column(name, "number", numbers, notes=notes)


def _of_text(name: str, values: Values) -> Column:
    """A column of text."""
    counts = Counter(as_category(one) for one in values)
    missing = counts.pop(None, 0)
    if len(counts) == 1 and not missing:
        return Column(name, "left out", values, f"it is {next(iter(counts))!r} in all rows")
    if len(counts) > max(2, FREE_TEXT * (len(values) - missing)):
        return Column(name, "left out", values, f"it is text, {len(counts)} different ones")
    return Column(name, "category", values)


def check_finite(table: Table, name: str, numbers: Values) -> None:
    """Raise for infinite numbers.

    Raises:
        InvalidDataError: says where.
    """
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise InvalidDataError(
            f"column {name!r} is infinite in {table.where(int(infinite[0]))} of {table.source}; "
            "leave such values empty, or put in a number"
        )


def _odd_notes(table: Table, name: str, values: Values, odd: Values) -> tuple[str, ...]:
    """A note of values that are not numbers."""
    if not len(odd):
        return ()
    named = ", ".join(f"{values[row]!r} in {table.where(int(row))}" for row in odd[:LISTED])
    more = f", and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
    return (f"column {name!r} holds numbers, and {named}{more}, taken as missing",)


def as_numbers(values: Values) -> tuple[Values, Values]:
    """The values as float64, nan where they are missing or odd; and the rows of the odd ones."""
    if values.dtype != object:
        return values.astype(float), np.zeros(0, int)
    numbers = np.full(len(values), math.nan)
    odd: list[int] = []
    for row, one in enumerate(values):
        if one is None:
            continue
        number = as_number(one)
        if number is None:
            odd.append(row)
        else:
            numbers[row] = number
    return numbers, np.asarray(odd, int)


def as_number(text: str) -> float | None:
    """The number that text is, also with commas after thousands; None if it is none."""
    if "," in text and THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    return number_of(text)


def as_days(values: Values, date_format: str) -> Values | None:
    """Dates as days since 1970, nan where they are missing; None if one is not such a date."""
    days = np.full(len(values), math.nan)
    first = datetime(1970, 1, 1)
    for place, one in enumerate(values):
        if one is None:
            continue
        try:
            moment = datetime.strptime(one, date_format)
        except (TypeError, ValueError):
            return None
        days[place] = (moment - first).total_seconds() / 86400
    return None if np.isnan(days).all() else days


def as_category(value: Any) -> str | None:
    """A value as the name of a category; whole numbers without a point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
