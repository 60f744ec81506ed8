"""`blockjac lecture`: train the network, print each step, draw and write what was asked for."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import jax

from blockjac import __version__, nn
from blockjac.cli.progress import Reporter
from blockjac.cli.training import TRAINING_ROWS, Training, percent
from blockjac.data import Examples, Split, one_hot, split, wisconsin
from blockjac.optimize import (
    DescentResult,
    Status,
    descent,
    line_profile,
    plot_history,
    plot_line_search,
)
from blockjac.optimize.files import check_file, write_whole
from blockjac.optimize.pictures import check_picture
from blockjac.optimize.plots import LineProfile


def run_lecture(options: argparse.Namespace) -> None:
    """Train, print, draw and write.

    Args:
        options: Those of `blockjac lecture`.

    Raises:
        BlockjacError: If a file cannot be written or a package is missing; before the training
            wherever that can be known.

    Examples:
        >>> from blockjac.cli.parser import parse_arguments
        >>> run_lecture(parse_arguments(["lecture", "--steps", "1"]))
        Step: 0, Avg Cross Entropy: 0.655622, ... Training Accuracy: 77.0 percent
        Final test accuracy: 87.6 percent
    """
    if options.json:
        check_file(options.json)
    if options.report:
        check_file(options.report)
    if options.plots:
        check_picture(picture(options, "loss"))
    with jax.enable_x64(True), Reporter(options.steps) as reporter:
        parts = split(wisconsin(), TRAINING_ROWS)
        training, result = train(options, reporter, parts)
        accuracy = accuracy_on(result.params, parts.test)
        if options.plots:
            reporter.doing("drawing")
            draw(training, result, parts.train, accuracy)
        if options.report:
            reporter.doing("explaining")
            write_report(training, result, parts.train, accuracy)
        if options.json:
            write_whole(options.json, report(training, result, accuracy))
    print(f"Final test accuracy: {accuracy:.1f} percent")
    if int(result.status) != Status.FOUND:
        print(f"blockjac: {result.message}", file=sys.stderr)


def train(
    options: argparse.Namespace, reporter: Reporter, parts: Split
) -> tuple[Training, DescentResult]:
    """Descend from the initial weights, printing each step.

    Args:
        options: Those of `blockjac lecture`.
        reporter: Where the lines go.
        parts: The rows to train on and to test on.

    Returns:
        What was printed, and the result of the descent.

    Examples:
        >>> from blockjac.cli.parser import parse_arguments
        >>> parts = split(wisconsin(), TRAINING_ROWS)
        >>> options = parse_arguments(["lecture", "--steps", "1", "--hidden", "3"])
        >>> training, result = train(options, Reporter(1), parts)
        Step: 0, ...
        >>> result.params.W1.shape
        (30, 3)
    """
    X, labels = parts.train
    classes = int(labels.max()) + 1
    params = nn.initial_params(X.shape[1], options.hidden, classes, seed=options.seed)
    training = Training(options, reporter, {0: params})
    chosen = [step for step in options.line_search_steps if step]

    def wrong(params: nn.NetworkParams, X: jax.Array, _: jax.Array) -> jax.Array:
        """The mistakes on the rows that are trained on."""
        return nn.mistakes(params, X, labels)

    result = descent(
        nn.loss,
        params,
        X,
        one_hot(labels, classes),
        steps=options.steps,
        metrics=wrong,
        pauses={*range(20, options.steps, 20), *chosen},
        callback=training.take,
    )
    return training, result


def accuracy_on(params: nn.NetworkParams, examples: Examples) -> float:
    """The share of examples that the network puts into their class, in percent.

    Args:
        params: The network.
        examples: Examples of its inputs.

    Returns:
        A number from 0 to 100.

    Examples:
        >>> import numpy as np
        >>> params = nn.initial_params(1, 1, 2, sigma=0.0)
        >>> accuracy_on(params, Examples(np.ones((2, 1)), np.array([0, 1])))
        50.0
    """
    X, labels = examples
    return percent(jax.jit(nn.mistakes)(params, X, labels), len(labels))


def picture(options: argparse.Namespace, name: str) -> Path:
    """The file of a picture.

    Args:
        options: Those of `blockjac lecture`.
        name: The picture's name.

    Returns:
        Its path in the folder of the pictures.

    Examples:
        >>> picture(argparse.Namespace(plots=Path("plots"), plot_format="png"), "loss").name
        'loss.png'
    """
    return options.plots / f"{name}.{options.plot_format}"


def draw(training: Training, result: DescentResult, examples: Examples, accuracy: float) -> None:
    """Draw the training and the chosen line searches.

    Args:
        training: What was printed, and the parameters before the chosen steps.
        result: The result of the descent.
        examples: What was trained on.
        accuracy: The test accuracy in percent.

    Raises:
        OutputPathError: If a picture cannot be written.
    """
    options, rows = training.options, training.rows
    plot_history(
        picture(options, "loss"),
        [row["loss"] for row in rows],
        title="Training loss",
        quantity="mean cross-entropy after the step (nats)",
        start=float(result.initial_loss),
    )
    plot_history(
        picture(options, "gradient_norm"),
        [row["gradient_norm"] for row in rows],
        title="Norm of the gradient",
        quantity="Euclidean norm before the step",
        log_base=10,
    )
    plot_history(
        picture(options, "training_accuracy"),
        [row["training_accuracy_percent"] for row in rows],
        title="Training accuracy",
        quantity="rows put into their class (percent)",
        levels={"test accuracy of the trained network": accuracy},
        limits=(0.0, 100.0),
    )
    plot_history(
        picture(options, "step_size"),
        [row["step_size"] for row in rows],
        title="Step size",
        quantity="accepted step t",
        log_base=2,
        markers_only=True,
    )
    X, Y = examples.X, one_hot(examples.labels, result.params.W2.shape[1])
    profile = cast("Callable[..., LineProfile]", jax.jit(partial(line_profile, nn.loss)))
    for step, params in sorted(training.before.items()):
        if step in options.line_search_steps:
            plot_line_search(
                picture(options, f"line_search_{step:03d}"),
                profile(params, X, Y),
                title=f"Line search of step {step}",
            )


def write_report(
    training: Training, result: DescentResult, examples: Examples, accuracy: float
) -> None:
    """Write the page of the trained network.

    Args:
        training: What was printed, and the parameters before the chosen steps.
        result: The result of the descent.
        examples: What was trained on.
        accuracy: The test accuracy in percent.

    Raises:
        OutputPathError: If it cannot be written.
    """
    from blockjac.cli.report import explained_network, report_page

    options = training.options
    X, Y = examples.X, one_hot(examples.labels, result.params.W2.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        drawn = argparse.Namespace(**{**vars(options), "plots": Path(folder), "plot_format": "png"})
        draw(replace(training, options=drawn), result, examples, accuracy)
        lines = [
            f"{len(training.rows)} steps of descent brought the mean cross-entropy from "
            f"{float(result.initial_loss):.4g} to {float(result.loss):.4g} on {len(X)} rows; "
            f"{accuracy:.1f} percent of the rows for testing are put into their class. The "
            "formulas, pictures and numbers of this page are of the trained network."
        ]
        page = report_page(explained_network(result.params, X, Y), Path(folder), lines)
    write_whole(options.report, page.encode())


def report(training: Training, result: DescentResult, accuracy: float) -> bytes:
    """The training as a JSON document.

    Args:
        training: What was printed.
        result: The result of the descent.
        accuracy: The test accuracy in percent.

    Returns:
        The document, with a line end.
    """
    options = training.options
    document = {
        "program": f"blockjac {__version__}",
        "jax": jax.__version__,
        "options": {name: getattr(options, name) for name in ("steps", "seed", "hidden")},
        "initial_loss": float(result.initial_loss),
        "loss": float(result.loss),
        "status": Status(int(result.status)).name.lower(),
        "message": result.message,
        "test_accuracy_percent": accuracy,
        "steps": training.rows,
    }
    return f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode()
