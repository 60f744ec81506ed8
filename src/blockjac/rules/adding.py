"""Adding and replacing rules from outside the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blockjac.errors import RuleError
from blockjac.rules import registry

DEFINED: dict[str, Any] = {}
"""Primitives that rules were defined for by object, by name, so that `check` can bind them."""


def define(
    primitive: Any,
    rule: Callable[..., Any] | None = None,
    *,
    elementwise: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None = None,
    zero: bool = False,
    multiple_results: bool = False,
) -> Any:
    """Add the rule of a primitive, or replace it.

    Give one of `rule`, `elementwise` and `zero`, or none of them for a decorator. Compare the rule
    with JAX by `blockjac.rules.check`. It counts for every call from then on, in this process.

    Args:
        primitive: the primitive, or its name.
        rule: a structural rule: `rule(out, *operands, **params)` gives a tuple with one Block an
            operand, None where the derivative is zero. Without any of the three, a decorator for
            such a rule is returned.
        elementwise: the derivative `(out, *operands) -> array or number`; a sequence of them for
            several operands, None where it is zero. Parameters of the primitive are given where
            they are named as keyword-only arguments.
        zero: whether the derivative is zero everywhere.
        multiple_results: whether the primitive has several results; a structural rule then takes
            the tuple of results and gives a tuple of such tuples, one a result.

    Returns:
        The rule itself, or the decorator.

    Raises:
        RuleError: unless exactly one kind of rule is given.

    Example:
        >>> from blockjac import rules
        >>> import jax.numpy as jnp
        >>> rules.define("sin", elementwise=lambda y, x: jnp.cos(x))
        >>> rules.check("sin", jnp.array([0.0, 1.0]))
    """
    name = primitive if isinstance(primitive, str) else getattr(primitive, "name", None)
    if not isinstance(name, str):
        raise RuleError(
            f"a rule is defined for a primitive or its name, but found {type(primitive).__name__}"
        )
    kinds = sum([rule is not None, elementwise is not None, zero])
    if kinds > 1:
        raise RuleError(f"give one of rule, elementwise and zero for {name!r}, but found {kinds}")
    if not isinstance(primitive, str):
        DEFINED[name] = primitive
    if zero:
        registry.zero(name)
        return None
    if elementwise is not None:
        derivatives = (elementwise,) if callable(elementwise) else tuple(elementwise)
        registry.elementwise(name, *derivatives)
        return None
    decorator = registry.rule(name, multiple_results=multiple_results)
    return decorator if rule is None else decorator(rule)
