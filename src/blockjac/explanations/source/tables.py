"""Constant arrays: short ones as code, longer ones as tables at the top of the module."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from blockjac.explanations.source.expressions import (
    Display,
    Expression,
    Text,
    call,
    integers,
    literal,
    number,
)
from blockjac.explanations.source.writer import Writer

WRITTEN = 60
"""Constants whose code takes up to this many characters are written where they are used."""

FEWEST = 4
"""So many equally spaced integers are written as a range."""


def written(builder: Any, entries: np.ndarray[Any, Any]) -> Expression | None:
    """A short array as code; None if it is long.

    Args:
        builder: knows how dtypes are written.
        entries: the array.
    """
    module = builder.target.module
    options = builder.dtype_option(entries.dtype)
    if entries.size == 0:
        options = builder.dtype_option(entries.dtype, "float64")
        return call(f"{module}.zeros", integers(entries.shape), **options)
    counted = _range(entries)
    if counted is not None:
        options = builder.dtype_option(entries.dtype, "int64")
        return call(f"{module}.arange", *map(number, counted), **options)
    if entries.size > WRITTEN:
        return None
    code = call(f"{module}.array", _nested(entries, module), **options)
    return code if len(Writer(module, None).text(code)) <= WRITTEN else None


def _range(entries: np.ndarray[Any, Any]) -> tuple[int, ...] | None:
    """The arguments of `arange` for equally spaced integers."""
    if entries.ndim != 1 or entries.dtype.kind not in "iu" or entries.size < FEWEST:
        return None
    steps = np.diff(entries.astype(np.int64))
    start, step = int(entries[0]), int(steps[0])
    if step == 0 or not np.all(steps == step):
        return None
    stop = start + step * entries.size
    if step != 1:
        return start, stop, step
    return (start, stop) if start else (stop,)


def _nested(part: np.ndarray[Any, Any], module: str) -> Expression:
    """Nested lists of entries."""
    if part.ndim == 0:
        return Text(literal(part).text.replace("np.", f"{module}."))
    return Display("[", tuple(_nested(row, module) for row in part))


class Tables:
    """The tables of a module.

    Attributes:
        texts: the statement of each, in order.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._names: dict[tuple[bytes, str, tuple[int, ...]], str] = {}

    def reference(self, entries: np.ndarray[Any, Any], module: str) -> Expression:
        """The name of a table with the given entries."""
        key = entries.tobytes(), entries.dtype.str, entries.shape
        if key not in self._names:
            self._names[key] = f"TABLE_{len(self._names) + 1}"
            self.texts.append(_table(self._names[key], entries, module))
        return Text(self._names[key])


def _table(name: str, entries: np.ndarray[Any, Any], module: str) -> str:
    """The statement that makes a table from the digits of its entries."""
    dtype = entries.dtype.name
    if entries.dtype.kind == "b":
        entries, dtype = entries.astype(np.int8), "int8"
    digits = [_entry(entry) for entry in entries.reshape(-1)]
    rows = textwrap.wrap(" ".join(digits), 92)
    lines = [f"{name} = np.array(", '    """', *(f"    {row}" for row in rows)]
    lines += ['    """.split(),', f"    dtype=np.{dtype},", ")"]
    ending = "" if entries.ndim == 1 else f".reshape({', '.join(map(str, entries.shape))})"
    if dtype == "int8":
        ending += ".astype(bool)"
    if module == "jnp":
        lines[0] = f"{name} = jnp.asarray("
        lines[1:-1] = [f"    {line}" for line in ["np.array(", *lines[1:-1]]] + [f"    ){ending},"]
        ending = ""
    return "\n".join([*lines[:-1], lines[-1] + ending])


def _entry(entry: Any) -> str:
    """The digits of an entry as NumPy reads them."""
    text = literal(entry).text.replace("np.", "")
    if text.startswith("complex("):
        value = complex(entry)
        return f"{value.real!r}{value.imag:+}j".replace("+-", "-")
    return text
