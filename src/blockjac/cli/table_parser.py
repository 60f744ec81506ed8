"""What `blockjac train`, `predict` and `inspect` accept; imports nothing that takes long."""

import argparse
from pathlib import Path
from typing import Any

from blockjac.cli.words import hidden, level, seconds, share, whole_number

DATA = (
    "a file of a table (.csv, .tsv, .txt, also with .gz, .parquet, .npz), or one of breast_cancer, "
    "diabetes, digits, iris, penguins, wine"
)


def add_table_commands(commands: Any) -> None:
    """Describe the commands for tables.

    Args:
        commands: the parser's, to which they are added.
    """
    train = commands.add_parser(
        "train",
        help="fit a network to a table: scores, doubtful rows, a model, a report",
        description="Fit a small network to a table, and say how well it predicts rows that it did "
        "not see. No option has to be given. The exit status is 0, 1 if something cannot be "
        "written, 2 if the table or a word cannot be used, and 130 after Ctrl-C.",
    )
    _add_train_options(train)
    predict = commands.add_parser(
        "predict",
        help="predict the rows of a table with a model of `blockjac train`",
        description="Print the rows' predictions as CSV: classes with their probabilities, or "
        "numbers with their standard deviations and intervals. The exit status is as for train.",
    )
    _add_model(predict)
    predict.add_argument("data", metavar="DATA", help=DATA)
    predict.add_argument(
        "--interval",
        type=level,
        default=0.95,
        metavar="LEVEL",
        help="the share of targets that intervals are to cover (default: %(default)s)",
    )
    predict.add_argument(
        "--out", type=Path, metavar="FILE", help="write to this file, not to standard output"
    )
    inspect = commands.add_parser(
        "inspect",
        help="say what a model of `blockjac train` is, and how well it predicts",
        description="Print the target, the network, the scores and the columns of a model. The "
        "exit status is as for train.",
    )
    _add_model(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", type=Path, metavar="MODEL", help="the model's file, or the folder of its training"
    )


def _add_train_options(train: argparse.ArgumentParser) -> None:
    """Describe the options of `blockjac train`."""
    train.add_argument("data", metavar="DATA", help=DATA)
    train.add_argument(
        "--target",
        metavar="COL",
        help="the column to predict (default: that of a usual name, or the last)",
    )
    train.add_argument(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="what to predict (default: what suits the target)",
    )
    train.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COL",
        help="a column not to use; can be given several times",
    )
    train.add_argument(
        "--hidden",
        type=hidden,
        default="auto",
        metavar="N,N,...",
        help="nodes of each hidden layer, or none (default: chosen by left-out rows)",
    )
    train.add_argument(
        "--test",
        type=share,
        metavar="SHARE",
        help="the share of rows that are set aside to test (default: 0.2); 0 for none",
    )
    train.add_argument(
        "--folds",
        type=whole_number(2),
        metavar="K",
        help="test by a cross-validation of K folds",
    )
    train.add_argument(
        "--steps",
        type=whole_number(1),
        default=200,
        metavar="N",
        help="the most steps of a fit, or epochs (default: %(default)s)",
    )
    train.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="seed of initial weights and of the rows that are set aside (default: %(default)s)",
    )
    _add_output_options(train)


def _add_output_options(train: argparse.ArgumentParser) -> None:
    """Describe where `blockjac train` writes."""
    train.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write the model, metrics, predictions, plots and a report into this folder",
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the training in --out where it was interrupted",
    )
    train.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier training wrote to --out"
    )
    train.add_argument(
        "--checkpoint-every",
        type=seconds,
        default=10.0,
        metavar="S",
        help="seconds between checkpoints in --out (default: %(default)s)",
    )
    train.add_argument(
        "--plot-format",
        choices=("png", "svg"),
        default="png",
        help="format of the plots (default: %(default)s)",
    )


def settle_train(train: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Args:
        train: that reports.
        options: of it; `test` is settled.
    """
    if options.folds and options.test is not None:
        train.error("argument --folds: not allowed with --test")
    if options.resume and options.overwrite:
        train.error("argument --overwrite: not allowed with --resume")
    if options.resume and options.out is None:
        train.error("argument --resume: needs --out DIR, the folder of the training")
    options.test = 0.2 if options.test is None else options.test
    options.folds = options.folds or 0
