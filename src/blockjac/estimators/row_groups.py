"""The row groups of a Parquet file, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from blockjac.errors import InvalidDataError, MissingExtraError, OutputPathError
from blockjac.estimators.tables import Numbers


class RowGroups(Sequence[tuple[Numbers, Numbers]]):
    """The row groups of a Parquet file as pairs `(X, y)`, for `fit_parts`.

    A row group is read when it is asked for, and not kept. Rows should be in random order within
    the file: batches mix the rows of one large row group, or of some small ones.

    Args:
        path: The file's name.
        target: The name of the column to predict, or a list of several.
        columns: The names of the columns to predict from; all others if left out.

    Attributes:
        columns: The names of the columns of `X`.

    Raises:
        InvalidDataError: If the file cannot be read, lacks a column, or a column of `X` holds no
            numbers.
        MissingExtraError: If pyarrow is not installed.

    Examples:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from pyarrow import parquet
        >>> from blockjac.estimators import RowGroups
        >>> table = pa.table({"a": [1.0, 2.0, 3.0], "b": [4, 5, 6], "y": ["no", "yes", "no"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parquet.write_table(table, f"{folder}/table.parquet", row_group_size=2)
        ...     groups = RowGroups(f"{folder}/table.parquet", "y")
        ...     X, y = groups[0]
        >>> print(len(groups), groups.columns, X.shape, y)
        2 ['a', 'b'] (2, 2) ['no' 'yes']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | Sequence[str],
        columns: Sequence[str] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._is_flat = isinstance(target, str)
        self.targets = [target] if isinstance(target, str) else list(target)
        schema, self._count = self._described()
        there = list(schema.names)
        others = [name for name in there if name not in self.targets]
        self.columns = others if columns is None else list(columns)
        lacking = [name for name in [*self.targets, *self.columns] if name not in there]
        if lacking:
            raise InvalidDataError(
                f"'{self.path}' has no column {', '.join(map(repr, lacking))}; its columns are "
                f"{', '.join(there[:20])}"
            )
        self.dtype = _common(self.path, schema, self.columns)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> tuple[Numbers, Numbers]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Numbers, Numbers]]: ...

    def __getitem__(self, index: Any) -> Any:
        """One row group, or a list of some."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        names = list(dict.fromkeys([*self.columns, *self.targets]))
        with self._file() as file:
            table = file.read_row_group(number, columns=names)
        X = np.empty((len(table), len(self.columns)), self.dtype)
        for place, name in enumerate(self.columns):
            X[:, place] = table[name].to_numpy()
        y = [_values(table[name]) for name in self.targets]
        return X, y[0] if self._is_flat else np.stack(y, axis=1)

    def __iter__(self) -> Iterator[tuple[Numbers, Numbers]]:
        """All row groups in their order."""
        return (self[number] for number in range(len(self)))

    def _file(self) -> Any:
        """The open file."""
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError(
                "reading Parquet files needs pyarrow: pip install pyarrow"
            ) from error
        return parquet.ParquetFile(self.path, memory_map=False)

    def _described(self) -> tuple[Any, int]:
        """The file's schema, and how many row groups it has."""
        try:
            with self._file() as file:
                return file.schema_arrow, file.num_row_groups
        except OSError as error:
            raise OutputPathError(f"cannot read '{self.path}': {error}") from error
        except ValueError as error:  # pyarrow's ArrowInvalid is one
            raise InvalidDataError(f"'{self.path}' is not a Parquet file: {error}") from error


def _common(path: str, schema: Any, columns: Sequence[str]) -> Any:
    """The dtype of all columns: float32 if they are, otherwise float64.

    Raises:
        InvalidDataError: for a column that holds no numbers.
    """
    kinds = [str(schema.field(name).type) for name in columns]
    numeric = ("int", "uint", "float", "double", "halffloat", "bool")
    odd = [pair for pair in zip(columns, kinds, strict=True) if not pair[1].startswith(numeric)]
    if odd or not columns:
        found = ", ".join(f"{name!r} is of type {kind}" for name, kind in odd[:5])
        raise InvalidDataError(
            f"'{path}': {found or 'there are no columns'}; wanted columns of numbers: name them in "
            "columns="
        )
    return np.dtype(np.float32 if all(kind == "float" for kind in kinds) else np.float64)


def _values(column: Any) -> Numbers:
    """A column as an array, of text where categories stand for it."""
    if str(column.type).startswith("dictionary"):
        column = column.cast(column.type.value_type)
    return column.to_numpy()
