"""What is to be predicted: which column, and whether it holds classes or numbers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blockjac.errors import InvalidDataError
from blockjac.tabular.columns import as_category, as_numbers, check_finite
from blockjac.tabular.encoding import listed
from blockjac.tabular.table import Table, Values

Task = Literal["classification", "regression"]

TASKS: tuple[Task, ...] = ("classification", "regression")

USUAL = ("target", "label", "class", "y", "outcome")
"""Names that the column to predict often has."""

ROWS_OF_A_CLASS = 5
"""Whole numbers are classes where each stands for at least this many rows in the mean."""

MOST_CLASSES = 20
"""More different whole numbers are not classes by themselves."""

FEWEST = 8
"""Rows that a network can be fitted and looked at with."""


@dataclass(frozen=True)
class Target:
    """The column to predict.

    Attributes:
        name: of the column.
        task: what to predict.
        values: names of classes or numbers, of the rows that have one.
        rows: the rows that have one.
        notes: what was chosen, and what was left out.
    """

    name: str
    task: Task
    values: Values
    rows: Values
    notes: tuple[str, ...]


def target_of(table: Table, name: str | None = None, task: str = "auto") -> Target:
    """The column to predict, checked.

    Args:
        table: of the column.
        name: of the column; that which the table says, one of a usual name, or the last one, if
            left out.
        task: "classification", "regression", or "auto" for what suits the values.

    Raises:
        InvalidDataError: if it is not there, or nothing can be learned from it.
    """
    notes: list[str] = []
    name = _column(table, name, notes)
    values = table.columns[name]
    numbers, odd = as_numbers(values)
    has_text = len(odd) > 0
    if task == "auto":
        task = "classification" if has_text or _are_classes(numbers) else "regression"
        if not has_text:
            other = "regression" if task == "classification" else "classification"
            notes.append(f"{name!r} is taken for {task}; --task {other} for the other way")
    if task == "regression" and has_text:
        raise InvalidDataError(
            f"column {name!r} holds text, {values[odd[0]]!r} in {table.where(int(odd[0]))}; "
            "regression wants numbers: choose another target, or --task classification"
        )
    if task == "regression":
        check_finite(table, name, numbers)
        return _chosen(table, name, "regression", numbers, ~np.isnan(numbers), notes)
    classes = np.array([as_category(one) for one in values], dtype=object)
    has_one = np.array([one is not None for one in classes], dtype=bool)
    return _chosen(table, name, "classification", classes, has_one, notes)


def _column(table: Table, name: str | None, notes: list[str]) -> str:
    """The name of the column to predict."""
    names = list(table.columns)
    if name is None and table.target is not None:
        return table.target
    if name is None:
        usual = [one for one in names if one.lower() in USUAL]
        name = usual[0] if usual else names[-1]
        which = "" if usual else ", the last column"
        notes.append(f"the target is {name!r}{which}; --target NAME for another")
    if name not in names:
        near = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise InvalidDataError(
            f"{table.source} has no column {name!r}; it has {listed(names)}{hint}"
        )
    return name


def _are_classes(numbers: Values) -> bool:
    """Whether numbers are names of classes: few whole ones, of many rows each."""
    present = numbers[np.isfinite(numbers)]
    different = np.unique(present)
    return 0 < len(different) <= min(
        MOST_CLASSES, len(present) / ROWS_OF_A_CLASS
    ) and np.array_equal(different, np.round(different))


def _chosen(
    table: Table, name: str, task: Task, values: Values, has_one: Values, notes: list[str]
) -> Target:
    """The target of the rows that have one."""
    rows = np.flatnonzero(has_one)
    if not len(rows):
        raise InvalidDataError(
            f"column {name!r} of {table.source} has no values; choose another --target"
        )
    if len(rows) < len(values):
        first = table.where(int(np.flatnonzero(~has_one)[0]))
        gone = len(values) - len(rows)
        are = "row has no target and is" if gone == 1 else "rows have no target and are"
        notes.append(f"{gone} {are} left out (the first: {first})")
    if len(rows) < FEWEST:
        raise InvalidDataError(
            f"{table.source} has {len(rows)} rows with a target; wanted at least {FEWEST}"
        )
    chosen = values[rows]
    different = np.unique(chosen.astype(float if task == "regression" else str))
    if len(different) == 1:
        what = "class" if task == "classification" else "value"
        raise InvalidDataError(
            f"column {name!r} of {table.source} holds one {what}, {different[0]}; wanted at least "
            "two to learn from"
        )
    if task == "classification" and len(different) > len(rows) / 2:
        raise InvalidDataError(
            f"column {name!r} holds {len(different)} different values in {len(rows)} rows, too "
            "many to be classes; choose another --target, or --task regression"
        )
    return Target(name, task, chosen, rows, tuple(notes))
