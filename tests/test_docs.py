"""Every example in the documentation runs, and prints what the page says it prints.

A page (README.md, docs/**/*.md) is run as a reader would run it: its ```python blocks in order, in
one namespace, in a process of its own and an empty folder. Where the next block after a ```python
block is a ```text block, that text is what the python block prints; `...` stands for anything. In a
```console block, what stands behind `$ ` is run by the shell, and the lines below it are what it
prints.
The docstrings' examples are doctests. Both see JAX as it starts: float32, unless they change it.

`python tests/test_docs.py PAGE` runs one page.
"""

import contextlib
import doctest
import importlib
import io
import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import blockjac

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PAGES = [page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if page.exists()]
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "__main__.py"
)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```\s*$", re.M | re.S
)


@dataclass(frozen=True)
class Example:
    """A python block of a page, the line that it starts on, and what it should print, if told.

    Or a command of a console block.
    """

    source: str
    line: int
    expected: str | None
    is_command: bool = False


def examples_of(text: str) -> list[Example]:
    blocks = list(FENCE.finditer(text))
    examples = []
    for block, following in itertools.pairwise([*blocks, None]):
        if block is not None and block["language"] == "console":
            examples += commands_of(dedented(block), text.count("\n", 0, block.start("body")))
        if block is not None and block["language"] == "python":
            told = following is not None and following["language"] == "text"
            examples.append(
                Example(
                    source=dedented(block),
                    line=text.count("\n", 0, block.start("body")),
                    expected=dedented(following) if told else None,
                )
            )
    return examples


def commands_of(text: str, line: int) -> list[Example]:
    """The commands of a console block, each with the lines below it."""
    examples = []
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        source, _, printed = part.partition("\n")
        examples.append(Example(source, line, printed, is_command=True))
    return examples


def dedented(block: re.Match[str]) -> str:
    return re.sub("^" + block["indent"], "", block["body"], flags=re.M)


def mismatch(expected: str, printed: str) -> str | None:
    """What differs between a text block and the printed lines; spaces at line ends do not count."""
    want, got = (
        "".join(f"{line.rstrip()}\n" for line in text.splitlines()) for text in (expected, printed)
    )
    if doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
        return None
    return f"the page says\n{want}it prints\n{got}"


def run_page(page: Path) -> None:
    namespace = {"__name__": "__main__"}
    for example in examples_of(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        if example.is_command:
            check_command(page, example)
            continue
        code = compile("\n" * example.line + example.source, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        if example.expected is not None:
            difference = mismatch(example.expected, printed.getvalue())
            if difference is not None:
                sys.exit(f"{page}:{example.line}: {difference}")


def check_command(page: Path, example: Example) -> None:
    """Run a command, and compare what it prints, errors too."""
    program = f"{sys.executable} -m blockjac"
    source = re.sub(r"\bblockjac (?=train|predict|inspect|lecture)", f"{program} ", example.source)
    done = subprocess.run(
        source, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    difference = mismatch(example.expected or "", done.stdout)
    if difference is not None:
        sys.exit(f"{page}:{example.line}: {example.source}\n{difference}")


@pytest.fixture
def jax_as_it_starts():
    import jax

    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


LONG = {
    *("how-to/check-a-derivative.md", "how-to/kfac.md", "how-to/laplacians.md"),
    "how-to/large-tables.md",
    *("how-to/least-squares.md", "how-to/natural-gradients.md", "how-to/nonlinear-programs.md"),
    *("how-to/normalising-flows.md", "how-to/other-libraries.md", "how-to/partial-derivatives.md"),
    *("how-to/private-training-with-jax-privacy.md", "how-to/second-order.md"),
    *("how-to/solve-with-structure.md", "how-to/sparse-jacobians.md", "how-to/stiff-equations.md"),
    *("how-to/choose-a-solver.md", "tutorial/second-order.md"),
    "tutorial/five-minutes-from-jacrev.md",
    "tutorial/your-own-table.md",
}
"""Pages of ten seconds and more."""


def pages():
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        marks = [pytest.mark.slow] if name.removeprefix("docs/") in LONG else []
        yield pytest.param(page, id=name, marks=marks)


@pytest.mark.parametrize("page", pages())
def test_page(page, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, jax_as_it_starts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    from blockjac import rules

    with rules.kept():  # an example may define a rule
        for example in doctest.DocTestFinder(exclude_empty=True).find(module):
            runner.run(example, out=report.write)
    assert runner.failures == 0, report.getvalue()


def test_every_public_name_is_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"members: \[(.*)\]", text))))
    documented |= {line.split(".")[-1] for line in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)}
    missing = {
        name for name in blockjac.__all__ if not isinstance(getattr(blockjac, name), ModuleType)
    } - documented
    assert not missing, f"give each a place in docs/reference: {sorted(missing)}"


PAGE = """
```python
x = 3
print("x is", x)
```

which prints

```text
x is {printed}
```

- in a list

  ```python
  print(x + 1)
  ```

```bash
exit 1
```

```console
$ echo one; echo two
one
...
$ true
```
"""


def test_examples_are_found_with_their_output():
    first, second, *commands = examples_of(PAGE.format(printed=3))
    assert first == Example('x = 3\nprint("x is", x)\n', 2, "x is 3\n")
    assert second == Example("print(x + 1)\n", 15, None)
    assert commands == [
        Example("echo one; echo two", 23, "one\n...\n", is_command=True),
        Example("true", 23, "", is_command=True),
    ]


def test_a_page_without_examples_has_none():
    assert examples_of("# Only words\n") == []


def test_what_a_command_prints_is_compared(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n```\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="echo one\nthe page says\ntwo\nit prints\none"):
        run_page(page)


def test_long_pages_exist():
    assert {str(page.relative_to(ROOT / "docs")) for page in PAGES if "docs" in page.parts} >= LONG


@pytest.mark.parametrize(("printed", "passes"), [("3", True), ("...", True), ("4", False)])
def test_printed_lines_are_compared(printed, passes, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(printed=printed), encoding="utf-8")
    if passes:
        run_page(page)
    else:
        with pytest.raises(SystemExit, match="the page says\nx is 4\nit prints\nx is 3"):
            run_page(page)


if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
