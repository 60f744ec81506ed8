"""The few things that differ between JAX 0.10, 0.11 and 0.12, and what is read from a jaxpr at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core


def open_jaxpr(jaxpr: Any) -> Any:
    """The jaxpr inside a closed one; JAX 0.11 merged the two classes."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def constants(jaxpr: Any) -> Sequence[Any]:
    """The values of a jaxpr's constant variables."""
    return getattr(jaxpr, "consts", ())


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter of an equation is a jaxpr, open or closed."""
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def bind(primitive: Any, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Run one primitive on values; gives its results as a list."""
    results = primitive.bind(*operands, **primitive.get_bind_params(params))
    return list(results) if primitive.multiple_results else [results]


def argument_names(jaxpr: Any) -> tuple[str, ...]:
    """The names of a jaxpr's inputs with their tree paths, such as `params['W1']`; empty where JAX does not know."""
    info = getattr(open_jaxpr(jaxpr), "debug_info", None)
    return tuple(getattr(info, "arg_names", None) or ())
