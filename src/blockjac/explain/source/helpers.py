"""Short functions that a NumPy module takes along where NumPy has none of the kind."""

from __future__ import annotations

from blockjac.explain.source.imports import used_names

HELPERS: dict[str, str] = {}
"""The source of each, by name."""


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
