"""Short functions that a NumPy module takes along where NumPy has none of the kind."""

from __future__ import annotations

from blockjac.explanations.source.helpers_arrays import ARRAYS
from blockjac.explanations.source.helpers_indexing import INDEXING
from blockjac.explanations.source.helpers_linalg import LINALG
from blockjac.explanations.source.helpers_windows import WINDOWS
from blockjac.explanations.source.imports import used_names


def _by_name(text: str) -> dict[str, str]:
    """Functions by their names."""
    parts = text.strip().split("\n\n\n")
    return {part.split("(")[0].removeprefix("def ").strip(): part for part in parts}


HELPERS: dict[str, str] = {
    name: source
    for text in (ARRAYS, INDEXING, WINDOWS, LINALG)
    for name, source in _by_name(text).items()
}
"""The source of each, by name; one stands after those that it uses."""


def needed_helpers(code: str) -> list[str]:
    """The helpers that a piece of code needs, and those that they need, in order."""
    needed: set[str] = set()
    pending = [name for name in used_names(code) if name in HELPERS]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [other for other in used_names(HELPERS[name]) if other in HELPERS]
    return [name for name in HELPERS if name in needed]
