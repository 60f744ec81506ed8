"""A network with the table that it was fitted to: from columns as they are to predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blockjac.errors import FileFormatError, InvalidOptionError
from blockjac.estimators.archive import Format, read_archive, write_archive
from blockjac.estimators.files import described, restored
from blockjac.tabular.encoding import Encoder
from blockjac.tabular.table import Table, Values
from blockjac.tabular.targets import TASKS, Task

FORMAT = Format("blockjac table model", 1, "blockjac train")


@dataclass(frozen=True)
class TableModel:
    """What predicts a column of a table from the others.

    Attributes:
        encoder: makes numbers of columns.
        estimator: fitted to these.
        target: the name of the column that it predicts.
        task: what it predicts.
        about: how it was trained, and how well it predicts; plain values.
    """

    encoder: Encoder
    estimator: Any
    target: str
    task: Task
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """What was fitted, in words."""
        estimator = self.estimator
        hidden = [count for count in estimator.hidden_layer_sizes_ if count]
        layers = " and ".join(map(str, hidden))
        nodes = "node" if hidden == [1] else "nodes"
        what = f"{layers} hidden {nodes} ({estimator.activation})" if hidden else "linear"
        by = "Adam" if estimator.solver_ == "adam" else "Gauss-Newton, L2 by the evidence"
        return f"{what}, {by}"

    def predict(self, table: Table, level: float = 0.95) -> tuple[dict[str, Values], list[str]]:
        """Predictions of all rows, and notes of what was not known.

        Args:
            table: with the columns that the model knows.
            level: of the intervals of numbers.

        Returns:
            Columns by name: the predictions, under the name of the target; then the probability of
            each class, or the standard deviation and the ends of the interval.

        Raises:
            InvalidDataError: if the table lacks columns, or they hold something else.
            InvalidOptionError: if the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InvalidOptionError(f"level is {level:g}, but must be a number between 0 and 1")
        X, notes = self.encoder.apply(table, {self.target})
        model = self.estimator
        if self.task == "classification":
            chances = model.predict_proba(X)
            columns = {self.target: model.classes_[np.argmax(chances, axis=1)]}
            names = [f"probability of {one}" for one in model.classes_]
            return columns | dict(zip(names, chances.T, strict=True)), notes
        ends = model.predict_interval(X, level)
        share = f"{100 * level:g}%"
        return {
            self.target: model.predict(X),
            "standard deviation": model.predict_std(X),
            f"lower end, {share}": ends[:, 0],
            f"upper end, {share}": ends[:, 1],
        }, notes

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Write it to a file, whole or not at all; no code is stored.

        Args:
            file: its name.

        Raises:
            OutputPathError: if it cannot be written.
        """
        header, arrays = described(self.estimator)
        table = {
            "encoder": self.encoder.as_json(),
            "target": self.target,
            "task": self.task,
            "about": dict(self.about),
        }
        return write_archive(file, FORMAT, {"table": table, "estimator": header}, arrays)

    @staticmethod
    def load(file: str | os.PathLike[str]) -> TableModel:
        """Read what `save` wrote; no code of the file is run.

        Args:
            file: its name.

        Raises:
            FileFormatError: if the file is of another kind, damaged, changed, or too new.
            OutputPathError: if it cannot be read.
        """
        header, arrays = read_archive(file, FORMAT)
        try:
            table = header["table"]
            encoder = Encoder.from_json(table["encoder"])
            target, task, about = table["target"], table["task"], table["about"]
            estimator = header["estimator"]
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"'{file}' lacks something that a model holds ({error}); train it again"
            ) from error
        if task not in TASKS:
            raise FileFormatError(f"'{file}' has the task {task!r}; wanted one of {TASKS}")
        return TableModel(encoder, restored(estimator, arrays, file), target, task, about)
