"""From a jaxpr to the statements of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.base.compat import bind, constants, is_variable, open_jaxpr
from blockjac.errors import SourceError
from blockjac.explain.source.expressions import (
    FULL,
    Call,
    Expression,
    Literal,
    Ref,
    Slice,
    Subscript,
    Text,
    call,
    integers,
    literal,
    method,
    number,
)
from blockjac.explain.source.program import Block, Comment, Statement, Value
from blockjac.explain.source.tables import Tables, written
from blockjac.explain.source.views import (
    Shape,
    joint,
    moved,
    same_size,
    stripped,
    unit_view,
    without_ones,
)

FOLDED = 64
"""Constants of indices with up to this many entries are computed when the module is written."""

LARGEST = 10_000
"""An array without a name is written into the module up to this many entries."""

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

NAME_TAG, COMMENT_TAG = "blockjac:name=", "blockjac:comment="


@dataclass(frozen=True)
class Target:
    """What a module is written in.

    Attributes:
        name: `numpy` or `jax`.
        module: the name of the array module, `np` or `jnp`.
        translations: by the name of the primitive.
    """

    name: str
    module: str
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

    def elementwise(self, code: Expression, *numbers: int) -> Value:
        """The value of an expression of operands that are broadcast."""
        values = [self.operands[n] for n in numbers] if numbers else self.operands
        return self.builder.value(code, joint([x.shape for x in values]), self.out.dtype)


class Builder:
    """Adds values to the current block.

    Attributes:
        target: what is written.
        block: the current one.
        views: of which value another is a reshaped view.
        captured: arrays that are too large to be written out, by identity, with their values;
            the function takes them as further parameters.
        names_of_constants: those that the user gave to captured arrays, by identity.
        tables: the constants of the module.
    """

    def __init__(self, target: Target, tables: Tables) -> None:
        self.target = target
        self.block = Block()
        self.views: dict[Value, Value] = {}
        self.captured: dict[int, tuple[Any, Value]] = {}
        self.names_of_constants: dict[int, str] = {}
        self.tables = tables

    @contextmanager
    def inside(self) -> Iterator[Block]:
        """Within the context, values are added to a new block inside of the current one."""
        outer, self.block = self.block, Block(self.block)
        try:
            yield self.block
        finally:
            self.block = outer

    def add(self, statement: Statement) -> None:
        """Add a statement to the current block."""
        self.block.statements.append(statement)

    def value(self, code: Expression, shape: Sequence[int], dtype: Any, hint: str = "") -> Value:
        """The value of an expression, computed once in the block and those around it."""
        if isinstance(code, Ref):
            return code.value
        known = self.block.recalled(code)
        if known is not None:
            return known
        value = Value(code, tuple(shape), dtype, self.block, hint=hint)
        self.block.memory[code] = value
        self.block.statements.append(value)
        return value

    def variable(self, shape: Sequence[int], dtype: Any, hint: str) -> Value:
        """A value that a statement binds."""
        return Value(None, tuple(shape), dtype, self.block, hint=hint)

    def constant(self, array: Any) -> Value:
        """The value of a known array.

        Equal entries are a literal, few ones are written out, and others are a parameter if the
        user has named the array, else a table in the module.

        Raises:
            SourceError: the array is too large for a table, and has no name.
        """
        entries = np.asarray(array)
        name = self.names_of_constants.get(id(array), "")
        if entries.ndim == 0 or (entries.size and not name and _is_uniform(entries)):
            entry = entries.reshape(-1)[0]
            return Value(literal(entry), (), entries.dtype, None, known=np.asarray(entry))
        code = written(self, entries)
        if code is None and name:
            if id(array) not in self.captured:
                value = Value(None, entries.shape, entries.dtype, None, hint=name)
                self.captured[id(array)] = array, value
            return self.captured[id(array)][1]
        if code is None:
            code = self._table(entries)
        value = self.value(code, entries.shape, entries.dtype, name)
        value.known = entries if entries.size <= FOLDED else None
        return value

    def _table(self, entries: np.ndarray[Any, Any]) -> Expression:
        """The name of a table in the module."""
        if entries.size > LARGEST:
            raise SourceError(
                f"the function has captured an array of {entries.size:,} numbers, of shape "
                f"{entries.shape}, which is too large to be written into a module; make it an "
                "argument of the function, or give it a name in `constant_names`"
            )
        return self.tables.reference(entries, self.target.module)

    def dtype_option(self, dtype: Any, *usual: str) -> dict[str, Expression]:
        """The option `dtype=`, unless it is what NumPy takes by itself."""
        name = np.dtype(dtype).name
        return (
            {} if name in (usual or ("float64", "int64", "bool")) else {"dtype": self.dtype(dtype)}
        )

    def dtype(self, dtype: Any) -> Expression:
        """The dtype as code."""
        name = np.dtype(dtype).name
        in_numpy = hasattr(np, name)
        module = self.target.module if in_numpy or self.target.name == "jax" else "jnp"
        return Text(f"{module}.{name}" if name != "bool" else "bool")

    def loose(self, values: Sequence[Value]) -> list[Expression]:
        """The values as operands of one operation that broadcasts and promotes."""
        firm = {value.dtype for value in values if not isinstance(value.code, Literal)}
        return [
            value.code.loose()
            if isinstance(value.code, Literal) and value.dtype in firm
            else value.code
            if isinstance(value.code, Literal)
            else value.ref
            for value in values
        ]

    def exact(self, value: Value, shape: Sequence[int]) -> Value:
        """A value in the shape that it is broadcast to."""
        shape = tuple(shape)
        if value.shape == shape and not (isinstance(value.code, Literal)):
            return value
        module = self.target.module
        if isinstance(value.code, Literal):
            options = self.dtype_option(value.dtype, "float64")
            digits = value.code
            if shape == ():
                code = Call(f"{module}.{value.dtype.name}", (Text(digits.text),))
                if value.dtype == bool:
                    code = Call(f"{module}.bool_", (Text(digits.text),))
                return self.value(code, shape, value.dtype)
            if float(digits.text.replace("np.", "")) in (0, 1) if _is_real(digits) else False:
                kind = "zeros" if float(digits.text) == 0 else "ones"
                return self.value(
                    call(f"{module}.{kind}", _shape(shape), **options), shape, value.dtype, kind
                )
            fill = call(f"{module}.full", _shape(shape), Text(digits.text), **options)
            return self.value(fill, shape, value.dtype)
        if same_size(value.shape, shape):
            return self.value(unit_view(value.ref, value.shape, shape), shape, value.dtype)
        wide = call(f"{module}.broadcast_to", value.ref, _shape(shape))
        return self.value(wide, shape, value.dtype)

    def reshaped(self, value: Value, old: Shape, new: Shape) -> Value:
        """A value of shape `old` in the jaxpr, reshaped to `new`."""
        if isinstance(value.code, Literal):
            return value
        if not same_size(value.shape, old):
            shape = moved(value.shape, old, new)
            if shape is None:
                value = self.exact(value, old)
                shape = stripped(new)
        else:
            shape = stripped(new)
        source = self.views.get(value, value)
        if source.shape == shape:
            return source
        if without_ones(source.shape) == without_ones(shape):
            code = indexed(source, shape)
        else:
            code = method(source.ref, "reshape", *_sizes(shape))
        view = self.value(code, shape, value.dtype)
        self.views[view] = source
        view.bounds = source.bounds
        return view

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
        translation = self.target.translations.get(equation.name)
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

    def typed(self, value: Value) -> Value:
        """An integer of Python with the dtype that it stands for."""
        if not value.is_python:
            return value
        code = call(f"{self.target.module}.{np.dtype(value.dtype).name}", value.ref)
        return self.value(code, (), value.dtype)

    def _folded(self, equation: Equation) -> list[Value] | None:
        """The results where all operands are small constants."""
        known = [operand.known for operand in equation.operands]
        entries = [array for array in known if array is not None]
        if not known or len(entries) < len(known) or equation.name.startswith("random"):
            return None
        if any("jaxpr" in key or "branches" in key for key in equation.params):
            return None
        sizes = [int(np.prod(out.shape)) for out in equation.outputs]
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


def indexed(source: Value, shape: Shape) -> Expression:
    """A view that drops axes of size 1: `x[1:2][0]` is `x[1]`."""
    view = unit_view(source.ref, source.shape, shape)
    code = source.code
    if not isinstance(view, Subscript) or not isinstance(code, Subscript) or source.name:
        return view
    items = list(code.items)
    for axis, item in enumerate(view.items):
        if item == number(0) and axis < len(items) and isinstance(items[axis], Slice):
            start = items[axis].children()[0] if _has_start(items[axis]) else number(0)
            items[axis] = start
        elif item is not FULL:
            return view
    is_static = all(isinstance(item, Slice) for item in code.items)
    return Subscript(code.of, tuple(items)) if is_static else view


def _has_start(item: Expression) -> bool:
    return isinstance(item, Slice) and item.start is not None


def _is_uniform(entries: np.ndarray[Any, Any]) -> bool:
    """Whether all entries are equal."""
    first = entries.reshape(-1)[0]
    return bool(np.all(entries == first)) and not np.any(
        np.signbit(entries) if (entries.dtype.kind == "f" and first == 0) else False
    )


def _shape(shape: Shape) -> Expression:
    """A shape as an argument: a single size is written as a number."""
    return Text(str(shape[0])) if len(shape) == 1 else integers(shape)


def _sizes(shape: Shape) -> Sequence[Expression]:
    """A shape as arguments of `reshape`."""
    return [Text(str(size)) for size in shape] if shape else [integers(())]


def _is_real(digits: Literal) -> bool:
    """Whether a literal is a finite real number other than -0.0."""
    text = digits.text
    return "np." not in text and "complex" not in text and text not in ("-0.0", "True", "False")


def live_equations(jaxpr: Any, needed: Sequence[bool]) -> list[tuple[Any, list[bool]]]:
    """The equations that the needed results depend on, each with which of its results are."""
    used = {
        atom
        for atom, is_needed in zip(jaxpr.outvars, needed, strict=True)
        if is_needed and is_variable(atom)
    }
    live: list[tuple[Any, list[bool]]] = []
    for equation in reversed(jaxpr.eqns):
        flags = [variable in used for variable in equation.outvars]
        if any(flags):
            live.append((equation, flags))
            used.update(atom for atom in equation.invars if is_variable(atom))
    return live[::-1]
