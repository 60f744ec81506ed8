"""When the next value of a loop's variable can take its name at once: `h = np.tanh(A @ h)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from blockjac.explanations.source.expressions import Ref, references
from blockjac.explanations.source.program import Block, Statement, Update, Value


def next_value_of(
    block: Block, place: int, names: Mapping[Value, str], uses: Counter[Value]
) -> Value | None:
    """The variable whose next value a statement computes, if nothing reads the old one later.

    Args:
        block: the body of a loop or a branch, which ends in an `Update`.
        place: of the value's statement in the block.
        names: of the values that have a statement, as far as that is decided.
        uses: how often each value is read.
    """
    value, last = block.statements[place], block.statements[-1]
    if not isinstance(value, Value) or not isinstance(last, Update) or value.name:
        return None
    slots = [
        number
        for number, code in enumerate(last.code)
        if isinstance(code, Ref) and code.value is value
    ]
    if len(slots) != 1:
        return None
    variable = last.targets[slots[0]]
    readers = _readers(block, last, slots[0])
    pending, seen = [variable], set[Value]()
    while pending:
        for reader_place, reader in readers.get(pending.pop(), []):
            if reader is value or (isinstance(reader, Value) and not uses[reader]):
                continue
            is_inline = isinstance(reader, Value) and reader not in names
            if reader_place > place:
                return None
            if is_inline and isinstance(reader, Value) and reader not in seen:
                seen.add(reader)
                pending.append(reader)
    return variable


Readers = dict[Value, list[tuple[int, "Value | Statement"]]]


def _readers(block: Block, last: Update, slot: int) -> Readers:
    """The statements of a block that read each value, with their places."""
    readers: Readers = {}
    for place, statement in enumerate(block.statements):
        for read in _reads(statement, slot if statement is last else None):
            readers.setdefault(read, []).append((place, statement))
    return readers


def _reads(statement: Value | Statement, left_out: int | None = None) -> Iterator[Value]:
    """The values that a statement and the blocks inside of it read directly."""
    if isinstance(statement, Value):
        if statement.code is not None:
            yield from references(statement.code)
        return
    for number, expression in enumerate(statement.expressions()):
        if number != left_out:
            yield from references(expression)
    for block, expressions in statement.blocks():
        for inner in block.statements:
            yield from _reads(inner)
        for expression in expressions:
            yield from references(expression)
