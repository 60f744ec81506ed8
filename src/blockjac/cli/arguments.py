"""Arguments of the command line: functions by name, arrays by shape, file or function."""

import ast
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

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


def function_of(word: str) -> Callable[..., Any]:
    """The function of a name.

    Args:
        word: as `loaded` takes it.

    Raises:
        CommandError: if there is none, or the name is not that of a function.
    """
    function = loaded(word)
    if not callable(function):
        raise CommandError(f"{word} is {type(function).__name__}, not a function")
    return function


def called(word: str, call: Callable[[], Any]) -> Any:
    """What a function gives.

    Args:
        word: the name of the function, for the error.
        call: calls it.

    Raises:
        CommandError: says what it raised and where.
    """
    try:
        return call()
    except BlockjacError as error:
        raise CommandError(str(error)) from error
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
    given = called(word, function_of(word))
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
