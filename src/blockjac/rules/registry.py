"""The registry of elemental Jacobians, keyed by primitive name.

A *structural* rule is a function `rule(out, *inputs, **params)` that gives one `Block` per input
(None for the zero block; a tuple of such tuples, one per output, for primitives with several
results). An *elementwise* rule is its derivative, one function per operand. Names in `ZERO` have no
derivative at all.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.errors import RuleError
from blockjac.graph.primitives import check_complete
from blockjac.terms.block import rebuilt

Derivative = Callable[..., Any]
Rows = list[list[Any]]
"""Blocks or operators, by output and then by input; None where there is no dependence."""


@dataclass(frozen=True)
class Rule:
    """How the elemental Jacobians of one primitive are made.

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
        with np.errstate(all="ignore"):  # constants are computed with by NumPy, as XLA does it
            rows = self.blocks(outs, inputs, params, active)
        if rows is NotImplemented:
            return None
        _check_count(self.name, "a row of blocks", "result", rows, outs)
        for out, row in zip(outs, rows, strict=True):
            _check_count(self.name, "a block", "operand", row, inputs)
            for place, (block, operand) in enumerate(zip(row, inputs, strict=True)):
                if block is not None:
                    _check_block(self.name, block, place, out, operand)
        return rows


RULES: dict[str, Rule] = {}
"""Every structured rule by primitive name."""

ZERO: set[str] = set()
"""Primitives whose derivative is zero wherever it exists."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Residuals:
    """What a pass keeps of its evaluation, by the way that it serves.

    Attributes:
        back: what the way back needs; forwards it serves as well.
        ahead: what the way forwards needs beside.
    """

    back: Any
    ahead: Any

    @staticmethod
    def back_of(residuals: Any) -> Any:
        """What of any pass' residuals the way back needs."""
        return Residuals(residuals.back, None) if isinstance(residuals, Residuals) else residuals

    @staticmethod
    def ahead_of(residuals: Any) -> Any:
        """What of any pass' residuals the way forwards needs beside."""
        return residuals.ahead if isinstance(residuals, Residuals) else None

    @staticmethod
    def whole(back: Any, ahead: Any) -> Any:
        """The residuals of a pass from their two parts."""
        return Residuals(back.back, ahead) if isinstance(back, Residuals) else back


@dataclass(frozen=True)
class OperatorRule:
    """How a primitive is differentiated whose Jacobian is applied and never written down.

    Values and derivative are two steps, between which only the residuals are kept: a pullback may
    run in another program than the evaluation did.

    Attributes:
        evaluate: `(equation, inputs, active) -> (results, residuals)`, where `active` tells which
            inputs are differentiated and the residuals are a pytree of arrays; `Residuals` where
            they serve the way forwards alone in part.
        edges: `(equation, inputs, outs, residuals, active) -> Rows`. On the way back `inputs` and
            `outs` have the right shapes and dtypes, but their numbers are not kept.
        reversible: `(equation, active) -> bool`: whether there is a way back at all.
    """

    evaluate: Callable[[Any, Sequence[Any], Sequence[bool]], tuple[Sequence[Any], Any]]
    edges: Callable[[Any, Sequence[Any], Sequence[Any], Any, Sequence[bool]], Rows]
    reversible: Callable[[Any, Sequence[bool]], bool] = lambda equation, active: True


OPERATOR_RULES: dict[str, OperatorRule] = {}
"""Every operator with a way of its own, by primitive name."""


def rule(
    *names: str, multiple_results: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a structural rule for primitives.

    The function takes the result, the operands and the primitive's parameters by name (end with
    `**_`), and returns one Block per operand as a tuple, None where the derivative is zero. It may
    return NotImplemented to leave an equation to JAX.

    Args:
        names: the primitives' names.
        multiple_results: whether the primitives have several results; the function then takes the
            tuple of results and returns a tuple of such tuples, one a result.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def blocks(
            outs: Sequence[Any],
            inputs: Sequence[Any],
            params: dict[str, Any],
            active: Sequence[bool],
        ) -> Any:
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
        derivatives: one function `derivative(out, *operands, **params)` an operand, giving an array
            that broadcasts to the result or a Python scalar; None where the derivative is zero.
            Operands known while tracing are NumPy arrays of shape (), and what is computed from
            them alone is a coefficient and no factor. It is given those of the primitive's
            parameters that it names as keyword-only arguments.
    """
    wanted_params = [None if one is None else _named_params(one) for one in derivatives]

    def blocks(
        outs: Sequence[Any], inputs: Sequence[Any], params: dict[str, Any], active: Sequence[bool]
    ) -> Any:
        out = outs[0]
        _check_count(name, "a derivative", "operand", derivatives, inputs)
        row: list[Any] = []
        for place, (operand, wanted) in enumerate(zip(inputs, active, strict=True)):
            derivative, names = derivatives[place], wanted_params[place]
            if derivative is None or names is None or not wanted:
                row.append(None)
                continue
            chosen = {key: value for key, value in params.items() if key in names or "**" in names}
            values = derivative(out, *inputs, **chosen)
            check_derivative(name, values, place, out)
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
    """Changes whenever a rule does: programs compiled before then are not used again."""
    return _edition


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put all rules back as they were when the block ends, for trying a rule out.

    Examples:
        >>> from blockjac import rules
        >>> with rules.kept():
        ...     rules.zero("tanh")
    """
    global _edition
    structured, without = dict(RULES), set(ZERO)
    try:
        yield
    finally:
        _edition += 1
        RULES.clear()
        RULES.update(structured)
        ZERO.clear()
        ZERO.update(without)


_is_complete = False


