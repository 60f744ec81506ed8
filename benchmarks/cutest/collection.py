"""The problems of `sif2jax`, one at a time.

To import the whole collection makes every problem at its full size, which takes a minute. Here the
names are read from the source, and only the module of the problem that is asked for is imported.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

MOST = 100
"""A reduced problem has up to so many unknowns, where its sizes allow that."""

LEAST = 24
"""And no fewer than this, where its full size has more."""

SIZES = (200, 144, 100, 64, 50, 32, 25, 20, 16, 12, 10, 8)
"""What the sizes of a problem are set to, one after the other."""

MANY = 8
"""A field of a problem that is an integer over this is a size."""


def problem_names() -> list[str]:
    """The problems of the collection, in its order; none where it is not installed."""
    return list(_modules())


def problem_named(name: str, is_reduced: bool = True) -> Any:
    """A problem of the collection.

    Args:
        name: as in CUTEst.
        is_reduced: whether to make it small.

    Raises:
        KeyError: where the collection has none of this name.
    """
    module = _modules()[name]
    _without_the_others(module)
    made = getattr(importlib.import_module(module), name)
    return reduced(made) if is_reduced else made()


def reduced(made: Any) -> Any:
    """A problem with at most `MOST` unknowns, or as few as its sizes allow.

    Args:
        made: its class; each of its sizes is tried at smaller values, all together and one by one,
            as far as the problem can still be evaluated.
    """
    best = made()
    full = np.size(best.y0)
    if full <= MOST:
        return best
    for problem in _smaller(made, best):
        unknowns = np.size(problem.y0)
        if LEAST <= unknowns <= MOST:
            return problem
        if LEAST <= unknowns < np.size(best.y0):
            best = problem
    return best


def _smaller(made: Any, whole: Any) -> Iterator[Any]:
    """The problem at smaller sizes, as far as it can be evaluated there."""
    sizes = {
        field.name: size
        for field in dataclasses.fields(made)
        if type(size := getattr(whole, field.name, None)) is int and size > MANY
    }
    chosen = [list(sizes)] if len(sizes) < 2 else [list(sizes), *[[name] for name in sizes]]
    for size, names in itertools.product(SIZES, chosen):
        try:
            problem = made(**{name: min(size, sizes[name]) for name in names})
            jax.eval_shape(lambda y, one=problem: one.objective(y, one.args), problem.y0)
            if hasattr(problem, "constraint"):
                jax.eval_shape(problem.constraint, problem.y0)
        except Exception:
            continue
        yield problem


@functools.cache
def _modules() -> dict[str, str]:
    """The module of each problem, as the collection's families list them."""
    found: dict[str, str] = {}
    root = _root()
    for family in sorted((root / "cutest").glob("*/__init__.py")) if root else ():
        tree = ast.parse(family.read_text())
        package = f"sif2jax.cutest.{family.parent.name}"
        origin = {
            alias.name: f"{package}.{node.module}"
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                for one in node.value.elts:
                    if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
                        found.setdefault(one.func.id, origin[one.func.id])
    return found


@functools.cache
def _root() -> Path | None:
    found = importlib.util.find_spec("sif2jax")
    return None if found is None or found.origin is None else Path(found.origin).parent


def _without_the_others(module: str) -> None:
    """Let a module be imported without what its packages import: all the other problems."""
    root = _root()
    parts = module.split(".")[:-1]
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name not in sys.modules and root is not None:
            package = types.ModuleType(name)
            package.__path__ = [str(root.joinpath(*parts[1:depth]))]
            sys.modules[name] = package
    bases = importlib.import_module("sif2jax._problem")
    for name, value in vars(bases).items():
        if name.startswith("Abstract"):
            setattr(sys.modules["sif2jax"], name, value)
