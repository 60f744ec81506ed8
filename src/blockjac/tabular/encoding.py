"""From columns to numbers, and the same way again for other rows of the same table.

scikit-learn imputes and encodes. What it learned is kept as numbers and text, from which its
objects are made anew, so that an encoder can be stored as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from blockjac.errors import InvalidDataError, MissingExtraError
from blockjac.tabular.columns import (
    ODD_SHARE,
    Column,
    as_category,
    as_days,
    as_numbers,
    check_finite,
    understood,
)
from blockjac.tabular.table import Table, Values

try:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder
except ImportError as error:
    raise MissingExtraError(
        "tables are encoded by scikit-learn, which is not installed; pip install 'blockjac[app]'"
    ) from error

YEAR = 365.2425
"""Days."""

MOST_CATEGORIES = 30
"""Of a column; rarer ones are one category together."""

NONE, OTHER = "(missing)", "(other)"
"""The categories of missing values and of rare ones."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    Attributes:
        name: of the column.
        fill: the median, in the place of missing values.
        has_missing: whether values were missing, which is a column of its own.
    """

    name: str
    fill: float
    has_missing: bool


@dataclass(frozen=True)
class DateColumn:
    """A column of dates: the day, and where in the year it lies."""

    name: str
    date_format: str
    fill: float


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories, each of which becomes a column of zeros and ones."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Encoder:
    """How the columns of a table become numbers.

    Attributes:
        numbers: columns of numbers.
        dates: columns of dates.
        categories: columns of categories; a missing value is a category.
        left_out: names of columns that are not used, and why.
    """

    numbers: tuple[NumberColumn, ...]
    dates: tuple[DateColumn, ...]
    categories: tuple[CategoryColumn, ...]
    left_out: dict[str, str]

    @property
    def used(self) -> list[str]:
        """The columns of the table that count."""
        return [one.name for one in (*self.numbers, *self.dates, *self.categories)]

    @property
    def names(self) -> list[str]:
        """Of the encoded columns."""
        names = [one.name for one in self.numbers]
        names += [f"{one.name} is missing" for one in self.numbers if one.has_missing]
        for date in self.dates:
            names += [date.name, f"{date.name}, season (sine)", f"{date.name}, season (cosine)"]
        for column in self.categories:
            names += [f"{column.name} = {one}" for one in column.categories]
        return names

    def apply(self, table: Table, known: Collection[str] = frozenset()) -> tuple[Values, list[str]]:
        """Rows of a table as numbers, and notes of what was not known.

        Args:
            table: with the columns that the encoder knows; others are ignored.
            known: other columns that need no note.

        Raises:
            InvalidDataError: if columns are missing or hold something else; names them.
        """
        missing = [name for name in self.used if name not in table.columns]
        if missing:
            raise InvalidDataError(
                f"{table.source} lacks columns that the model needs: {listed(missing)}; it has "
                f"{listed(list(table.columns))}"
            )
        notes: list[str] = []
        more = [name for name in table.columns if name not in {*self.used, *self.left_out, *known}]
        if more:
            notes.append(f"columns that the model does not know are ignored: {listed(more)}")
        parts = [
            self._of_numbers(table, notes),
            self._of_dates(table),
            self._of_categories(table, notes),
        ]
        return np.concatenate(parts, axis=1), notes

    def _of_numbers(self, table: Table, notes: list[str]) -> Values:
        """Numbers, and whether they are missing."""
        if not self.numbers:
            return np.zeros((table.rows, 0))
        values = np.stack([_numbers_of(table, one.name, notes) for one in self.numbers], axis=1)
        fills = np.array([one.fill for one in self.numbers])
        gaps = np.where([one.has_missing for one in self.numbers], np.nan, fills)
        # from twice the medians and once the gaps it learns just these
        has_gaps = any(one.has_missing for one in self.numbers)
        imputer: Any = SimpleImputer(
            strategy="median", add_indicator=has_gaps, keep_empty_features=True
        )
        imputer.fit(np.stack([fills, fills, gaps]))
        if has_gaps:
            imputer.indicator_.set_params(error_on_new=False)
        return imputer.transform(values)

    def _of_dates(self, table: Table) -> Values:
        """Days, and where in the year they lie."""
        parts: list[Values] = []
        for one in self.dates:
            days = as_days(table.columns[one.name], one.date_format)
            if days is None:
                raise InvalidDataError(
                    f"column {one.name!r} of {table.source} holds something other than dates like "
                    f"{one.date_format}"
                )
            days = np.where(np.isnan(days), one.fill, days)
            angle = 2 * np.pi * days / YEAR
            parts.append(np.stack([days, np.sin(angle), np.cos(angle)], axis=1))
        return np.concatenate(parts, axis=1) if parts else np.zeros((table.rows, 0))

    def _of_categories(self, table: Table, notes: list[str]) -> Values:
        """Zeros and ones; all zeros for a category that is new."""
        if not self.categories:
            return np.zeros((table.rows, 0))
        columns: list[list[str]] = []
        for one in self.categories:
            values = [as_category(value) or NONE for value in table.columns[one.name]]
            known = set(one.categories)
            new = sorted({value for value in values if value not in known} - {NONE})
            if new:
                as_what = "the rare ones" if OTHER in known else "none"
                notes.append(
                    f"column {one.name!r} has new categories, taken as {as_what}: {listed(new)}"
                )
            if OTHER in known:
                values = [value if value in known else OTHER for value in values]
            columns.append(values)
        known = [np.array(one.categories, dtype=object) for one in self.categories]
        encoder = cast("Any", OneHotEncoder)(
            categories=known, handle_unknown="ignore", sparse_output=False
        )
        encoder.fit(np.array([[one[0] for one in known]], dtype=object))
        return encoder.transform(np.array(columns, dtype=object).T)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return asdict(self)

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Encoder:
        """The encoder that `as_json` described."""
        return Encoder(
            tuple(NumberColumn(**one) for one in stored["numbers"]),
            tuple(DateColumn(**one) for one in stored["dates"]),
            tuple(
                CategoryColumn(one["name"], tuple(one["categories"]))
                for one in stored["categories"]
            ),
            dict(stored["left_out"]),
        )


def encoder_of(table: Table, names: Sequence[str]) -> tuple[Encoder, list[str]]:
    """Learn how columns become numbers.

    Args:
        table: of the columns.
        names: of those to use.

    Returns:
        The encoder, and notes of what was odd.

    Raises:
        InvalidDataError: if nothing is left to learn from.
    """
    columns = [understood(table, name) for name in names]
    left_out = {one.name: one.reason for one in columns if one.kind == "left out"}
    if len(left_out) == len(columns):
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(left_out.items())[:5])
        raise InvalidDataError(
            f"no column of {table.source} can be learned from{': ' if reasons else ''}{reasons}"
        )
    encoder = Encoder(
        tuple(
            NumberColumn(
                one.name, float(np.nanmedian(one.values)), bool(np.isnan(one.values).any())
            )
            for one in columns
            if one.kind == "number"
        ),
        tuple(
            DateColumn(one.name, one.date_format, float(np.nanmedian(one.values)))
            for one in columns
            if one.kind == "date"
        ),
        tuple(_category_column(one) for one in columns if one.kind == "category"),
        left_out,
    )
    return encoder, [note for one in columns for note in one.notes]


def _category_column(column: Column) -> CategoryColumn:
    """A column with its categories, sorted; the rarest together."""
    counts = Counter(as_category(one) or NONE for one in column.values)
    if len(counts) <= MOST_CATEGORIES:
        return CategoryColumn(column.name, tuple(sorted(counts)))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return CategoryColumn(column.name, (*sorted(ranked[: MOST_CATEGORIES - 1]), OTHER))


def _numbers_of(table: Table, name: str, notes: list[str]) -> Values:
    """A column of numbers; a few odd values are missing.

    Raises:
        InvalidDataError: if it holds something else; says where.
    """
    values = table.columns[name]
    numbers, odd = as_numbers(values)
    check_finite(table, name, numbers)
    if len(odd) > ODD_SHARE * len(values):
        raise InvalidDataError(
            f"column {name!r} holds {values[odd[0]]!r} in {table.where(int(odd[0]))} of "
            f"{table.source}; wanted numbers, or nothing"
        )
    if len(odd):
        first = table.where(int(odd[0]))
        notes.append(f"column {name!r} holds {values[odd[0]]!r} in {first}, taken as missing")
    return numbers


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more
