"""Adding and replacing rules from outside the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from blockjac.base.compat import jax_array
from blockjac.errors import RuleError
from blockjac.rules import registry
from blockjac.rules.user_rules import elementwise_rule, function_with_rule
from blockjac.rules.validation import check_dtypes, named

DEFINED: dict[str, Any] = {}
"""The primitive objects that `define` was given, by name, so that `check` can bind them."""


def define(
    primitive: Any,
    rule: Callable[..., Any] | None = None,
    *,
    elementwise: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None = None,
    zero: bool = False,
    multiple_results: bool = False,
) -> Any:
    """Add the rule of a primitive, or replace it; or give a function of your own a rule.

    Give one of `rule`, `elementwise` and `zero`, or none of them to get a decorator. The rule
    applies to every later call in this process. `blockjac.rules.check` compares it with JAX.

    For a function, the result is another function to call in its place. JAX runs, batches and
    differentiates that one as before, but blockjac takes its Jacobian from the rule. Positional
    arguments are arrays and trees of them; keyword arguments are static.

    Args:
        primitive: the primitive, its name, or a function.
        rule: a structural rule: `rule(out, *operands, **params)` returns a tuple with one Block per
            operand, None where the derivative is zero. Without any of the three, a decorator for
            such a rule is returned.
        elementwise: the derivative `(out, *operands) -> array or number`; for several operands a
            sequence of derivatives, None where one is zero. A derivative receives those parameters
            of the primitive that it names as keyword-only arguments.
        zero: whether the derivative is zero everywhere.
        multiple_results: whether the primitive has several results; a structural rule then takes
            the tuple of results and returns a tuple of such tuples, one per result. The rule of a
            function takes the function's result, an array or a tree, and returns a tree of tuples.

    Returns:
        The rule itself, or the decorator; for a function, the function to call.

    Raises:
        RuleError: unless exactly one kind of rule is given.

    Examples:
        >>> from blockjac import rules
        >>> import jax.numpy as jnp
        >>> rules.define("sin", elementwise=lambda y, x: jnp.cos(x))
        >>> rules.check("sin", jnp.array([0.0, 1.0]))
    """
    if callable(primitive) and not hasattr(primitive, "bind"):
        return _of_function(primitive, rule, elementwise, zero)
    name = primitive if isinstance(primitive, str) else getattr(primitive, "name", None)
    if not isinstance(name, str):
        raise RuleError(
            "a rule is defined for a primitive, its name, or a function, "
            f"but found {type(primitive).__name__}"
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

    def enter(own: Callable[..., Any]) -> Callable[..., Any]:
        register = registry.rule(name, multiple_results=multiple_results)
        register(_checked(name, own, multiple_results))
        return own

    return enter if rule is None else enter(rule)


def _checked(name: str, own: Callable[..., Any], multiple_results: bool) -> Callable[..., Any]:
    """The rule, with the primitive's name in its errors and the dtypes of its blocks checked."""

    def rule(out: Any, *operands: Any, **params: Any) -> Any:
        """Apply the rule to JAX arrays, and check the dtypes of each row of its blocks."""
        operands = tuple(map(jax_array, operands))
        answer = named(name, own)(out, *operands, **params)
        rows = answer if multiple_results and isinstance(answer, tuple | list) else (answer,)
        for row in rows:
            check_dtypes(name, row, operands)
        return answer

    return rule


def _of_function(
    function: Callable[..., Any],
    rule: Callable[..., Any] | None,
    elementwise: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None,
    zero: bool,
) -> Callable[..., Any]:
    """The function to call in place of the given one; its rule is one of the three kinds.

    Raises:
        RuleError: unless exactly one of the three kinds is given.
    """
    name = getattr(function, "__name__", type(function).__name__)
    kinds = sum([rule is not None, elementwise is not None, zero])
    if kinds != 1:
        raise RuleError(
            f"give one of rule, elementwise and zero for the function {name!r}, but found {kinds}"
        )
    if rule is not None:
        return function_with_rule(function, rule)
    if elementwise is None:
        return function_with_rule(function, _nothing)
    derivatives = (elementwise,) if callable(elementwise) else tuple(elementwise)
    return function_with_rule(function, elementwise_rule(name, derivatives))


def _nothing(out: Any, *args: Any, **keywords: Any) -> Any:
    """The rule of a function whose derivative is zero."""
    del keywords
    row = jax.tree.map(lambda leaf: None, args)
    return jax.tree.map(lambda leaf: row, out)
