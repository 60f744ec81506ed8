"""Check what a rule returns by counts, shapes, and dtypes alone, and name the rule in errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from blockjac.blocks import Block
from blockjac.errors import RuleError


def check_count(name: str, entry: str, value: str, entries: Any, expected: Sequence[Any]) -> None:
    """Raise unless a rule gives a tuple or list with one entry for each value of an equation.

    Args:
        name: of the primitive.
        entry: describes an entry, for the message.
        value: describes a value of the equation, for the message.
        entries: what the rule gives.
        expected: the equation's results or operands.

    Raises:
        RuleError: names the rule and both counts.
    """
    if not isinstance(entries, tuple | list):
        raise RuleError(
            f"the rule for {name!r} must give a tuple with {entry} for each {value}, "
            f"but gave {type(entries).__name__}"
        )
    if len(entries) != len(expected):
        raise RuleError(
            f"the rule for {name!r} must give {entry} for each {value}: "
            f"there are {len(expected)}, but it gave {len(entries)}"
        )


def check_block(name: str, block: Any, position: int, out: Any, operand: Any) -> None:
    """Raise unless a rule gives a block, or an operator, of the result's and the operand's shape.

    Args:
        name: of the primitive.
        block: what the rule gives for the operand.
        position: of the operand.
        out: the result.
        operand: the operand.

    Raises:
        RuleError: names the rule, the operand, and both pairs of shapes.
    """
    if not hasattr(block, "out_shape") or not hasattr(block, "wrt_shape"):
        raise RuleError(
            f"the rule for {name!r} must give a Block (or None) for operand {position}, "
            f"but gave {type(block).__name__}"
        )
    shapes = (tuple(block.out_shape), tuple(block.wrt_shape))
    expected = (tuple(out.shape), tuple(operand.shape))
    if shapes != expected:
        raise RuleError(
            f"the rule for {name!r} must give for operand {position} "
            f"a block of {expected[0]} with respect to {expected[1]}, "
            f"but gave one of {shapes[0]} with respect to {shapes[1]}"
        )


def check_derivative(name: str, values: Any, position: int, out: Any) -> None:
    """Raise unless a derivative is a number or broadcasts to the result.

    Args:
        name: of the primitive or function.
        values: the derivative that the rule gives.
        position: of the operand.
        out: the result.

    Raises:
        RuleError: names the rule, what it gave, and what it must give.
    """
    if isinstance(values, bool | int | float | complex):
        return
    shape = getattr(values, "shape", None)
    if shape is None:
        raise RuleError(
            f"the rule for {name!r} must give an array or a number as derivative of operand "
            f"{position}, but gave {type(values).__name__}"
        )
    if shape != () and not _broadcasts(shape, out.shape):
        raise RuleError(
            f"the rule for {name!r} gives for operand {position} a derivative of shape "
            f"{tuple(shape)}, which must be the result's shape {tuple(out.shape)}, with axes of "
            "size 1 where it is constant, or ()"
        )


def check_elementwise(name: str, position: int, out: Any, operand: Any) -> None:
    """Raise unless an operand broadcasts to the result, as those of elementwise operations do.

    Args:
        name: of the primitive or function.
        position: of the operand.
        out: the result.
        operand: the operand.

    Raises:
        RuleError: names the rule, the operand, and both shapes.
    """
    shape, whole = getattr(operand, "shape", None), getattr(out, "shape", None)
    if shape is None or whole is None:
        raise RuleError(
            f"the rule for {name!r} is elementwise, which is for arrays and one result, but "
            f"operand {position} is a {type(operand).__name__} and the result a "
            f"{type(out).__name__}; give a rule with blocks instead"
        )
    if shape not in ((), whole) and not _broadcasts(shape, whole):
        raise RuleError(
            f"the rule for {name!r} is elementwise, but operand {position} of shape {tuple(shape)} "
            f"does not broadcast to the result of shape {tuple(whole)}; give a rule with blocks "
            "instead"
        )


def _broadcasts(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a shape is another one, with axes of size 1 where it is constant."""
    return len(shape) == len(whole) and all(
        size in (1, larger) for size, larger in zip(shape, whole, strict=True)
    )


def named(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule, with the primitive's name in its errors."""

    @functools.wraps(rule)
    def called(*args: Any, **keywords: Any) -> Any:
        """Call the rule, and turn any error of its own into a RuleError."""
        try:
            return rule(*args, **keywords)
        except RuleError:
            raise
        except Exception as error:
            raise RuleError(
                f"the rule for {name!r} raised {type(error).__name__}: {error}"
            ) from error

    return called


def check_dtypes(name: str, row: Any, operands: Sequence[Any]) -> None:
    """Raise unless each block of a row has its operand's dtype.

    Raises:
        RuleError: names the rule, the operand, and both dtypes.
    """
    if not isinstance(row, tuple | list):
        return  # refused where the blocks are counted
    for position, (block, operand) in enumerate(zip(row, operands, strict=False)):
        if isinstance(block, Block) and block.dtype != operand.dtype:
            raise RuleError(
                f"the rule for {name!r} must give a block of {operand.dtype} for operand "
                f"{position}, but gave one of {block.dtype}"
            )
