"""The program between the jaxpr and its text: values, and the statements of a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blockjac.explanations.source.expressions import Expression, Ref

OBJECT = np.dtype(object)
"""The type of what is not an array: a function, a tuple of results."""


class Block:
    """The statements of a function, of a loop's body or of a branch, in order.

    Attributes:
        outer: the block around it; None for a function of the module.
        statements: in order; a `Value` among them is assigned or written in place.
        memory: the values by their expressions, so that nothing is computed twice.
    """

    def __init__(self, outer: Block | None = None) -> None:
        self.outer = outer
        self.statements: list[Value | Statement] = []
        self.memory: dict[Any, Value] = {}

    def recalled(self, key: Any) -> Value | None:
        """A value of this block or of one around it."""
        block: Block | None = self
        while block is not None:
            if key in block.memory:
                return block.memory[key]
            block = block.outer
        return None


@dataclass(eq=False)
class Value:
    """A value of the program.

    Attributes:
        code: the expression that computes it; None where a statement or a parameter binds it.
        shape: that it has in the module. It may lack axes in front and have axes of size 1 where
            the jaxpr's value was broadcast: NumPy does that by itself.
        dtype: as in the jaxpr.
        block: where it is computed.
        name: that the user gave it; empty for none.
        hint: the name that it would like to have.
        comment: the lines that stand before its statement.
        known: its entries, if they are constants.
        reduced: the axes of the operand that it sums over, if it is such a reduction.
        bounds: between which numbers all entries are, if that is known.
        is_python: whether it is an integer of Python, the variable of a `for` loop.
        truth: the value of bools that it was converted from.
        maker: the statement that binds it and does nothing else.
        parts: the values that a call with several results binds, of the value of the call.
        is_global: whether it is a function of the module.
        from_end: a place and the size of the axis, if it is that place with negative ones counted
            from the end.
    """

    code: Expression | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: Block | None
    name: str = ""
    hint: str = ""
    comment: list[str] = field(default_factory=list[str])
    known: np.ndarray[Any, Any] | None = None
    reduced: tuple[int, ...] = ()
    bounds: tuple[int, int] | None = None
    is_python: bool = False
    truth: Value | None = None
    from_end: tuple[Value, int] | None = None
    maker: Statement | None = None
    parts: tuple[Value, ...] = ()
    is_global: bool = False

    @property
    def ref(self) -> Ref:
        """The expression that reads it."""
        return Ref(self)


class Statement:
    """A statement that does more than compute one value."""

    def expressions(self) -> Iterator[Expression]:
        """The expressions that it evaluates in the block that it stands in."""
        return iter(())

    def binds(self) -> Iterator[Value]:
        """The values that it gives a name to."""
        return iter(())

    def blocks(self) -> Iterator[tuple[Block, Sequence[Expression]]]:
        """The blocks inside, each with the expressions that are evaluated in it at last."""
        return iter(())


@dataclass(eq=False)
class Comment(Statement):
    """Lines of comment."""

    lines: list[str]


@dataclass(eq=False)
class Assign(Statement):
    """`target = code`; the target is a pattern of values, an entry of an array, or a value."""

    target: Expression
    code: Expression
    bound: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        for value in self.bound:
            value.maker = self

    def expressions(self) -> Iterator[Expression]:
        """What is assigned, and the target where that is an entry."""
        yield self.code
        if not self.bound:
            yield self.target

    def binds(self) -> Iterator[Value]:
        """The values in the target."""
        return iter(self.bound)


@dataclass(eq=False)
class Update(Statement):
    """`h, c = h_next, c_next`: variables of a loop or of a branch get new values."""

    targets: tuple[Value, ...]
    code: tuple[Expression, ...]

    def expressions(self) -> Iterator[Expression]:
        """The new values."""
        return iter(self.code)

    def binds(self) -> Iterator[Value]:
        """The variables."""
        return iter(self.targets)


@dataclass(eq=False)
class For(Statement):
    """`for variable in iterable:`."""

    variable: Value
    iterable: Expression
    body: Block

    def expressions(self) -> Iterator[Expression]:
        """What is iterated over."""
        yield self.iterable

    def binds(self) -> Iterator[Value]:
        """The loop's variable."""
        yield self.variable

    def blocks(self) -> Iterator[tuple[Block, Sequence[Expression]]]:
        """The body."""
        yield self.body, ()


@dataclass(eq=False)
class While(Statement):
    """`while test:`; the test is computed in a block of its own."""

    before: Block
    test: Expression
    body: Block

    def blocks(self) -> Iterator[tuple[Block, Sequence[Expression]]]:
        """The test's block and the body."""
        yield self.before, (self.test,)
        yield self.body, ()


@dataclass(eq=False)
class If(Statement):
    """`if`, `elif`, `else`; the last test is None."""

    tests: tuple[Expression | None, ...]
    bodies: tuple[Block, ...]

    def expressions(self) -> Iterator[Expression]:
        """The tests."""
        return (test for test in self.tests if test is not None)

    def blocks(self) -> Iterator[tuple[Block, Sequence[Expression]]]:
        """The branches."""
        return ((body, ()) for body in self.bodies)


@dataclass(eq=False)
class Def(Statement):
    """A function: of the module, or inside of another.

    Attributes:
        function: a value that has the function's name.
        parameters: the text of each is the name of its value.
        keyword_only: those after `*`.
        body: its statements.
        result: what it returns.
        docstring: its lines, empty for none.
        told: what the docstring says of each parameter: the value, the path of a leaf, its type.
    """

    function: Value
    parameters: tuple[Value, ...]
    body: Block
    result: Expression
    keyword_only: tuple[Value, ...] = ()
    docstring: str = ""
    told: tuple[tuple[Value, str, str], ...] = ()

    def __post_init__(self) -> None:
        self.function.maker = self

    def binds(self) -> Iterator[Value]:
        """The function and its parameters."""
        yield self.function
        yield from self.parameters
        yield from self.keyword_only

    def blocks(self) -> Iterator[tuple[Block, Sequence[Expression]]]:
        """The body, at the end of which the result is computed."""
        yield self.body, (self.result,)
