"""Values of the program: computed once, in the shapes and dtypes of the jaxpr."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.errors import SourceError
from blockjac.explanations.source.builder_parts import (
    indexed,
    is_finite_real,
    is_uniform,
    shape_code,
    sizes_code,
)
from blockjac.explanations.source.expressions import (
    Attribute,
    Call,
    Expression,
    Literal,
    Ref,
    Text,
    call,
    literal,
    method,
)
from blockjac.explanations.source.program import Block, Statement, Value
from blockjac.explanations.source.shared_functions import SharedFunctions
from blockjac.explanations.source.tables import Tables, written
from blockjac.explanations.source.views import (
    Shape,
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


@dataclass(frozen=True)
class Language:
    """What a module is written in.

    Attributes:
        name: `numpy` or `jax`.
        module: the name of the array module, `np` or `jnp`.
    """

    name: str
    module: str


class Values:
    """Adds values to the current block.

    Attributes:
        target: what is written.
        block: the current one.
        views: of which value another is a reshaped view.
        captured: arrays that are too large to be written out, by identity, with their values;
            the function takes them as further parameters.
        names_of_constants: those that the user gave to captured arrays, by identity.
        tables: the constants of the module.
        shared: its functions that are called more than once.
    """

    def __init__(self, target: Language, tables: Tables, shared: SharedFunctions) -> None:
        self.target = target
        self.block = Block()
        self.views: dict[Value, Value] = {}
        self.captured: dict[int, tuple[Any, Value]] = {}
        self.names_of_constants: dict[int, str] = {}
        self.tables = tables
        self.shared = shared

    @contextmanager
    def inside(self) -> Generator[Block]:
        """Within the context, values are added to a new block inside of the current one."""
        outer, self.block = self.block, Block(self.block)
        try:
            yield self.block
        finally:
            self.block = outer

    @contextmanager
    def elsewhere(self) -> Generator[Block]:
        """Within the context, values are added to a block of its own, for another function."""
        outer, self.block = self.block, Block()
        try:
            yield self.block
        finally:
            self.block = outer

    def turned(self, value: Value) -> Value:
        """`x.T` of a matrix; of `x.T` it is `x`."""
        match value.code:
            case Attribute(of=Ref(source), name="T"):
                return source
            case _:
                return self.value(Attribute(value.ref, "T"), value.shape[::-1], value.dtype)

    def converted(self, value: Value, dtype: Any) -> Value:
        """A value in another dtype."""
        if np.dtype(value.dtype) == np.dtype(dtype):
            return value
        return self.value(method(value.ref, "astype", self.dtype(dtype)), value.shape, dtype)

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
        if entries.ndim == 0 or (entries.size and not name and is_uniform(entries)):
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
            if float(digits.text.replace("np.", "")) in (0, 1) if is_finite_real(digits) else False:
                kind = "zeros" if float(digits.text) == 0 else "ones"
                return self.value(
                    call(f"{module}.{kind}", shape_code(shape), **options), shape, value.dtype, kind
                )
            fill = call(f"{module}.full", shape_code(shape), Text(digits.text), **options)
            return self.value(fill, shape, value.dtype)
        if same_size(value.shape, shape):
            return self.value(unit_view(value.ref, value.shape, shape), shape, value.dtype)
        wide = call(f"{module}.broadcast_to", value.ref, shape_code(shape))
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
            code = method(source.ref, "reshape", *sizes_code(shape))
        view = self.value(code, shape, value.dtype)
        self.same_entries(view, source)
        return view

    def same_entries(self, view: Value, source: Value) -> None:
        """What is known of a value holds for its view."""
        self.views[view] = source
        view.bounds = source.bounds
        if source.known is not None and source.known.ndim:
            view.known = source.known.reshape(view.shape)

    def typed(self, value: Value) -> Value:
        """An integer of Python with the dtype that it stands for."""
        if not value.is_python:
            return value
        code = call(f"{self.target.module}.{np.dtype(value.dtype).name}", value.ref)
        return self.value(code, (), value.dtype)
