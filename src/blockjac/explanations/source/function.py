"""What a module is made from: traced functions with the trees of their arguments and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from blockjac.errors import SourceError


@dataclass(frozen=True)
class Parameter:
    """A positional parameter of a function.

    Attributes:
        name: as the module should call it.
        tree: an example of its value, or of the same structure: dictionaries, lists, tuples and
            namedtuples; its leaves, in JAX's order, are inputs of the jaxpr.
    """

    name: str
    tree: Any


@dataclass(frozen=True)
class TracedFunction:
    """A function of the module.

    Attributes:
        name: as the module should call it.
        closed_jaxpr: what it computes, of the leaves of all parameters in order.
        parameters: in order.
        docstring: what it does; the shapes of its parameters are added.
        result: a tree with the structure of what it returns; the leaves, in JAX's order, are the
            results of the jaxpr, whatever stands there.
        constant_names: names for the arrays that the jaxpr has captured, in their order. An array
            with a name is a parameter of the emitted function, after `*`, unless it has few
            entries; one without a name, or with an empty one, is written into the module.
    """

    name: str
    closed_jaxpr: Any
    parameters: tuple[Parameter, ...]
    docstring: str
    result: Any
    constant_names: Sequence[str] = ()


@dataclass(frozen=True)
class Leaf:
    """Where a leaf hangs in a tree: the steps to it, as Python writes them."""

    steps: tuple[str, ...]

    @property
    def last(self) -> str:
        """The name that the last step would give, `W1` for `["W1"]`; empty if it has none."""
        name = self.steps[-1].strip("[].\"'") if self.steps else ""
        return name if name.isidentifier() else ""


def leaves_of(tree: Any, where: str) -> list[Leaf]:
    """The leaves of a tree, in JAX's order.

    Raises:
        SourceError: a node of the tree is not one of Python's own containers.
    """
    tree_util: Any = jax.tree_util
    paths: list[Any] = [path for path, _ in tree_util.tree_flatten_with_path(tree)[0]]
    return [Leaf(tuple(_step(key, where) for key in path)) for path in paths]


def _step(key: Any, where: str) -> str:
    """A step from a container to its entry."""
    match key:
        case jax.tree_util.DictKey():
            return f"[{quoted(key.key)}]"
        case jax.tree_util.SequenceKey():
            return f"[{key.idx}]"
        case jax.tree_util.GetAttrKey():
            return f".{key.name}"
        case _:
            raise SourceError(
                f"{where} holds a container with the key {key!r}, which only its own class can "
                "read; pass dictionaries, lists, tuples or namedtuples"
            )


def quoted(key: Any) -> str:
    """A key of a dictionary as Python code, in double quotes."""
    if not isinstance(key, str):
        return repr(key)
    text = repr(key)
    return text if text.startswith('"') or '"' in key else f'"{text[1:-1]}"'
