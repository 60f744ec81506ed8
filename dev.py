#!/usr/bin/env python3
"""Every task of this checkout, each with its own set-up: `python3 dev.py demo`, `test`, `lint`, ...

Only the standard library is used here. A task makes `.venv`, installs the project into it
(editable, with the extras that it needs) and runs; what is up to date already is left alone.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

MINIMUM = (3, 11)

if sys.version_info < MINIMUM:
    # Older Pythons must run what stands above this line, and parse the whole file.
    sys.exit(
        f"dev.py: blockjac needs Python {MINIMUM[0]}.{MINIMUM[1]} or later, this is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
    )

ROOT = Path(__file__).resolve().parent
STAMP = "blockjac-setup.json"
VERSION = Path("src") / "blockjac" / "__init__.py"  # pyproject.toml takes the version from it
PLOTS = Path("build") / "lecture"
PIP_WITH_PYTHON_OPTION = (22, 3)
AS_USED_SETTINGS = {"JAX_ENABLE_X64": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
AS_USED_TESTS = [
    "tests/test_as_used.py",
    "tests/rules/test_table.py::test_rule",
    "tests/rules/test_table.py::test_second_order",
    "tests/control_flow/test_scan.py",
    "tests/control_flow/test_cond.py",
    "tests/control_flow/test_while_loop.py",
    "tests/control_flow/test_checkpoint.py",
    "tests/control_flow/test_linear_solve.py",
]


class SetupError(Exception):
    """The environment cannot be made; the message says in one line what would help."""


# --- the environment ------------------------------------------------------------------------------


def environment(
    extras: set[str], base: str | None = None, requirements: tuple[str, ...] = ()
) -> Path:
    """Make the virtual environment hold the project with `extras`, and give its interpreter.

    Nothing is done when the stamp in the environment names this state. The stamp is removed before
    anything changes and written last, so that an interrupted set-up is repaired by the next run.

    Args:
        extras: names under `[project.optional-dependencies]` that must be installed.
        base: interpreter to make `.venv-<version>` from; by default the running one, and `.venv`.
        requirements: what else to install, such as an older JAX (`jax<0.12`). What was made for
            others is made anew, because an installer keeps every version that serves.

    Returns:
        The path of the environment's interpreter.

    Raises:
        SetupError: no installer is at hand, or one of its steps failed.
    """
    if base is None:
        directory, base = ROOT / ".venv", sys.executable
    else:
        version = interpreter_version(base)
        if version is None:
            raise SetupError(f"{base} is not a Python interpreter; give --python the path of one")
        if version < MINIMUM:
            raise SetupError(
                f"{base} is Python {dotted(version[:2])}; blockjac needs {dotted(MINIMUM)} or later"
            )
        directory = ROOT / f".venv-{dotted(version[:2])}"
    python = interpreter_in(directory)
    stamp = directory / STAMP

    whole = python.exists() and (directory / "pyvenv.cfg").exists()
    whole = whole and read_stamp(stamp).get("requirements", []) == list(requirements)
    version = interpreter_version(str(python)) if whole else None
    if version is not None and version >= MINIMUM:
        state = current_state(version, requirements)
        installed = installed_extras(stamp, state)
        if extras <= installed:
            return python
        extras = extras | installed
    else:
        say(f"making {directory.relative_to(ROOT)}")
        make_environment(base, directory)
        version = interpreter_version(str(python))
        if version is None:
            raise SetupError(f"{python} was made but does not run; delete {directory}, try again")
        state = current_state(version, requirements)

    stamp.unlink(missing_ok=True)
    names = ",".join(sorted(extras))
    install = [*installer(base, python), "--quiet", *requirements, "--editable", f".[{names}]"]
    wanted = " and ".join([f"blockjac[{names}]", *requirements])
    say(f"installing {wanted} into {directory.relative_to(ROOT)}")
    if run(install) != 0:
        raise SetupError(f"the installation failed, see above; it was: {' '.join(install)}")
    stamp.write_text(json.dumps({**state, "extras": sorted(extras)}), encoding="utf-8")
    return python


def interpreter_in(directory: Path) -> Path:
    """The interpreter of a virtual environment."""
    return directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def interpreter_version(python: str) -> tuple[int, ...] | None:
    """The version of an interpreter, or None when it does not run (a broken link, say)."""
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = output_of([python, "-c", code])
    return None if version is None else tuple(int(part) for part in version.split("."))


def current_state(version: tuple[int, ...], requirements: tuple[str, ...]) -> dict[str, Any]:
    """What an installation depends on: metadata, interpreter, place, and what else is in it."""
    metadata = (ROOT / "pyproject.toml").read_bytes()
    own_version = re.search(r"^__version__.*", (ROOT / VERSION).read_text(encoding="utf-8"), re.M)
    return {
        "pyproject": hashlib.sha256(metadata).hexdigest(),
        "version": own_version and own_version[0],
        "python": dotted(version),
        "root": str(ROOT),
        "requirements": list(requirements),
    }


def read_stamp(stamp: Path) -> dict[str, Any]:
    """What the last complete installation wrote; nothing when the stamp is missing or torn."""
    try:
        written = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def installed_extras(stamp: Path, state: dict[str, Any]) -> set[str]:
    """The extras installed for `state`; none when the stamp is of another."""
    written = read_stamp(stamp)
    extras = written.pop("extras", [])
    return set(extras) if written == state else set()


def make_environment(base: str, directory: Path) -> None:
    """Make an environment without pip, which `installer` looks for; Debian ships the two apart."""
    if run([base, "-m", "venv", "--clear", "--without-pip", str(directory)]) == 0:
        return
    if shutil.which("uv") and run(["uv", "venv", "--clear", "--python", base, str(directory)]) == 0:
        return
    raise SetupError(
        f"{base} has no working 'venv' module; install it (Debian: python3-venv) or install uv"
    )


def installer(base: str, python: Path) -> list[str]:
    """The command that installs into the environment of `python`.

    In this order: the environment's own pip, pip unpacked there by ensurepip, the base's pip with
    `--python`, uv. An externally managed base is fine, because nothing is installed there.
    """
    own = [str(python), "-m", "pip"]
    if output_of([*own, "--version"]) is not None:
        return [*own, "install"]
    if output_of([str(python), "-m", "ensurepip", "--default-pip"]) is not None:
        return [*own, "install"]
    if pip_version(base) >= PIP_WITH_PYTHON_OPTION:
        return [base, "-m", "pip", "--python", str(python), "install"]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", str(python)]
    raise SetupError(
        f"{base} has neither 'ensurepip' nor pip {dotted(PIP_WITH_PYTHON_OPTION)} or later, and "
        "there is no uv; install one of them (Debian: python3-venv)"
    )


def pip_version(python: str) -> tuple[int, ...]:
    """The version of an interpreter's pip, `()` when it has none."""
    text = output_of([python, "-m", "pip", "--version"])
    words = (text or "").split()
    if len(words) < 2:
        return ()
    return tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit())


