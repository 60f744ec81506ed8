"""The imports of a module, from the names that its code uses."""

from __future__ import annotations

import io
import tokenize

_IMPORTS = (
    ("namedtuple", "from collections import namedtuple", 0),
    ("jax", "import jax", 1),
    ("jnp", "import jax.numpy as jnp", 1),
    ("np", "import numpy as np", 1),
    ("lax", "from jax import lax", 1),
    ("primitives", "from jax.extend.core import primitives", 1),
    ("fft", "from scipy import fft", 1),
    ("linalg", "from scipy import linalg", 1),
    ("special", "from scipy import special", 1),
)
"""A name, the line that imports it, and its section; in the order of isort."""


def used_names(code: str) -> set[str]:
    """The names that a piece of code uses, those after a dot left out."""
    names: set[str] = set()
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and before != ".":
            names.add(token.string)
        before = token.string
    return names


def import_lines(code: str) -> list[str]:
    """The import statements that a module needs, in order."""
    used = used_names(code)
    sections = [
        [line for name, line, number in _IMPORTS if number == section and name in used]
        for section in (0, 1)
    ]
    sections[1] = _joined(sections[1])
    standard, others = sections
    return [*standard, *([""] if standard and others else []), *others]


def _joined(lines: list[str]) -> list[str]:
    """Imports from the same package on one line."""
    names = [line.rsplit(" ", 1)[-1] for line in lines if line.startswith("from scipy import")]
    rest = [line for line in lines if not line.startswith("from scipy import")]
    return [*rest, f"from scipy import {', '.join(names)}"] if names else rest
