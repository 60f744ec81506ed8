"""The package from outside: lazy public names, and a command line that answers without JAX."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import blockjac


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_leaves_jax_and_numpy_alone():
    code = "import sys, blockjac; print(sorted({'jax', 'numpy'} & set(sys.modules)))"
    assert run_python(code) == "[]\n"


@pytest.mark.parametrize("name", blockjac.__all__)
def test_public_name_resolves(name):
    value = getattr(blockjac, name)
    assert value is not None
    assert getattr(blockjac, name) is value


def test_dir_lists_the_public_names_before_they_are_used():
    code = "import blockjac; print(set(blockjac.__all__) <= set(dir(blockjac)))"
    assert run_python(code) == "True\n"


def test_unknown_name_raises_as_any_module_does():
    with pytest.raises(AttributeError, match="module 'blockjac' has no attribute 'jacobain'"):
        _ = blockjac.jacobain


def test_type_checkers_see_the_same_names_as_users():
    assert blockjac.__file__ is not None
    tree = ast.parse(Path(blockjac.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    assert ast.unparse(guarded.test) == "TYPE_CHECKING"
    assert {alias.name for node in imports for alias in node.names} == set(blockjac.__all__)


def test_version_is_the_installed_one():
    assert version("blockjac") == blockjac.__version__


HELP = """
import runpy, sys
sys.argv = ["blockjac", *{arguments}]
try:
    runpy.run_module("blockjac", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
print("heavy:", sorted({{"jax", "numpy", "sklearn", "matplotlib", "rich"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["lecture", "--help"], ["check", "--help"]])
def test_help_needs_no_heavy_import(arguments):
    printed = run_python(HELP.format(arguments=arguments))
    assert "usage: " in printed
    assert printed.endswith("heavy: []\n")
