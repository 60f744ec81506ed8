"""`blockjac explain`: the chain rule of a function by name, printed or as a page."""

import argparse
from collections.abc import Callable
from functools import partial

import jax

from blockjac.cli.arguments import arguments, called, function_of
from blockjac.explanations.document import MOST_SHOWN
from blockjac.explanations.explain import explain
from blockjac.explanations.explanation import Explanation
from blockjac.optimize.files import check_file, write_whole


def run_explain(options: argparse.Namespace) -> int:
    """Explain, and print or write what was asked for.

    Args:
        options: Those of `blockjac explain`.

    Returns:
        0.

    Raises:
        CommandError: If the function or an argument cannot be had, or the function raises.
        OutputPathError: If the page cannot be written.

    Examples:
        >>> from blockjac.cli.parser import parse_arguments
        >>> words = ["explain", "jax.numpy:sin", "--args", "f64[3]", "--text"]
        >>> run_explain(parse_arguments(words))
        sin and its Jacobian by x
        ...
        0
    """
    if options.html is not None:
        check_file(options.html)
    with jax.enable_x64(True):
        explanation = _explanation(options)
        most = None if options.all else MOST_SHOWN
        if options.html is not None:
            write_whole(options.html, explanation.html(most).encode())
            print(f"{options.html}: {explanation.program.function} explained")
            return 0
        writers: dict[str, Callable[[], str]] = {
            "text": partial(explanation.text, most=most),
            "latex": partial(explanation.latex, most, whole=True),
            "markdown": partial(explanation.markdown, most),
            "dot": explanation.dot,
            "svg": explanation.svg,
        }
        print(writers[options.format]().rstrip("\n"))
    return 0


def _explanation(options: argparse.Namespace) -> Explanation:
    """The explanation of the function at the arguments."""
    function = function_of(options.function)
    args = arguments(options.args, options.seed)
    argnums = options.argnums[0] if len(options.argnums) == 1 else options.argnums
    return called(options.function, lambda: explain(function, argnums)(*args))
