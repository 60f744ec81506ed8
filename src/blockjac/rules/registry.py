"""The registry of elemental Jacobians, keyed by primitive name.

A *structural* rule is a function `rule(out, *inputs, **params)` that returns one `Block` per input
(None for the zero block; a tuple of such tuples, one per output, for primitives with several
results). An *elementwise* rule consists of derivatives, one function per operand. Primitives in
`ZERO` have the derivative zero.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from blockjac.errors import RuleError
from blockjac.graph.primitives import check_complete
from blockjac.rules.building import scaling
from blockjac.rules.validation import check_block, check_count, check_derivative, check_elementwise

Derivative = Callable[..., Any]
Rows = list[list[Any]]
"""Blocks or operators, by output and then by input; None where they do not depend on each other."""


@dataclass(frozen=True)
class Rule:
    """How the elemental Jacobians of one primitive are built.

    Attributes:
        name: the primitive's name.
        blocks: `(outs, inputs, params, active) -> Rows`, where `active` tells which inputs are
            differentiated; NotImplemented leaves this equation to JAX.
    """

    name: str
    blocks: Callable[[Sequence[Any], Sequence[Any], dict[str, Any], Sequence[bool]], Any]

    def apply(
        self,
        outs: Sequence[Any],
        inputs: Sequence[Any],
        params: dict[str, Any],
        active: Sequence[bool],
    ) -> Rows | None:
        """The blocks of one equation, checked against the shapes of its results and operands.

        Returns:
            A row of blocks for each result; None where the rule leaves the equation to JAX.

        Raises:
            RuleError: if the rule gives too many or too few blocks, or one of another shape.
        """
        with np.errstate(all="ignore"):  # NumPy computes with constants, as silently as XLA does
            rows = self.blocks(outs, inputs, params, active)
        if rows is NotImplemented:
            return None
        check_count(self.name, "a row of blocks", "result", rows, outs)
        for out, row in zip(outs, rows, strict=True):
            check_count(self.name, "a block", "operand", row, inputs)
            for position, (block, operand) in enumerate(zip(row, inputs, strict=True)):
                if block is not None:
                    check_block(self.name, block, position, out, operand)
        return rows


RULES: dict[str, Rule] = {}
"""Every structural or elementwise rule, by primitive name."""

ZERO: set[str] = set()
"""Primitives whose derivative is zero wherever it exists."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Residuals:
    """What an operator rule keeps of its evaluation, by the mode that needs it.

    Attributes:
        back: what pullbacks need; pushforwards may use it too.
        ahead: what pushforwards need in addition.
    """

    back: Any
    ahead: Any

    @staticmethod
    def back_of(residuals: Any) -> Any:
        """The part of any operator rule's residuals that pullbacks need."""
        return Residuals(residuals.back, None) if isinstance(residuals, Residuals) else residuals

    @staticmethod
    def ahead_of(residuals: Any) -> Any:
        """The part of any operator rule's residuals that only pushforwards need."""
        return residuals.ahead if isinstance(residuals, Residuals) else None

    @staticmethod
    def whole(back: Any, ahead: Any) -> Any:
        """The residuals of an operator rule, put together from their two parts."""
        return Residuals(back.back, ahead) if isinstance(back, Residuals) else back


@dataclass(frozen=True)
class OperatorRule:
    """How to differentiate a primitive whose Jacobian is applied and never written down.

    Evaluation and differentiation are two steps, and only the residuals are kept between them: a
    pullback may run in another program than the evaluation did.

    Attributes:
        evaluate: `(equation, inputs, active) -> (results, residuals)`, where `active` tells which
            inputs are differentiated. The residuals are a pytree of arrays, or `Residuals` if only
            pushforwards need some of them.
        edges: `(equation, inputs, outs, residuals, active) -> Rows`. In reverse mode `inputs` and
            `outs` have the right shapes and dtypes, but their numbers are not kept.
        reversible: `(equation, active) -> bool`: whether a pullback exists at all.
    """

    evaluate: Callable[[Any, Sequence[Any], Sequence[bool]], tuple[Sequence[Any], Any]]
    edges: Callable[[Any, Sequence[Any], Sequence[Any], Any, Sequence[bool]], Rows]
    reversible: Callable[[Any, Sequence[bool]], bool] = lambda equation, active: True