def complete() -> None:
    """Say that the library's own rules are all there; later ones may take their places.

    Raises:
        RuleError: names the primitives whose facts `blockjac.graph.primitives` lacks.
    """
    global _is_complete
    check_complete({*RULES, *ZERO, *OPERATOR_RULES})
    _is_complete = True


def _enter(new: Rule) -> None:
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
    except (TypeError, ValueError):  # some builtins have no signature, and take no parameters
        return set()
    names = {one.name for one in arguments if one.kind is one.KEYWORD_ONLY}
    return names | {"**" for one in arguments if one.kind is one.VAR_KEYWORD}


# Checks, of shapes alone


def _check_count(name: str, what: str, of: str, given: Any, wanted: Sequence[Any]) -> None:
    if not isinstance(given, tuple | list):
        raise RuleError(
            f"the rule for {name!r} must give a tuple with {what} for each {of}, "
            f"but gave {type(given).__name__}"
        )
    if len(given) != len(wanted):
        raise RuleError(
            f"the rule for {name!r} must give {what} for each {of}: "
            f"there are {len(wanted)}, but it gave {len(given)}"
        )


def _check_block(name: str, block: Any, place: int, out: Any, operand: Any) -> None:
    if not hasattr(block, "out_shape") or not hasattr(block, "wrt_shape"):
        raise RuleError(
            f"the rule for {name!r} must give a Block (or None) for operand {place}, "
            f"but gave {type(block).__name__}"
        )
    found = (tuple(block.out_shape), tuple(block.wrt_shape))
    wanted = (tuple(out.shape), tuple(operand.shape))
    if found != wanted:
        raise RuleError(
            f"the rule for {name!r} must give for operand {place} "
            f"a block of {wanted[0]} with respect to {wanted[1]}, "
            f"but gave one of {found[0]} with respect to {found[1]}"
        )


def check_derivative(name: str, values: Any, place: int, out: Any) -> None:
    """Raise unless a derivative is a number or broadcasts to the result.

    Raises:
        RuleError: names the rule, what it gave and what was wanted.
    """
    if isinstance(values, bool | int | float | complex):
        return
    shape = getattr(values, "shape", None)
    if shape is None:
        raise RuleError(
            f"the rule for {name!r} must give an array or a number as derivative of operand "
            f"{place}, but gave {type(values).__name__}"
        )
    fits = len(shape) == len(out.shape) and all(
        size in (1, whole) for size, whole in zip(shape, out.shape, strict=True)
    )
    if shape != () and not fits:
        raise RuleError(
            f"the rule for {name!r} gives for operand {place} a derivative of shape "
            f"{tuple(shape)}, which must be the result's shape {tuple(out.shape)}, with axes of "
            "size 1 where it is constant, or ()"
        )


# What rules are made of


def scaling(out_shape: Sequence[int], operand: Any, values: Any) -> Block:
    """The block of an elementwise map: `δ values`, size-1 or missing axes broadcast.

    Args:
        out_shape: shape of the result.
        operand: the operand, of the result's rank with axes equal or 1, or of rank 0.
        values: the derivative: a Python scalar, or an array that broadcasts to the result.
    """
    labels = [Label(size) for size in out_shape]
    out = tuple(map(Index.of, labels))
    shape = operand.shape
    wrt = tuple(
        Index.of(label) if size == label.size else Index()
        for label, size in zip(labels, shape, strict=False)
    )
    if known(values):
        values = values.item()
    if isinstance(values, bool | int | float | complex):
        if values == 0:
            return Block.zeros(out_shape, shape, operand.dtype)
        return made(out_shape, shape, operand.dtype, Term((), out, wrt, values))
    factor = over(values, labels, operand.dtype)
    return made(out_shape, shape, operand.dtype, Term((factor,), out, wrt))


def known(value: Any) -> bool:
    """Whether a number is known while tracing, as literals are: a NumPy array of shape ()."""
    return isinstance(value, np.ndarray | np.generic) and value.shape == ()


def over(values: Any, labels: Sequence[Label], dtype: Any, name: str = "") -> Factor:
    """A factor from an array that broadcasts to the labels: axes of size 1 carry none."""
    carried = tuple(label for label, size in zip(labels, values.shape, strict=False) if size != 1)
    if values.ndim != len(carried):
        values = values.reshape(tuple(label.size for label in carried))
    if values.dtype not in (dtype, np.dtype(bool)):
        values = values.astype(dtype)
    return Factor(values, carried, name)


def made(out_shape: Sequence[int], wrt_shape: Sequence[int], dtype: Any, *terms: Term) -> Block:
    """A block of terms whose indices lie on their axes; empty shapes give the zero block."""
    if 0 in out_shape or 0 in wrt_shape:
        return Block.zeros(out_shape, wrt_shape, dtype)
    folded = [one for one in map(_folded, terms) if one.coefficient != 0]
    return rebuilt(tuple(out_shape), tuple(wrt_shape), np.dtype(dtype), folded)


def _folded(term: Term) -> Term:
    """The term with its known numbers in the coefficient, so that none of them is stored."""
    numbers = [factor.array.item() for factor in term.factors if known(factor.array)]
    if not numbers:
        return term
    rest = tuple(factor for factor in term.factors if not known(factor.array))
    coefficient = math.prod(numbers, start=term.coefficient)
    if isinstance(coefficient, complex) and coefficient.imag == 0:
        coefficient = coefficient.real
    return replace(term, factors=rest, coefficient=coefficient)


def plain(labels: Sequence[Label]) -> tuple[Index, ...]:
    """One index a label: axes that the labels run over in order."""
    return tuple(map(Index.of, labels))


def labels_of(shape: Sequence[int]) -> list[Label]:
    """A fresh label for each axis of a shape."""
    return [Label(size) for size in shape]
