"""The Wisconsin breast cancer data, and the checks and encodings that any labeled table needs."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blockjac.errors import (
    InvalidDataError,
    InvalidOptionError,
    MissingExtraError,
    ShapeMismatchError,
)


class Examples(NamedTuple):
    """Examples in rows and the class of each: `X` of shape `(n, k)`, `labels` of shape `(n,)`."""

    X: NDArray[np.float64]
    labels: NDArray[np.int64]


class Split(NamedTuple):
    """Examples to train on, and the rest to test on."""

    train: Examples
    test: Examples


def wisconsin() -> Examples:
    """The Wisconsin breast cancer data: 569 tumours, 30 measurements each, none of them scaled.

    scikit-learn carries the table as a file, which is read without importing scikit-learn: that
    alone would take a second and 70 MB.

    Returns:
        Examples with labels 0 (malignant) and 1 (benign).

    Raises:
        MissingExtraError: If scikit-learn is not installed.

    Source:
        W. Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI repository, 1993.

    Examples:
        >>> wisconsin().X.shape
        (569, 30)
    """
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    files = [Path(folder, "datasets", "data", "breast_cancer.csv") for folder in folders or ()]
    table = next((file for file in files if file.exists()), None)
    if table is None:
        raise MissingExtraError(
            "the Wisconsin data come with scikit-learn, which is not installed; "
            "pip install 'blockjac[app]'"
        )
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    return checked_examples(rows[:, :-1], rows[:, -1].astype(np.int64))


def checked_examples(X: ArrayLike, labels: ArrayLike) -> Examples:
    """Take a table and its labels, if something can be learned from them.

    Args:
        X: Examples in rows, finite numbers, shape `(n, k)` with `n` and `k` at least 1.
        labels: The classes 0, 1, ..., of at least two kinds, integers of shape `(n,)`.

    Returns:
        The same as float64 and int64 arrays.

    Raises:
        ShapeMismatchError: If `X` is not a matrix, or `labels` has not one label for each row.
        InvalidDataError: If the data are empty, not finite, or all of one class, or a label is
            not a whole number from 0 on.

    Examples:
        >>> checked_examples([[0.5], [1.5]], [0, 1]).labels
        array([0, 1])
    """
    X, classes = np.asarray(X, dtype=np.float64), np.asarray(labels)
    if X.ndim != 2 or classes.shape != X.shape[:1]:
        raise ShapeMismatchError(
            f"X has shape {X.shape} and labels has shape {classes.shape}; "
            "wanted X of shape (n, k) and one label for each of its n rows"
        )
    if X.size == 0:
        raise InvalidDataError(
            f"no data: X has shape {X.shape}; wanted at least one row and column"
        )
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise InvalidDataError(
            f"X[{row}, {column}] is {X[row, column]}; wanted finite numbers: "
            "drop such rows or fill them in first"
        )
    if classes.dtype.kind not in "iub" or classes.min() < 0:
        raise InvalidDataError(
            f"labels are {classes.dtype} from {classes.min()}; wanted the whole numbers 0, 1, ..."
        )
    if (classes == classes[0]).all():
        raise InvalidDataError(
            f"all {len(classes)} labels are {classes[0]}; wanted examples of at least two classes"
        )
    return Examples(X, classes.astype(np.int64))


def one_hot(labels: ArrayLike, classes: int) -> NDArray[np.float64]:
    """Encode each label as a row with 1 at its place and 0 elsewhere.

    Args:
        labels: Integers from 0 to `classes - 1`, shape `(n,)`.
        classes: Number of classes.

    Returns:
        Array of shape `(n, classes)`.

    Raises:
        InvalidDataError: If a label is outside its range.

    Examples:
        >>> one_hot([1, 0], 2)
        array([[0., 1.],
               [1., 0.]])
    """
    columns = np.asarray(labels, dtype=np.int64)
    if columns.size and not (columns.min() >= 0 and columns.max() < classes):
        raise InvalidDataError(
            f"labels go from {columns.min()} to {columns.max()}; "
            f"wanted 0 to {classes - 1} for {classes} classes"
        )
    return np.eye(classes)[columns]


def split(examples: Examples, train: int) -> Split:
    """Take the first rows to train on and the others to test on, without shuffling.

    Args:
        examples: Examples, `n` rows.
        train: How many rows to train on, from 1 to `n - 1`.

    Returns:
        The two parts.

    Raises:
        InvalidOptionError: If one of the parts would be empty.
        InvalidDataError: If the rows to train on are all of one class.

    Examples:
        >>> len(split(wisconsin(), 400).test.labels)
        169
    """
    rows = len(examples.labels)
    if not 0 < train < rows:
        raise InvalidOptionError(
            f"train is {train}, of {rows} rows; "
            f"wanted 1 to {rows - 1}, so that neither part is empty"
        )
    X, labels = examples
    return Split(checked_examples(X[:train], labels[:train]), Examples(X[train:], labels[train:]))
