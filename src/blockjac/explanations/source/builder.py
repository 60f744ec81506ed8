"""From a jaxpr to the statements of a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.base.compat import bind, constants, is_variable, open_jaxpr
from blockjac.errors import SourceError
from blockjac.explanations.source.builder_parts import (
    live_equations,
)
from blockjac.explanations.source.expressions import (
    Expression,
    Literal,
)
from blockjac.explanations.source.program import Comment, Value
from blockjac.explanations.source.shared_functions import SharedFunctions
from blockjac.explanations.source.tables import Tables
from blockjac.explanations.source.values import FOLDED, Language, Values
from blockjac.explanations.source.views import (
    Shape,
    joint,
)

Result = Expression | Value | Sequence[Value | None]
Translation = Callable[["Equation"], Result]
"""From an equation to the expression of its result, its value, or the values of all results."""

_TAKE_INTEGERS = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "convert_element_type",
        "dynamic_slice",
        "dynamic_update_slice",
        "broadcast_in_dim",
        "select_n",
        "jit",
        "pjit",
        "cond",
        "scan",
        "while",
    ]
)
"""Primitives that the variable of a loop needs no dtype for."""

TAG = "blockjac:"
NAME_TAG, COMMENT_TAG = f"{TAG}name=", f"{TAG}comment="
"""What ties a name or a comment to a value of the traced program."""


@dataclass(frozen=True)
class Target(Language):
    """A language with its translations, by the name of the primitive."""

    translations: dict[str, Translation]


class Equation:
    """An equation with the values of its operands.

    Attributes:
        builder: that the results are added to.
        name: of the primitive.
        params: of the primitive.
        operands: values, possibly of a shape that still is to be broadcast.
        shapes: of the operands in the jaxpr.
        outputs: the types of the results.
        needed: which results are used at all.
    """

    def __init__(
        self, builder: Builder, equation: Any, operands: list[Value], needed: list[bool]
    ) -> None:
        self.builder = builder
        self.name: str = equation.primitive.name
        self.primitive = equation.primitive
        self.params: dict[str, Any] = equation.params
        self.operands = operands
        self.shapes: list[Shape] = [tuple(getattr(x.aval, "shape", ())) for x in equation.invars]
        self.outputs: list[Any] = [x.aval for x in equation.outvars]
        self.needed = needed

    @property
    def out(self) -> Any:
        """The type of the first result."""
        return self.outputs[0]

    @property
    def module(self) -> str:
        """The name of the array module."""
        return self.builder.target.module

    def loose(self, *numbers: int) -> list[Expression]:
        """Operands as they are; literals are plain numbers where another operand has the dtype.

        Args:
            *numbers: of the operands; all if empty.
        """
        values = [self.operands[n] for n in numbers] if numbers else self.operands
        return self.builder.loose(values)

    def exact(self, number: int = 0) -> Expression:
        """An operand in the shape that it has in the jaxpr."""
        return self.builder.exact(self.operands[number], self.shapes[number]).ref

    def all_exact(self) -> list[Expression]:
        """All operands in the shapes that they have in the jaxpr."""
        return [self.exact(number) for number in range(len(self.operands))]

    @property
    def is_of_python(self) -> bool:
        """Whether all operands are integers of Python or single numbers; one of them the former."""
        is_single = all(x.is_python or _is_single(x) for x in self.operands)
        return is_single and any(x.is_python for x in self.operands)

    def elementwise(self, code: Expression, *numbers: int) -> Value:
        """The value of an expression of operands that are broadcast."""
        values = [self.operands[n] for n in numbers] if numbers else self.operands
        return self.builder.value(code, joint([x.shape for x in values]), self.out.dtype)


def _is_single(value: Value) -> bool:
    """Whether a value is one known number."""
    return value.known is not None and value.known.ndim == 0


class Builder(Values):
    """Adds what a jaxpr computes to the current block."""

    def __init__(self, target: Target, tables: Tables, shared: SharedFunctions) -> None:
        super().__init__(target, tables, shared)
        self.translations = target.translations

    def run(self, jaxpr: Any, inputs: Sequence[Value], needed: Sequence[bool] | None = None) -> Any:
        """Add what a jaxpr computes to the current block.

        Args:
            jaxpr: open or closed; the arrays that a closed one has captured are constants.
            inputs: the values of its inputs.
            needed: which results are used; the others may be None.

        Returns:
            The values of the results.
        """
        opened = open_jaxpr(jaxpr)
        names: dict[Any, Value] = dict(zip(opened.invars, inputs, strict=True))
        if opened.constvars:
            names.update(zip(opened.constvars, map(self.constant, constants(jaxpr)), strict=True))
        wanted = list(needed) if needed is not None else [True] * len(opened.outvars)
        for equation, is_needed in live_equations(opened, wanted):
            operands = [self._read(names, atom) for atom in equation.invars]
            results = self._translated(Equation(self, equation, operands, is_needed))
            for variable, result in zip(equation.outvars, results, strict=True):
                if result is not None:
                    names[variable] = result
        return [
            self._read(names, atom) if is_wanted else None
            for atom, is_wanted in zip(opened.outvars, wanted, strict=True)
        ]

    def _read(self, names: dict[Any, Value], atom: Any) -> Value:
        return names[atom] if is_variable(atom) else self.constant(np.asarray(atom.val))

    def _translated(self, equation: Equation) -> Sequence[Value | None]:
        """The values of an equation's results."""
        if equation.name == "name" and self._tagged(equation):
            return equation.operands
        folded = self._folded(equation)
        if folded is not None:
            return folded
        translation = self.translations.get(equation.name)
        if equation.name not in _TAKE_INTEGERS:
            equation.operands = list(map(self.typed, equation.operands))
        if translation is None:
            raise SourceError(
                f"the primitive {equation.name!r} cannot be written as {self.target.name} code, "
                "and no public function of JAX computes it; leave it out of the function, or "
                "evaluate the function instead of printing it"
            )
        result = translation(equation)
        if isinstance(result, Expression):
            out = equation.out
            result = self.value(result, out.shape, out.dtype)
        return [result] if isinstance(result, Value) else result

    def _folded(self, equation: Equation) -> list[Value] | None:
        """The results where all operands are small constants."""
        known = [operand.known for operand in equation.operands]
        entries = [array for array in known if array is not None]
        if not known or len(entries) < len(known) or equation.name.startswith("random"):
            return None
        if any("jaxpr" in key or "branches" in key for key in equation.params):
            return None
        sizes = [math.prod(tuple(out.shape)) for out in equation.outputs]
        is_index = all(np.dtype(out.dtype).kind in "iub" for out in equation.outputs)
        if max(sizes) > FOLDED or not (is_index or max(sizes) == 1):
            return None
        if max(len(out.shape) for out in equation.outputs) > 0 and equation.name in (
            "broadcast_in_dim",
        ):
            return None
        operands = [
            np.broadcast_to(array, shape)
            for array, shape in zip(entries, equation.shapes, strict=True)
        ]
        return [self.constant(x) for x in bind(equation.primitive, operands, equation.params)]

    def _tagged(self, equation: Equation) -> bool:
        """Name the operand of an equation, or give it a comment, if it is such a tag."""
        tag: str = equation.params["name"]
        if tag.startswith(COMMENT_TAG):
            self.comment(equation.operands[0], tag.removeprefix(COMMENT_TAG))
            return True
        if not tag.startswith(NAME_TAG):
            return False
        value = equation.operands[0]
        if value.code is None or isinstance(value.code, Literal) or value.name:
            return True
        if value.shape != equation.shapes[0]:
            value = self.exact(value, equation.shapes[0])
            equation.operands[0] = value
        value.name = tag.removeprefix(NAME_TAG)
        return True

    def comment(self, value: Value, text: str) -> None:
        """A comment before the statement of a value; here if it has none of its own."""
        lines = text.splitlines()
        if value.code is None or isinstance(value.code, Literal) or value.block is not self.block:
            self.add(Comment(lines))
        else:
            value.comment += lines
