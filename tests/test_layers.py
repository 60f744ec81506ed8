"""The folders are layers: an import goes down only, and stands at the top of its file."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import blockjac

SOURCE = Path(blockjac.__file__).parent

LAYERS = (
    "errors",
    "base",
    "devices",
    "terms",
    "algebra",
    "sparsity",
    "exports",
    "linear_systems",
    "blocks",
    "operators",
    "graph",
    "batching",
    "rules",
    "elimination",
    "control_flow",
    "planning",
    "engine",
    "second_order",
    "transforms",
    "curvature",
    "kronecker_factors",
    "checking",
    "explanations",
    "data",
    "nn",
    "optimize",
    "interop",
    "estimators",
    "tabular",
    "cli",
)
"""From the bottom to the top: a module imports its own layer and those before it."""

LATE = {
    ("base/figures.py", "base.notebook_figure"): "needs matplotlib, an extra",
    ("blocks/operations.py", "exports.lineax_operator"): "needs lineax, an extra",
    ("cli/program.py", "cli.explain"): "what a command does is imported when it is asked for",
    ("cli/program.py", "cli.check"): "what a command does is imported when it is asked for",
    ("cli/program.py", "cli.tables.train"): "what a command does is imported when it is asked for",
    (
        "cli/program.py",
        "tabular.reading",
    ): "whether there is a table is asked before what fits it is imported",
    (
        "cli/program.py",
        "cli.tables.predict",
    ): "what a command does is imported when it is asked for",
    (
        "cli/program.py",
        "cli.tables.inspect",
    ): "what a command does is imported when it is asked for",
    ("cli/program.py", "cli.lecture"): "what a command does is imported when it is asked for",
    ("cli/lecture.py", "cli.report"): "explanations are imported for a report alone",
    ("estimators/base.py", "estimators.large_tables"): "needs optax, an extra",
    ("estimators/base.py", "estimators.fit_parts"): "needs optax, an extra",
    ("estimators/fitted.py", "estimators.large_tables"): "needs optax, an extra",
    ("rules/__init__.py", "checking.rules"): "a public name, resolved on first use",
}
"""Imports inside of a function, each with its reason."""


@dataclass(frozen=True)
class Import:
    """That one module of the library imports another.

    Attributes:
        file: that imports, below the package.
        line: of the import.
        module: that is imported, below the package; empty for the package itself.
        is_late: whether it stands inside of a function.
    """

    file: str
    line: int
    module: str
    is_late: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports blockjac.{self.module}"


def imports_of(path: Path) -> Iterator[Import]:
    """The library's own imports of a file, those for type checkers too."""
    file = path.relative_to(SOURCE).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    late = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "blockjac":
                yield Import(file, node.lineno, module_of(name), id(node) in late)


def module_of(name: str) -> str:
    """The module that a dotted name stands in, below the package."""
    parts = name.split(".")[1:]
    while parts and not (
        SOURCE.joinpath(*parts).is_dir() or SOURCE.joinpath(*parts).with_suffix(".py").is_file()
    ):
        parts.pop()
    return ".".join(parts)


def every_import() -> list[Import]:
    """Of all files but the package's own `__init__` and `__main__`, which are its public face."""
    files = [path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem[0] != "_"]
    return [one for path in sorted(files) for one in imports_of(path)]


def layer_of(module: str) -> int:
    return LAYERS.index(module.replace("/", ".").removesuffix(".py").split(".")[0])


def test_every_folder_and_file_is_a_layer():
    named = {
        path.stem
        for path in SOURCE.iterdir()
        if (path.is_dir() and path.joinpath("__init__.py").exists())
        or (path.suffix == ".py" and path.stem[0] != "_")
    }
    assert named == set(LAYERS)


def test_imports_go_down():
    late = set(LATE)
    upwards = [
        str(one)
        for one in every_import()
        if (one.file, one.module) not in late
        and one.module
        and layer_of(one.module) > layer_of(one.file)
    ]
    assert not upwards, "imports of a layer above:\n" + "\n".join(upwards)


def test_only_programs_import_the_package_itself():
    whole = [
        str(one) for one in every_import() if not one.module and not one.file.startswith("cli")
    ]
    assert not whole, "imports of the public face:\n" + "\n".join(whole)


def test_no_import_hides_in_a_function():
    found = {(one.file, one.module): str(one) for one in every_import() if one.is_late}
    hidden = [text for key, text in found.items() if key not in LATE]
    assert not hidden, "imports inside of functions:\n" + "\n".join(hidden)
    assert set(found) >= set(LATE), "LATE names imports that are gone"


def test_no_circle():
    below: dict[str, set[str]] = {}
    for one in every_import():
        if (one.file, one.module) not in LATE:
            name = one.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            below.setdefault(name, set()).add(one.module)
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, "a circle of imports: " + " -> ".join([*path, module])
        if module not in done:
            for one in sorted(below.get(module, set()) - {module}):
                visit(one, [*path, module])
            done.add(module)

    for module in sorted(below):
        visit(module, [])


PAGE = Path(__file__).parents[1] / "docs/explanation/how-a-call-becomes-a-program.md"


def pictured(text: str) -> list[tuple[str, str]]:
    """Each module of the picture with the one above it that it hangs from."""
    picture = text.split("```text\n")[1].split("```")[0]
    pairs, above = [], []
    for line in picture.splitlines():
        found = re.search(r"[a-z_]+(/[a-z_]+)?", line)
        assert found is not None, line
        while above and above[-1][0] >= found.start():
            above.pop()
        if above:
            pairs.append((above[-1][1], found[0]))
        above.append((found.start(), found[0]))
    return pairs


def test_the_picture_of_a_call_is_true():
    pairs = pictured(PAGE.read_text(encoding="utf-8"))
    imports = {
        (one.file.removesuffix(".py"), one.module.replace(".", "/")) for one in every_import()
    }
    missing = [
        f"{upper} does not import {lower}"
        for upper, lower in pairs
        if not any(file == upper and module.startswith(lower) for file, module in imports)
    ]
    assert len(pairs) == 14
    assert not missing


def test_an_upward_import_would_be_found(tmp_path, monkeypatch):
    folder = tmp_path / "blockjac"
    for name in ("terms", "algebra"):
        (folder / name).mkdir(parents=True)
    (folder / "algebra" / "star.py").write_text("")
    (folder / "terms" / "term.py").write_text(
        "def f():\n    from blockjac.algebra.star import star\n"
    )
    monkeypatch.setitem(globals(), "SOURCE", folder)
    (found,) = every_import()
    assert found == Import("terms/term.py", 2, "algebra.star", True)
    assert layer_of(found.module) > layer_of(found.file)
