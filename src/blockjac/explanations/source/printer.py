"""The lines of a function."""

from __future__ import annotations

from blockjac.explanations.source import layout
from blockjac.explanations.source.expressions import Display, Expression, Literal
from blockjac.explanations.source.program import (
    Assign,
    Block,
    Comment,
    Def,
    For,
    If,
    Statement,
    Update,
    Value,
    While,
)
from blockjac.explanations.source.schedule import Schedule


def function_lines(function: Def, schedule: Schedule, indent: int = 0) -> list[str]:
    """The lines of a function whose values are scheduled."""
    names = [schedule.names[value] for value in function.parameters]
    if function.keyword_only:
        names += ["*", *(schedule.names[value] for value in function.keyword_only)]
    lines = layout.parameters(f"def {schedule.names[function.function]}", names, indent)
    if function.docstring:
        told = [
            f"    {schedule.names[value]}{path}: {kind}." for value, path, kind in function.told
        ]
        text = "\n".join([function.docstring, *(["", "Args:", *told] if told else [])])
        lines += layout.docstring(text, indent + layout.STEP)
    body = _block(function.body, schedule, indent + layout.STEP)
    if function.docstring and body and body[0].lstrip().startswith("def "):
        lines.append("")
    last = _laid_out(schedule, "return ", function.result, indent + layout.STEP)
    return [*lines, *_single_blanks([*body, *last])]


def _single_blanks(lines: list[str]) -> list[str]:
    """Lines without a second empty one in a row."""
    return [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]


def _block(block: Block, schedule: Schedule, indent: int) -> list[str]:
    """The lines of the statements of a block."""
    lines: list[str] = []
    for statement in block.statements:
        if not schedule.is_live(statement):
            continue
        if isinstance(statement, Statement):
            part = _statement(statement, schedule, indent)
            if isinstance(statement, Def) and lines:
                part = ["", *part]
            if isinstance(statement, Def):
                part = [*part, ""]
            lines += part
        elif statement in schedule.names:
            lines += _assignment(statement, schedule, indent)
    return lines


def _assignment(value: Value, schedule: Schedule, indent: int) -> list[str]:
    """The statement that computes a value, below its comment."""
    assert value.code is not None
    lines = layout.comment(value.comment, indent)
    return lines + _laid_out(schedule, f"{schedule.names[value]} = ", value.code, indent)


def _laid_out(schedule: Schedule, before: str, code: Expression, indent: int) -> list[str]:
    """A statement on as many lines as it needs."""
    lines = layout.statement(schedule.writer, before, code, indent)
    return lines or [" " * indent + before + schedule.writer.text(code)]


def _statement(statement: Statement, schedule: Schedule, indent: int) -> list[str]:
    """The lines of a statement."""
    space = " " * indent
    write = schedule.writer.text
    match statement:
        case Comment():
            return layout.comment(statement.lines, indent)
        case Assign():
            return _assign(statement, schedule, indent)
        case Update():
            return _update(statement, schedule, indent)
        case For():
            head = f"{space}for {write(statement.variable.ref)} in {write(statement.iterable)}:"
            return [head, *_body(statement.body, schedule, indent)]
        case While():
            return _while(statement, schedule, indent)
        case If():
            return _if(statement, schedule, indent)
        case Def():
            return function_lines(statement, schedule, indent)
        case _:
            raise TypeError(f"cannot write {statement!r}")


def _update(statement: Update, schedule: Schedule, indent: int) -> list[str]:
    """New values of variables; those that stay are left out."""
    pairs = [
        (schedule.writer.text(target.ref), code)
        for target, code in zip(statement.targets, statement.code, strict=True)
        if schedule.writer.text(target.ref) != schedule.writer.text(code)
    ]
    if not pairs:
        return []
    is_independent = all(isinstance(schedule.writer.resolved(code), Literal) for _, code in pairs)
    if len(pairs) == 1 or is_independent:
        return [
            line for name, code in pairs for line in _laid_out(schedule, f"{name} = ", code, indent)
        ]
    target = ", ".join(name for name, _ in pairs)
    code = Display("", tuple(code for _, code in pairs))
    if indent + len(f"{target} = {schedule.writer.text(code)}") > layout.WIDTH:
        ordered = _one_by_one(schedule, statement, [name for name, _ in pairs])
        if ordered is not None:
            return [
                line
                for name, part in ordered
                for line in _laid_out(schedule, f"{name} = ", part, indent)
            ]
    return _laid_out(schedule, f"{target} = ", code, indent)


def _one_by_one(
    schedule: Schedule, statement: Update, names: list[str]
) -> list[tuple[str, Expression]] | None:
    """Assignments in an order in which none overwrites what a later one reads; None if none is."""
    pending = {
        target: code
        for target, code in zip(statement.targets, statement.code, strict=True)
        if schedule.writer.text(target.ref) in names
    }
    read = {target: set(schedule.read_by(code)) for target, code in pending.items()}
    ordered: list[tuple[str, Expression]] = []
    while pending:
        free = next(
            (x for x in pending if not any(x in read[y] for y in pending if y is not x)), None
        )
        if free is None:
            return None
        ordered.append((schedule.writer.text(free.ref), pending.pop(free)))
    return ordered


def _assign(statement: Assign, schedule: Schedule, indent: int) -> list[str]:
    """An assignment; a target that is too long has a line for each name."""
    target = schedule.writer.text(statement.target)
    code = schedule.writer.text(statement.code)
    is_long = indent + len(f"{target} = {code}") > layout.WIDTH
    if not isinstance(statement.target, Display) or not is_long:
        return _laid_out(schedule, f"{target} = ", statement.code, indent)
    last_line = f"{target} = {code.split('(')[0]}("
    if indent + len(last_line) <= layout.WIDTH and "(" in code:
        return _laid_out(schedule, f"{target} = ", statement.code, indent)
    space, inner = " " * indent, " " * (indent + layout.STEP)
    names = [f"{inner}{schedule.writer.text(item)}," for item in statement.target.items]
    rest = _laid_out(schedule, ") = ", statement.code, indent)
    return [f"{space}(", *names, *rest]


def _body(block: Block, schedule: Schedule, indent: int) -> list[str]:
    """The lines of an indented block, which has one at least."""
    lines = _block(block, schedule, indent + layout.STEP)
    while lines and not lines[-1]:
        lines.pop()
    is_empty = all(line.lstrip().startswith("#") for line in lines)
    return [*lines, " " * (indent + layout.STEP) + "pass"] if is_empty else lines


def _while(statement: While, schedule: Schedule, indent: int) -> list[str]:
    """A loop; a test that needs statements is made inside."""
    space = " " * indent
    before = _block(statement.before, schedule, indent + layout.STEP)
    test = schedule.writer.text(statement.test)
    if not before:
        return [f"{space}while {test}:", *_body(statement.body, schedule, indent)]
    inner = " " * (indent + layout.STEP)
    stop = [f"{inner}if not {test}:", f"{inner}    break"]
    if not test.replace("_", "").isalnum():
        stop[0] = f"{inner}if not ({test}):"
    return [
        f"{space}while True:",
        *before,
        *stop,
        *_block(statement.body, schedule, indent + layout.STEP),
    ]


def _if(statement: If, schedule: Schedule, indent: int) -> list[str]:
    """Branches."""
    lines: list[str] = []
    for number, (test, body) in enumerate(zip(statement.tests, statement.bodies, strict=True)):
        word = "elif" if number else "if"
        head = "else:" if test is None else f"{word} {schedule.writer.text(test)}:"
        lines += [" " * indent + head, *_body(body, schedule, indent)]
    return lines