OPERATOR_RULES: dict[str, OperatorRule] = {}
"""Every operator rule, by primitive name."""


def rule(
    *names: str, multiple_results: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a structural rule for primitives.

    The function takes the result, the operands and the primitive's parameters by name (its
    signature ends with `**_`), and returns a tuple with one Block per operand, None where the
    derivative is zero. It may return NotImplemented to leave an equation to JAX.

    Args:
        names: the primitives' names.
        multiple_results: whether the primitives have several results; the function then takes the
            tuple of results and returns a tuple of such tuples, one per result.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        """Enter the function as the rule of each of the names, and return it unchanged."""

        def blocks(
            outs: Sequence[Any],
            inputs: Sequence[Any],
            params: dict[str, Any],
            active: Sequence[bool],
        ) -> Any:
            """The function's blocks as rows, also for a primitive with a single result."""
            del active
            answer = function(tuple(outs) if multiple_results else outs[0], *inputs, **params)
            if answer is NotImplemented or multiple_results:
                return answer
            return [answer]

        for name in names:
            _enter(Rule(name, blocks))
        return function

    return register


def elementwise(name: str, *derivatives: Derivative | None) -> None:
    """Register an elementwise primitive by its partial derivatives.

    Args:
        name: the primitive's name.
        derivatives: one function `derivative(out, *operands, **params)` per operand, which returns
            a Python scalar or an array that broadcasts to the result; None where the derivative is
            zero. Operands known while tracing are NumPy arrays of shape (), and what is computed
            from them alone becomes a coefficient instead of a factor. A derivative receives those
            of the primitive's parameters that it names as keyword-only arguments.
    """
    named_params = [
        None if derivative is None else _named_params(derivative) for derivative in derivatives
    ]

    def blocks(
        outs: Sequence[Any], inputs: Sequence[Any], params: dict[str, Any], active: Sequence[bool]
    ) -> Any:
        """`δ[i, i'] derivative[i]` for each active operand, in a single row."""
        out = outs[0]
        check_count(name, "a derivative", "operand", derivatives, inputs)
        row: list[Any] = []
        for position, (operand, is_active) in enumerate(zip(inputs, active, strict=True)):
            derivative, names = derivatives[position], named_params[position]
            if derivative is None or names is None or not is_active:
                row.append(None)
                continue
            chosen = {key: value for key, value in params.items() if key in names or "**" in names}
            values = derivative(out, *inputs, **chosen)
            check_derivative(name, values, position, out)
            check_elementwise(name, position, out, operand)
            row.append(scaling(out.shape, operand, values))
        return [row]

    _enter(Rule(name, blocks))


def zero(*names: str) -> None:
    """Register primitives whose derivative is zero."""
    global _edition
    _edition += 1
    for name in names:
        RULES.pop(name, None)
        ZERO.add(name)


_edition = 0


def edition() -> int:
    """A number that changes whenever a rule does: older compiled programs are not used again."""
    return _edition


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Restore all rules when the `with` block ends: for trying out a rule.

    Examples:
        >>> from blockjac import rules
        >>> with rules.kept():
        ...     rules.zero("tanh")
    """
    global _edition
    rules_before, zero_before = dict(RULES), set(ZERO)
    try:
        yield
    finally:
        _edition += 1
        RULES.clear()
        RULES.update(rules_before)
        ZERO.clear()
        ZERO.update(zero_before)


_is_complete = False


def complete() -> None:
    """Declare the library's own rules complete; from then on a rule may replace another.

    Raises:
        RuleError: names the primitives that have a rule but no facts in `graph.primitives`.
    """
    global _is_complete
    check_complete({*RULES, *ZERO, *OPERATOR_RULES})
    _is_complete = True


def _enter(new: Rule) -> None:
    """Put a rule into the table; until the table is complete, none may replace another."""
    global _edition
    if not _is_complete and (new.name in RULES or new.name in ZERO):
        raise RuleError(f"primitive {new.name!r} is registered twice; keep one of its rules")
    _edition += 1
    ZERO.discard(new.name)
    RULES[new.name] = new


def _named_params(derivative: Derivative) -> set[str]:
    """The keyword-only arguments of a derivative; `**` stands for all parameters."""
    try:
        arguments = inspect.signature(derivative).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature; they take no parameters
        return set()
    names = {argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
    return names | {"**" for argument in arguments if argument.kind is argument.VAR_KEYWORD}
