"""Docstrings and comments: where a function is not obvious, in one dialect, in plain words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import blockjac

SOURCE = Path(blockjac.__file__).parent

OBVIOUS = 5
"""A function whose body has at most this many lines may do without a docstring."""

FOLDERS = tuple(
    path.name
    for path in sorted(SOURCE.iterdir())
    if path.suffix == ".py" or (path / "__init__.py").exists()
)
"""The layers, and the files beside their folders."""

BANNED = {
    r"\b(is|are) no (?!longer|more)[a-z]+\b": "is not a ...",
    r"\bone an? [a-z]+": "one per ...",
    r"\bwhat (stands|leads|comes)\b": "a noun that says what",
    r"\bso many\b": "this many",
    r"\bforetold\b": "predicted",
    r"\b(is|are|was|were) told\b": "is given",
    r"\bapart\b(?! from)": "separately",
    r"\bbelongs? into\b": "belongs in",
    r"\bnot mentioned\b": "not listed",
    r"\bstands? in rows\b": "each row is ...",
    r"\bof which\b.*\bof which\b": "two sentences",
}
"""What reads as if it were translated, with what to write instead."""

BRITISH = re.compile(
    r"\b(behaviour|colour|favour|neighbour|centre|grey|labelled|labelling|modell(ed|ing)|fulfil|"
    r"(organ|normal|optim|material|linear|factor|vector|general|recogn|summar|real|minim|maxim|"
    r"special|initial|serial|parallel|symmetr|util)is(e|es|ed|er|ing|ation))\b",
    re.IGNORECASE,
)


def files_of(folders: tuple[str, ...]) -> Iterator[Path]:
    """The files of folders, and single files."""
    for folder in folders:
        path = SOURCE / folder
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings and comments of a file, each with its line."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        text_of_node = node.value.value if _is_constant(node) else None
        if isinstance(text_of_node, str):
            yield node.lineno, " ".join(text_of_node.split())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def undescribed(text: str) -> list[str]:
    """The functions that are not obvious and have no docstring; methods of Python are known."""
    return [
        f"{node.lineno}: {node.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and not ast.get_docstring(node)
        and not node.name.startswith("__")
        and node.body[-1].end_lineno - node.body[0].lineno >= OBVIOUS
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_long_functions_have_docstrings(folder):
    missing = [
        f"{path.relative_to(SOURCE)}:{function}"
        for path in files_of((folder,))
        for function in undescribed(path.read_text(encoding="utf-8"))
    ]
    assert not missing, "no docstring:\n" + "\n".join(missing)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_reads_as_translated(folder):
    odd = [
        f"{path.relative_to(SOURCE)}:{line}: {found[0]!r}, write {better!r}"
        for path in files_of((folder,))
        for line, text in texts_of(path)
        for pattern, better in BANNED.items()
        if (found := re.search(pattern, text))
    ]
    assert not odd, "\n".join(odd)


@pytest.mark.parametrize("folder", FOLDERS)
def test_spelling_is_american(folder):
    british = [
        f"{path.relative_to(SOURCE)}:{line}: {found[0]}"
        for path in files_of((folder,))
        for line, text in texts_of(path)
        if (found := BRITISH.search(text))
    ]
    assert not british, "\n".join(british)


def test_what_is_wrong_would_be_found():
    body = "\n".join(f"    x = {number}" for number in range(OBVIOUS + 1))
    assert undescribed(f"def f():\n{body}\n") == ["1: f"]
    assert not undescribed(f'def f():\n    """Say."""\n{body}\n')
    assert BRITISH.search("the normalised colour")
    assert not BRITISH.search("raise otherwise; precise, a promise")
    assert re.search(next(iter(BANNED)), "a damping that is no number")
