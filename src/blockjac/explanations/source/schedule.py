"""Which values get a statement of their own, and which are written where they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from blockjac.explanations.source import layout
from blockjac.explanations.source.expressions import (
    FULL,
    NEW_AXIS,
    Attribute,
    Binary,
    Call,
    Expression,
    Literal,
    Ref,
    Subscript,
    Text,
    Unary,
    references,
)
from blockjac.explanations.source.names import Names, hint
from blockjac.explanations.source.program import Assign, Block, Def, For, Statement, Value
from blockjac.explanations.source.rebinding import next_value_of
from blockjac.explanations.source.writer import Writer

LONGEST_INLINE = 48
"""An expression of up to this many characters may stand inside of another."""

MOST_OPERATIONS = 4
"""And of up to this many operations."""

_REDUCTIONS = {"sum", "max", "min", "prod", "all", "any", "argmax", "argmin"}


class Schedule:
    """Decides for a function of the module.

    Attributes:
        names: of the values that have one.
        uses: how often each value is read.
        writer: writes with the names decided so far.
    """

    def __init__(self, array_module: str, reserved: set[str]) -> None:
        self.names: dict[Value, str] = {}
        self.uses: Counter[Value] = Counter()
        self.writer = Writer(array_module, self.names.get)
        self._foreign: set[Value] = set()
        self._returned: set[Value] = set()
        self._homes: dict[Value | Statement, Block] = {}
        self._counted: set[Statement] = set()
        self._given = Names(reserved)

    def decide(self, function: Def) -> None:
        """Decide for all values of a function, and give names."""
        self.names[function.function] = function.function.name
        if isinstance(function.result, Ref):
            self._returned.add(function.result.value)
        self._count_block(function)
        for value in list(self.uses):
            self._keep_axes(value)
            self._divide(value)
        self.uses.clear()
        self._foreign.clear()
        self._counted.clear()
        self._count_block(function)
        for value in (*function.parameters, *function.keyword_only):
            self.names[value] = self._given.unique(value.name or value.hint)
        for value in self.uses:
            if value.is_global:
                self.names[value] = value.name
            elif value.name and value not in self.names:
                self.names[value] = self._given.unique(value.name)
        self._walk(function, 0)

    def is_live(self, statement: Value | Statement) -> bool:
        """Whether a value is read at all, or a statement binds one that is."""
        if isinstance(statement, Value):
            return self.uses[statement] > 0
        return not is_lazy(statement) or statement in self._counted

    def _count_block(self, statement: Statement) -> None:
        """Count what the blocks of a statement read."""
        for block, last in statement.blocks():
            self._homes.update(dict.fromkeys(block.statements, block))
            for inner in block.statements:
                if isinstance(inner, Statement) and not is_lazy(inner):
                    self._count_statement(inner, block)
            for expression in last:
                self._count(expression, block)

    def _count_statement(self, statement: Statement, block: Block) -> None:
        """Count what a statement and the blocks inside of it read."""
        for expression in statement.expressions():
            self._count(expression, block)
        self._count_block(statement)

    def _count(self, expression: Expression, block: Block) -> None:
        """Count what an expression reads in a block."""
        pending = [(expression, block)]
        while pending:
            expression, block = pending.pop()
            for value in references(expression):
                self.uses[value] += 1
                if value.block is not block and value.block is not None:
                    self._foreign.add(value)
                if self.uses[value] > 1:
                    continue
                if value.code is not None:
                    pending.append((value.code, value.block or block))
                maker = value.maker
                if maker is not None and maker in self._homes and maker not in self._counted:
                    self._counted.add(maker)
                    self._count_statement(maker, self._homes[maker])

    def _keep_axes(self, value: Value) -> None:
        """`np.max(x, axis=1)[:, None]` is `np.max(x, axis=1, keepdims=True)`."""
        code = value.code
        if not isinstance(code, Subscript) or not isinstance(code.of, Ref):
            return
        inner = code.of.value
        reduction = inner.code
        if self.uses[inner] != 1 or inner.name or inner.comment or inner.block is not value.block:
            return
        if not isinstance(reduction, Call) or not isinstance(reduction.function, str):
            return
        axes = dict(reduction.options).get("axis")
        if reduction.function.rsplit(".")[-1] not in _REDUCTIONS or axes is None:
            return
        places = tuple(place for place, item in enumerate(code.items) if item is NEW_AXIS)
        full = [item for item in code.items if item is FULL]
        if len(places) + len(full) != len(code.items) or inner.reduced != places:
            return
        value.code = Call(
            reduction.function,
            reduction.arguments,
            (*reduction.options, ("keepdims", Text("True"))),
        )

    def _divide(self, value: Value) -> None:
        """`x * (1 / y)` is `x / y`."""
        if not isinstance(value.code, Binary) or value.code.operator != "*":
            return
        sides = value.code.left, value.code.right
        for factor, inverse in (sides, sides[::-1]):
            match inverse:
                case Ref(Value(code=Binary("/", Literal(text="1.0"), divisor)) as quotient):
                    is_plain = not quotient.name and not quotient.comment
                    if is_plain and self.uses[quotient] == 1 and quotient.block is value.block:
                        value.code = Binary("/", factor, divisor)
                        return
                case _:
                    pass

    def _walk(self, statement: Statement, indent: int) -> None:
        """Give names to what a statement binds and to the values of its blocks."""
        if isinstance(statement, Def):
            self._bind(statement.function)
            with self._given.scope():
                self._walk_inside(statement, indent)
            return
        for expression in statement.expressions():
            self.shorten(" " * 20, expression, indent)
        self._walk_inside(statement, indent)
        if isinstance(statement, For):
            self._given.release(self.names[statement.variable])

    def _bind(self, value: Value) -> None:
        """A name for a value that a statement binds."""
        if value.hint == "_" or (isinstance(value.maker, Assign) and not self.uses[value]):
            self.names[value] = "_"
        elif value not in self.names:
            self.names[value] = self._given.unique(value.name or value.hint or "value")

    def _walk_inside(self, statement: Statement, indent: int) -> None:
        """The names that a statement binds, and those of its blocks."""
        for value in statement.binds():
            self._bind(value)
        for block, last in statement.blocks():
            for place, inner in enumerate(block.statements):
                if not self.is_live(inner):
                    continue
                if not isinstance(inner, Value):
                    self._walk(inner, indent + layout.STEP)
                elif inner in self.names or not self._is_inline(inner):
                    variable = next_value_of(block, place, self.names, self.uses)
                    if variable is not None and inner not in self.names:
                        self._bind(variable)
                        self.names[inner] = self.names[variable]
                    self._name(inner, indent + layout.STEP)
            for expression in last:
                self.shorten("return ", expression, indent + layout.STEP)

    def _name(self, value: Value, indent: int) -> None:
        """A name for a value that gets a statement."""
        code = self._code(value)
        if value not in self.names:
            self.names[value] = self._given.unique(value.hint or hint(self.writer, code))
        self.shorten(f"{self.names[value]} = ", code, indent)

    def shorten(self, before: str, code: Expression, indent: int) -> None:
        """Give names to parts of an expression until its statement can be laid out."""
        while True:
            lines = layout.statement(self.writer, before, code, indent)
            parts = [part for part in self._parts(code) if part not in self.names]
            if (lines is not None and len(lines) <= 1) or not parts:
                return
            widest = max(parts, key=lambda part: len(self.writer.text(part.ref)))
            self.names[widest] = self._given.unique(
                widest.hint or hint(self.writer, self._code(widest))
            )

    def read_by(self, code: Expression) -> Iterator[Value]:
        """The named values that an expression reads, also within the parts written in place."""
        for value in references(code):
            if value in self.names:
                yield value
            elif value.code is not None:
                yield from self.read_by(value.code)

    def _code(self, value: Value) -> Expression:
        assert value.code is not None
        return value.code

    def _parts(self, code: Expression) -> list[Value]:
        """The values that are written inside of an expression, and could have a name."""
        parts: list[Value] = []
        for value in references(code):
            if value not in self.names and not isinstance(value.code, Literal):
                parts += [value, *self._parts(self._code(value))]
        return parts

    def _is_inline(self, value: Value) -> bool:
        """Whether a value is written where it is used."""
        if isinstance(value.code, Literal | Ref):
            return True
        if value.name or value.comment or value in self._foreign:
            return False
        code = self._code(value)
        if self.uses[value] > 1:
            return self._is_plain_view(code)
        text = self.writer.text(code)
        if value in self._returned:
            return len(f"    return {text}") <= layout.WIDTH
        return len(text) <= LONGEST_INLINE and self._operations(code) <= MOST_OPERATIONS

    def _is_plain_view(self, code: Expression) -> bool:
        """Whether an expression is `x.T` or `x[:, None]` of a value with a name."""
        match code:
            case Attribute(of=Ref(value)):
                return value in self.names
            case Call(function=str(), arguments=(Text(),)):
                return True
            case Subscript(of=Ref(value)):
                return value in self.names and all(
                    item is FULL or item is NEW_AXIS for item in code.items
                )
            case _:
                return False

    def _operations(self, code: Expression) -> int:
        """How many operations an expression is written with."""
        code = self.writer.resolved(code)
        own = isinstance(code, Binary | Call | Unary)
        return own + sum(map(self._operations, code.children()))


def is_lazy(statement: Statement) -> bool:
    """Whether a statement is left out if nothing reads what it binds."""
    return isinstance(statement, Def) or (isinstance(statement, Assign) and bool(statement.bound))
