"""`blockjac inspect`: what a model is."""

import argparse
import json
from typing import Any, cast

from blockjac.cli.tables.folder import model_file
from blockjac.tabular.model import TableModel


def run_inspect(options: argparse.Namespace) -> None:
    """Print what a model is, and how well it predicts.

    Args:
        options: Those of `blockjac inspect`.

    Raises:
        BlockjacError: If a model is not there, or damaged.
    """
    model = TableModel.load(model_file(options.model))
    said = described(model)
    if options.json:
        print(json.dumps(said, indent=1))
        return
    for name, value in said.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, one in cast("dict[str, Any]", value).items():
                print(f"  {key}: {_short(one)}")
        else:
            print(f"{name}: {_short(value)}")


def described(model: TableModel) -> dict[str, Any]:
    """A model as plain values.

    Args:
        model: to describe.
    """
    encoder, estimator, about = model.encoder, model.estimator, model.about
    said: dict[str, Any] = {
        "target": model.target,
        "task": model.task,
        "network": model.network,
        "trained on": f"{about['rows']} rows of {about['source']}",
    }
    if model.task == "classification":
        said["classes"] = [str(one) for one in estimator.classes_]
    for name, title in (("tested", "rows set aside"), ("left_out", "each row by the others")):
        if about[name]:
            said[title] = dict(about[name])
    said["numbers"] = [one.name for one in encoder.numbers]
    said["dates"] = {one.name: one.date_format for one in encoder.dates}
    said["categories"] = {one.name: list(one.categories) for one in encoder.categories}
    said["not used"] = dict(encoder.left_out)
    said["strength of the L2 penalty"] = [float(one) for one in estimator.alpha_]
    return {name: value for name, value in said.items() if value not in ([], {})}


def _short(value: Any) -> str:
    """A value on a line."""
    if isinstance(value, list):
        return ", ".join(map(_short, cast("list[Any]", value)))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
