"""`step`: a function whose name the explanation of a program shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import jax
from jax.extend import source_info_util

from blockjac.base import compat
from blockjac.engine.arguments import check_callable
from blockjac.engine.leaves import TRACED, separated
from blockjac.errors import InvalidOptionError
from blockjac.graph.trace import STEP, named_as

source_info_util.register_exclusion(__file__)  # the place of a step is the line that calls it

P = ParamSpec("P")
R = TypeVar("R")


def step(name: str, result: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Name a function as a step of the chain rule, for `explain`.

    It computes what it did, also under `jax.jit`, `vmap` and derivatives; arguments that are not
    arrays stay as they are. Functions under `jax.jit` are steps of their own names without this.

    Args:
        name: what formulas call the function: "phi_1" is φ with the subscript 1.
        result: what formulas call its result; by default the name of the parameter of the next
            step that takes it.

    Returns:
        What makes a function a step; it may stand above a definition.

    Raises:
        InvalidOptionError: if the name is empty.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> @blockjac.step("phi")
        ... def affine(x, w):
        ...     return w * x
        >>> print(blockjac.explain(lambda w, x: jnp.sin(affine(x, w)))(2.0, 3.0).chain_rule)
        D_w f = D_v₁ sin ⋆ D_w φ
    """
    if not str(name).strip() or type(name) is not str:
        raise InvalidOptionError(
            f"a step needs a name that formulas can call it by, such as 'phi_1'; got {name!r}"
        )

    def named(function: Callable[P, R]) -> Callable[P, R]:
        """The function as a step."""
        check_callable(function, f"step({name!r})")

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            """Call the function, as one equation if a trace is under way."""
            arrays, with_arrays = separated((args, kwargs))
            if not compat.is_traced(arrays):
                return function(*args, **kwargs)
            whole: Callable[..., Any] = function
            rebuilt: list[Callable[[Sequence[Any]], Any]] = []

            def body(*args: Any, **kwargs: Any) -> list[Any]:
                """The arrays that the function gives; everything else it returns is set aside."""
                own_args, own_kwargs = with_arrays(jax.tree.leaves((args, kwargs)))
                results, with_results = separated(whole(*own_args, **own_kwargs))
                rebuilt.append(with_results)
                return results

            body = named_as(function, body)
            body.__name__ = body.__qualname__ = STEP + name + (f"={result}" if result else "")
            own_args, own_kwargs = jax.tree.map(_traced, (args, kwargs))
            traced: Any = jax.jit(body)
            results = traced(*own_args, **own_kwargs)
            return cast("R", rebuilt[0](results))

        return call

    return named


def _traced(leaf: Any) -> Any:
    """A leaf that is traced; None, which is a tree without leaves, in place of any other."""
    return cast("Any", leaf) if isinstance(leaf, TRACED) else None
