"""Public names of a package that are resolved on first use (PEP 562), and import nothing before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, namespace: dict[str, Any], names: Sequence[str], homes: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Args:
        package: its name.
        namespace: its `globals()`, which keep what was resolved.
        names: the public ones.
        homes: the module of each public name; one that is not a key is a submodule.
    """

    def resolve(name: str) -> Any:
        """The value of a name that the package does not have yet."""
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if name in homes:
            value = getattr(import_module(homes[name]), name)
        else:
            value = import_module(f"{package}.{name}")
        namespace[name] = value
        return value

    def listed() -> list[str]:
        return sorted({*namespace, *names})

    return resolve, listed
