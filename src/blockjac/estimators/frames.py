"""Data frames of pandas and polars: classes as they are, and errors that name columns and rows.

Neither library is imported here: their objects are known by the methods that they have.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.errors import InvalidDataError, MissingExtraError
from blockjac.estimators.tables import Numbers

try:
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise MissingExtraError(
        "the estimators need scikit-learn: pip install 'blockjac[app]', or pip install scikit-learn"
    ) from error

FEW = 5
"""Columns or rows that an error names."""


def check_table(X: Any) -> None:
    """Raise for a table that has not been read yet.

    Raises:
        InvalidDataError: says what to do.
    """
    if hasattr(X, "collect_schema") and not hasattr(X, "__array__"):
        raise InvalidDataError("X is a LazyFrame, which has no rows yet; wanted X.collect()")


def problem(X: Any, error: Exception) -> str | None:
    """Which columns of a data frame made scikit-learn refuse it.

    Args:
        X: the table.
        error: that scikit-learn raised.

    Returns:
        The columns and what to do; None where the error says all that there is to say.
    """
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return None
    columns = list(zip(map(str, X.columns), _columns(X), strict=True))
    if "could not convert" in str(error):
        texts = [(name, text) for name, column in columns if (text := _text(column)) is not None]
        if texts:
            name, text = texts[0]
            others = f" and {len(texts) - 1} other columns" if len(texts) > 1 else ""
            return (
                f"column '{name}'{others} of X holds text, such as '{text}', and could not be "
                "converted to float; encode it, as by sklearn.preprocessing.OneHotEncoder"
            )
    if "contains NaN" in str(error):
        names = [f"'{name}'" for name, column in columns if _missing(column).any()]
        if names:
            return (
                f"X contains NaN or missing values in {_list(names)}; fill them, as by "
                "sklearn.impute.SimpleImputer"
            )
    return None


def class_values(y: Any) -> Any:
    """The classes of rows: those of a Series as an array of their own type.

    scikit-learn makes floats of the whole numbers and truth values that pandas keeps beside a mask.

    Raises:
        InvalidDataError: If the class of a row is missing, or text and numbers are mixed.
    """
    missing = _missing(y)
    if missing.any():
        rows = np.flatnonzero(missing.reshape(len(missing), -1).any(axis=1))
        raise InvalidDataError(
            f"y contains NaN or missing values, the first in row {rows[0]}, and {len(rows)} in "
            "all; leave these rows out"
        )
    numbers = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if numbers is not None and np.dtype(numbers).kind in "biuf":
        return y.to_numpy(dtype=numbers)
    dtype = getattr(y, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        are_text = {isinstance(one, str) for one in np.ravel(np.asarray(y))}
        if len(are_text) > 1:
            raise InvalidDataError(
                "y mixes text with other classes, which have no common order; make all of them text"
            )
    return y


def _columns(X: Any) -> list[Any]:
    """The columns of a data frame."""
    places = range(len(X.columns))
    # two columns of pandas may have one name
    return [X.iloc[:, place] if hasattr(X, "iloc") else X[:, place] for place in places]


def _missing(column: Any) -> Numbers:
    """Where a column of pandas or polars has no value; nowhere for anything else."""
    if hasattr(column, "isna"):
        return np.asarray(column.isna())
    if not hasattr(column, "is_null"):
        return np.zeros(1, bool)
    found = np.asarray(column.is_null())
    if column.dtype.is_float():  # where a null is neither a number nor none
        found = found | np.asarray(column.is_nan().fill_null(True))
    return found


def _text(column: Any) -> str | None:
    """The first entry of a column that is not a number."""
    for one in np.asarray(column)[~_missing(column)]:
        try:
            float(one)
        except (TypeError, ValueError):
            return str(one)
    return None


def _list(names: list[str]) -> str:
    """Names in a sentence."""
    more = f" and {len(names) - FEW} others" if len(names) > FEW else ""
    return ("column " if len(names) == 1 else "columns ") + ", ".join(names[:FEW]) + more


def validated(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Rows as arrays of numbers, and their targets, as scikit-learn checks them.

    Args:
        estimator: whose columns they are.
        X: the table.
        *y: targets, if there are any.
        **options: of scikit-learn's `validate_data`.

    Raises:
        InvalidDataError: names the columns of a data frame that it does not take.
    """
    check_table(X)
    try:
        return validate_data(estimator, X, *y, dtype=[np.float64, np.float32], **options)
    except (TypeError, ValueError) as error:
        reason = problem(X, error)
        if reason is None:
            raise
        raise InvalidDataError(reason) from error
