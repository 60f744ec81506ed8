"""`blockjac check`: compare a derivative with the exact one, functions and arguments by name."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax

from blockjac.checking import JacobianReport, check_grad, check_jacobian
from blockjac.cli.arguments import arguments, called, function_of
from blockjac.errors import BlockjacError, CommandError


def run_check(options: argparse.Namespace) -> int:
    """Compare, print the report, and say whether everything agrees.

    Args:
        options: Those of `blockjac check`.

    Returns:
        0 if the derivative is right, 1 if it is wrong.

    Raises:
        CommandError: If a function or an argument cannot be had, or a function raises.

    Examples:
        >>> from blockjac.cli.parser import parse_arguments
        >>> words = ["check", "jax.numpy:sin", "jax.numpy:cos", "--args", "0.5"]
        >>> run_check(parse_arguments(words))
        the given gradient of sin is right: all 1 entries agree
        0
    """
    with jax.enable_x64(True):
        fun = function_of(options.function)
        derivative = function_of(options.derivative)
        args = arguments(options.args, options.seed)
        report = _report(options, fun, derivative, args)
    print(report)
    return 0 if report else 1


def _report(
    options: argparse.Namespace,
    fun: Callable[..., Any],
    derivative: Callable[..., Any],
    args: Sequence[Any],
) -> JacobianReport:
    """The report of `check_grad` if the function gives one number, else of `check_jacobian`."""
    argnums = options.argnums[0] if len(options.argnums) == 1 else options.argnums
    shapes = called(options.function, lambda: jax.eval_shape(fun, *args))
    leaves = jax.tree.leaves(shapes)
    is_scalar = [getattr(leaf, "shape", None) for leaf in leaves] == [()]
    given = called(options.derivative, lambda: derivative(*args))
    is_gradient = is_scalar and not options.jacobian
    compare = check_grad if is_gradient else check_jacobian
    try:
        return compare(fun, given, *args, argnums=argnums, rtol=options.rtol, atol=options.atol)
    except BlockjacError as error:
        raise CommandError(str(error)) from error
