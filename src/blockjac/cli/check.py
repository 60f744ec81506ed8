"""`blockjac check`: compare a derivative with the exact one, functions and arguments by name."""

import argparse
import ast
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.checking import JacobianReport, check_grad, check_jacobian
from blockjac.cli.loading import loaded
from blockjac.errors import BlockjacError, CommandError

SHAPE = re.compile(r"(bf16|f16|f32|f64|i32|i64|bool)\[([\d,\s]*)\]")
"""An array by dtype and shape, as JAX prints them."""

DTYPES = {
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i32": "int32",
    "i64": "int64",
    "bool": "bool",
}

BELOW = 10
"""Random whole numbers are drawn from 0 to one less than this."""


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
        fun = _function(options.function)
        derivative = _function(options.derivative)
        args = arguments(options.args, options.seed)
        report = _report(options, fun, derivative, args)
    print(report)
    return 0 if report else 1


def _function(word: str) -> Callable[..., Any]:
    """The function of a name."""
    function = loaded(word)
    if not callable(function):
        raise CommandError(f"{word} is {type(function).__name__}, not a function")
    return function


def _report(
    options: argparse.Namespace,
    fun: Callable[..., Any],
    derivative: Callable[..., Any],
    args: Sequence[Any],
) -> JacobianReport:
    """The report of `check_grad` if the function gives one number, else of `check_jacobian`."""
    argnums = options.argnums[0] if len(options.argnums) == 1 else options.argnums
    shapes = _called(options.function, lambda: jax.eval_shape(fun, *args))
    leaves = jax.tree.leaves(shapes)
    is_scalar = [getattr(leaf, "shape", None) for leaf in leaves] == [()]
    given = _called(options.derivative, lambda: derivative(*args))
    is_gradient = is_scalar and not options.jacobian
    compare = check_grad if is_gradient else check_jacobian
    try:
        return compare(fun, given, *args, argnums=argnums, rtol=options.rtol, atol=options.atol)
    except BlockjacError as error:
        raise CommandError(str(error)) from error


def _called(word: str, call: Callable[[], Any]) -> Any:
    """What a function gives, or an error that says where it raised what."""
    try:
        return call()
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "site-packages" not in frame.filename and "blockjac" not in frame.filename
        ]
        where = f", at {own[-1].filename}:{own[-1].lineno}" if own else ""
        raise CommandError(f"{word} raised {text}{where}") from error


def arguments(words: Sequence[str], seed: int) -> list[Any]:
    """The arguments that words describe.

    Args:
        words: each an array by dtype and shape (`f64[400,30]`, random), a number, a file of arrays
            (`data.npz`, or `data.npz:X` for one of them), or a function that gives the arguments
            (`module:make_args`).
        seed: of random arrays.

    Raises:
        CommandError: for a word that is none of these.

    Examples:
        >>> [array.shape for array in arguments(["f32[2,3]", "f64[]"], 0)]
        [(2, 3), ()]
        >>> arguments(["0.5", "3"], 0)
        [0.5, 3]
    """
    generator = np.random.default_rng(seed)
    args: list[Any] = []
    for word in words:
        args += _of_word(word, generator)
    return args


def _of_word(word: str, generator: np.random.Generator) -> list[Any]:
    """The arguments that one word describes."""
    shaped = SHAPE.fullmatch(word)
    if shaped is not None:
        return [_random(shaped[1], shaped[2], generator)]
    file, _, key = word.partition(".npz")
    if word.endswith(".npz") or key.startswith(":"):
        return _stored(Path(f"{file}.npz"), key.removeprefix(":"))
    try:
        number = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        number = None
    if isinstance(number, int | float | complex):
        return [number]
    if ":" not in word:
        raise CommandError(
            f"argument --args: '{word}'; wanted a shape such as f64[400,30], a number, a file "
            "such as data.npz, or a function such as module:make_args"
        )
    given = _called(word, _function(word))
    return list(cast("Any", given)) if isinstance(given, tuple | list) else [given]


def _random(dtype: str, sizes: str, generator: np.random.Generator) -> Any:
    """A random array: normal numbers, whole numbers below ten, or truth values."""
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    if dtype == "bool":
        return generator.integers(0, 2, size=shape).astype(bool)
    if dtype.startswith("i"):
        return generator.integers(0, BELOW, size=shape).astype(DTYPES[dtype])
    normal = np.asarray(generator.normal(size=shape))
    return jnp.asarray(normal, DTYPES[dtype]) if dtype == "bf16" else normal.astype(DTYPES[dtype])


def _stored(path: Path, key: str) -> list[Any]:
    """The arrays of a file, in its order, or one of them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if key and key not in file.files:
                names = ", ".join(file.files)
                raise CommandError(f"argument --args: {path} has no array '{key}'; it has {names}")
            return [file[name] for name in ([key] if key else file.files)]
    except (OSError, ValueError) as error:
        if isinstance(error, CommandError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"argument --args: cannot read {path}: {reason}") from error
