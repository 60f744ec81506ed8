"""Executes notebooks, and keeps the results until the source, the library or a package changes.

`python docs/notebook_pages/execute.py FOLDER [NAME ...]` writes them as executed `.ipynb` files.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KEPT = NOTEBOOKS.parent.parent / "build" / "notebooks"

TIMEOUT = 600
"""Seconds for a cell; a notebook should take about a minute in all."""

AS_JAX_STARTS = ("JAX_ENABLE_X64", "JAX_DISABLE_MOST_OPTIMIZATIONS")
"""Settings of JAX that notebooks do without: they show what a reader gets."""

FIGURES = ["--InlineBackend.figure_formats=png", "--InlineBackend.figure_formats=svg"]
"""Pages take the SVG, and notebooks that a reader has not run yet can only show the PNG."""

HANDLE = re.compile(r"\[?<matplotlib\.|<Axes|Text\(")
"""How objects of matplotlib begin, which readers have no use for."""

FILE = re.compile(r"[^\s<>\"']*ipykernel_\d+[\\/]\d+\.py")
"""What IPython calls the file of a cell: it is another one at every run."""

COLORS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(Exception):
    """A cell failed, or nothing came back from it; says which, and how."""


def sources() -> list[Path]:
    """The notebooks' sources."""
    return sorted(NOTEBOOKS.glob("*.py"))


def executed(source: Path, folder: Path = KEPT) -> Any:
    """A notebook with its outputs, from `folder` where nothing has changed since.

    Raises:
        NotebookError: if a cell fails.
    """
    import nbformat

    kept = folder / f"{source.stem}-{state(source)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook = execute(source)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_suffix(f".{os.getpid()}")
    nbformat.write(notebook, unfinished)
    for older in folder.glob(f"{source.stem}-*.ipynb"):
        older.unlink()
    unfinished.replace(kept)
    return notebook


def execute(source: Path) -> Any:
    """Run all cells in a new kernel of this interpreter, in an empty folder."""
    import jupytext
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = jupytext.read(source)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    running: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            kernel_manager_class=_kernels(folder),
            timeout=TIMEOUT,
            extra_arguments=FIGURES,
            resources={"metadata": {"path": folder}},
            record_timing=False,
            on_cell_execute=lambda cell, cell_index: running.append(cell_index),
        )
        unset = (*AS_JAX_STARTS, "MPLBACKEND")
        environment = {key: own for key, own in os.environ.items() if key not in unset}
        environment["IPYTHONDIR"] = str(Path(folder, ".ipython"))
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            raise NotebookError(described(source, notebook, error)) from error
        except Exception as error:  # a kernel that ends, or takes too long
            number = running[-1] if running else 0
            message = interrupted(source, number + 1, notebook.cells[number], error)
            raise NotebookError(message) from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [without_files(own) for own in cell.outputs if not is_handle(own)]
    return notebook


def is_handle(output: Any) -> bool:
    """Whether an output only says which object of matplotlib the last line gave."""
    data = output.get("data", {})
    return list(data) == ["text/plain"] and HANDLE.match(data["text/plain"]) is not None


def without_files(output: Any) -> Any:
    """An output whose places in the source do not name the temporary file of a cell."""
    if "text" in output:
        output.text = FILE.sub("cell", output.text)
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = FILE.sub("cell", text)
    return output


def _kernels(folder: str) -> type[Any]:
    """What starts a kernel of this interpreter, whatever kernels are installed on the machine.

    Args:
        folder: for the kernel's sockets, which no other user can reach.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class Kernels(AsyncKernelManager):
        """Starts kernels."""

        def __init__(self, **options: Any) -> None:
            if os.name != "nt":
                options |= {"transport": "ipc", "ip": str(Path(folder, "socket"))}
            super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **options)

    return Kernels


def described(source: Path, notebook: Any, error: Any) -> str:
    """What failed: the cell, its code, and the message with its traceback."""
    number, cell = next(
        (number, cell)
        for number, cell in enumerate(notebook.cells, start=1)
        if any(output["output_type"] == "error" for output in cell.get("outputs", ()))
    )
    (output,) = (output for output in cell.outputs if output["output_type"] == "error")
    traceback = COLORS.sub("", "\n".join(output["traceback"]))
    return (
        f"{source.name}: cell {number} failed with {error.ename}: {error.evalue}\n\n"
        f"{cell.source}\n\n{traceback}"
    )


def interrupted(source: Path, number: int, cell: Any, error: BaseException) -> str:
    """Which cell ran when its process ended, for want of memory say, or took too long."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DeadKernelError | CellTimeoutError):
        cause = cause.__context__
    cause = cause or error
    return (
        f"{source.name}: nothing came back from cell {number}: "
        f"{type(cause).__name__}: {cause}\n\n{cell.source}"
    )


def state(source: Path) -> str:
    """A digest of all that outputs depend on: texts, packages, interpreter, settings of JAX."""
    digest = hashlib.sha256()
    for part in _parts(source):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:20]


def _parts(source: Path) -> Iterator[bytes]:
    yield source.read_bytes()
    yield Path(__file__).read_bytes()
    package = util.find_spec("blockjac")
    if package is None or package.origin is None:
        raise NotebookError("blockjac is not installed; run `python3 dev.py docs`")
    for file in sorted(Path(package.origin).parent.rglob("*.py")):
        yield str(file).encode()
        yield file.read_bytes()
    for name, version in sorted((own.name, own.version) for own in metadata.distributions()):
        yield f"{name} {version}".encode()
    yield f"{platform.python_version()} {platform.machine()}".encode()
    for name, value in sorted(os.environ.items()):
        if name.startswith(("JAX_", "XLA_")) and name not in AS_JAX_STARTS:
            yield f"{name}={value}".encode()


def main() -> None:
    """Write executed notebooks into the folder named: all, or those whose names follow."""
    import nbformat

    folder, *names = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for source in sources():
        if not names or source.stem in names:
            nbformat.write(executed(source), Path(folder, f"{source.stem}.ipynb"))


if __name__ == "__main__":
    main()