# --- processes ------------------------------------------------------------------------------------


def run(command: list[str]) -> int:
    """Run a command from the top of the checkout, its output going where ours goes."""
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def first_failure(commands: list[list[str]]) -> int:
    """Run all commands; the exit code of the first that failed, 0 when none did."""
    codes = [run(command) for command in commands]
    return next((code for code in codes if code != 0), 0)


def output_of(command: list[str]) -> str | None:
    """What a command prints, or None when it cannot be started or fails."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def say(message: str) -> None:
    """Report progress where it does not mix with a task's own output."""
    print(f"dev.py: {message}", file=sys.stderr, flush=True)


def dotted(version: tuple[int, ...]) -> str:
    """`(3, 11)` as `3.11`."""
    return ".".join(map(str, version))


# --- the tasks: each gets the arguments after its name and gives an exit code ---------------------


def demo(arguments: list[str]) -> int:
    """Train the lecture's network and save its pictures."""
    python = environment({"app"})
    plots = [] if has_option(arguments, "--plots") else ["--plots", str(ROOT / PLOTS)]
    code = run([str(python), "-m", "blockjac", "lecture", *plots, *arguments])
    if code == 0 and plots:
        print(f"\nthe pictures lie in {ROOT / PLOTS}")
        for picture in sorted((ROOT / PLOTS).iterdir()):
            print(f"  {picture.name}")
    return code


