"""Lines of at most 100 characters, broken as ruff and black break them."""

from __future__ import annotations

import textwrap

from blockjac.explanations.source.expressions import (
    Call,
    Display,
    Expression,
    Subscript,
)
from blockjac.explanations.source.writer import Writer

WIDTH = 100
STEP = 4


def statement(writer: Writer, before: str, code: Expression, indent: int) -> list[str] | None:
    """The lines of `before` followed by an expression; None if it cannot be broken well.

    Args:
        writer: writes the expressions.
        before: the start of the line, such as `y = ` or `return `.
        code: the expression; a call, a subscript or a display is broken at its brackets.
        indent: spaces in front.
    """
    space = " " * indent
    flat = f"{space}{before}{writer.text(code)}"
    if len(flat) <= WIDTH and not _is_exploded(writer, code):
        return [flat]
    node = writer.resolved(code)
    if not isinstance(node, Call | Display) or (isinstance(node, Display) and not node.items):
        return None
    opening, closing = _brackets(writer, node)
    first = f"{space}{before}{opening}"
    if len(first) > WIDTH:
        return None
    items = writer.items(node)
    if isinstance(node, Display) and node.kind in ("", "(") and len(items) == 1:
        items = [items[0] + ","]
    inner = " " * (indent + STEP)
    together = f"{inner}{', '.join(items)}"
    if (
        isinstance(node, Call)
        and len(together) <= WIDTH
        and not any(_is_exploded(writer, child) for child in node.children())
    ):
        return [first, together, f"{space}{closing}"]
    lines = [first]
    comma = "" if isinstance(node, Call) and len(items) == 1 else ","
    for text, child in zip(items, _entries(node), strict=True):
        start = text[: len(text) - len(writer.text(child))]
        part = statement(writer, start, child, indent + STEP)
        if part is None:
            return None
        lines += [*part[:-1], part[-1] + comma]
    return [*lines, f"{space}{closing}"]


def _entries(node: Call | Display) -> list[Expression]:
    """The expressions between the brackets."""
    if isinstance(node, Display):
        return list(node.items)
    return [*node.arguments, *(value for _, value in node.options)]


def _brackets(writer: Writer, node: Call | Display) -> tuple[str, str]:
    """The text up to the opening bracket, and the closing one."""
    if isinstance(node, Display):
        return node.kind or "(", {"(": ")", "[": "]", "{": "}", "": ")"}[node.kind]
    function = node.function
    name = function if isinstance(function, str) else writer.text(function)
    return f"{name}(", ")"


def _is_exploded(writer: Writer, code: Expression) -> bool:
    """Whether an expression holds a display that is written on several lines in any case."""
    node = writer.resolved(code)
    if isinstance(node, Display) and node.kind == "[":
        parts = [writer.resolved(item) for item in node.items]
        if len(parts) > 1 and all(isinstance(part, Display) for part in parts):
            return len(writer.text(node)) > WIDTH // 2
    if isinstance(node, Call | Display | Subscript):
        return any(_is_exploded(writer, child) for child in node.children())
    return False


def comment(lines: list[str], indent: int) -> list[str]:
    """Lines of comment, wrapped at spaces, and within long words where there are none."""
    space = " " * indent
    return [
        f"{space}# {part}"
        for line in lines
        for part in textwrap.wrap(" ".join(line.split()), WIDTH - indent - 2) or [""]
    ]


def parameters(before: str, names: list[str], indent: int) -> list[str]:
    """The head of a function."""
    space = " " * indent
    flat = f"{space}{before}({', '.join(names)}):"
    if len(flat) <= WIDTH:
        return [flat]
    inner = " " * (indent + STEP)
    together = f"{inner}{', '.join(names)}"
    if len(together) <= WIDTH:
        return [f"{space}{before}(", together, f"{space}):"]
    return [f"{space}{before}(", *(f"{inner}{name}," for name in names), f"{space}):"]


def docstring(text: str, indent: int) -> list[str]:
    """The lines of a docstring; paragraphs and lines of their own are kept."""
    space = " " * indent
    text = text.replace("\\", "\\\\").replace('"""', "'''").strip()
    wrapped: list[str] = []
    for line in text.splitlines():
        start = line[: len(line) - len(line.lstrip())]
        wrapped += textwrap.wrap(
            line.strip(),
            WIDTH - indent,
            initial_indent=start,
            subsequent_indent=start + "    " * bool(start),
        ) or [""]
    if len(wrapped) == 1 and indent + 6 + len(wrapped[0]) <= WIDTH:
        last = wrapped[0] + " " * wrapped[0].endswith('"')
        return [f'{space}"""{last}"""']
    body = [f"{space}{line}".rstrip() for line in wrapped]
    body[0] = f'{space}"""{wrapped[0]}'
    if len(body[0]) > WIDTH:
        return [f'{space}"""', f"{space}{wrapped[0]}", *body[1:], f'{space}"""']
    return [*body, f'{space}"""']
