"""What the command line accepts; imports nothing that takes long."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from blockjac import __version__
from blockjac.cli.table_parser import add_table_commands, settle_train
from blockjac.cli.words import whole_number, whole_numbers


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or say what is wrong with it and exit with status 2.

    Args:
        arguments: The words after the program's name; those of this process if left out.

    Returns:
        The options of one command, whose name is `command`.

    Examples:
        >>> parse_arguments(["lecture", "--steps", "5"]).steps
        5
    """
    parser = argparse.ArgumentParser(
        prog="blockjac", description="Exact block Jacobians of JAX functions."
    )
    parser.add_argument("--version", action="version", version=f"blockjac {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lecture = commands.add_parser(
        "lecture",
        help="train the lecture's network on the Wisconsin data",
        description="Train a network with one hidden layer on the first 400 rows of the Wisconsin "
        "breast cancer data, by gradient descent with backtracking, and test it on the others.",
    )
    _add_lecture_options(lecture)
    explain = commands.add_parser(
        "explain",
        help="the chain rule of a function: formulas, costs, an interactive page",
        description="Explain the derivative of a function: its steps, their Jacobians with "
        "indices, the order of elimination and its cost; as text, or in the format that is asked "
        "for. The exit status is 0, 1 after an error, and 2 if the function or the arguments "
        "cannot be used.",
    )
    _add_explain_options(explain)
    check = commands.add_parser(
        "check",
        help="compare a derivative that was written by hand with the exact one",
        description="Compare a gradient or Jacobian that was written by hand with the exact one, "
        "and name its mistake. The exit status is 0 if it is right, 1 if it is wrong, and 2 if the "
        "functions or the arguments cannot be used.",
    )
    _add_check_options(check)
    add_table_commands(commands)
    options = parser.parse_args(arguments)
    if options.command == "train":
        settle_train(commands.choices["train"], options)
    if options.command == "lecture":
        _settle_line_search_steps(lecture, options)
    return options


def _add_lecture_options(lecture: argparse.ArgumentParser) -> None:
    """Describe the options of `blockjac lecture`."""
    lecture.add_argument(
        "--steps",
        type=whole_number(1),
        default=100,
        metavar="N",
        help="steps of descent (default: %(default)s)",
    )
    lecture.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=1234,
        metavar="N",
        help="seed of the initial weights (default: %(default)s)",
    )
    lecture.add_argument(
        "--hidden",
        type=whole_number(1),
        default=20,
        metavar="N",
        help="nodes of the hidden layer (default: %(default)s)",
    )
    lecture.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="draw loss, gradient norm, accuracy, step size and line searches into this folder",
    )
    lecture.add_argument(
        "--plot-format",
        choices=("png", "svg"),
        default="png",
        help="format of the plots (default: %(default)s)",
    )
    lecture.add_argument(
        "--line-search-steps",
        type=whole_numbers,
        metavar="N,N,...",
        help="steps whose line search is drawn (default: the first, the middle and the last)",
    )
    lecture.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="explain the trained network in this HTML file, with the pictures of the training",
    )
    lecture.add_argument(
        "--json", type=Path, metavar="FILE", help="write options, steps and results to this file"
    )


def _add_explain_options(explain: argparse.ArgumentParser) -> None:
    """Describe the options of `blockjac explain`."""
    explain.add_argument(
        "function", metavar="MODULE:F", help="the function: module:name, or file.py:name"
    )
    _add_argument_options(explain)
    formats = explain.add_mutually_exclusive_group()
    formats.add_argument(
        "--html", type=Path, metavar="FILE", help="write an interactive page to this file"
    )
    for name in ("latex", "markdown", "text", "dot", "svg"):
        formats.add_argument(
            f"--{name}", action="store_const", const=name, dest="format", help=f"print {name}"
        )
    explain.set_defaults(format="text")
    explain.add_argument(
        "--all", action="store_true", help="leave nothing out, however many steps there are"
    )


def _add_check_options(check: argparse.ArgumentParser) -> None:
    """Describe the options of `blockjac check`."""
    check.add_argument(
        "function", metavar="MODULE:F", help="the function: module:name, or file.py:name"
    )
    check.add_argument(
        "derivative",
        metavar="MODULE:DF",
        help="its derivative, a function of the same arguments",
    )
    _add_argument_options(check)
    check.add_argument("--rtol", type=float, metavar="X", help="relative tolerance")
    check.add_argument("--atol", type=float, metavar="X", help="absolute tolerance")
    check.add_argument(
        "--jacobian",
        action="store_true",
        help="compare a Jacobian or Hessian, even if the function gives one number",
    )


def _add_argument_options(command: argparse.ArgumentParser) -> None:
    """Describe the options for the arguments of a function."""
    command.add_argument(
        "--args",
        nargs="+",
        required=True,
        metavar="ARG",
        help="the arguments: f64[400,30] for a random array, a number, data.npz or data.npz:X for "
        "stored arrays, module:make_args for a function that gives them",
    )
    command.add_argument(
        "--argnums",
        type=whole_numbers,
        default=(0,),
        metavar="N,N,...",
        help="the arguments to differentiate by, from 0 (default: 0)",
    )
    command.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="seed of random arrays (default: %(default)s)",
    )


def _settle_line_search_steps(
    lecture: argparse.ArgumentParser, options: argparse.Namespace
) -> None:
    """Choose the line searches to draw, or refuse those that will not happen."""
    chosen, steps = options.line_search_steps, options.steps
    if chosen is None:
        chosen = (0, steps // 2, steps - 1) if options.plots or options.report else ()
    elif not options.plots and not options.report:
        lecture.error(
            "argument --line-search-steps: needs --plots DIR, the folder to draw into, or --report"
        )
    elif max(chosen) >= steps:
        lecture.error(
            f"argument --line-search-steps: there is no step {max(chosen)}; "
            f"wanted numbers from 0 to {steps - 1}, or more --steps"
        )
    options.line_search_steps = sorted(set(chosen))