def test(arguments: list[str]) -> int:
    """Run all tests in two processes; --python PATH and --with "jax<0.12" test with others.

    --as-used runs as JAX is by default, float32 and optimised, the tests that tell most then.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--python")
    parser.add_argument("--with", action="append", default=[], dest="requirements")
    parser.add_argument("--as-used", action="store_true")
    options, arguments = parser.parse_known_args(arguments)
    python = environment({"test"}, options.python, tuple(options.requirements))
    if options.as_used:
        os.environ.update(AS_USED_SETTINGS)
        arguments = [*AS_USED_TESTS, *arguments]
    return run([str(python), "-m", "pytest", "--numprocesses=2", *arguments])


def lint(arguments: list[str]) -> int:
    """Check rules and format with ruff; `lint --fix` repairs what can be repaired."""
    python = environment({"dev"})
    ruff = [str(python), "-m", "ruff"]
    layout = [] if "--fix" in arguments else ["--check"]
    paths = [word for word in arguments if not word.startswith("-")]
    return first_failure([[*ruff, "check", *arguments], [*ruff, "format", *layout, *paths]])


def types(arguments: list[str]) -> int:
    """Check the types of src with basedpyright, and a user's program with mypy too."""
    python = environment({"dev"})
    return first_failure(
        [
            [str(python), "-m", "basedpyright", "--pythonpath", str(python), *arguments],
            [str(python), "-m", "mypy", "tests/typing/consumer.py"],
        ]
    )


def bench(arguments: list[str]) -> int:
    """Run one benchmark by name, or all; results go to benchmarks/results."""
    scripts = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    for shared in ("harness", "networks"):
        scripts.pop(shared, None)
    names = list(scripts)
    if arguments and not arguments[0].startswith("-"):
        names = [arguments[0]]
        arguments = arguments[1:]
    if names[0] not in scripts:
        say(f"there is no benchmark '{names[0]}'; there are: {', '.join(scripts)}")
        return 2
    try:
        python = environment({"bench"})
    except SetupError as error:
        say(f"{error}; measuring without peers")
        python = environment({"app"})
    return first_failure([[str(python), str(scripts[name]), *arguments] for name in names])


def docs(arguments: list[str]) -> int:
    """Build the documentation's pages into site; --deploy 1.2 commits them as that version's.

    The versions lie beside each other on the branch gh-pages, where the newest is called latest.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--deploy", metavar="VERSION")
    options, arguments = parser.parse_known_args(arguments)
    python = environment({"docs"})
    if options.deploy is not None:
        os.environ["PATH"] = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
        mike = [str(python.parent / "mike")]  # which looks for mkdocs on the path
        where = ["--config-file", "mkdocs-versions.yml"]
        deploy = [*mike, "deploy", *where, *arguments, "--update-aliases", options.deploy, "latest"]
        return run(deploy) or run([*mike, "set-default", *where, *arguments, "latest"])
    code = run([str(python), "-m", "mkdocs", "build", *arguments])
    if code == 0:
        print(f"open {ROOT / 'site' / 'index.html'}")
    return code


def has_option(arguments: list[str], option: str) -> bool:
    """Whether `--option value` or `--option=value` is among the arguments."""
    return any(word == option or word.startswith(option + "=") for word in arguments)


TASKS = {task.__name__: task for task in (demo, test, lint, types, bench, docs)}


def main(arguments: list[str]) -> int:
    """Run the task that the first argument names; the others are passed on to it."""
    name = arguments[0] if arguments else ""
    if name in TASKS:
        try:
            return TASKS[name](arguments[1:])
        except SetupError as error:
            say(str(error))
            return 1
        except KeyboardInterrupt:
            return 130
    if name in ("", "-h", "--help"):
        print("usage: python3 dev.py TASK [arguments of the task]\n")
        for task in TASKS.values():
            print(f"  {task.__name__:8}{task.__doc__}")
        return 0 if name else 2
    say(f"there is no task '{name}'; there are: {', '.join(TASKS)}")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
