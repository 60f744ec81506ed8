"""Fitted estimators on disk: arrays and JSON in one .npz file, of which nothing is ever run.

The estimator's class comes from a table here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blockjac.errors import FileFormatError, OutputPathError
from blockjac.estimators.archive import Format, read_archive, write_archive
from blockjac.estimators.base import Feedforward
from blockjac.estimators.classifier import FeedforwardClassifier
from blockjac.estimators.fitted import Fitted
from blockjac.estimators.leave_one_out import LeftOut
from blockjac.estimators.looking_back import LeaveOneOut
from blockjac.estimators.model import Model
from blockjac.estimators.objective import Kind, Objective
from blockjac.estimators.regressor import FeedforwardRegressor
from blockjac.estimators.rows import Rows
from blockjac.estimators.tables import Numbers, Scale

FORMAT = Format("blockjac estimator", 1, "blockjac.estimators.save_model")

ESTIMATORS: Mapping[str, type[Feedforward]] = {
    "FeedforwardClassifier": FeedforwardClassifier,
    "FeedforwardRegressor": FeedforwardRegressor,
}

PLAIN = (
    "hidden",
    "solver",
    "losses",
    "validation",
    "lengths",
    "steps",
    "is_converged",
    "evidence",
)
"""The attributes of a fit that are numbers and text."""

ROW_ARRAYS = ("X", "values", "weights", "units", "places")


def save_model(
    estimator: Feedforward, file: str | os.PathLike[str], *, include_rows: bool = False
) -> Path:
    """Write a fitted estimator to a file, whole or not at all.

    Args:
        estimator: Fitted; its callback is left out.
        file: The file's name; the ending .npz is usual.
        include_rows: Whether to keep the training rows, which `influence` needs.

    Returns:
        The file's path.

    Raises:
        OutputPathError: If it cannot be written; an old file is then as it was.

    Examples:
        >>> import tempfile
        >>> from sklearn.datasets import load_wine
        >>> from blockjac.estimators import FeedforwardClassifier, load_model, save_model
        >>> X, y = load_wine(return_X_y=True)
        >>> model = FeedforwardClassifier((), random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_model(save_model(model, f"{folder}/wine.npz"))
        >>> bool((again.predict(X) == model.predict(X)).all())
        True
    """
    header, arrays = described(estimator, include_rows)
    return write_archive(file, FORMAT, header, arrays)


def described(
    estimator: Feedforward, include_rows: bool = False
) -> tuple[dict[str, Any], dict[str, Numbers]]:
    """A fitted estimator as JSON and arrays.

    Args:
        estimator: fitted.
        include_rows: whether to keep the training rows.
    """
    arrays = _arrays(estimator, include_rows)
    return _header(estimator), arrays


def _header(estimator: Any) -> dict[str, Any]:
    """What the file says beside its arrays."""
    fitted = estimator._fitted
    return {
        "estimator": type(estimator).__name__,
        "kind": estimator._kind,
        "options": {name: _plain(one) for name, one in estimator.get_params(deep=False).items()},
        "columns": int(estimator.n_features_in_),
        "names": list(map(str, getattr(estimator, "feature_names_in_", []))),
        "is_flat": bool(getattr(estimator, "_is_flat", True)),
        "activation": fitted.model.objective.activation,
        "is_last_layer": fitted.model.is_last_layer,
        "rows": fitted.rows.count,
        "fit": {name: _plain(getattr(fitted, name)) for name in PLAIN},
    }


def load_model(file: str | os.PathLike[str]) -> Any:
    """Read an estimator that `save_model` wrote. No code of the file is run.

    Args:
        file: The file's name.

    Returns:
        The fitted estimator.

    Raises:
        FileFormatError: If the file is not one of these, damaged, changed, or of a later version.
        OutputPathError: If the file cannot be read.
    """
    header, arrays = read_archive(file, FORMAT)
    return restored(header, arrays, file)


def restored(
    header: Mapping[str, Any], arrays: dict[str, Any], file: str | os.PathLike[str]
) -> Any:
    """The fitted estimator that `described` made JSON and arrays of.

    Args:
        header: the JSON.
        arrays: by name.
        file: where they come from, for messages.

    Raises:
        FileFormatError: if something is missing.
    """
    try:
        return _estimator(header, arrays)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FileFormatError(
            f"'{file}' lacks something that a model holds ({error}); save it again"
        ) from error


def _arrays(estimator: Any, include_rows: bool) -> dict[str, Numbers]:
    """All arrays of a fitted estimator, by names."""
    fitted: Fitted = estimator._checked_fit()
    model, rows = fitted.model, fitted.rows
    arrays = {
        "inputs.mean": model.inputs.mean,
        "inputs.spread": model.inputs.spread,
        "targets.mean": model.targets.mean,
        "targets.spread": model.targets.spread,
        "noise": model.noise,
        "triangle": model.triangle,
        "strengths": fitted.strengths,
    }
    for name, parts in model.params.items():
        arrays |= {f"params.{name}.{number}": part for number, part in enumerate(parts)}
    if include_rows:
        arrays |= {f"rows.{name}": getattr(rows, name) for name in ROW_ARRAYS}
        with estimator._numbers():
            left_out = fitted.left_out
        arrays |= {f"left_out.{name}": getattr(left_out, name) for name in LeftOut._fields}
    known = getattr(estimator, "leave_one_out_", None)
    for field in fields(known) if known is not None else ():
        if (part := getattr(known, field.name)) is not None:
            arrays[f"loo.{field.name}"] = part
    for name in ("classes_", "suspicious_rows_"):
        if hasattr(estimator, name):
            arrays[name] = getattr(estimator, name)
    if hasattr(estimator, "_scores"):
        arrays |= dict(zip(("scores.errors", "scores.weights"), estimator._scores, strict=True))
    return {name: _without_objects(array) for name, array in arrays.items()}


def _estimator(header: Mapping[str, Any], arrays: dict[str, Any]) -> Any:
    """The estimator that a header and arrays describe."""
    kind: Any = ESTIMATORS[header["estimator"]]
    options = dict(header["options"])
    if isinstance(options["hidden_layer_sizes"], list):
        options["hidden_layer_sizes"] = tuple(options["hidden_layer_sizes"])
    estimator = kind(**options)
    estimator._kind = header.get("kind", kind._kind)
    estimator.n_features_in_ = header["columns"]
    if header["names"]:
        estimator.feature_names_in_ = np.asarray(header["names"], dtype=object)
    estimator._is_flat = header["is_flat"]
    estimator._keep(_fit(estimator._kind, header, arrays))
    for name in ("classes_", "suspicious_rows_"):
        if name in arrays:
            setattr(estimator, name, arrays[name])
    if "loo.losses" in arrays:
        parts: dict[str, Any] = {
            field.name: arrays.get(f"loo.{field.name}") for field in fields(LeaveOneOut)
        }
        parts["score"] = float(arrays["loo.score"])
        estimator.leave_one_out_ = LeaveOneOut(**parts)
    if "scores.errors" in arrays:
        estimator._scores = arrays["scores.errors"], arrays["scores.weights"]
    return estimator


def _fit(kind: Kind, header: Mapping[str, Any], arrays: dict[str, Any]) -> Fitted:
    """The fit that a header and arrays describe."""
    names = ("weights", "biases", "direct")
    params = {name: [arrays[one] for one in _numbered(f"params.{name}.", arrays)] for name in names}
    model = Model(
        Objective(kind, header["activation"]),
        params,
        Scale(arrays["inputs.mean"], arrays["inputs.spread"]),
        Scale(arrays["targets.mean"], arrays["targets.spread"]),
        arrays["noise"],
        arrays["triangle"],
        header["is_last_layer"],
    )
    none = np.zeros((0, 0), model.noise.dtype)
    parts = {name: arrays.get(f"rows.{name}", none) for name in ROW_ARRAYS}
    rows = Rows(parts.pop("X"), **parts, count=header["rows"])
    left_out = [arrays.get(f"left_out.{name}", none) for name in LeftOut._fields]
    fit: dict[str, Any] = {**header["fit"], "hidden": tuple(header["fit"]["hidden"])}
    held_out = rows.take(np.arange(0)) if fit["validation"] else None
    return Fitted(
        model=model,
        rows=rows,
        held_out=held_out,
        look_back=partial(LeftOut, *left_out),
        strengths=arrays["strengths"],
        **fit,
    )


def _numbered(start: str, arrays: Mapping[str, Numbers]) -> list[str]:
    """The names with this start, in the order of the numbers after it."""
    found = [name for name in arrays if name.startswith(start)]
    return sorted(found, key=lambda name: int(name[len(start) :]))


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what it has not, such as functions."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    # as class weights have counted already, a dict is not kept
    return value if isinstance(value, str | int | float | bool | None) else None


def _without_objects(array: Any) -> Numbers:
    """An array of numbers or text: text that is stored as objects becomes text of one width.

    Raises:
        OutputPathError: for classes that are neither.
    """
    array = np.asarray(array)
    if array.dtype != object:
        return array
    if not all(isinstance(one, str) for one in array.ravel()):
        raise OutputPathError(
            "the classes are neither numbers nor text, which a file cannot hold; name them in y"
        )
    return array.astype(str)
